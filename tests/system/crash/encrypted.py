"""One history of encrypted conversations: two pairs, and a group of four people with six devices. The server is killed
at points of its work, the programs of the devices at any time, while one of the members is let in and put out.
"""

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM

import trio
from attrs import asdict, define, field

from ironwire.client import LocalStoreError
from ironwire.client.store.file import opened_for_reading
from ironwire.client.store.secrets import load
from tests.system.crash.device import Violation
from tests.system.crash.history import ANY_TIME, Servers, Tally, free_port, live_and_die, log_of
from tests.system.crash.laws import Story, broken, story_of
from tests.system.crash.member import CAME, CAUGHT_UP, LAST, READY, SILENT, Plan
from tests.system.crash.server import POINTS, UPGRADE_POINTS, Order
from tests.system.crash.world import check_database
from tests.system.forked import Forked, fork
from tests.system.processes import environment

NAMES = ("alice.laptop", "alice.phone", "bob.laptop", "bob.tablet", "carol.phone", "dave.phone")
LIVES = 3
"""A commit takes longer than a text in the clear, and so a server lives longer, for some to be made."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 1.5
"""Between two kills of devices."""
LONGEST_ABSENCE = 0.3
BEGIN_SECONDS = 30.0
SETTLE_SECONDS = 90.0
LOOK_SECONDS = 0.25


def random_points(kills: int) -> list[str]:
    points = [point for point in POINTS if point not in UPGRADE_POINTS]
    return [random.choice([*points, ANY_TIME, ANY_TIME, ANY_TIME]) for _ in range(kills)]


@define(eq=False)
class Programs:
    """The programs of all devices, each with its own folder, as on computers of their own."""

    folder: Path
    server: str
    tally: Tally
    _running: dict[str, Forked] = field(factory=dict)
    _runs: int = 0
    _part: str = "begin"

    def __attrs_post_init__(self) -> None:
        for name in NAMES:
            (self.folder / name).mkdir(parents=True)

    def plan(self, name: str) -> Plan:
        return Plan(str(self.folder), self.server, name, self._runs, self._part)

    def start(self, name: str) -> None:
        self._runs += 1
        log = os.open(self._log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        arguments, env = [json.dumps(asdict(self.plan(name)))], environment(self.folder)
        try:
            self._running[name] = fork(
                arguments, self.folder, env, (None, log, log), program="tests.system.crash.member"
            )
        finally:
            os.close(log)

    def kill(self, name: str) -> None:
        if name in self._running:
            program = self._running.pop(name)
            program.kill()
            program.wait()
            self.tally.encrypted.device_kills += 1

    def kill_all(self) -> None:
        for name in [*self._running]:
            self.kill(name)

    def start_all(self, part: str) -> None:
        """Everybody goes on with the next part of the plan."""
        self.kill_all()
        self._part = part
        for name in NAMES:
            self.start(name)

    async def be_killed_for_ever(self) -> None:
        while True:
            await trio.sleep(random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE))
            victims = random.sample(NAMES, random.choice([1, 1, 1, 2]))
            for name in victims:
                self.kill(name)
            await trio.sleep(random.choice([0, random.uniform(0, LONGEST_ABSENCE)]))
            for name in victims:
                self.start(name)

    async def all_published(self) -> None:
        """Return once every device can be let in."""
        await self._reach(BEGIN_SECONDS, lambda: [name for name in NAMES if not self._has_packages(name)])

    async def all_caught_up(self) -> None:
        """Return once every program has caught up in its present run."""
        await self._reach(BEGIN_SECONDS, lambda: [name for name in NAMES if not self._is_here(name)])

    async def settle(self) -> None:
        """Return once the last word of everybody has come everywhere, and all laws hold.

        Raises:
            Violation: some do not.
        """
        await self._reach(SETTLE_SECONDS, self._what_is_wrong)

    def _what_is_wrong(self) -> list[str]:
        stories = self.stories()
        return [*_unsaid(stories), *broken(stories)]

    def stories(self) -> list[Story]:
        return [story_of(self.plan(name), self._log(name).read_text()) for name in NAMES]

    def logs(self) -> str:
        """What the programs have printed besides texts."""
        lines = [
            f"{name}: {line}"
            for name in NAMES
            for line in self._log(name).read_text().splitlines()
            if not line.startswith(("heard", READY, CAUGHT_UP))
        ]
        return "\n".join(lines[-60:])

    async def _reach(self, seconds: float, missing: Callable[[], list[str]]) -> None:
        ends_at = time.monotonic() + seconds
        while True:
            try:
                left = missing()
            except LocalStoreError:
                left = ["a file is being made"]
            if not left:
                return
            if time.monotonic() > ends_at:
                raise Violation("\n".join(["not settled:", *left[:40]]))
            await trio.sleep(LOOK_SECONDS)

    def _is_here(self, name: str) -> bool:
        log = self._log(name)
        return log.exists() and CAUGHT_UP in log.read_text().rpartition(READY)[2]

    def _has_packages(self, name: str) -> bool:
        plan = self.plan(name)
        with opened_for_reading(plan.home / "device.db", plan.owner, plan.store_key) as database:
            return any(package.is_published for package in load(database).packages)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def _unsaid(stories: Sequence[Story]) -> list[str]:
    """Whose last word in the pair or in the group was not accepted yet."""
    said = [story.name for story in stories for texts in story.said.values() if f"{LAST} {story.name}" in texts]
    return [f"{name} has not said its last words" for name in NAMES if said.count(name) < 2]


async def live_through_encrypted(servers: Servers, folder: Path, points: Sequence[str], tally: Tally) -> None:
    """One history with a kill of the server at each of `points`, and of devices in between.

    Raises:
        Violation: a promise was broken; the message says which.
    """
    data, port = folder / "data", free_port()
    programs = Programs(folder / "devices", f"http://127.0.0.1:{port}", tally)
    try:
        await servers.start(Order(str(data), port, None, 0))
        programs.start_all("begin")
        await programs.all_published()
        await servers.end(SIGKILL)
        programs.start_all("chat")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(programs.be_killed_for_ever)
            for point in points:
                tally.kills[await live_and_die(servers, data, port, point, lives=LIVES)] += 1
            nursery.cancel_scope.cancel()
        await servers.start(Order(str(data), port, None, 0))
        programs.start_all("end")
        await programs.settle()
        programs.start_all("begin")  # nothing comes again
        await programs.all_caught_up()
        await programs.settle()
        await servers.end(SIGTERM)
        check_database(data)
    except Violation as violation:
        raise Violation(f"{violation}\nkilled: {points}\n{programs.logs()}\n{log_of(data)}") from violation
    finally:
        programs.kill_all()
    _count(programs.stories(), tally)


def _count(stories: Sequence[Story], tally: Tally) -> None:
    counters = tally.encrypted
    counters.histories += 1
    counters.accepted += sum(len(texts) for story in stories for texts in story.said.values())
    counters.heard += sum(len(story.came) for story in stories)
    silent = next(story for story in stories if story.name == SILENT)
    counters.stays += sum(text.startswith(CAME) for text in silent.came)
