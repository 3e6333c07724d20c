"""The devices of one history, what they write to each other, and what must be true when everything has settled."""

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path

import orjson
import trio
from attrs import define, field
from nacl.signing import SigningKey

from ironwire.store.sqlite.migrations import load_migrations, migrate
from tests.system.crash.device import Counters, Device, Key, Sent, Violation

CLIENTS = 3
DEVICES = ("laptop", "phone")
WAITING_AT_FIRST = 30
BURST = 12
PAUSE_SECONDS = 0.01
SETTLE_SECONDS = 60.0
MOST_UNACCEPTED = 200

TRUE_AT_THE_END = {
    "PRAGMA integrity_check": "ok",
    "SELECT count(*) FROM envelope WHERE owed <> (SELECT count(*) FROM entry WHERE entry.envelope = envelope.id)": 0,
    "SELECT count(*) FROM mailbox WHERE waiting <> (SELECT count(*) FROM entry WHERE entry.mailbox = mailbox.id)": 0,
    "SELECT count(*) FROM entry JOIN mailbox ON mailbox.id = mailbox WHERE seq <= acked OR seq > tail": 0,
}
"""What is asked of the database, and the answer."""


@define(eq=False)
class World:
    """Three people with two devices each, on a database of the first schema in which their first messages wait."""

    data: Path
    counters: Counters
    devices: list[Device] = field(factory=list)
    _sent: dict[Key, Sent] = field(factory=dict)
    _owed: dict[Device, set[Key]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for key, name in product([SigningKey.generate() for _ in range(CLIENTS)], DEVICES):
            self.devices.append(Device(key, name, self.counters, self._find, is_lazy=name == DEVICES[0]))
        self._owed = {device: set() for device in self.devices}
        self._make_old_database()

    def chat(self) -> None:
        """Every device writes a few messages, to anybody, itself included."""
        for device in self.devices:
            for _ in range(random.randint(0, BURST)):
                if len(device.unaccepted) < MOST_UNACCEPTED:
                    to = random.choice(self.devices).client
                    self._note(device.send(to, f"{device}: " + "x" * random.choice([5, 50, 500, 3_000])))

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
                    nursery.start_soon(partial(device.run, port, is_restless=False))
                await self._reach(self._is_settled)
                if not is_last:
                    for device in self.devices:
                        await device.acknowledge_all()
                    await self._reach(self._is_answered)
                nursery.cancel_scope.cancel()

    async def _reach(self, goal: Callable[[], bool]) -> None:
        with trio.move_on_after(SETTLE_SECONDS) as limit:
            while not goal():  # noqa: ASYNC110  # many devices change what is looked at
                await trio.sleep(0.02)
        if limit.cancelled_caught:
            raise Violation("\n".join(["not settled:", *self._missing()]))

    def _note(self, sent: Sent) -> None:
        self._sent[sent.key] = sent
        for device, owed in self._owed.items():
            if sent.to == device.client or (sent.client == device.client and sent.device != device.name):
                owed.add(sent.key)

    def _find(self, key: Key) -> Sent:
        if key not in self._sent:
            raise Violation(f"{key} was delivered, and nobody sent it")
        return self._sent[key]

    def _is_settled(self) -> bool:
        return all(
            not device.unaccepted and device.is_caught_up and len(device.stored) == len(owed)
            for device, owed in self._owed.items()
        )

    def _is_answered(self) -> bool:
        return all(device.durable_ack == len(device.stored) for device in self.devices)

    def _missing(self) -> Iterator[str]:
        for device, owed in self._owed.items():
            if device.unaccepted:
                yield f"{device}: {len(device.unaccepted)} not accepted"
            lost = owed - {sent.key for sent in device.stored}
            if device.durable_ack < len(device.stored):
                yield f"{device}: the ack of {len(device.stored)} was not answered, but that of {device.durable_ack}"
            if lost:
                yield f"{device}: {len(lost)} not delivered, as {sorted(lost)[:3]}"

    def _make_old_database(self) -> None:
        self.data.mkdir(mode=0o700)
        path = self.data / "ironwire.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            old.execute("PRAGMA journal_mode = WAL")
            migrate(old, path, {1: load_migrations()[1]})
            old.execute("BEGIN")
            now_ms = time.time_ns() // 1_000_000
            tails = dict.fromkeys(self.devices, 0)
            for number in range(1, WAITING_AT_FIRST + 1):
                sent = self._accepted_before(random.choice(self.devices))
                owed = [device for device in self.devices if sent.key in self._owed[device]]
                payload = orjson.dumps({"from": sent.client, "text": sent.text, "ts": now_ms, "device": sent.device})
                row = (number, "text", sent.client, sent.device, sent.to, str(sent.number), now_ms, b"", len(owed))
                old.execute("INSERT INTO envelope VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, payload))
                for device in owed:
                    tails[device] += 1
                    entry = (self._number_of(device), tails[device], number, len(payload))
                    old.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", (*entry, device.client != sent.to))
            for device, tail in tails.items():
                box = (self._number_of(device), device.client, device.name, tail, tail, now_ms, now_ms)
                old.execute("INSERT INTO mailbox VALUES (?, ?, ?, 0, ?, ?, 0, 0, ?, ?)", box)
            old.execute("COMMIT")

    def _number_of(self, device: Device) -> int:
        return self.devices.index(device) + 1

    def _accepted_before(self, device: Device) -> Sent:
        """A message that was sent and accepted before this history begins."""
        sent = device.send(random.choice(self.devices).client, "from before")
        device.unaccepted.clear()
        self._note(sent)
        return sent


def check_database(data: Path) -> None:
    """After the end: nothing is owed that was acknowledged, and the counters agree with the rows.

    Raises:
        Violation: something is left, or the file is damaged.
    """
    with closing(sqlite3.connect(data / "ironwire.db")) as database:
        for question, answer in TRUE_AT_THE_END.items():
            found = database.execute(question).fetchone()[0]
            if found != answer:
                raise Violation(f"{question}: {found}")
