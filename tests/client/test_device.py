"""A device session as a program sees it: what is kept before it is told, and what is handed out once."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from attrs import define, field
from sqlcipher3 import dbapi2

from ironwire.client import (
    Accepted,
    Backoff,
    CaughtUp,
    Client,
    Connected,
    DeliveredReceipt,
    DeliveredText,
    Device,
    Disconnected,
    Error,
    Event,
    Identity,
    LocalStore,
    LocalStoreError,
    Lost,
    NotTheProtocol,
    Owner,
    Received,
    Refused,
    SessionEnded,
    Settled,
    StoreKey,
    connect,
    default_store_path,
    read_history,
)
from ironwire.client.events import EVENT_LIMIT
from ironwire.client.store.store import InThread, in_thread
from ironwire.ids import DeviceId, GroupId, MessageId
from ironwire.wire.messages import Ack, DeviceList, DeviceRemove, DeviceRemoved, Devices, Gap, Receipt, Text

from .scripted_server import ADDRESS, Peer, ScriptedServer, scripted_server

T = TypeVar("T")

ALICE = Identity.from_seed(b"a" * 32)
BOB = Identity.from_seed(b"b" * 32).client_id
PHONE = DeviceId("phone")
CLUB = GroupId("#" + "f0" * 16)
OWNER = Owner(ALICE.client_id, PHONE, ADDRESS.origin)
KEY = StoreKey.of(ALICE)
AT_ONCE = Backoff(base_seconds=0)
DAY_MS = 24 * 3_600_000


@define(eq=False)
class SlowDisk:
    """Waits at the release, when there is one, before it does what it is told."""

    release: trio.Event = field(factory=trio.Event)
    error: Exception | None = None

    def __attrs_post_init__(self) -> None:
        self.release.set()

    async def __call__(self, work: Callable[[], T], /) -> T:
        with trio.CancelScope(shield=True):
            await self.release.wait()
        if self.error is not None:
            raise self.error
        return await in_thread(work)


@define(eq=False)
class RtcPeer:
    """Alice's phone, which can be switched on again and again."""

    path: Path
    server: ScriptedServer

    @asynccontextmanager
    async def on(self, disk: InThread = in_thread, *first: Event) -> AsyncIterator[tuple[Client, Peer]]:
        """`first` are the events that come before that of the connection."""
        store = LocalStore(self.path, disk)
        async with connect(ADDRESS, ALICE, device=PHONE, store=store, backoff=AT_ONCE, dial=self.server.dial) as client:
            for event in (*first, Connected()):
                assert await anext(client) == event
            yield client, await self.server.accept()

    def history(self) -> list[tuple[str, str]]:
        entries = read_history(self.path, OWNER, KEY, BOB, 100)
        return [(entry.state, getattr(entry.message, "text", "")) for entry in entries]


@pytest.fixture
async def phone(tmp_path: Path) -> AsyncIterator[RtcPeer]:
    with trio.fail_after(20):
        async with scripted_server() as server:
            yield RtcPeer(tmp_path / "folder" / "phone.db", server)


def text(number: int, ts: int | None = None) -> DeliveredText:
    return DeliveredText(BOB, str(number), ts)


def received(number: int) -> Received:
    return Received(text(number), None, number)


# --- what comes ------------------------------------------------------------------------------------------------------


