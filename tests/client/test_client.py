"""The client as a program sees it: replies, events, and a connection that comes back by itself."""

import textwrap
from itertools import pairwise
from pathlib import Path

import pytest
import trio

import ironwire.client
from ironwire.client import (
    AuthenticationRefused,
    Backoff,
    ClientError,
    Connected,
    ConnectionFailed,
    ConnectionLost,
    Disconnected,
    FileMetadata,
    Identity,
    InvalidServerAddress,
    Missed,
    NotTheProtocol,
    Received,
    Refused,
    ServerAddress,
    SessionEnded,
    connect,
    create_identity,
)
from ironwire.client.connection.link import STEADY_SECONDS
from ironwire.client.connection.session import CLOSE_SECONDS
from ironwire.client.events import EVENT_LIMIT
from ironwire.ids import MessageId, Origin
from ironwire.wire.messages import (
    Accepted,
    AuthOk,
    DeliveredFile,
    DeliveredText,
    Error,
    File,
    ServerMessage,
    Text,
)

from .scripted_server import ADDRESS, FRAME_BYTES, scripted_server

ALICE = Identity.from_seed(b"a" * 32)
BOB = Identity.from_seed(b"b" * 32).client_id
LONGEST = Backoff(base_seconds=1, cap_seconds=8, uniform=lambda _, high: high)
URL = "/media/123e4567-e89b-42d3-a456-426614174000.bin"


async def test_a_text_is_accepted() -> None:
    async with scripted_server() as server, connect("ws://server.test:8080", ALICE, dial=server.dial) as client:
        assert client.connected
        assert client.client_id == ALICE.client_id
        peer = await server.accept()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                assert await client.send_text(BOB, "hello") == Accepted(7)

            nursery.start_soon(send)
            message, message_id = await peer.receive()
            assert message == Text(BOB, "hello")
            await peer.send(Accepted(7), message_id)


async def test_replies_find_their_message_in_any_order() -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        peer = await server.accept()
        replies = {}
        async with trio.open_nursery() as nursery:

            async def send(number: int) -> None:
                replies[str(number)] = await client.send_text(BOB, str(number))

            for number in range(10):
                nursery.start_soon(send, number)
            frames = [await peer.receive() for _ in range(10)]
            for message, message_id in reversed(frames):
                assert isinstance(message, Text)
                await peer.send(Accepted(int(message.text)), message_id)
        assert replies == {str(number): Accepted(number) for number in range(10)}


async def test_a_file_carries_its_metadata() -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        peer = await server.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.send_file(BOB, URL, name="a.txt", size=3))
            message, message_id = await peer.receive()
            assert message == File(BOB, URL, name="a.txt", size=3)
            await peer.send(Accepted(1), message_id)


def test_the_metadata_are_those_of_the_protocol() -> None:
    assert {*FileMetadata.__annotations__} == {*File.__annotations__} - {"verb", "to", "url"}


async def test_an_error_reply_is_raised_where_the_message_was_sent() -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        peer = await server.accept()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(Refused, match="quota: slowly") as caught:
                    await client.send_text(BOB, "hello")
                assert (caught.value.user, caught.value.retry_after_ms) == (BOB, 250)

            nursery.start_soon(send)
            _, message_id = await peer.receive()
            await peer.send(Error("quota", "slowly", user=BOB, retry_after_ms=250), message_id)


async def test_a_message_that_the_server_would_close_for_is_not_sent() -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        with pytest.raises(Refused, match="too_large"):
            await client.send_text(BOB, "x" * FRAME_BYTES)
        assert client.connected


async def test_pushes_come_out_in_order() -> None:
    pushes: list[ServerMessage] = [
        DeliveredText(BOB, "one"),
        DeliveredFile(BOB, URL, name="two"),
        Error("user_offline", user=BOB),
    ]
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        peer = await server.accept()
        for push in pushes:
            await peer.send(push, MessageId("theirs"))
        assert await anext(client) == Connected()
        for push in pushes:
            assert await anext(client) == Received(push, MessageId("theirs"))


async def test_a_send_that_is_given_up_leaves_nothing_behind(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        peer = await server.accept()
        with trio.move_on_after(5) as waiting:
            await client.send_text(BOB, "hello")
        assert waiting.cancelled_caught
        _, message_id = await peer.receive()
        await peer.send(Accepted(1), message_id)
        await peer.send(DeliveredText(BOB, "next"))
        assert await anext(client) == Connected()
        assert await anext(client) == Received(DeliveredText(BOB, "next"))
        # Nor is it sent again.
        await peer.cut()
        peer = await server.accept()
        await client.wait_connected()
        with trio.move_on_after(20):
            raise AssertionError(await peer.receive())


async def test_a_reply_overtakes_pushes_that_nobody_reads() -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        peer = await server.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_text, BOB, "hello")
            _, message_id = await peer.receive()
            for number in range(EVENT_LIMIT + 4):
                await peer.send(DeliveredText(BOB, str(number)))
            await peer.send(Accepted(1), message_id)
        assert await anext(client) == Connected()
        for number in range(EVENT_LIMIT - 1):
            assert await anext(client) == Received(DeliveredText(BOB, str(number)))
        assert await anext(client) == Missed(5)


