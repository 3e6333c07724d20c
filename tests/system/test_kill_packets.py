"""Each hostile client that stops a stock Hypercorn, against that and against IronWire.

The stock half is there to keep the other honest: a probe that no longer harms the unguarded server tests nothing.
"""

import signal
import socket

import pytest
import trio
import trio_websocket

from tests.server.raw_client import RawClient
from tests.system.bystander import conversation, seed_session
from tests.system.conftest import Server, StartServer
from tests.system.kill_packets import KILL_PACKETS, Probe
from tests.wire.frame_builder import text

IRONWIRE = "ironwire.asgi:app"
STOCK = "tests.system.toy:app"
GUARDED = "tests.system.guarded_toy:app"

PATIENCE_SECONDS = 10.0
NOTHING_SECONDS = 1.0
"""After so long a server that has said nothing will say nothing."""

PROBES = [pytest.param(probe, id=name) for name, probe in KILL_PACKETS.items()]


@pytest.mark.parametrize("probe", PROBES)
async def test_a_kill_packet_ends_a_stock_server(start_server: StartServer, probe: Probe) -> None:
    server = start_server(STOCK)
    async with await server.open_stream() as stream:
        bystander = RawClient(stream)
        await bystander.upgrade()
        await bystander.send(text("hello"))
        assert await bystander.message() == "hello"
        await probe(server)
        with trio.fail_after(10):
            await _end(bystander)
    assert server.wait() == 0
    assert "Traceback" in server.log()


async def _end(bystander: RawClient) -> None:
    try:
        while await bystander.event() is not None:
            pass
    except trio.BrokenResourceError:
        pass


@pytest.mark.parametrize("probe", PROBES)
async def test_a_conversation_survives_a_kill_packet(ironwire_server: Server, probe: Probe) -> None:
    async with conversation(ironwire_server.port) as bystanders:
        await bystanders.go_on()
        await probe(ironwire_server)
        await bystanders.go_on()
    assert not ironwire_server.has_exited()
    assert "Traceback" not in ironwire_server.log()


# --- the quieter failures --------------------------------------------------------------------------------------------


@pytest.fixture
def shared_server(request: pytest.FixtureRequest) -> Server:
    """The stock or the IronWire server of the whole run, by the parameter."""
    server = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(server, Server)
    return server


@pytest.mark.parametrize(
    ("shared_server", "is_closed"), [("stock", False), ("ironwire", True)], indirect=["shared_server"]
)
async def test_connection_close(shared_server: Server, is_closed: bool) -> None:
    async with await shared_server.open_stream() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with trio.move_on_after(PATIENCE_SECONDS if is_closed else NOTHING_SECONDS) as waiting:
            while await stream.receive_some():
                pass
    assert waiting.cancelled_caught is not is_closed


@pytest.mark.parametrize(
    ("shared_server", "is_agreed"), [("stock", True), ("ironwire", False)], indirect=["shared_server"]
)
async def test_compression(shared_server: Server, is_agreed: bool) -> None:
    async with await shared_server.open_stream() as stream:
        client = RawClient(stream)
        await client.upgrade("/ws", b"Sec-WebSocket-Extensions: permessage-deflate")
    assert (b"permessage-deflate" in client.response_head) is is_agreed


@pytest.mark.parametrize(
    ("shared_server", "answer"), [("stock", b"\x00\x00"), ("ironwire", b"HTTP/1.1 505 ")], indirect=["shared_server"]
)
async def test_http_2_preface(shared_server: Server, answer: bytes) -> None:
    async with await shared_server.open_stream() as stream:
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        with trio.fail_after(PATIENCE_SECONDS):
            assert (await stream.receive_some()).startswith(answer)


@pytest.mark.parametrize(("application", "is_alive"), [(STOCK, False), (GUARDED, True)])
async def test_a_handler_that_sends_on_after_the_end(
    start_server: StartServer, application: str, is_alive: bool
) -> None:
    server = start_server(application)
    async with await server.open_stream() as stream:
        await RawClient(stream).upgrade("/talkative")
    await trio.sleep(0.3)
    with trio.move_on_after(PATIENCE_SECONDS if is_alive else NOTHING_SECONDS) as waiting:
        async with await server.open_stream() as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
    assert waiting.cancelled_caught is not is_alive


@pytest.mark.parametrize(("application", "has_room"), [(STOCK, False), (IRONWIRE, True)])
async def test_a_crowd_connects_at_once(start_server: StartServer, application: str, has_room: bool) -> None:
    server = start_server(application)
    server.signal_group(signal.SIGSTOP)
    crowd: list[socket.socket] = []
    try:
        while len(crowd) < 300:
            crowd += [socket.create_connection(("127.0.0.1", server.port), timeout=0.3)]
    except TimeoutError:
        pass
    finally:
        for each in crowd:
            each.close()
    assert (len(crowd) == 300) is has_room


async def test_a_refusal_is_read_although_the_body_was_not(start_server: StartServer) -> None:
    async with await start_server(GUARDED).open_stream() as stream:
        await stream.send_all(b"POST /refuse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n")
        await stream.send_all(bytes(500_000))
        await trio.sleep(0.2)
        await stream.send_all(bytes(100_000))
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 413 ")


# --- leaving ---------------------------------------------------------------------------------------------------------


async def test_a_stock_server_leaves_without_a_word(start_server: StartServer) -> None:
    server = start_server(STOCK)
    async with await server.open_stream() as stream:
        bystander = RawClient(stream)
        await bystander.upgrade()
        server.signal(signal.SIGTERM)
        with trio.move_on_after(NOTHING_SECONDS) as waiting:
            await bystander.event()
        assert waiting.cancelled_caught


@pytest.mark.parametrize("is_group", [False, True], ids=["command", "group"])
async def test_sessions_are_told_of_a_restart(start_server: StartServer, is_group: bool) -> None:
    server = start_server(IRONWIRE)
    async with seed_session(server.port) as (first, _), seed_session(server.port) as (second, _):
        (server.signal_group if is_group else server.signal)(signal.SIGTERM)
        with trio.fail_after(PATIENCE_SECONDS):
            for connection in (first, second):
                assert await _closing(connection) == (1012, "retry_ms=5000")
    assert await trio.to_thread.run_sync(server.wait) == 0


async def test_a_worker_does_not_outlive_its_parent(start_server: StartServer) -> None:
    server = start_server(IRONWIRE)
    async with seed_session(server.port) as (connection, _):
        server.signal(signal.SIGKILL)
        with trio.fail_after(PATIENCE_SECONDS):
            assert await _closing(connection) == (1012, "retry_ms=5000")
    with trio.fail_after(10):
        while _is_listening(server.port):  # noqa: ASYNC110 - another process's end is no event here
            await trio.sleep(0.05)


async def _closing(connection: trio_websocket.WebSocketConnection) -> tuple[int, str | None]:
    with pytest.raises(trio_websocket.ConnectionClosed) as closed:  # noqa: PT012 - messages may come before
        while True:
            await connection.get_message()
    reason = closed.value.reason
    assert reason is not None
    return reason.code, reason.reason


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
