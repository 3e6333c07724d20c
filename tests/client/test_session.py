"""Opening one session: what is proven, and what is said when it does not work."""

import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio
import trustme
from trio.testing import memory_stream_pair
from trio_websocket import WebSocketConnection, wrap_server_stream

from ironwire.client import (
    AuthenticationRefused,
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    Identity,
    NotTheProtocol,
    ServerAddress,
    SessionEnded,
)
from ironwire.client.connection.dial import dial_tcp
from ironwire.client.connection.session import (
    OPEN_SECONDS,
    PING_EVERY_SECONDS,
    PONG_SECONDS,
    WRITE_SECONDS,
    open_session,
)
from ironwire.ids import DeviceId, Origin
from ironwire.wire.codec import encode
from ironwire.wire.messages import Accepted, AuthChallenge, AuthOk, Error, ServerMessage

from .scripted_server import ADDRESS, NONCE, Valve, scripted_server

ALICE = Identity.from_seed(b"a" * 32)
PHONE = DeviceId("phone")

Script = Callable[[trio.abc.Stream], Awaitable[None]]


async def test_a_session_is_proven_for_this_client_device_and_origin() -> None:
    async with scripted_server() as server:
        async with open_session(ADDRESS, ALICE, PHONE, dial=server.dial) as session:
            peer = await server.accept()
            assert peer.principal.client == session.welcome.client == ALICE.client_id
            assert peer.principal.device == session.welcome.device == PHONE
            await peer.send(Accepted(1))
            assert (await session.receive()).message == Accepted(1)
        assert await peer.close_code() == 1000


async def test_a_server_of_another_origin_refuses_a_relayed_proof() -> None:
    async with scripted_server() as server:
        server.origins = frozenset({Origin("http://elsewhere.test")})
        with pytest.raises(AuthenticationRefused, match="Origin not served here"):
            async with open_session(ADDRESS, ALICE, dial=server.dial):
                pass


async def test_an_exception_of_the_block_comes_out_as_it_was_raised() -> None:
    async with scripted_server() as server:
        error = LookupError("mine")
        with pytest.raises(LookupError) as caught:
            async with open_session(ADDRESS, ALICE, dial=server.dial):
                raise error
        assert caught.value is error


@pytest.mark.parametrize(
    ("code", "error"),
    [(4409, SessionEnded), (1009, SessionEnded), (1008, AuthenticationRefused), (1012, ConnectionLost)],
)
async def test_what_ends_the_session_comes_out_of_receive(code: int, error: type[ClientError]) -> None:
    async with scripted_server() as server, open_session(ADDRESS, ALICE, dial=server.dial) as session:
        peer = await server.accept()
        await peer.send(Accepted(1))
        await peer.close(code, "because")
        assert (await session.receive()).message == Accepted(1)
        with pytest.raises(error) as ended:
            await session.receive()
        assert "because" in ended.value.args


async def test_a_cut_connection_comes_out_of_receive_and_is_silent_in_send() -> None:
    async with scripted_server() as server, open_session(ADDRESS, ALICE, dial=server.dial) as session:
        await (await server.accept()).cut()
        with pytest.raises(ConnectionLost) as lost:
            await session.receive()
        assert lost.value.code == 1006
        await session.send("{}")


@pytest.mark.parametrize("frame", ["hello", '{"type":"unheard_of","seq":1}', "[]"])
async def test_a_frame_that_cannot_be_understood_is_not_the_protocol(frame: str) -> None:
    async with scripted_server() as server, open_session(ADDRESS, ALICE, dial=server.dial) as session:
        await (await server.accept()).websocket.send_message(frame)
        with pytest.raises(NotTheProtocol):
            await session.receive()


async def check_opening(script: Script, error: type[ClientError], says: str) -> None:
    """A server that answers with `script` makes `open_session` raise `error`."""
    async with trio.open_nursery() as nursery:

        async def dial(_: ServerAddress) -> trio.abc.Stream:
            client, server = memory_stream_pair()
            nursery.start_soon(script, server)
            return client

        with pytest.raises(error, match=says):
            async with open_session(ADDRESS, ALICE, dial=dial):
                raise AssertionError("there should be no session")
        nursery.cancel_scope.cancel()


async def upgraded(stream: trio.abc.Stream, nursery: trio.Nursery) -> WebSocketConnection:
    return await (await wrap_server_stream(nursery, stream)).accept()


async def test_a_server_that_hangs_up_instead_of_answering_fails_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def hang_up(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.aclose()

    await check_opening(hang_up, ConnectionFailed, "without an answer")
    assert trio.current_time() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.test ESMTP\r\n\r\n",
        b"HTTP/1.1 101 Go on\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 101 Go on\r\nUpgrade: something\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x16\r\n\r\n",
    ],
)
async def test_what_is_no_websocket_server_fails_at_once(autojump_clock: trio.testing.MockClock, answer: bytes) -> None:
    await check_opening(lambda stream: stream.send_all(answer), NotTheProtocol, "is not a WebSocket server")
    assert trio.current_time() == pytest.approx(0, abs=0.1)