# --- coming back -----------------------------------------------------------------------------------------------------


async def test_it_comes_back_and_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, backoff=LONGEST, dial=server.dial) as client:
        await (await server.accept()).cut()
        assert await anext(client) == Connected()
        lost = await anext(client)
        assert isinstance(lost, Disconnected)
        assert lost.reason == "the connection was lost"
        assert lost.retry_seconds == 1
        assert not client.connected
        await client.wait_connected()
        assert await anext(client) == Connected()
        await (await server.accept()).send(DeliveredText(BOB, "again"))
        assert await anext(client) == Received(DeliveredText(BOB, "again"))


async def test_an_unanswered_message_is_sent_again_with_its_id(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, backoff=LONGEST, dial=server.dial) as client:
        first = await server.accept()
        replies = []
        async with trio.open_nursery() as nursery:

            async def send(text: str) -> None:
                replies.append(await client.send_text(BOB, text))

            nursery.start_soon(send, "one")
            sent = await first.receive()
            _, sent_id = sent
            await first.cut()
            assert isinstance([await anext(client), await anext(client)][1], Disconnected)
            nursery.start_soon(send, "two")
            second = await server.accept()
            assert await second.receive() == sent
            await second.send(Accepted(1, duplicate=True), sent_id)
            message, message_id = await second.receive()
            assert message == Text(BOB, "two")
            assert message_id != sent_id
            await second.send(Accepted(2), message_id)
        assert replies == [Accepted(1, duplicate=True), Accepted(2)]


async def test_attempts_are_spread_wider_and_wider(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server() as server:
        is_down = False

        async def dial(address: ServerAddress) -> trio.abc.Stream:
            stream = await server.dial(address)
            if is_down:
                raise ConnectionFailed("down")
            return stream

        async with connect(ADDRESS, ALICE, backoff=LONGEST, dial=dial) as client:
            is_down = True
            await (await server.accept()).cut()
            await trio.sleep(40)
            is_down = False
            await client.wait_connected()
        assert [later - earlier for earlier, later in pairwise(server.dials)] == pytest.approx([1, 2, 4, 8, 8, 8, 8, 8])


@pytest.mark.parametrize(("lasted_seconds", "retry_seconds"), [(STEADY_SECONDS - 1, 2), (STEADY_SECONDS + 1, 1)])
async def test_only_a_session_that_lasted_starts_from_the_base_again(
    autojump_clock: trio.testing.MockClock, lasted_seconds: float, retry_seconds: float
) -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, backoff=LONGEST, dial=server.dial) as client:
        await (await server.accept()).cut()
        peer = await server.accept()
        await trio.sleep(lasted_seconds)
        await peer.cut()
        events = [await anext(client) for _ in range(4)]
        assert [e.retry_seconds for e in events if isinstance(e, Disconnected)] == [1, retry_seconds]


async def test_a_restart_is_returned_from_within_the_time_it_named(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, backoff=LONGEST, dial=server.dial) as client:
        await (await server.accept()).close(1012, "retry_ms=5000")
        lost = [await anext(client), await anext(client)][1]
        assert isinstance(lost, Disconnected)
        assert lost.retry_seconds == 5


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "error"), [(4409, SessionEnded), (4403, SessionEnded), (1008, AuthenticationRefused)])
async def test_a_code_that_says_stop_ends_everything_that_waits(
    autojump_clock: trio.testing.MockClock, code: int, error: type[Exception]
) -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        peer = await server.accept()
        ended = []

        async def send() -> None:
            with pytest.raises(error, match="because"):
                await client.send_text(BOB, "hello")
            ended.append("send")

        async def read() -> None:
            assert await anext(client) == Connected()
            assert await anext(client) == Received(DeliveredText(BOB, "last"))
            with pytest.raises(error, match="because"):
                await anext(client)
            ended.append("read")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(read)
            await peer.receive()
            await peer.send(DeliveredText(BOB, "last"))
            await peer.close(code, "because")
        assert sorted(ended) == ["read", "send"]
        assert not client.connected
        with pytest.raises(error):
            await client.send_text(BOB, "too late")
        with pytest.raises(error):
            await client.wait_connected()
        await trio.sleep(3600)
        assert len(server.dials) == 1


