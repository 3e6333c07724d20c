"""A client that is refused for now waits, says `resume`, and repeats in order; what nobody will ever take it drops."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.client import (
    Backoff,
    Client,
    Connected,
    DeliveredText,
    Error,
    Identity,
    LocalStore,
    Owner,
    Received,
    Refused,
    StoreKey,
    connect,
    read_history,
)
from ironwire.client.connection.repeats import PAUSE_SECONDS, REST_SECONDS
from ironwire.client.store.sealed import open_sealed
from ironwire.ids import Address, DeviceId, MessageId
from ironwire.limits import Limits
from ironwire.server.operator.config import AuthSettings
from ironwire.wire.messages import Accepted, ErrorCode, GroupCreate, Resume, Text
from tests.client.test_with_the_server import Dialler
from tests.playbook import open_stage

from .scripted_server import ADDRESS, FRAME_BYTES, Peer, ScriptedServer, scripted_server

ALICE, BOB_ITSELF = (Identity.from_seed(letter * 32) for letter in (b"a", b"b"))
BOB, CAROL = BOB_ITSELF.client_id, Identity.from_seed(b"c" * 32).client_id
PHONE = DeviceId("phone")
OWNER = Owner(ALICE.client_id, PHONE, ADDRESS.origin)
KEY = StoreKey.of(ALICE)
AT_ONCE = Backoff(base_seconds=0)
URL = "/media/123e4567-e89b-42d3-a456-426614174000.bin"
T = TypeVar("T")
HELD = "an earlier message was refused"


async def at_once(work: Callable[[], T], /) -> T:
    """A disk for a clock that knows no threads."""
    await trio.lowlevel.checkpoint()
    return work()


async def sent(peer: Peer) -> tuple[str, MessageId]:
    """The text that comes next, or the verb of what is none."""
    message, message_id = await peer.receive()
    assert message_id is not None
    return message.text if isinstance(message, Text) else message.verb, message_id


async def send(client: Client, text: str, to: Address = BOB) -> None:
    await client.send_text(to, text)


@asynccontextmanager
async def phone(server: ScriptedServer, path: Path) -> AsyncIterator[tuple[Client, Peer]]:
    store = LocalStore(path, at_once)
    async with connect(ADDRESS, ALICE, device=PHONE, store=store, backoff=AT_ONCE, dial=server.dial) as client:
        yield client, await server.accept()


@asynccontextmanager
async def with_two_unanswered(server: ScriptedServer, path: Path) -> AsyncIterator[tuple[Client, Peer]]:
    """A phone that an earlier run of the program has left a text for Bob, one for Carol and one for Bob."""
    async with phone(server, path) as (client, peer), trio.open_nursery() as nursery:
        for text, to in (("1", BOB), ("2", CAROL), ("3", BOB)):
            nursery.start_soon(send, client, text, to)
            await sent(peer)
        nursery.cancel_scope.cancel()
    async with phone(server, path) as (client, peer):
        yield client, peer


# --- refused for now -------------------------------------------------------------------------------------------------


async def test_what_is_too_fast_is_repeated_in_order_after_its_time(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        peer = await server.accept()
        async with trio.open_nursery() as nursery:
            ids = {}
            for text in "123":
                nursery.start_soon(send, client, text)
                _, ids[text] = await sent(peer)
            await peer.send(Accepted(1), ids["1"])
            await peer.send(Error("rate_limited", retry_after_ms=2_000), ids["2"])
            began = trio.current_time()
            await wait_all_tasks_blocked()
            nursery.start_soon(send, client, "4")
            verb, resume = await sent(peer)
            assert (verb, trio.current_time()) == ("resume", began + 2)
            await peer.send(Error("rate_limited", HELD, retry_after_ms=0, held=True), ids["3"])
            await peer.send(Accepted(2), resume)
            again = [await sent(peer) for _ in range(3)]
            assert [text for text, _ in again] == ["2", "3", "4"]
            assert again[:2] == [("2", ids["2"]), ("3", ids["3"])]
            for _, message_id in again:
                await peer.send(Accepted(3), message_id)


async def test_a_full_mailbox_is_told_to_whom_it_concerns_and_what_was_held_goes_on(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        peer = await server.accept()
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                with pytest.raises(Refused, match="mailbox_full"):
                    await client.send_text(BOB, "1")

            nursery.start_soon(fail)
            _, one = await sent(peer)
            nursery.start_soon(send, client, "2", CAROL)
            _, two = await sent(peer)
            nursery.start_soon(client.groups.create, [BOB])
            verb, group = await sent(peer)
            assert verb == GroupCreate.verb
            await peer.send(Error("mailbox_full", user=BOB), one)
            await peer.send(Error("mailbox_full", HELD, BOB, held=True), two)
            await peer.send(Error("mailbox_full", HELD, BOB, held=True), group)
            verb, resume = await sent(peer)
            assert verb == Resume.verb
            await peer.send(Accepted(1), resume)
            assert [await sent(peer), await sent(peer)] == [("2", two), (GroupCreate.verb, group)]
            nursery.cancel_scope.cancel()


async def test_one_full_mailbox_silences_nobody_and_is_tried_again(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with (
        scripted_server() as server,
        with_two_unanswered(server, tmp_path / "phone.db") as (client, peer),
        trio.open_nursery() as nursery,
    ):
        ids = [message_id for _, message_id in [await sent(peer) for _ in range(3)]]
        await peer.send(Error("mailbox_full", user=BOB), ids[0])
        for message_id in ids[1:]:
            await peer.send(Error("mailbox_full", HELD, BOB, held=True), message_id)
        began = trio.current_time()
        _, resume = await sent(peer)
        await peer.send(Accepted(1), resume)
        assert await sent(peer) == ("2", ids[1])
        await peer.send(Accepted(1), ids[1])
        nursery.start_soon(send, client, "4")
        assert [text for text, _ in [await sent(peer) for _ in range(3)]] == ["1", "3", "4"]
        assert trio.current_time() == began + REST_SECONDS
        nursery.cancel_scope.cancel()


async def test_a_store_that_fails_is_waited_for(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with scripted_server() as server, with_two_unanswered(server, tmp_path / "phone.db") as (_, peer):
        ids = [message_id for _, message_id in [await sent(peer) for _ in range(3)]]
        began = trio.current_time()
        await peer.send(Error("internal"), ids[0])
        for message_id in ids[1:]:
            await peer.send(Error("internal", HELD, held=True), message_id)
        _, resume = await sent(peer)
        assert trio.current_time() == began + PAUSE_SECONDS
        await peer.send(Accepted(1), resume)
        assert [message_id for _, message_id in [await sent(peer) for _ in range(3)]] == ids


@pytest.mark.parametrize("code", ["rate_limited", "internal"])
async def test_a_question_that_is_refused_holds_nothing(autojump_clock: MockClock, code: ErrorCode) -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        peer = await server.accept()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(Refused, match=code):
                    await client.devices()

            nursery.start_soon(ask)
            _, message_id = await sent(peer)
            await peer.send(Error(code), message_id)
            nursery.start_soon(send, client, "1")
            text, message_id = await sent(peer)
            assert text == "1"
            await peer.send(Accepted(1), message_id)


async def test_many_texts_over_the_rate_arrive_all_and_in_order(mock_clock: MockClock) -> None:
    """The client of this project at the server of this project."""
    limits = Limits(messages_per_second=50, messages_at_once=60)
    texts = [str(number) for number in range(340)]
    async with open_stage(limits=limits, auth=AuthSettings(origins=(ADDRESS.origin,))) as stage:
        dial = Dialler(stage.server)
        async with (
            connect(ADDRESS, BOB_ITSELF, dial=dial) as bob,
            connect(ADDRESS, ALICE, dial=dial) as alice,
            trio.open_nursery() as nursery,
        ):
            for text in texts:
                nursery.start_soon(send, alice, text)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
            got: list[str] = []
            while len(got) < len(texts):
                event = await anext(bob)
                if isinstance(event, Received) and isinstance(event.message, DeliveredText):
                    got.append(event.message.text)
            assert got == texts


# --- refused for good ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [("half \ud83d a pair", "surrogate"), ("x" * FRAME_BYTES, "too_large")],
    ids=["half a pair", "too long"],
)
async def test_what_no_server_takes_is_refused_before_it_is_stored(
    autojump_clock: MockClock, tmp_path: Path, text: str, why: str
) -> None:
    async with scripted_server() as server, phone(server, tmp_path / "phone.db") as (client, _):
        with pytest.raises(Refused, match=why):
            await client.send_text(BOB, text)
        with pytest.raises(Refused, match="name"):
            await client.send_file(BOB, URL, name="gpj.\u202eexe")
        assert client.connected
    assert read_history(tmp_path / "phone.db", OWNER, KEY, BOB, 9) == []


async def test_a_frame_that_was_too_big_is_dropped_and_the_rest_goes_on(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """The server takes less than it says."""
    async with scripted_server() as server, phone(server, tmp_path / "phone.db") as (client, peer):

        async def fail() -> None:
            with pytest.raises(Refused, match="too_large"):
                await client.send_text(BOB, "x" * 2_000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, client, "1")
            nursery.start_soon(fail)
            for _ in range(2):
                await peer.receive()
            await peer.close(1009, "message too big")
            next_peer = await server.accept()
            text, message_id = await sent(next_peer)
            assert text == "1"
            await next_peer.send(Accepted(1), message_id)
        assert [entry.state for entry in await client.history(BOB, 9)].count("refused") == 1


async def test_poison_in_the_file_of_an_older_version_is_sent_to_nobody(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    path = tmp_path / "phone.db"
    async with scripted_server() as server:
        async with phone(server, path) as (client, peer), trio.open_nursery() as nursery:
            for text in ("1", "2", "3"):
                nursery.start_soon(send, client, text)
                await sent(peer)
            nursery.cancel_scope.cancel()
        with closing(open_sealed(path, KEY)) as database:
            database.execute("UPDATE entry SET frame = replace(frame, '\"2\"', '5')")
            longer = "UPDATE entry SET frame = replace(frame, '\"3\"', ?) WHERE frame LIKE '%\"3\"%'"
            database.execute(longer, (f'"{"x" * FRAME_BYTES}"',))
        for answer in (None, Accepted(1)):
            async with phone(server, path) as (client, peer):
                text, message_id = await sent(peer)
                assert text == "1"
                if answer is not None:
                    await peer.send(answer, message_id)
                    await wait_all_tasks_blocked()
        async with phone(server, path) as (client, peer):
            with trio.move_on_after(5):
                pytest.fail(f"sent once more: {await peer.receive()}")
    assert [entry.state for entry in read_history(path, OWNER, KEY, BOB, 9)] == ["accepted", "refused"]


async def test_what_a_newer_server_says_besides_is_ignored() -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        peer = await server.accept()
        await peer.websocket.send_message('{"type":"weather","payload":{"sun":true}}')
        frame = {"type": "text", "payload": {"from": BOB, "text": "hello", "mood": "good"}, "trace": 1}
        await peer.websocket.send_message(json.dumps(frame))
        assert [await anext(client), await anext(client)] == [Connected(), Received(DeliveredText(BOB, "hello"))]
