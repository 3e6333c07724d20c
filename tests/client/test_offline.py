"""A device without a server: it opens, shows what it knows, and takes what is to be sent."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, field

from ironwire.client import (
    Accepted,
    Backoff,
    Client,
    Connected,
    ConnectionFailed,
    DeliveredText,
    Disconnected,
    Error,
    Event,
    Identity,
    Owner,
    Queued,
    Received,
    ServerAddress,
    SessionEnded,
    Settled,
    connect,
    open_device,
)
from ironwire.client.store.backlog import WINDOW
from ironwire.ids import DeviceId, MessageId
from ironwire.wire.messages import Ack, Devices, Receipt, Resume, Text
from tests.client.scripted_server import ADDRESS, Peer, ScriptedServer, scripted_server

ALICE = Identity.from_seed(b"a" * 32)
BOB = Identity.from_seed(b"b" * 32).client_id
CAROL = Identity.from_seed(b"c" * 32).client_id
PHONE = DeviceId("phone")
OWNER = Owner(ALICE.client_id, PHONE, ADDRESS.origin)
NEVER = Backoff(math.inf, math.inf, uniform=lambda _, most: most)
SOON = Backoff(0.01, 0.01)


@define(eq=False)
class RtcPeer:
    """Alice's phone, and a server that may be away."""

    path: Path
    server: ScriptedServer
    is_there: bool = True
    attempts: int = field(default=0, init=False)

    @asynccontextmanager
    async def opened(self, backoff: Backoff = SOON) -> AsyncIterator[Client]:
        async with open_device(ADDRESS, ALICE, PHONE, store=self.path, backoff=backoff, dial=self._dial) as client:
            yield client

    async def _dial(self, address: ServerAddress) -> trio.abc.Stream:
        self.attempts += 1
        if not self.is_there:
            await trio.lowlevel.checkpoint()
            raise ConnectionFailed("nobody answers")
        return await self.server.dial(address)


@pytest.fixture
async def phone(tmp_path: Path) -> AsyncIterator[RtcPeer]:
    with trio.fail_after(30):
        async with scripted_server() as server:
            yield RtcPeer(tmp_path / "folder" / "phone.db", server)


def texts(count: int) -> list[Text]:
    return [Text(BOB, str(number)) for number in range(count)]


async def listed(client: Client) -> list[tuple[str, str]]:
    return [(entry.state, getattr(entry.message, "text", "")) for entry in await client.history(BOB, 10_000)]


async def until(client: Client, kind: type[Event]) -> Event:
    async for event in client:
        if isinstance(event, kind):
            return event
    raise AssertionError("there was no such event")


# --- without a server ------------------------------------------------------------------------------------------------


async def test_a_device_that_never_reached_a_server_opens_and_takes_messages(phone: RtcPeer) -> None:
    phone.is_there = False
    async with phone.opened(NEVER) as client:
        (message_id,) = await client.queue(Text(BOB, "hello"))
        assert await listed(client) == [("queued", "hello")]
        assert [each.peer for each in await client.conversations()] == [BOB]
        assert await anext(client) == Disconnected("nobody answers", math.inf)
        queued = await anext(client)
        assert isinstance(queued, Queued)
        assert (queued.id, queued.message) == (message_id, Text(BOB, "hello"))
        assert (client.connected, client.waiting) == (False, 1)
        assert (client.connection.state, client.connection.reason) == ("waiting", "nobody answers")

    phone.is_there = True
    async with phone.opened() as client:
        peer = await phone.server.accept()
        assert await peer.receive() == (Text(BOB, "hello"), message_id)
        await peer.send(Accepted(7), message_id)
        assert await until(client, Settled) == Settled(message_id, Text(BOB, "hello"), Accepted(7))
        assert (await listed(client), client.waiting) == ([("accepted", "hello")], 0)


