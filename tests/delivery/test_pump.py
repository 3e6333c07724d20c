"""`delivery/pump.py`: what a device session is sent from its mailbox, on the store in memory."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import wait_all_tasks_blocked

from ironwire.delivery.outbox import Outbox
from ironwire.delivery.pump import AckBeyondDelivery, Pump, Window
from ironwire.errors import StoreError
from ironwire.ids import ClientId, GroupId, Role
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.operations import Acknowledge, Appended, Result
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
        self.release = trio.Event()
        self.release.set()
        self.asking = trio.Event()
        """Set: it says what is lost."""
        self.asking.set()

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        if self.is_broken:
            raise StoreError("broken")
        self.limits_read.append(limit)
        page = await super().read(mailbox, after=after, limit=limit)
        await self.release.wait()
        return page

    async def losses(self, mailbox: MailboxId, first: int, last: int) -> Sequence[Loss]:
        await self.asking.wait()
        return await super().losses(mailbox, first, last)


@define
class Recipient:
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
        self.pump = Pump(self.store, self.outbox)
        self.pump.open(box.id, box.session, Window(box.acked, box.tail, WINDOW, most_bytes))
        self.pump.begin(partial(self.nursery.start_soon, self.pump.run))
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
        assert isinstance(stored, Appended)
        if self.is_connected:
            for place in stored.placed:
                self.pump.offer(place.seq, sent, is_own=False)
            for lost in stored.lost:
                self.pump.note(lost.seq)

    async def ack(self, upto: int) -> None:
        if self.pump.ack(upto) is not None:
            await self.store.apply([Acknowledge(self.pump.mailbox, upto)])

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
async def recipient(nursery: trio.Nursery) -> Recipient:
    store = CountingStore()
    await registered(store, ANN, PHONE)
    return Recipient(store, nursery)


async def test_what_waited_comes_first_then_caught_up_then_what_is_live(recipient: Recipient) -> None:
    await recipient.send("a", "b")
    await recipient.connect()
    await recipient.send("c")
    assert await recipient.got() == ["1:a", "2:b", "caught up 2", "3:c"]


async def test_there_is_a_task_only_while_the_device_is_behind(recipient: Recipient) -> None:
    await recipient.send(*(str(number) for number in range(1, WINDOW + 2)))
    others = recipient.nursery.child_tasks
    await recipient.connect()
    assert (len(await recipient.got()), recipient.nursery.child_tasks) == (WINDOW, others)
    await recipient.ack(1)
    assert recipient.nursery.child_tasks != others
    assert await recipient.got() == ["11:11", "caught up 11"]
    await recipient.ack(11)
    await recipient.send("12")
    assert recipient.nursery.child_tasks == others
    assert await recipient.got() == ["12:12"]


async def test_an_empty_mailbox_is_caught_up_at_once_and_only_once(recipient: Recipient) -> None:
    await recipient.connect()
    assert await recipient.got() == ["caught up 0"]
    await recipient.send("a")
    await recipient.ack(1)
    assert await recipient.got() == ["1:a"]


async def test_what_is_live_does_not_ask_the_store(recipient: Recipient) -> None:
    await recipient.connect()
    for number in range(1, 50):
        await recipient.send("x")
        await recipient.ack(number)
    assert recipient.store.limits_read == []


async def test_a_full_window_waits_for_acks(recipient: Recipient) -> None:
    await recipient.connect()
    await recipient.got()
    await recipient.send(*"abcdefghijklmn")
    assert await recipient.got() == [f"{number}:{text}" for number, text in enumerate("abcdefghij", start=1)]
    await recipient.ack(2)
    assert await recipient.got() == ["11:k", "12:l"]
    await recipient.ack(12)
    assert await recipient.got() == ["13:m", "14:n"]
    await recipient.send("o")
    assert await recipient.got() == ["15:o"]


async def test_the_window_counts_bytes_too_and_one_of_any_size_goes_out(recipient: Recipient) -> None:
    await recipient.send(*(letter * 1_000 for letter in "abc"))
    await recipient.connect(most_bytes=1_500)
    assert [word[:3] for word in await recipient.got()] == ["1:a", "2:b"]
    await recipient.ack(1)
    assert [word[:3] for word in await recipient.got()] == ["3:c", "cau"]


async def test_a_slow_device_holds_nothing_but_its_window(recipient: Recipient) -> None:
    await recipient.connect()
    await recipient.send(*("x" for _ in range(500)))
    await wait_all_tasks_blocked()
    assert recipient.outbox.statistics().frames_waiting == WINDOW + 1
    assert recipient.store.limits_read == []
    await recipient.ack(1)
    await wait_all_tasks_blocked()
    assert recipient.store.limits_read == [1]


async def test_what_was_not_acknowledged_comes_again_and_what_was_does_not(recipient: Recipient) -> None:
    await recipient.send("a", "b", "c")
    await recipient.connect()
    assert await recipient.got() == ["1:a", "2:b", "3:c", "caught up 3"]
    await recipient.ack(2)
    await recipient.connect()
    await recipient.send("d")
    assert await recipient.got() == ["3:c", "caught up 3", "4:d"]


async def test_what_has_expired_is_a_gap(recipient: Recipient) -> None:
    await recipient.send("a", ts=9_000)
    await recipient.send("b", "c", ts=1_000)
    await recipient.send("d", ts=9_000)
    await recipient.send("e", "f", ts=1_000)
    await recipient.store.expire(before_ms=1_000, archived_before_ms=1_000)
    assert (await recipient.store.expire(before_ms=1_001, archived_before_ms=1_001)).devices == 1
    # The device itself was seen long ago too; so the same again, with one that was not.
    await registered(recipient.store, ANN, LAPTOP, now_ms=9_000)
    await recipient.send("a", ts=9_000)
    await recipient.send("b", "c", ts=1_000)
    await recipient.send("d", ts=9_000)
    await recipient.send("e", "f", ts=1_000)
    await recipient.store.expire(before_ms=5_000, archived_before_ms=5_000)
    await recipient.connect()
    assert await recipient.got() == ["1:a", "gap 2-3 expired", "4:d", "gap 5-6 expired", "caught up 6"]
    await recipient.send("g", ts=9_000)
    assert await recipient.got() == ["7:g"]
    await recipient.ack(7)


async def test_everything_expired_is_one_gap(recipient: Recipient) -> None:
    await registered(recipient.store, ANN, PHONE, now_ms=9_000)
    await recipient.send(*"abcde")
    await recipient.store.expire(before_ms=5_000, archived_before_ms=5_000)
    await recipient.connect()
    assert await recipient.got() == ["gap 1-5 expired", "caught up 5"]


async def test_a_text_that_comes_while_a_loss_is_looked_up_goes_out_after_its_gap(recipient: Recipient) -> None:
    await registered(recipient.store, ANN, PHONE, now_ms=9_000)
    await recipient.send(*"ab")
    await recipient.store.expire(before_ms=5_000, archived_before_ms=5_000)
    recipient.store.asking = trio.Event()
    await recipient.connect()
    await recipient.send("c")
    assert await recipient.got() == []
    recipient.store.asking.set()
    assert await recipient.got() == ["gap 1-2 expired", "3:c", "caught up 3"]


async def test_what_a_full_mailbox_lost_is_told_as_that(nursery: trio.Nursery) -> None:
    """At the moment when the device has the rest, without a new text or a reconnect."""
    recipient = await own_recipient(nursery, mailbox_envelopes=2)
    await recipient.send(*"abcd")
    await recipient.connect()
    assert await recipient.got() == ["1:a", "2:b", "gap 3-4 full", "caught up 4"]
    await recipient.send("e")
    assert await recipient.got() == ["gap 5-5 full"]
    await recipient.connect()
    assert await recipient.got() == ["1:a", "2:b", "gap 3-5 full", "caught up 5"]
    await recipient.ack(5)
    await recipient.send("f")
    assert await recipient.got() == ["6:f"]


async def test_what_has_expired_and_what_was_lost_are_two_gaps_of_which_each_can_be_acknowledged(
    nursery: trio.Nursery,
) -> None:
    recipient = await own_recipient(nursery, mailbox_envelopes=2)
    await recipient.send(*"abcd")
    await recipient.store.expire(before_ms=5_000, archived_before_ms=5_000)
    await recipient.connect()
    assert await recipient.got() == ["gap 1-2 expired", "gap 3-4 full", "caught up 4"]
    await recipient.ack(2)
    await recipient.connect()
    assert await recipient.got() == ["gap 3-4 full", "caught up 4"]


async def test_a_gap_names_the_groups_of_which_it_covers_a_change(nursery: trio.Nursery) -> None:
    recipient = await own_recipient(nursery, mailbox_envelopes=1, lost_groups=2)
    clubs = [GroupId("#" + digit * 32) for digit in "123"]
    await recipient.send("a")
    for club in clubs[:2]:
        await recipient.change(club, 0, {ANN: "member", BOB: "admin"})
    await recipient.change(clubs[0], 1, {BOB: "admin"})
    await recipient.send("b")
    await recipient.connect()
    assert await recipient.got() == ["1:a", "gap 2-5 full #11 #22", "caught up 5"]
    await recipient.change(clubs[2], 0, {ANN: "member", BOB: "admin"})
    assert await recipient.got() == ["gap 6-6 full more"]


async def own_recipient(nursery: trio.Nursery, *, mailbox_envelopes: int, lost_groups: int = 9) -> Recipient:
    """The mailbox is Ann's own other device's: a full one of a recipient would refuse."""
    quota = Quota(mailbox_envelopes, 100_000, devices_per_client=9, lost_groups=lost_groups)
    recipient = Recipient(CountingStore(quota), nursery, sender=ANN, to=BOB)
    await registered(recipient.store, ANN, PHONE, now_ms=9_000)
    return recipient


async def test_what_is_committed_during_a_fetch_comes_in_order(recipient: Recipient) -> None:
    await recipient.send(*"abc")
    recipient.store.release = trio.Event()
    await recipient.connect()
    await recipient.send(*"defg")
    assert await recipient.got() == []
    recipient.store.release.set()
    assert await recipient.got() == ["1:a", "2:b", "3:c", "4:d", "5:e", "6:f", "7:g", "caught up 7"]
    await recipient.send("h")
    assert await recipient.got() == ["8:h"]


async def test_a_bad_ack_is_refused(recipient: Recipient) -> None:
    await recipient.send("a")
    await recipient.connect()
    with pytest.raises(AckBeyondDelivery):
        recipient.pump.ack(2)


async def test_a_store_that_cannot_be_read_ends_the_pump(recipient: Recipient) -> None:
    await recipient.send("a")
    recipient.store.is_broken = True
    (box,) = await recipient.store.mailboxes_of(ANN)
    with pytest.raises(StoreError):
        await _pump_of(box, recipient.store).run()


def _pump_of(box: Mailbox, store: CountingStore) -> Pump:
    outbox = Outbox(most_frames=10, most_bytes=10_000, ring=lambda: None)
    pump = Pump(store, outbox)
    pump.open(box.id, box.session, Window(box.acked, box.tail, WINDOW, 1_000))
    return pump
