"""`delivery/pump.py`: what a device session is sent from its mailbox, on the store in memory."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import wait_all_tasks_blocked

from ironwire.delivery.outbox import Outbox
from ironwire.delivery.pump import Pump
from ironwire.errors import StoreError
from ironwire.ids import ClientId, GroupId, Role
from ironwire.protocol.mailbox import AckBeyondDelivery, Window
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.operations import Ack, Result, Stored
from ironwire.store.contract.records import (
    Entry,
    Envelope,
    Mailbox,
    MailboxId,
    Quota,
)
from ironwire.store.memory.store import MemoryStore
from tests.contract.builders import ANN, BOB, LAPTOP, PHONE, append, change, envelope, registered

WINDOW = 10
QUOTA = Quota(mailbox_envelopes=10_000, mailbox_bytes=100_000_000, devices_per_client=9)


class CountingStore(MemoryStore):
    """Notes what was read, and fails on demand."""

    def __init__(self, quota: Quota = QUOTA) -> None:
        super().__init__(quota)
        self.limits_read: list[int] = []
        self.is_broken = False
        self.limiter = trio.Event()
        self.limiter.set()
        self.asking = trio.Event()
        """Set: it says what is lost."""
        self.asking.set()

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        if self.is_broken:
            raise StoreError("broken")
        self.limits_read.append(limit)
        page = await super().read(mailbox, after=after, limit=limit)
        await self.limiter.wait()
        return page

    async def losses(self, mailbox: MailboxId, first: int, last: int) -> Sequence[Loss]:
        await self.asking.wait()
        return await super().losses(mailbox, first, last)


@define
class Desk:
    """A mailbox and its device: what is sent to it, what it gets and what it acknowledges."""

    store: CountingStore
    nursery: trio.Nursery
    sender: ClientId = BOB
    to: ClientId = ANN
    outbox: Outbox = field(init=False)
    pump: Pump = field(init=False)

    async def connect(self, most_bytes: int = 1_000_000) -> None:
        (box,) = await self.store.mailboxes_of(ANN)
        self.outbox = Outbox(most_frames=1_000, most_bytes=10_000_000, ring=lambda: None)
        self.pump = Pump(box.id, Window(box.acked, box.tail, WINDOW, most_bytes), self.store, self.outbox)
        self.nursery.start_soon(self.pump.run)
        await wait_all_tasks_blocked()

    async def send(self, *texts: str, ts: int = 1_000) -> None:
        """Commit each, and offer it to whoever is connected."""
        for text in texts:
            sent = envelope(self.sender, self.to, text, ts=ts)
            (stored,) = await self.store.apply([append(sent, is_live=True)])
            self._tell(stored, sent)

    async def change(self, club: GroupId, expected_epoch: int, roles: Mapping[ClientId, Role]) -> None:
        """Commit a change of a group, and offer it."""
        made = change(club, expected_epoch, roles, by=BOB)
        (stored,) = await self.store.apply([made])
        self._tell(stored, made.envelope)

    def _tell(self, stored: Result, sent: Envelope) -> None:
        assert isinstance(stored, Stored)
        if self.is_connected:
            for place in stored.placed:
                self.pump.offer(place.seq, sent, is_own=False)
            for lost in stored.lost:
                self.pump.note(lost.seq)

    async def ack(self, upto: int) -> None:
        if self.pump.ack(upto) is not None:
            await self.store.apply([Ack(self.pump.mailbox, upto)])

    async def got(self) -> list[str]:
        """What has arrived since the last time, each as a word."""
        await wait_all_tasks_blocked()
        return [_word(json.loads(frame)) for frame in self.outbox.take()]

    @property
    def is_connected(self) -> bool:
        return hasattr(self, "pump")


def _word(frame: dict[str, Any]) -> str:
    payload = frame["payload"]
    match frame["type"]:
        case "text":
            return f"{frame['seq']}:{payload['text']}"
        case "caught_up":
            return f"caught up {payload['seq']}"
        case _:
            groups = [group[:3] for group in payload.get("groups", [])] + ["more"] * payload.get("more_groups", False)
            return " ".join([f"gap {payload['from']}-{payload['to']} {payload['reason']}", *groups])


@pytest.fixture
async def desk(nursery: trio.Nursery) -> Desk:
    store = CountingStore()
    await registered(store, ANN, PHONE)
    return Desk(store, nursery)


async def test_what_waited_comes_first_then_caught_up_then_what_is_live(desk: Desk) -> None:
    await desk.send("a", "b")
    await desk.connect()
    await desk.send("c")
    assert await desk.got() == ["1:a", "2:b", "caught up 2", "3:c"]


async def test_an_empty_mailbox_is_caught_up_at_once_and_only_once(desk: Desk) -> None:
    await desk.connect()
    assert await desk.got() == ["caught up 0"]
    await desk.send("a")
    await desk.ack(1)
    assert await desk.got() == ["1:a"]


async def test_what_is_live_does_not_ask_the_store(desk: Desk) -> None:
    await desk.connect()
    for number in range(1, 50):
        await desk.send("x")
        await desk.ack(number)
    assert desk.store.limits_read == []


async def test_a_full_window_waits_for_acks(desk: Desk) -> None:
    await desk.connect()
    await desk.got()
    await desk.send(*"abcdefghijklmn")
    assert await desk.got() == [f"{number}:{text}" for number, text in enumerate("abcdefghij", start=1)]
    await desk.ack(2)
    assert await desk.got() == ["11:k", "12:l"]
    await desk.ack(12)
    assert await desk.got() == ["13:m", "14:n"]
    await desk.send("o")
    assert await desk.got() == ["15:o"]


async def test_the_window_counts_bytes_too_and_one_of_any_size_goes_out(desk: Desk) -> None:
    await desk.send(*(letter * 1_000 for letter in "abc"))
    await desk.connect(most_bytes=1_500)
    assert [word[:3] for word in await desk.got()] == ["1:a", "2:b"]
    await desk.ack(1)
    assert [word[:3] for word in await desk.got()] == ["3:c", "cau"]


async def test_a_slow_device_holds_nothing_but_its_window(desk: Desk) -> None:
    await desk.connect()
    await desk.send(*("x" for _ in range(500)))
    await wait_all_tasks_blocked()
    assert desk.outbox.statistics().frames_waiting == WINDOW + 1
    assert desk.store.limits_read == []
    await desk.ack(1)
    await wait_all_tasks_blocked()
    assert desk.store.limits_read == [1]


async def test_what_was_not_acknowledged_comes_again_and_what_was_does_not(desk: Desk) -> None:
    await desk.send("a", "b", "c")
    await desk.connect()
    assert await desk.got() == ["1:a", "2:b", "3:c", "caught up 3"]
    await desk.ack(2)
    await desk.connect()
    await desk.send("d")
    assert await desk.got() == ["3:c", "caught up 3", "4:d"]


async def test_what_has_expired_is_a_gap(desk: Desk) -> None:
    await desk.send("a", ts=9_000)
    await desk.send("b", "c", ts=1_000)
    await desk.send("d", ts=9_000)
    await desk.send("e", "f", ts=1_000)
    await desk.store.expire(before_ms=1_000, archived_before_ms=1_000)
    assert (await desk.store.expire(before_ms=1_001, archived_before_ms=1_001)).devices == 1
    # The device itself was seen long ago too; so the same again, with one that was not.
    await registered(desk.store, ANN, LAPTOP, now_ms=9_000)
    await desk.send("a", ts=9_000)
    await desk.send("b", "c", ts=1_000)
    await desk.send("d", ts=9_000)
    await desk.send("e", "f", ts=1_000)
    await desk.store.expire(before_ms=5_000, archived_before_ms=5_000)
    await desk.connect()
    assert await desk.got() == ["1:a", "gap 2-3 expired", "4:d", "gap 5-6 expired", "caught up 6"]
    await desk.send("g", ts=9_000)
    assert await desk.got() == ["7:g"]
    await desk.ack(7)


async def test_everything_expired_is_one_gap(desk: Desk) -> None:
    await registered(desk.store, ANN, PHONE, now_ms=9_000)
    await desk.send(*"abcde")
    await desk.store.expire(before_ms=5_000, archived_before_ms=5_000)
    await desk.connect()
    assert await desk.got() == ["gap 1-5 expired", "caught up 5"]


async def test_a_text_that_comes_while_a_loss_is_looked_up_goes_out_after_its_gap(desk: Desk) -> None:
    await registered(desk.store, ANN, PHONE, now_ms=9_000)
    await desk.send(*"ab")
    await desk.store.expire(before_ms=5_000, archived_before_ms=5_000)
    desk.store.asking = trio.Event()
    await desk.connect()
    await desk.send("c")
    assert await desk.got() == []
    desk.store.asking.set()
    assert await desk.got() == ["gap 1-2 expired", "3:c", "caught up 3"]


async def test_what_a_full_mailbox_lost_is_told_as_that(nursery: trio.Nursery) -> None:
    """At the moment when the device has the rest, without a new text or a reconnect."""
    desk = await own_desk(nursery, mailbox_envelopes=2)
    await desk.send(*"abcd")
    await desk.connect()
    assert await desk.got() == ["1:a", "2:b", "gap 3-4 full", "caught up 4"]
    await desk.send("e")
    assert await desk.got() == ["gap 5-5 full"]
    await desk.connect()
    assert await desk.got() == ["1:a", "2:b", "gap 3-5 full", "caught up 5"]
    await desk.ack(5)
    await desk.send("f")
    assert await desk.got() == ["6:f"]


async def test_what_has_expired_and_what_was_lost_are_two_gaps_of_which_each_can_be_acknowledged(
    nursery: trio.Nursery,
) -> None:
    desk = await own_desk(nursery, mailbox_envelopes=2)
    await desk.send(*"abcd")
    await desk.store.expire(before_ms=5_000, archived_before_ms=5_000)
    await desk.connect()
    assert await desk.got() == ["gap 1-2 expired", "gap 3-4 full", "caught up 4"]
    await desk.ack(2)
    await desk.connect()
    assert await desk.got() == ["gap 3-4 full", "caught up 4"]


async def test_a_gap_names_the_groups_of_which_it_covers_a_change(nursery: trio.Nursery) -> None:
    desk = await own_desk(nursery, mailbox_envelopes=1, lost_groups=2)
    clubs = [GroupId("#" + digit * 32) for digit in "123"]
    await desk.send("a")
    for club in clubs[:2]:
        await desk.change(club, 0, {ANN: "member", BOB: "admin"})
    await desk.change(clubs[0], 1, {BOB: "admin"})
    await desk.send("b")
    await desk.connect()
    assert await desk.got() == ["1:a", "gap 2-5 full #11 #22", "caught up 5"]
    await desk.change(clubs[2], 0, {ANN: "member", BOB: "admin"})
    assert await desk.got() == ["gap 6-6 full more"]


async def own_desk(nursery: trio.Nursery, *, mailbox_envelopes: int, lost_groups: int = 9) -> Desk:
    """The mailbox is Ann's own other device's: a full one of a recipient would refuse."""
    quota = Quota(mailbox_envelopes, 100_000, devices_per_client=9, lost_groups=lost_groups)
    desk = Desk(CountingStore(quota), nursery, sender=ANN, to=BOB)
    await registered(desk.store, ANN, PHONE, now_ms=9_000)
    return desk


async def test_what_is_committed_during_a_fetch_comes_in_order(desk: Desk) -> None:
    await desk.send(*"abc")
    desk.store.limiter = trio.Event()
    await desk.connect()
    await desk.send(*"defg")
    assert await desk.got() == []
    desk.store.limiter.set()
    assert await desk.got() == ["1:a", "2:b", "3:c", "4:d", "5:e", "6:f", "7:g", "caught up 7"]
    await desk.send("h")
    assert await desk.got() == ["8:h"]


async def test_a_bad_ack_is_refused(desk: Desk) -> None:
    await desk.send("a")
    await desk.connect()
    with pytest.raises(AckBeyondDelivery):
        desk.pump.ack(2)


async def test_a_store_that_cannot_be_read_ends_the_pump(desk: Desk) -> None:
    await desk.send("a")
    desk.store.is_broken = True
    (box,) = await desk.store.mailboxes_of(ANN)
    with pytest.raises(StoreError):
        await _pump_of(box, desk.store).run()


def _pump_of(box: Mailbox, store: CountingStore) -> Pump:
    outbox = Outbox(most_frames=10, most_bytes=10_000, ring=lambda: None)
    return Pump(box.id, Window(box.acked, box.tail, WINDOW, 1_000), store, outbox)