async def test_what_is_queued_is_kept_when_the_call_returns(phone: RtcPeer) -> None:
    """The program that crashes then has lost nothing, and what it queued goes out once, in its order."""
    phone.is_there = False
    with trio.CancelScope() as life:
        async with phone.opened(NEVER) as client:
            await client.queue(*texts(3))
            life.cancel()
            await trio.sleep_forever()
    phone.is_there = True
    async with phone.opened() as client:
        peer = await phone.server.accept()
        assert [(await peer.receive())[0] for _ in range(3)] == texts(3)


async def test_asking_for_it_connects_at_once(phone: RtcPeer) -> None:
    phone.is_there = False
    async with phone.opened(NEVER) as client:
        assert isinstance(await anext(client), Disconnected)
        phone.is_there = True
        client.reconnect_now()
        await phone.server.accept()
        assert await anext(client) == Connected()
        client.reconnect_now()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert phone.attempts == 2


async def test_a_question_in_vain_is_no_longer_waited_for(phone: RtcPeer) -> None:
    """Somebody looks, and the server may be about to come: delays begin anew."""
    phone.is_there = False
    async with phone.opened(Backoff(100.0, 1_000.0, lambda _, most: most)) as client:
        delays = []
        for _ in range(3):
            lost = await anext(client)
            assert isinstance(lost, Disconnected)
            delays.append(lost.retry_seconds)
            client.reconnect_now()
        assert delays == [100.0, 100.0, 100.0]


async def test_a_session_that_ends_for_good_ends_no_conversation(phone: RtcPeer) -> None:
    async with phone.opened() as client:
        peer = await phone.server.accept()
        assert await anext(client) == Connected()
        await peer.deliver(DeliveredText(BOB, "hi"), 1)
        assert await anext(client) == Received(DeliveredText(BOB, "hi"), None, 1)
        await peer.close(4409, "replaced")
        assert await anext(client) == Disconnected("the session is over (replaced)", None)
        assert client.connection.state == "stopped"
        with pytest.raises(SessionEnded):
            await client.devices()
        with pytest.raises(SessionEnded):
            await client.wait_connected()
        await client.queue(Text(BOB, "later"))
        assert await listed(client) == [("received", "hi"), ("queued", "later")]
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert phone.attempts == 1

        client.reconnect_now()
        again = await phone.server.accept()
        assert (await again.receive())[0] == Text(BOB, "later")
        await client.wait_connected()


async def test_what_asks_the_server_waits_for_it_and_hears_that_it_has_stopped(phone: RtcPeer) -> None:
    async with phone.opened() as client, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(SessionEnded):
                await client.devices()

        nursery.start_soon(ask)
        peer = await phone.server.accept()
        assert (await peer.receive())[0] == Devices()
        await peer.cut()
        peer = await phone.server.accept()
        assert (await peer.receive())[0] == Devices()
        await peer.close(4403, "removed")


async def test_connect_still_wants_a_first_session(phone: RtcPeer) -> None:
    phone.is_there = False
    with pytest.raises(ConnectionFailed):
        async with connect(ADDRESS, ALICE, device=PHONE, store=phone.path, dial=phone._dial):
            pytest.fail("there should be no client")


# --- a long queue ----------------------------------------------------------------------------------------------------


@define(eq=False)
class SlowServer:
    """Accepts so many texts at a time, then refuses whatever comes until the client says `resume` (section 4)."""

    peer: Peer
    burst: int
    wait_ms: int
    taken: list[str] = field(factory=list)
    refused: int = 0

    async def run(self, count: int) -> None:
        left = self.burst
        while len(self.taken) < count:
            message, message_id = await self.peer.receive()
            match message:
                case Resume():
                    left = self.burst
                    await self.peer.send(Accepted(1), message_id)
                case Text(_, text) if left:
                    left -= 1
                    self.taken.append(text)
                    await self.peer.send(Accepted(1), message_id)
                case Ack():
                    pass
                case _:
                    is_held, self.refused = self.refused > 0, self.refused + 1
                    await self.peer.send(Error("rate_limited", retry_after_ms=self.wait_ms, held=is_held), message_id)