async def test_silence_is_not_waited_for_without_end(autojump_clock: trio.testing.MockClock) -> None:
    await check_opening(_say_nothing, ConnectionFailed, "did not answer within 20 s")
    assert trio.current_time() == pytest.approx(OPEN_SECONDS)


async def test_the_authentication_counts_into_the_same_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async def accept_late_and_say_nothing(stream: trio.abc.Stream) -> None:
        await trio.sleep(OPEN_SECONDS - 1)
        async with trio.open_nursery() as nursery:
            await upgraded(stream, nursery)

    await check_opening(accept_late_and_say_nothing, ConnectionFailed, "did not answer")
    assert trio.current_time() == pytest.approx(OPEN_SECONDS)


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, NotTheProtocol), (301, NotTheProtocol), (503, ConnectionFailed), (429, ConnectionFailed)],
)
@pytest.mark.parametrize("body", [b"", b"<html>"])
async def test_an_http_answer_that_is_no_upgrade(status: int, error: type[ClientError], body: bytes) -> None:
    async def reject(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            await (await wrap_server_stream(nursery, stream)).reject(status, body=body)

    await check_opening(reject, error, f"HTTP status {status}")


@pytest.mark.parametrize(
    ("messages", "error", "says"),
    [
        ([AuthOk()], NotTheProtocol, "expected `auth_challenge`"),
        ([AuthChallenge(NONCE.hex()), Accepted(1)], NotTheProtocol, "expected `auth_ok`"),
        ([AuthChallenge(NONCE.hex()), AuthOk(client=Identity.generate().client_id)], NotTheProtocol, "somebody else"),
        ([Error("forbidden", "not you")], AuthenticationRefused, "forbidden: not you"),
    ],
)
async def test_an_authentication_that_goes_another_way(
    messages: list[ServerMessage], error: type[ClientError], says: str
) -> None:
    async def script(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            websocket = await upgraded(stream, nursery)
            for message in messages:
                await websocket.send_message(encode(message).decode())

    await check_opening(script, error, says)


async def test_a_server_that_closes_before_auth_ok_is_heard() -> None:
    async def overloaded(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            await (await upgraded(stream, nursery)).aclose(1013, "full")

    await check_opening(overloaded, ConnectionLost, r"lost \(full\)")


async def _say_nothing(_: trio.abc.Stream) -> None:
    await trio.sleep_forever()


async def test_a_server_that_reads_nothing_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_server() as server, open_session(ADDRESS, ALICE, dial=server.dial) as session:
        server.streams[0].hold_outward()
        await session.send("{}")
        assert trio.current_time() == pytest.approx(WRITE_SECONDS)
        with pytest.raises(ConnectionLost):
            await session.receive()


async def test_a_network_that_vanishes_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async with (
        scripted_server() as server,
        open_session(ADDRESS, ALICE, dial=server.dial) as session,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(session.keep_alive)
        await trio.sleep(10 * PING_EVERY_SECONDS + 1)
        server.streams[0].hold_outward()
        with pytest.raises(ConnectionLost):
            await session.receive()
        assert trio.current_time() == pytest.approx(11 * PING_EVERY_SECONDS + PONG_SECONDS)


async def test_a_ping_may_cross_the_goodbye() -> None:
    async with scripted_server() as server, trio.open_nursery() as nursery:
        async with open_session(ADDRESS, ALICE, dial=server.dial):
            peer = await server.accept()
            server.streams[0].hold_inward()
            nursery.start_soon(peer.websocket.ping)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(_release_once_blocked, server.streams[0])
        assert await peer.close_code() == 1000
        nursery.cancel_scope.cancel()


async def _release_once_blocked(valve: Valve) -> None:
    await trio.testing.wait_all_tasks_blocked()
    valve.release()


async def test_a_server_that_closes_during_the_authentication_may_be_tried_again() -> None:
    async def close(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            websocket = await upgraded(stream, nursery)
            await websocket.send_message(encode(AuthChallenge(NONCE.hex())).decode())
            await websocket.aclose(1011, "oh")

    await check_opening(close, ConnectionLost, r"lost \(oh\)")


async def test_nobody_listens(unused_port: int) -> None:
    with pytest.raises(ConnectionFailed, match="Is the server running"):
        await dial_tcp(ServerAddress.parse(f"ws://127.0.0.1:{unused_port}"))


@pytest.fixture
async def unused_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_tls_verifies_the_certificate(
    is_trusted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = tmp_path_factory.mktemp("trust") / "ca.pem"
    (authority if is_trusted else trustme.CA()).cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))

    async def echo(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.send_all(await stream.receive_some())
        except trio.BrokenResourceError:
            assert not is_trusted

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, echo, 0, context)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        address = ServerAddress.parse(f"wss://localhost:{port}")
        if is_trusted:
            stream = await dial_tcp(address)
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            await trio.aclose_forcefully(stream)
        else:
            with pytest.raises(ConnectionFailed, match="is not trusted: unable to get local issuer certificate"):
                await dial_tcp(address)
        nursery.cancel_scope.cancel()