async def test_a_refusal_on_the_way_back_ends_it(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        server.origins = frozenset({Origin("http://elsewhere.test")})
        await (await server.accept()).cut()
        with pytest.raises(AuthenticationRefused):
            async for _ in client:
                pass


async def test_a_server_that_breaks_the_protocol_ends_it() -> None:
    async with scripted_server() as server, connect(ADDRESS, ALICE, dial=server.dial) as client:
        await (await server.accept()).send(AuthOk())
        with pytest.raises(NotTheProtocol, match="in the middle of a session"):
            async for _ in client:
                pass


async def test_the_first_attempt_has_to_succeed(autojump_clock: trio.testing.MockClock) -> None:
    async def dial(_: ServerAddress) -> trio.abc.Stream:
        raise ConnectionFailed("nobody there")

    with pytest.raises(ConnectionFailed, match="nobody there"):
        async with connect(ADDRESS, ALICE, dial=dial):
            raise AssertionError("there should be no client")


async def test_what_is_no_address_is_refused_first() -> None:
    with pytest.raises(InvalidServerAddress):
        async with connect("no address", ALICE):
            raise AssertionError("there should be no client")


async def test_an_exception_of_the_block_comes_out_as_it_was_raised() -> None:
    async with scripted_server() as server:
        error = LookupError("mine")
        error.__cause__ = ValueError("its cause")
        with pytest.raises(LookupError) as caught:
            async with connect(ADDRESS, ALICE, dial=server.dial):
                raise error
        assert caught.value is error
        assert isinstance(error.__cause__, ValueError)


async def test_a_group_of_the_block_stays_a_group() -> None:
    async with scripted_server() as server:
        with pytest.RaisesGroup(LookupError, match="a group of one"):
            async with connect(ADDRESS, ALICE, dial=server.dial):
                raise ExceptionGroup("a group of one", [LookupError("mine")])


async def test_leaving_says_goodbye() -> None:
    async with scripted_server() as server:
        async with connect(ADDRESS, ALICE, dial=server.dial) as client:
            peer = await server.accept()
        assert await peer.close_code() == 1000
        assert not client.connected
        with pytest.raises(SessionEnded, match="the client was closed"):
            await client.send_text(BOB, "too late")


async def test_leaving_between_two_sessions_takes_no_time(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server() as server:
        async with connect(ADDRESS, ALICE, backoff=LONGEST, dial=server.dial) as client:
            await (await server.accept()).cut()
            await trio.testing.wait_all_tasks_blocked()
            assert not client.connected
        assert trio.current_time() == pytest.approx(0, abs=0.5)


async def test_leaving_a_server_that_does_not_answer_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server() as server:
        async with connect(ADDRESS, ALICE, dial=server.dial):
            server.streams[0].hold_inward()
        assert trio.current_time() == pytest.approx(CLOSE_SECONDS)


async def test_a_cancelled_block_leaves_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server() as server:
        with trio.move_on_after(5) as scope:
            async with connect(ADDRESS, ALICE, dial=server.dial):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(5)


async def test_the_example_of_the_package_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = textwrap.dedent(ironwire.client.__doc__.split("\n\n", 1)[1].split("\n\nEvery error")[0])
    assert len(example.splitlines()) <= 12
    async with scripted_server() as server:

        def connect_here(address: str, identity: Identity) -> object:
            return connect(address, identity, dial=server.dial)

        names = {**vars(ironwire.client), "Path": Path, "connect": connect_here}
        exec(example, names)
        identity = create_identity(tmp_path / "key")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(names["echo"], "ws://server.test:8080", tmp_path / "key")
            peer = await server.accept()
            assert peer.principal.client == identity.client_id
            await peer.send(DeliveredText(BOB, "is anybody there?"))
            message, message_id = await peer.receive()
            assert message == Text(BOB, "is anybody there?")
            await peer.send(Accepted(1), message_id)
            await peer.cut()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert "the connection was lost" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionLost(1006, ""), "the connection was lost"),
        (ConnectionLost(1012, "retry_ms=5000", 5.0), "the server restarts"),
        (ConnectionLost(1013, "too many sessions"), "the connection was lost (too many sessions)"),
        (ConnectionLost(4508, ""), "the connection was lost (close code 4508)"),
        (SessionEnded(4409, "replaced"), "the session is over (replaced)"),
        (SessionEnded(4499, ""), "the session is over (close code 4499)"),
    ],
)
def test_what_is_lost_reads_well(error: ClientError, told: str) -> None:
    assert str(error) == told