@pytest.mark.parametrize("burst", [1, 50, WINDOW, 10_000])
async def test_a_rate_limit_is_waited_out_and_keeps_the_order(phone: RtcPeer, burst: int) -> None:
    count = 20 if burst == 1 else 2 * WINDOW + 50
    async with phone.opened() as client, trio.open_nursery() as nursery:
        server = SlowServer(await phone.server.accept(), burst, wait_ms=20)
        nursery.start_soon(server.run, count)
        await client.queue(*texts(count))
        settled = await _settled(client, count)
        assert [each.message for each in settled] == texts(count)
        assert {type(each.reply) for each in settled} == {Accepted}
        nursery.cancel_scope.cancel()
    assert server.taken == [str(number) for number in range(count)]
    assert (server.refused > 0) == (burst < count)


async def _settled(client: Client, count: int) -> list[Settled]:
    found: list[Settled] = []
    while len(found) < count:
        event = await anext(client)
        if isinstance(event, Settled):
            found.append(event)
    return found


async def test_no_more_than_a_window_is_under_way(phone: RtcPeer) -> None:
    phone.is_there = False
    async with phone.opened(NEVER) as client:
        await client.queue(*texts(3 * WINDOW))
        phone.is_there = True
        client.reconnect_now()
        peer = await phone.server.accept()
        first = [await peer.receive() for _ in range(WINDOW)]
        with trio.move_on_after(0.05):
            pytest.fail(f"one too many: {await peer.receive()}")
        await peer.send(Accepted(1), first[1][1])
        assert (await peer.receive())[0] == Text(BOB, str(WINDOW))


async def test_what_is_queued_meanwhile_stays_behind_what_waits(phone: RtcPeer) -> None:
    """Over several sessions, with answers in another order than messages went out."""
    count = 2 * WINDOW + 10
    async with phone.opened() as client, trio.open_nursery() as nursery:
        peer = await phone.server.accept()
        await client.queue(*texts(count))
        nursery.start_soon(client.send_text, BOB, "awaited")
        await trio.testing.wait_all_tasks_blocked(0.01)
        await client.queue(Text(BOB, "last"))
        seen: list[str] = []
        while len(seen) < count + 2:
            batch = [await peer.receive() for _ in range(min(WINDOW, count + 2 - len(seen)))]
            for message, message_id in reversed(batch):
                assert isinstance(message, Text)
                await peer.send(Accepted(1), message_id)
            seen += [message.text for message, _ in batch if isinstance(message, Text)]
    assert seen == [*(str(number) for number in range(count)), "awaited", "last"]


async def test_events_of_what_was_queued_are_never_left_out(phone: RtcPeer) -> None:
    """However late the program asks for them; who types is left out, and counted it is not."""
    count = 3_000
    async with phone.opened() as client, trio.open_nursery() as nursery:
        peer = await phone.server.accept()
        server = SlowServer(peer, 10_000, 0)
        nursery.start_soon(server.run, count)
        await client.queue(*texts(count))
        while client.waiting:
            await client.wait_moved()
        settled = await _settled(client, count)
        assert [each.message for each in settled] == texts(count)
        nursery.cancel_scope.cancel()


async def test_one_full_mailbox_silences_nobody_else(phone: RtcPeer) -> None:
    """However much waits for it."""
    async with phone.opened() as client:
        peer = await phone.server.accept()
        await client.queue(*texts(2 * WINDOW), Text(CAROL, "hi"))
        while True:
            message, message_id = await peer.receive()
            if isinstance(message, Resume):
                await peer.send(Accepted(1), message_id)
            elif isinstance(message, Text) and message.to == BOB:
                await peer.send(Error("mailbox_full", user=BOB), message_id)
            elif message == Text(CAROL, "hi"):
                break


async def test_receipts_are_queued_too_and_not_announced(phone: RtcPeer) -> None:
    async with phone.opened() as client:
        peer = await phone.server.accept()
        receipt = Receipt(BOB, [MessageId("theirs")], "read")
        (message_id,) = await client.queue(receipt)
        assert await peer.receive() == (receipt, message_id)
        await peer.send(Accepted(1), message_id)
        assert [await anext(client), await anext(client)] == [Connected(), Settled(message_id, receipt, Accepted(1))]
        assert await client.conversations() == []
