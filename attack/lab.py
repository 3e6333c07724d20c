"""One attack from the start of a server to its verdict: calm, attack, calm again.

Three processes share the machine: the server, the bystanders, and the attacker. This one looks at them from outside,
at /proc and at the log, and asks the server nothing.
"""

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import define, field, frozen

from attack.attacker import Record
from attack.bystanders import Interval
from attack.verdict import DURABLE_FLOOR_MS, LIVE_FLOOR_MS, Latency, Memory, Result, is_calm, p99
from bench import cache
from bench.contenders import ROOT, Server, ironwire

SAMPLE_SECONDS = 0.1
WARM_SECONDS = 0.5
SETTLE_SECONDS = 10.0
"""How long the server may take to let go of an attacker who has left: the longest write, and its farewell."""
SPARE_DESCRIPTORS = 4
"""Files that the store may open in between."""
ANSWER_SECONDS = 30.0
CALM_TRIES = 5


class Stuck(Exception):
    """A process of the harness did not answer; the message says which."""


def run(name: str, seconds: float, calm_seconds: float) -> Result:
    """Attack a fresh server.

    Raises:
        Stuck: nothing was measured.
        bench.contenders.DidNotStart: there was no server.
    """
    with (
        TemporaryDirectory(prefix="attack-", dir=cache.cache_folder()) as folder,
        ironwire().running(Path(folder)) as server,
        helper("attack.bystanders", str(server.port)) as bystanders,
        helper("attack.attacker", name, str(server.port), str(seconds)) as attacker,
    ):
        watch = _Watch(server, server.busiest_pid())
        time.sleep(WARM_SECONDS)
        _ask(bystanders)
        calm = _calm(bystanders, calm_seconds)
        watch.begin()
        attacker.say()
        record = Record(**json.loads(attacker.hear(seconds + ANSWER_SECONDS, watch.look)))
        attacked = _ask(bystanders)
        after = interval(bystanders, calm_seconds)
        faults = [
            *_harm_to(attacked, after),
            *(f"breach: {each}" for each in record.breaches),
            *watch.end(),
            *_tracebacks((Path(folder) / "log").read_text(errors="replace")),
        ]
    return Result(
        name,
        seconds,
        record.tries,
        record.outcomes,
        Latency(p99(calm.live_ms), p99(attacked.live_ms), p99(after.live_ms), LIVE_FLOOR_MS),
        Latency(p99(calm.durable_ms), p99(attacked.durable_ms), p99(after.durable_ms), DURABLE_FLOOR_MS),
        Memory(watch.peak_kib, watch.connections, record.mailboxes, record.stalled),
        faults,
    )


@define(eq=False)
class _Watch:
    """What the server takes."""

    _server: Server
    _worker: int
    peak_kib: float = field(default=0.0, init=False)
    connections: int = field(default=0, init=False)
    """At most, besides those of the bystanders."""
    _descriptors: int = field(default=0, init=False)

    def begin(self) -> None:
        self._descriptors = self._open()
        self.look()

    def look(self) -> None:
        self.peak_kib = max(self.peak_kib, self._server.resident_kib())
        self.connections = max(self.connections, self._open() - self._descriptors)

    def end(self) -> Iterator[str]:
        """What is not as it was."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._open() > self._descriptors + SPARE_DESCRIPTORS and time.monotonic() < deadline:
            time.sleep(SAMPLE_SECONDS)
        self.look()
        if not self._open():
            yield "the server's process ended"
            return
        left = self._open() - self._descriptors
        if left > SPARE_DESCRIPTORS:
            yield f"{left} descriptors are still open {SETTLE_SECONDS:g} s after the attack"

    def _open(self) -> int:
        """File descriptors of the worker; none if it has ended."""
        try:
            return len(list(Path(f"/proc/{self._worker}/fd").iterdir()))
        except FileNotFoundError:
            return 0


@frozen
class Helper:
    """A process that says `ready`, and then a line of JSON whenever it is told to go on."""

    name: str
    _process: subprocess.Popen[str]

    def say(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def hear(self, seconds: float = ANSWER_SECONDS, meanwhile: Callable[[], None] = lambda: None) -> str:
        """Its next line.

        Raises:
            Stuck: it did not come in time, or the process has ended.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            meanwhile()
            if select.select([self._process.stdout], [], [], SAMPLE_SECONDS)[0]:
                line = self._process.stdout.readline()
                if not line:
                    break
                return line
        raise Stuck(f"{self.name} says nothing")


@contextmanager
def helper(module: str, *arguments: str) -> Iterator[Helper]:
    """Run a module of the suite beside this one, until it is ready and as long as the block."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            helper = Helper(module, process)
            if helper.hear() != "ready\n":
                raise Stuck(f"{module} did not begin")
            yield helper
        finally:
            process.kill()


def interval(bystanders: Helper, seconds: float) -> Interval:
    """What bystanders see from the last time they were asked until so many seconds from now."""
    time.sleep(seconds)
    return _ask(bystanders)


def _calm(bystanders: Helper, seconds: float) -> Interval:
    """The first interval in which nothing else keeps the machine busy, or the last of several."""
    for _ in range(CALM_TRIES - 1):
        calm = interval(bystanders, seconds)
        if is_calm(calm.live_ms, calm.durable_ms):
            return calm
    return interval(bystanders, seconds)


def _ask(bystanders: Helper) -> Interval:
    bystanders.say()
    return Interval(**json.loads(bystanders.hear()))


def _harm_to(*intervals: Interval) -> Iterator[str]:
    lost = sum(each.lost_connections for each in intervals)
    if lost:
        yield f"{lost} pairs of bystanders lost a connection"
    for error in sorted({error for each in intervals for error in each.errors}):
        yield f"a bystander was told: {error}"


def _tracebacks(log: str) -> Iterator[str]:
    """How often something went wrong in the server that it did not expect, and what the first was."""
    errors = [line for line in log.splitlines() if "Traceback" in line or '"level":"error"' in line.replace(" ", "")]
    if errors:
        yield f"the log has {len(errors)} errors, such as {errors[0][-300:]}"
