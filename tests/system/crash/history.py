"""One history: an old database, a number of kills under load, a settled end. And the count of what happened in all."""

import json
import os
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Literal

import trio
from attrs import asdict, define, field

from tests.system.crash.device import Counters, Violation
from tests.system.crash.server import POINTS, SLOW_POINTS, START_POINTS, UPGRADE_POINTS, Order
from tests.system.crash.world import World, check_database

ANY_TIME = "at any time"
MOST_HITS = 40
MOST_HITS_OF_SLOW_POINTS = 3
MOST_STATEMENTS = 8
LONGEST_LIFE_SECONDS = 1.5
Fault = Literal["loses its log", "forgets acks"]
ANSWER_SECONDS = 5.0
"""A server that has not come to its point by then is killed from outside."""
END_SECONDS = 10.0


@define
class EncryptedCounters:
    """What happened in all histories of devices with keys of their own."""

    histories: int = 0
    device_kills: int = 0
    accepted: int = 0
    heard: int = 0
    stays: int = 0

    def __str__(self) -> str:
        return (
            f"{self.histories} histories of encrypted conversations: {self.device_kills} devices killed, "
            f"{self.accepted} texts accepted, {self.heard} read, a member let in {self.stays} times"
        )


@define
class Tally:
    histories: int = 0
    kills: Counter[str] = field(factory=Counter)
    counters: Counters = field(factory=Counters)
    encrypted: EncryptedCounters = field(factory=EncryptedCounters)

    def __str__(self) -> str:
        lines = [
            f"{self.histories} histories in the clear, each begun with a database of the first schema",
            f"{self.kills.total()} kills:",
            *(f"  {self.kills[point]:5}  {point}" for point in (*POINTS, ANY_TIME)),
            str(self.counters),
            str(self.encrypted),
        ]
        return "\n".join(lines)


def random_points(kills: int) -> list[str]:
    """Where the servers of one history die. An old file is upgraded only once, so those points come first."""
    upgrade = [point for point in UPGRADE_POINTS if random.random() < 0.4]
    later = [point for point in POINTS if point not in UPGRADE_POINTS]
    return upgrade + [random.choice([*later, ANY_TIME, ANY_TIME, ANY_TIME]) for _ in range(kills - len(upgrade))]


class Servers:
    """Starts one server after the other, each a fork of a process that has imported everything."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._unread = b""
        self.pid = 0

    async def start(self, order: Order) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(asdict(order)).encode() + b"\n")
        self.pid = await self._answer("pid")

    async def end(self, signal: int) -> None:
        os.kill(self.pid, signal)
        with trio.fail_after(END_SECONDS):
            await self.wait()

    async def wait(self) -> int:
        """The signal that ended the server; 0 if it came to its end."""
        return await self._answer("ended")

    async def _answer(self, kind: str) -> int:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            data = await self._process.stdout.receive_some()
            if not data:
                raise EOFError("the process that starts servers is gone")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        word, number = line.decode().split()
        if word != kind:
            raise ValueError(f"expected {kind!r}, got {word!r}")
        return int(number)


@asynccontextmanager
async def open_servers() -> AsyncIterator[Servers]:
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process,
            [sys.executable, "-m", "tests.system.crash.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            check=False,
            start_new_session=True,
        )
        process: trio.Process = await nursery.start(run)
        try:
            yield Servers(process)
        finally:
            os.killpg(process.pid, SIGKILL)


async def live_through(
    servers: Servers, folder: Path, points: Sequence[str], tally: Tally, *, fault: Fault | None = None
) -> None:
    """One history with a kill at each of `points`. With a fault it cannot end well: the log is lost at every kill, or
    the store forgets every ack.

    Raises:
        Violation: a promise was broken; the message says which.
    """
    world = World(folder / "data", tally.counters)
    port = free_port()
    broken: list[ExceptionGroup[Violation]] = []
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.chat_for_ever)
            for device in world.devices:
                nursery.start_soon(partial(device.run, port, is_restless=True))
            for point in points:
                tally.kills[await live_and_die(servers, world.data, port, point, fault)] += 1
                if fault == "loses its log":
                    (world.data / "ironwire.db-wal").unlink(missing_ok=True)  # none, if it died before it wrote
            nursery.cancel_scope.cancel()
        await servers.start(Order(str(world.data), port, None, 0))
        await world.settle(port)
        await servers.end(SIGTERM)
        check_database(world.data)
    except* Violation as violations:
        broken.append(violations)  # early versions of Python 3.11 would put what is raised here into a group
    for group in broken:
        what = "\n".join(str(violation) for violation in _leaves(group))
        raise Violation(f"{what}\nkilled: {points}\n{log_of(world.data)}") from group
    tally.histories += 1


async def live_and_die(
    servers: Servers, data: Path, port: int, point: str, fault: Fault | None = None, *, lives: int = 1
) -> str:
    """Let a server live until it dies at `point`, or is killed; returns what it died of. More `lives`: later."""
    named = None if point == ANY_TIME else point
    hits = 1 if point in START_POINTS else lives * _some_hits(point)
    await servers.start(Order(str(data), port, named, hits, fault == "forgets acks"))
    life = random.uniform(0, lives * LONGEST_LIFE_SECONDS) if point == ANY_TIME else ANSWER_SECONDS
    with trio.move_on_after(life):
        if await servers.wait() == SIGKILL:
            return point
        raise Violation("the server came to an end of its own")
    await servers.end(SIGKILL)
    return ANY_TIME


def _some_hits(point: str) -> int:
    if point in UPGRADE_POINTS:
        return random.randint(1, MOST_STATEMENTS)
    return random.randint(1, MOST_HITS_OF_SLOW_POINTS if point in SLOW_POINTS else MOST_HITS)


def _leaves(group: BaseExceptionGroup[Violation]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


def log_of(data: Path) -> str:
    """The end of what the servers of this folder have printed."""
    log = Path(f"{data}.log")
    return log.read_text()[-4_000:] if log.exists() else ""


def free_port() -> int:
    """A port that the system gives to no client. A client that gets it as its own could connect to itself, and would
    keep the next server from listening.
    """
    while True:
        port = random.randint(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
