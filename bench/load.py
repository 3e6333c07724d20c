"""Runs `load.c` over sockets that `crowd.py` opened, and says what came of it."""

import json
import socket
import subprocess
from collections.abc import Sequence
from typing import Literal

from attrs import frozen

from bench import cache
from bench.contenders import Server

TEXT_BYTES = 100
BUSY = 0.9
"""A load generator that uses more than this of its core may be what was measured."""

_SPARE_SECONDS = 90.0
"""For what is still on its way at the end."""


class LoadFailed(Exception):
    """The server did not do what the load waits for; the message says what it did instead."""


Mode = Literal["live", "durable", "numbered"]
"""The kinds of texts that `load.c` knows."""


@frozen
class Lane:
    """One sender, one recipient, and the connections at which the recipient gets its texts."""

    sender: socket.socket
    recipient: str
    receivers: Sequence[socket.socket]


@frozen
class Flow:
    """What a flow of texts came to. A text counts once for each receiver that got it, or once when it was accepted."""

    texts_per_second: float
    p50_ms: float
    p99_ms: float
    server_us: float
    """CPU time of the server for each text, warming up included."""
    load_cpu: float
    """Part of one core that the load generator used."""


def drive(
    server: Server, lanes: Sequence[Lane], mode: Mode, *, window: int, warm_seconds: float, seconds: float
) -> Flow:
    """Keep `window` texts on their way in every lane, for `seconds` after `warm_seconds`.

    Raises:
        LoadFailed: something else came than what has to come, or nothing.
        cache.Missing: there is no C compiler.
    """
    lines = [_line(lane) for lane in lanes]
    sockets = [each for lane in lanes for each in (lane.sender, *lane.receivers)]
    cpu_before = server.cpu_seconds()
    done = subprocess.run(
        [str(cache.load_generator()), mode, str(window), str(TEXT_BYTES), str(warm_seconds), str(seconds)],
        input="".join(lines),
        capture_output=True,
        text=True,
        pass_fds=[each.fileno() for each in sockets],
        timeout=warm_seconds + seconds + _SPARE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise LoadFailed(done.stderr.strip())
    result = json.loads(done.stdout)
    return Flow(
        texts_per_second=result["texts"] / result["seconds"],
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        server_us=(server.cpu_seconds() - cpu_before) / max(result["texts_total"], 1) * 1e6,
        load_cpu=result["load_cpu"],
    )


def _line(lane: Lane) -> str:
    receivers = "".join(f" {each.fileno()}" for each in lane.receivers)
    return f"{lane.sender.fileno()} {lane.recipient}{receivers}\n"