async def test_what_came_is_kept_then_acknowledged_then_handed_out(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        await peer.deliver(text(1), 1, MessageId("theirs"))
        await peer.send(CaughtUp(1))
        assert await peer.receive() == (Ack(1), None)
        assert phone.history() == [("received", "1")]
        assert await anext(client) == Received(text(1), MessageId("theirs"), 1)
        assert await anext(client) == Received(CaughtUp(1))


async def test_nothing_is_acknowledged_before_it_is_kept(phone: RtcPeer) -> None:
    disk = SlowDisk()
    async with phone.on(disk) as (client, peer):
        disk.release = trio.Event()
        await peer.deliver(text(1), 1)
        with trio.move_on_after(0.05):
            pytest.fail(f"acknowledged too early: {await peer.receive()}")
        disk.release.set()
        assert await peer.receive() == (Ack(1), None)
        assert await anext(client) == received(1)


async def test_what_comes_during_one_commit_is_in_the_next_and_has_one_ack(phone: RtcPeer) -> None:
    disk = SlowDisk()
    async with phone.on(disk) as (_, peer):
        await peer.deliver(text(1), 1)
        assert await peer.receive() == (Ack(1), None)
        disk.release = trio.Event()
        for number in range(2, 100):
            await peer.deliver(text(number), number)
            await trio.testing.wait_all_tasks_blocked()
        disk.release.set()
        acks = [await peer.receive()]
        while acks[-1] != (Ack(99), None):
            acks.append(await peer.receive())
        assert len(acks) <= 2


async def test_what_comes_twice_is_acknowledged_twice_and_handed_out_once(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        for number in (1, 2):
            await peer.deliver(text(number), number)
        assert [await anext(client), await anext(client)] == [received(1), received(2)]
        await peer.cut()
        returned = await phone.server.accept()
        for number in (1, 2, 3):
            await returned.deliver(text(number), number)
        await _acked(returned, 3)
        events = [await anext(client) for _ in range(3)]
        assert isinstance(events[0], Disconnected)
        assert events[1:] == [Connected(), received(3)]


async def test_what_came_in_one_session_is_not_acknowledged_in_the_next(phone: RtcPeer) -> None:
    """Where the server has not delivered it yet, and would close with 4400."""
    disk = SlowDisk()
    async with phone.on(disk) as (client, peer):
        disk.release = trio.Event()
        await peer.deliver(text(1), 1)
        await trio.testing.wait_all_tasks_blocked()
        await peer.cut()
        returned = await phone.server.accept()
        await client.wait_connected()
        disk.release.set()
        assert {type(await anext(client)) for _ in range(3)} == {Received, Disconnected, Connected}
        with trio.move_on_after(0.05):
            pytest.fail(f"the server did not deliver that yet: {await returned.receive()}")
        await returned.deliver(text(1), 1)
        assert await returned.receive() == (Ack(1), None)


async def test_what_was_not_finished_comes_again(phone: RtcPeer) -> None:
    async def run() -> None:
        async with phone.on() as (client, peer):
            for number in (1, 2, 3):
                await peer.deliver(text(number), number)
            assert [await anext(client), await anext(client)] == [received(1), received(2)]
            await _acked(peer, 3)
            raise LookupError("the program fails while it does something with the second")

    with pytest.raises(LookupError):
        await run()
    # What is left from before comes before the connection.
    async with phone.on(in_thread, received(2), received(3)) as (client, peer):
        await peer.deliver(text(4), 4)
        assert await anext(client) == received(4)


async def test_leaving_without_an_error_finishes_the_last(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        await peer.deliver(text(1), 1)
        assert await anext(client) == received(1)
    async with phone.on() as (client, peer):
        await peer.deliver(text(2), 2)
        assert await anext(client) == received(2)


async def test_a_slow_program_misses_no_delivery_and_stalls_no_window(phone: RtcPeer) -> None:
    count = EVENT_LIMIT + 200
    async with phone.on() as (client, peer):
        for number in range(1, count + 1):
            await peer.deliver(text(number), number)
        await _acked(peer, count)
        for number in range(1, count + 1):
            assert await anext(client) == received(number)


async def test_a_gap_is_told_once(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        await peer.deliver(text(1), 1)
        await peer.send(Gap(2, 7, "expired"))
        await peer.deliver(text(8), 8)
        assert [await anext(client) for _ in range(3)] == [received(1), Lost(2, 7, "expired"), received(8)]
        await _acked(peer, 8)
    async with phone.on() as (client, peer):
        await peer.send(Gap(2, 7, "expired"))
        await peer.send(Gap(5, 10, "expired"))
        await peer.deliver(text(11), 11)
        assert [await anext(client), await anext(client)] == [Lost(9, 10, "expired"), received(11)]
        await _acked(peer, 11)


async def test_a_gap_says_why_and_whose_changes_it_covers_also_after_a_restart(phone: RtcPeer) -> None:
    async with phone.on() as (_, peer):
        await peer.send(Gap(1, 7, "full", [CLUB]))
        await peer.send(Gap(5, 9, "full", [CLUB], more_groups=True))
        await _acked(peer, 9)
    lost = (Lost(1, 7, "full", (CLUB,)), Lost(8, 9, "full", (CLUB,), more_groups=True))
    async with phone.on(in_thread, *lost):
        pass


async def test_a_hole_that_nobody_explains_is_told_too(phone: RtcPeer) -> None:
    """As after the device's own file was put back from a copy; not where the file is new."""
    async with phone.on() as (client, peer):
        await peer.deliver(text(5), 5)
        await peer.deliver(text(9), 9)
        assert [await anext(client) for _ in range(3)] == [
            received(5),
            Lost(6, 8, "expired", more_groups=True),
            received(9),
        ]


@pytest.mark.parametrize(("epoch", "tail"), [(2, 9), (1, 3)], ids=["made anew", "set back"])
async def test_a_mailbox_that_begins_again(phone: RtcPeer, epoch: int, tail: int) -> None:
    phone.server.tail = 9
    async with phone.on() as (client, peer):
        await peer.deliver(text(9), 9)
        assert await anext(client) == received(9)
    phone.server.epoch, phone.server.tail = epoch, tail
    async with phone.on() as (client, peer):
        await peer.deliver(text(1), 1)
        assert await peer.receive() == (Ack(1), None)
        assert await anext(client) == received(1)
    assert phone.history() == [("received", "9"), ("received", "1")]


async def test_the_same_message_under_another_number_is_not_handed_out(phone: RtcPeer) -> None:
    once = MessageId("once")
    async with phone.on() as (client, peer):
        await peer.deliver(text(1, ts=0), 1, once)
        await peer.deliver(text(1, ts=DAY_MS), 2, once)
        await peer.deliver(text(3, ts=40 * DAY_MS), 3, once)  # the sender may use the id for another message by then
        assert await anext(client) == Received(text(1, ts=0), once, 1)
        assert await anext(client) == Received(text(3, ts=40 * DAY_MS), once, 3)


async def test_a_delivery_without_a_number_is_not_the_protocol(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        await peer.send(text(1))
        with pytest.raises(NotTheProtocol, match="without a number"):
            await anext(client)


async def test_a_server_without_mailboxes_is_refused(phone: RtcPeer) -> None:
    phone.server.epoch = None
    with pytest.raises(NotTheProtocol, match="connect without a device"):
        async with phone.on():
            pytest.fail("there should be no client")


async def test_only_one_task_at_a_time_asks_for_events(phone: RtcPeer) -> None:
    async with phone.on() as (client, _), trio.open_nursery() as nursery:
        nursery.start_soon(_next, client)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await anext(client)
        nursery.cancel_scope.cancel()


async def _acked(peer: Peer, upto: int) -> None:
    """Wait until everything up to `upto` is acknowledged."""
    ack, _ = await peer.receive()
    while ack != Ack(upto):
        ack, _ = await peer.receive()


async def _next(client: Client) -> Event:
    return await anext(client)


async def test_a_wait_that_is_cancelled_loses_nothing(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        with trio.move_on_after(0.01) as waiting:
            await anext(client)
        assert waiting.cancelled_caught
        await peer.deliver(text(1), 1)
        assert await anext(client) == received(1)


async def test_what_was_kept_comes_out_before_the_end_is_told(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        for number in (1, 2):
            await peer.deliver(text(number), number)
        await _acked(peer, 2)
        await peer.close(4409, "replaced")
        assert [await anext(client), await anext(client)] == [received(1), received(2)]
        with pytest.raises(SessionEnded):
            await anext(client)
    with pytest.raises(SessionEnded):
        await anext(client)
    with pytest.raises(LocalStoreError, match="not open"):
        await client.history(BOB, 1)


# --- what goes -------------------------------------------------------------------------------------------------------


async def test_what_is_sent_is_kept_first(phone: RtcPeer) -> None:
    disk = SlowDisk()
    async with phone.on(disk) as (client, peer), trio.open_nursery() as nursery:
        disk.release = trio.Event()
        nursery.start_soon(client.send_text, BOB, "hello")
        with trio.move_on_after(0.05):
            pytest.fail(f"sent too early: {await peer.receive()}")
        disk.release.set()
        _, message_id = await peer.receive()
        assert phone.history() == [("queued", "hello")]
        await peer.send(Accepted(77), message_id)
    assert phone.history() == [("accepted", "hello")]
    assert read_history(phone.path, OWNER, KEY, BOB, 1)[0].message.ts == 77


async def test_what_was_not_answered_is_sent_again_by_the_next_run(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer), trio.open_nursery() as nursery:
        for word in ("one", "two"):
            nursery.start_soon(client.send_text, BOB, word)
            await trio.testing.wait_all_tasks_blocked(0.01)
        frames = [await peer.receive(), await peer.receive()]
        nursery.cancel_scope.cancel()
    async with phone.on() as (client, peer):
        assert [await peer.receive(), await peer.receive()] == frames
        one_id, two_id = (message_id for _, message_id in frames)
        assert one_id is not None
        assert two_id is not None
        await peer.send(Accepted(5, duplicate=True), one_id)
        await peer.send(Error("user_offline", user=BOB), two_id)
        assert await anext(client) == Settled(one_id, Text(BOB, "one"), Accepted(5, duplicate=True))
        assert await anext(client) == Settled(two_id, Text(BOB, "two"), Error("user_offline", user=BOB))
    assert phone.history() == [("accepted", "one"), ("refused", "two")]
    async with phone.on() as (_, peer):
        with trio.move_on_after(0.05):
            pytest.fail(f"sent once more: {await peer.receive()}")


async def test_a_refusal_is_raised_and_kept(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer), trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(Refused, match="user_offline"):
                await client.send_text(BOB, "hello?")

        nursery.start_soon(send)
        _, message_id = await peer.receive()
        await peer.send(Error("user_offline", user=BOB), message_id)
    assert phone.history() == [("refused", "hello?")]


async def test_what_the_server_takes_no_longer_is_not_sent_over_and_over(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_text, BOB, "x" * 2000)
        await peer.receive()
        nursery.cancel_scope.cancel()
    phone.server.frame_bytes = 1024
    async with phone.on() as (client, peer):
        event = await anext(client)
        assert isinstance(event, Settled)
        assert isinstance(event.reply, Error)
        assert event.reply.msg == "too_large"
    assert phone.history() == [("refused", "x" * 2000)]


async def test_a_note_to_oneself_is_delivered_and_stands_in_the_history_once(phone: RtcPeer) -> None:
    own = ALICE.client_id
    async with phone.on() as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_text, own, "milk")
        _, message_id = await peer.receive()
        note = DeliveredText(own, "milk", ts=5, device=PHONE)
        await peer.send(Accepted(5), message_id)
        await peer.deliver(note, 1, message_id)
        assert await anext(client) == Received(note, message_id, 1)
        assert [entry.state for entry in await client.history(own, 10)] == ["accepted"]


# --- receipts, devices, history --------------------------------------------------------------------------------------


async def test_receipts_go_out_and_are_noted_when_they_come(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_text, BOB, "hello")
        _, message_id = await peer.receive()
        assert message_id is not None
        await peer.send(Accepted(1), message_id)
        seen = []
        for seq, state in enumerate(("delivered", "read", "delivered"), start=1):
            receipt = DeliveredReceipt(BOB, [message_id], state)  # type: ignore[arg-type]  # a loop widens literals
            await peer.deliver(receipt, seq)
            assert await anext(client) == Received(receipt, None, seq)
            seen.append((await client.history(BOB, 1))[0].receipt)
        assert seen == ["delivered", "read", "read"]

        for number in range(3):
            assert (await peer.receive()) == (Ack(number + 1), None)
        nursery.start_soon(client.send_receipt, BOB, [MessageId("theirs")], "read")
        sent, receipt_id = await peer.receive()
        assert sent == Receipt(BOB, [MessageId("theirs")], "read")
        await peer.send(Accepted(2), receipt_id)
    assert phone.history() == [("accepted", "hello")]


async def test_a_copy_from_another_device_is_part_of_the_conversation(phone: RtcPeer) -> None:
    copy = DeliveredText(ALICE.client_id, "from my desk", ts=1, device=DeviceId("laptop"), to=BOB)
    async with phone.on() as (client, peer):
        await peer.deliver(copy, 1, MessageId("mine"))
        await peer.deliver(DeliveredText(BOB, "answer", ts=2), 2)
        assert await anext(client) == Received(copy, MessageId("mine"), 1)
        assert (await client.history(BOB, 10))[0].message == copy
        assert [entry.message for entry in await client.history(BOB, 1)] == [DeliveredText(BOB, "answer", ts=2)]
    assert phone.history() == [("received", "from my desk"), ("received", "answer")]


async def test_devices_are_listed_and_removed(phone: RtcPeer) -> None:
    laptop = Device(DeviceId("laptop"), 1, 2, 3)
    async with phone.on() as (client, peer), trio.open_nursery() as nursery:

        async def manage() -> None:
            assert await client.devices() == [laptop]
            await client.remove_device(laptop.device)
            with pytest.raises(Refused, match="not_found"):
                await client.remove_device(laptop.device)

        nursery.start_soon(manage)
        message, message_id = await peer.receive()
        assert message == Devices()
        await peer.send(DeviceList([laptop]), message_id)
        message, message_id = await peer.receive()
        assert message == DeviceRemove(laptop.device)
        await peer.send(DeviceRemoved(laptop.device), message_id)
        _, message_id = await peer.receive()
        await peer.send(Error("not_found"), message_id)


async def test_an_answer_of_another_kind_is_not_the_protocol(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(NotTheProtocol, match="devices"):
                await client.devices()

        nursery.start_soon(ask)
        _, message_id = await peer.receive()
        await peer.send(Accepted(1), message_id)


# --- the file --------------------------------------------------------------------------------------------------------


async def test_a_disk_that_fails_stops_the_client_and_acknowledges_nothing(phone: RtcPeer) -> None:
    disk = SlowDisk()
    async with phone.on(disk) as (client, peer):
        await peer.deliver(text(1), 1)
        assert await anext(client) == received(1)
        assert await peer.receive() == (Ack(1), None)
        disk.error = dbapi2.OperationalError("database or disk is full")
        await peer.deliver(text(2), 2)
        with pytest.raises(LocalStoreError, match="disk is full"):
            await anext(client)
        with pytest.raises(LocalStoreError, match="disk is full"):
            await client.send_text(BOB, "hello")
        with pytest.raises(LocalStoreError, match="disk is full"):
            await client.wait_connected()
        assert not client.connected
        disk.error = None
    # The first is not finished: the disk failed before that was kept.
    async with phone.on(in_thread, received(1)) as (client, peer):
        await peer.deliver(text(2), 2)
        assert await peer.receive() == (Ack(2), None)


async def test_one_program_at_a_time(phone: RtcPeer) -> None:
    async with phone.on():
        with pytest.raises(LocalStoreError, match="in use by another program"):
            async with phone.on():
                pytest.fail("there should be no client")
    async with phone.on():
        pass


async def test_a_file_of_another_device(phone: RtcPeer) -> None:
    async with phone.on():
        pass
    with pytest.raises(LocalStoreError, match="belongs to another"):
        async with connect(ADDRESS, ALICE, device=DeviceId("tablet"), store=phone.path, dial=phone.server.dial):
            pytest.fail("there should be no client")
    with pytest.raises(LocalStoreError, match="belongs to another"):
        read_history(phone.path, Owner(BOB, PHONE, ADDRESS.origin), KEY, BOB, 1)


async def test_what_is_no_database(phone: RtcPeer) -> None:
    phone.path.parent.mkdir()
    phone.path.write_bytes(b"something else altogether" * 100)
    with pytest.raises(LocalStoreError, match="does not open with the key of this identity"):
        async with phone.on():
            pytest.fail("there should be no client")


async def test_the_file_is_for_its_owner_alone(phone: RtcPeer) -> None:
    async with phone.on() as (client, peer):
        await peer.deliver(text(1), 1)
        await anext(client)
        modes = {path.name: path.stat().st_mode & 0o777 for path in phone.path.parent.iterdir()}
        assert set(modes.values()) == {0o600}
    assert phone.path.parent.stat().st_mode & 0o777 == 0o700


async def test_where_the_file_is_by_default(phone: RtcPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = default_store_path(OWNER)
    assert path == tmp_path / "ironwire" / "http_server.test_8080" / f"{ALICE.client_id[:16]}-phone.db"
    async with connect(ADDRESS, ALICE, device=PHONE, dial=phone.server.dial):
        assert path.exists()
    monkeypatch.setenv("XDG_DATA_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_store_path(OWNER).is_relative_to(tmp_path / ".local" / "share" / "ironwire")


async def test_a_client_without_a_device_keeps_nothing(
    phone: RtcPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    async with connect(ADDRESS, ALICE, dial=phone.server.dial) as client:
        assert client.device is None
        with pytest.raises(LocalStoreError, match="without a device"):
            await client.history(BOB, 1)
    assert not default_store_path(OWNER).parent.exists()
    with pytest.raises(LocalStoreError, match="no history"):
        read_history(phone.path, OWNER, KEY, BOB, 1)
