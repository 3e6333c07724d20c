"""The devices of one history, what they write to each other, and what must be true when everything has settled."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import orjson
import trio
from attrs import define, field
from nacl.signing import SigningKey

from ironwire.store.migrations import load_migrations, migrate
from tests.system.crash.device import Counters, Device, Sent, Violation

CLIENTS = 3
DEVICES = ("laptop", "phone")
WAITING_AT_FIRST = 30
BURST = 12
PAUSE_SECONDS = 0.01
SETTLE_SECONDS = 60.0
MOST_UNACCEPTED = 200


@define(eq=False)
class World:
    """Three people with two devices each, on a database of the first schema in which their first messages wait."""

    data: Path
    counters: Counters
    devices: list[Device] = field(factory=list)
    _sent: dict[tuple[str, str, int], Sent] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for key, name in product([SigningKey.generate() for _ in range(CLIENTS)], DEVICES):
            self.devices.append(Device(key, name, self.counters, self._find, is_lazy=name == DEVICES[0]))
        self._make_old_database()

    def chat(self) -> None:
        """Every device writes a few messages, to anybody, itself included."""
        for device in self.devices:
            for _ in range(random.randint(0, BURST)):
                if len(device.unaccepted) < MOST_UNACCEPTED:
                    to = random.choice(self.devices).client
                    self._note(device.send(to, f"{device}: " + "x" * random.choice([5, 50, 500, 6_000])))

    async def chat_for_ever(self) -> None:
        while True:
            self.chat()
            await trio.sleep(random.uniform(0, PAUSE_SECONDS))

    async def settle(self, port: int) -> None:
        """Wait until everything is accepted, delivered and acknowledged; then nothing may come again.

        Raises:
            Violation: what was accepted is not where it is owed, or comes again.
        """
        for is_last in (False, True):
            async with trio.open_nursery() as nursery:
                for device in self.devices:
                    device.is_caught_up = False
                    nursery.start_soon(lambda each=device: each.run(port, is_restless=False))
                with trio.move_on_after(SETTLE_SECONDS) as limit:
                    while not self._is_settled():
                        await trio.sleep(0.02)
                if limit.cancelled_caught:
                    raise Violation("\n".join(["not settled:", *self._missing()]))
                if not is_last:
                    # A last message from each device: when it is accepted, the acks before it are on the disk.
                    await trio.sleep(0.05)
                    for device in self.devices:
                        self._note(device.send(device.client, "good night"))
                    while any(device.unaccepted for device in self.devices):
                        await trio.sleep(0.02)
                nursery.cancel_scope.cancel()

    def check_database(self) -> None:
        """After the end: nothing is owed that was acknowledged, and the counters agree with the rows.

        Raises:
            Violation: something is left, or the file is damaged.
        """
        with closing(sqlite3.connect(self.data / "ironwire.db")) as database:
            for question, answer in {
                "PRAGMA integrity_check": "ok",
                "SELECT count(*) FROM envelope WHERE owed <> (SELECT count(*) FROM entry WHERE envelope = envelope.id)": 0,
                "SELECT count(*) FROM mailbox WHERE waiting <> (SELECT count(*) FROM entry WHERE mailbox = mailbox.id)": 0,
                "SELECT count(*) FROM entry JOIN mailbox ON mailbox.id = mailbox WHERE seq <= acked OR seq > tail": 0,
            }.items():
                found = database.execute(question).fetchone()[0]
                if found != answer:
                    raise Violation(f"{question}: {found}")

    def _note(self, sent: Sent) -> None:
        self._sent[sent.key] = sent

    def _find(self, key: tuple[str, str, int]) -> Sent:
        if key not in self._sent:
            raise Violation(f"{key} was delivered, and nobody sent it")
        return self._sent[key]

    def _owed_to(self, device: Device) -> set[tuple[str, str, int]]:
        return {
            key
            for key, sent in self._sent.items()
            if sent.to == device.client or (sent.client == device.client and sent.device != device.name)
        }

    def _is_settled(self) -> bool:
        if any(device.unaccepted or not device.is_caught_up for device in self.devices):
            return False
        return not any(True for _ in self._missing())

    def _missing(self) -> Iterator[str]:
        for device in self.devices:
            if device.unaccepted:
                yield f"{device}: {len(device.unaccepted)} not accepted"
            lost = self._owed_to(device) - {sent.key for sent in device.stored}
            if lost:
                yield f"{device}: {len(lost)} not delivered, as {sorted(lost)[:3]}"

    def _make_old_database(self) -> None:
        self.data.mkdir(mode=0o700)
        path = self.data / "ironwire.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            old.execute("PRAGMA journal_mode = WAL")
            migrate(old, path, {1: load_migrations()[1]})
            now = 1_000 * int(trio.lowlevel.current_root_task() is not None) and _wall_clock_ms()
            old.execute("BEGIN")
            for number, device in enumerate(self.devices, start=1):
                row = (number, device.client, device.name, WAITING_AT_FIRST, now, now)
                old.execute("INSERT INTO mailbox VALUES (?, ?, ?, 0, ?, 0, 0, 0, ?, ?)", row)
            old.execute("COMMIT")
