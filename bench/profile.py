"""Where the microseconds go: what py-spy saw of the event loop's thread, sorted by stage.

A sample counts for the innermost function that begins a stage. Shares become microseconds through the CPU time that
the server used for each text or newcomer. py-spy stops the server for every sample, so the rates here are no figures.
"""

import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import cache, crowd
from bench.contenders import Contender, Server
from bench.figures import Figure
from bench.flows import lanes
from bench.load import Mode, drive
from bench.scale import Scale

SAMPLES_PER_SECOND = 400
STOP_SECONDS = 20.0
SPARE_SECONDS = 1.0
"""How much longer than the sampling the load lasts."""
CROWD = 200

_WAIT = "Trio: waiting, scheduling"
_STAGES = (
    (_WAIT, r"\(trio/_core/"),
    ("frames: parse", r"FrameParser\.feed "),
    ("JSON: decode and check", r"^decode_client "),
    ("JSON: encode", r"^(encode|encode_payload|frame_text|relayed_text) \(ironwire/wire/codec"),
    ("frames: build", r"^encode_batch "),
    ("socket: read", r"Transport\.(receive\w*|_read\w*) "),
    ("socket: write", r"Transport\.(write|send|_write\w*) |^write_at_once "),
    ("crypto: challenge, signature", r"\(ironwire/crypto/"),
    ("store: statements", r"\(ironwire/store/"),
    ("route: delivery, mailbox, outbox", r"\(ironwire/(delivery|handlers|protocol)/"),
    ("session", r"\(ironwire/server/(session/|app)"),
    ("HTTP: Quart, Werkzeug", r"\((quart|quart_trio|werkzeug|flask)/"),
    (
        "HTTP: Hypercorn, h11, guard",
        r"\((h11|wsproto)/|\(hypercorn/(?!trio/run|run|__main__)|\(ironwire/server/listener/(guard|hyper)",
    ),
)
"""What the functions of each stage look like to py-spy. Hypercorn's own `run`, below every stack, is none."""

_OTHER = "everything else"
_THREADS = "other threads: COMMIT"


class NoSamples(Exception):
    """py-spy could not look into the server; the message is its own."""


def paths(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """Microseconds by stage, for each of `PATHS`."""
    for path, prepared in PATHS.items():
        with TemporaryDirectory() as folder, contender.running() as server, prepared(server, scale) as load:
            yield from _profile(path, load, server, scale.profile_seconds, Path(folder) / "raw")


def stage_of(stack: str) -> str | None:
    """The stage of one of py-spy's raw stacks, outermost function first; None for a thread that is not the loop's."""
    functions = stack.split(";")
    if "_bootstrap (threading" in functions[0]:
        return None
    for function in reversed(functions):
        for stage, pattern in _STAGES:
            if re.search(pattern, function):
                return stage
    return _OTHER


Load = Callable[[], float]
"""Keeps the server busy for a while, and returns its CPU time for each text or newcomer, in µs."""


@contextmanager
def _texts(server: Server, scale: Scale, *, mode: Mode, window: int) -> Iterator[Load]:
    def load() -> float:
        seconds = scale.profile_seconds + SPARE_SECONDS
        return drive(server, pairs, mode, window=window, warm_seconds=0, seconds=seconds).server_us

    with lanes(server, scale.pairs, mode) as pairs:
        yield load


@contextmanager
def _newcomers(server: Server, scale: Scale) -> Iterator[Load]:
    def load() -> float:
        cpu_before = server.cpu_seconds()
        ends_at = time.monotonic() + scale.profile_seconds + SPARE_SECONDS
        count = 0
        while time.monotonic() < ends_at:
            crowd.disconnect(crowd.connect_all(server.port, newcomers))
            count += len(newcomers)
        return (server.cpu_seconds() - cpu_before) / count * 1e6

    newcomers = crowd.identities(CROWD)
    crowd.disconnect(crowd.connect_all(server.port, newcomers))
    yield load


PATHS: dict[str, Callable[[Server, Scale], AbstractContextManager[Load]]] = {
    "live, w=1": partial(_texts, mode="live", window=1),
    "live, w=100": partial(_texts, mode="live", window=100),
    "durable, w=10": partial(_texts, mode="numbered", window=10),
    "newcomer": _newcomers,
}
"""By name: what has to be there before the sampling begins, and the load. A newcomer's leaving is part of its cost."""


def _profile(path: str, load: Load, server: Server, seconds: float, raw: Path) -> Iterator[Figure]:
    py_spy = _sample(server.busiest_pid(), seconds, raw)
    loop_before, all_before = server.loop_seconds(), server.cpu_seconds()
    server_us = load()
    loop_share = (server.loop_seconds() - loop_before) / (server.cpu_seconds() - all_before)
    stages = _count(py_spy, raw)
    samples = sum(stages.values())
    for stage in [name for name, _ in _STAGES] + [_OTHER]:
        share = loop_share * stages[stage] / samples
        yield Figure("profile", stage, path, server_us * share, {"percent": 100 * share})
    yield Figure("profile", _THREADS, path, server_us * (1 - loop_share), {"percent": 100 * (1 - loop_share)})


def _sample(pid: int, seconds: float, raw: Path) -> "subprocess.Popen[str]":
    command = [cache.python_tool("py-spy"), "record", "--pid", str(pid), "--format", "raw", "--output", str(raw)]
    command += ["--rate", str(SAMPLES_PER_SECOND), "--duration", str(max(1, round(seconds)))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _count(py_spy: "subprocess.Popen[str]", raw: Path) -> Counter[str]:
    output, _ = py_spy.communicate(timeout=STOP_SECONDS)
    if py_spy.returncode or not raw.exists():
        raise NoSamples(f"py-spy has to be allowed to trace other processes (as root it is): {output.strip()}")
    stages: Counter[str] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        stage = stage_of(stack)
        if stage is not None:
            stages[stage] += int(samples)
    if not stages:
        raise NoSamples("py-spy saw nothing of the event loop: is the server's main thread another one now?")
    return stages
