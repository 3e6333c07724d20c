"""The guard: what a peer or a handler does wrong ends that connection, in bounded time, and nothing else."""

import errno
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import hypercorn.trio.run
import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIReceiveEvent
from hypercorn.utils import wrap_app
from quart import websocket
from quart_trio import QuartTrio
from structlog.testing import capture_logs
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

import ironwire.server.listener.hypercorn
from ironwire.limits import Limits
from ironwire.server.listener.addresses import TrustedProxies
from ironwire.server.listener.connection_limiter import ConnectionLimiter
from ironwire.server.listener.guard import CONNECTION_KEY, Guard, GuardedConnection
from ironwire.server.listener.guarded_server import ReceiveQueue, serve_connection
from ironwire.server.listener.hypercorn import check_hypercorn, install, serve_worker, settle
from tests.bounded_stream import bounded
from tests.server.in_process import FakeSocket, InProcessServer, open_transport, read_to_end, send, serve_in_process
from tests.server.raw_client import RawClient, upgrade_request
from tests.wire.frame_builder import text

LIMITS = Limits()
OPEN_GATE = ConnectionLimiter(LIMITS, TrustedProxies(()))
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE_BYTES = 64 * 1024

Scope = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


def quart_app() -> QuartTrio:
    app = QuartTrio("toy")

    @app.get("/")
    async def greeting() -> str:
        return "hello"

    @app.get("/large")
    async def large() -> bytes:
        return bytes(LARGE_BYTES)

    @app.websocket("/ws")
    async def echo() -> None:
        while True:
            await websocket.send(await websocket.receive())

    @app.websocket("/direct")
    async def direct() -> None:
        transport = await open_transport(websocket, LIMITS)
        await send(transport, [b"hello"])
        with trio.move_on_after(LIMITS.close_seconds):
            await transport.close(1000, "done")

    return app


def for_websockets(handle: App) -> App:
    """Return an application whose WebSockets `handle` serves."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await handle(scope, receive, send)
        elif scope["type"] == "lifespan":
            for _ in range(2):
                event = await receive()
                await send({"type": event["type"] + ".complete"})
        else:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    return app


async def assert_serves(server: InProcessServer) -> None:
    """A bystander on a new connection is served as ever."""
    stream = server.open_stream()
    await stream.send_all(REQUEST)
    with trio.fail_after(1):
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 20")


# --- one connection's errors stay its own ----------------------------------------------------------------------------


class _FailingSocket(FakeSocket):
    def __init__(self, error: Exception) -> None:
        super().__init__(1)
        object.__setattr__(self, "error", error)

    def getpeername(self) -> tuple[str, int]:
        raise self.error  # type: ignore[attr-defined]  # set above, past `frozen`


async def test_an_unforeseen_error_is_counted_logged_and_ends_only_its_connection(autojump_clock: MockClock) -> None:
    with capture_logs() as logs:
        async with serve_in_process(quart_app()) as server:
            victim = server.open_stream(fake_socket=_FailingSocket(ValueError("unforeseen")))
            assert await read_to_end(victim) == b""
            await assert_serves(server)
            assert server.guard.statistics().exceptions_contained_total == 1
    assert [entry["event"] for entry in logs] == ["connection failed"]


async def test_a_peer_that_is_gone_before_it_was_served_is_no_error(autojump_clock: MockClock) -> None:
    with capture_logs() as logs:
        async with serve_in_process(quart_app()) as server:
            gone = server.open_stream(fake_socket=_FailingSocket(OSError(errno.ENOTCONN, "not connected")))
            assert await read_to_end(gone) == b""
            assert server.guard.statistics().exceptions_contained_total == 0
    assert logs == []


async def test_cancellation_passes_through() -> None:
    guard = Guard(LIMITS, trio.lowlevel.checkpoint, OPEN_GATE)
    config = Config()
    settle(config, LIMITS)
    _client, stream = memory_stream_pair()
    stream.socket = FakeSocket(1)  # type: ignore[attr-defined]  # Hypercorn asks for it
    app = wrap_app(quart_app(), 0, "asgi")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, guard, app, config, WorkerContext(None), {}, cast("Any", stream))
            await wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert guard.statistics().connections_open == 0


async def test_an_error_raised_on_the_way_out_of_a_cancellation_is_logged(autojump_clock: MockClock) -> None:
    async def handle(scope: Scope, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("lost in the cancellation")

    with capture_logs() as logs:
        async with serve_in_process(for_websockets(handle)) as server:
            await RawClient(server.open_stream()).upgrade()
        assert server.guard.statistics().applications_failed_total == 1
    assert [entry["event"] for entry in logs] == ["application failed"]


async def test_a_handler_that_fails_closes_with_1011(autojump_clock: MockClock) -> None:
    async def handle(scope: Scope, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise KeyError("a mistake of ours")

    with capture_logs():
        async with serve_in_process(for_websockets(handle)) as server:
            client = RawClient(server.open_stream())
            await client.upgrade()
            assert (await client.closing())[0] == 1011
            assert await client.event() is None


async def test_a_handler_that_fails_before_accepting_answers_500(autojump_clock: MockClock) -> None:
    async def handle(scope: Scope, receive: Any, send: Any) -> None:
        raise KeyError("a mistake of ours")

    with capture_logs():
        async with serve_in_process(for_websockets(handle)) as server:
            assert (await server.request(upgrade_request())).startswith(b"HTTP/1.1 500 ")


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505", id="HTTP/2 by prior knowledge"),
        pytest.param(b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", b"505", id="a version of the future"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", b"400", id="a host with an empty label"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: " + b"a" * 64 + b"\r\n\r\n", b"400", id="a host that is too long"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", b"400", id="a host that is none"),
        pytest.param(
            REQUEST[:-2] + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + REQUEST,
            b"400",
            id="two ways to read where the body ends",
        ),
        pytest.param(REQUEST[:-2] + b"X: y\r\n" * 5_000 + b"\r\n", b"431", id="thousands of headers"),
        pytest.param(upgrade_request(key=b"\xff" * 24), b"400", id="key is not ASCII"),
        pytest.param(upgrade_request("/ws", b"Sec-WebSocket-Protocol: \xff"), b"400", id="protocol is not ASCII"),
        pytest.param(upgrade_request("/ws", b"Sec-WebSocket-Extensions: \xff"), b"400", id="extension is not ASCII"),
    ],
)
async def test_what_nobody_can_read_is_refused(autojump_clock: MockClock, request_bytes: bytes, status: bytes) -> None:
    async with serve_in_process(quart_app()) as server:
        response = await server.request(request_bytes)
        assert response.startswith(b"HTTP/1.1 " + status)
        assert b"connection: close" in response.lower()
        await assert_serves(server)
        statistics = server.guard.statistics()
    assert (statistics.requests_refused_total, statistics.exceptions_contained_total) == (1, 0)


async def test_an_upgrade_to_h2c_is_answered_in_http_1(autojump_clock: MockClock) -> None:
    async with serve_in_process(quart_app()) as server:
        response = await server.request(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        )
    assert response.startswith(b"HTTP/1.1 200 ")
    assert response.endswith(b"hello")


async def test_connection_close_is_honoured(autojump_clock: MockClock) -> None:
    async with serve_in_process(quart_app()) as server:
        start = trio.current_time()
        response = await server.request(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert response.endswith(b"hello")
        assert trio.current_time() == start


async def test_a_connection_serves_one_request_after_another_and_ends_when_idle(autojump_clock: MockClock) -> None:
    async with serve_in_process(quart_app()) as server:
        stream = server.open_stream()
        await stream.send_all(REQUEST * 3)
        await wait_all_tasks_blocked()
        start = trio.current_time()
        responses = await read_to_end(stream)
        assert responses.count(b"HTTP/1.1 200 ") == 3
        assert trio.current_time() - start == pytest.approx(LIMITS.header_seconds)


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHost: local"])
async def test_headers_have_a_deadline_however_they_trickle(autojump_clock: MockClock, head: bytes) -> None:
    async with serve_in_process(quart_app()) as server:
        stream = server.open_stream()
        start = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def trickle() -> None:
                for byte in head:
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(0.3)

            nursery.start_soon(trickle)
            assert await read_to_end(stream) == b""
        assert trio.current_time() - start == pytest.approx(LIMITS.header_seconds)


async def test_headers_without_end_are_refused(autojump_clock: MockClock) -> None:
    async with serve_in_process(quart_app()) as server:
        response = await server.request(b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000)
    assert response.startswith(b"HTTP/1.1 431 ")


async def test_a_connection_whose_peer_left_ends_at_once(autojump_clock: MockClock) -> None:
    async with serve_in_process(quart_app()) as server:
        stream = server.open_stream()
        await stream.send_all(REQUEST)
        await wait_all_tasks_blocked()
        await stream.aclose()
        await wait_all_tasks_blocked()
        assert server.guard.statistics().connections_open == 0


async def test_a_peer_that_does_not_hang_up_is_left(autojump_clock: MockClock) -> None:
    async with serve_in_process(quart_app()) as server:
        stream = server.open_stream()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await read_to_end(stream)).endswith(b"hello")
        await trio.sleep(LIMITS.close_seconds + 0.1)
        assert server.guard.statistics().connections_open == 0


# --- slow readers ----------------------------------------------------------------------------------------------------


async def test_a_peer_that_does_not_read_is_cut(autojump_clock: MockClock) -> None:
    async with serve_in_process(quart_app()) as server:
        stream = server.open_stream(lockstep_stream_pair)
        await stream.send_all(REQUEST.replace(b"/ ", b"/large ", 1))
        start = trio.current_time()
        while server.guard.statistics().connections_open:  # noqa: ASYNC110 - statistics have no event; time is virtual
            await trio.sleep(0.1)  # virtual time, and statistics have no event
        assert trio.current_time() - start == pytest.approx(LIMITS.write_seconds, abs=0.2)
        assert server.guard.statistics().writes_cut_total == 1


async def test_a_peer_that_asks_more_than_once_and_does_not_read_is_cut(autojump_clock: MockClock) -> None:
    """While a response is sent, the reading of requests waits for its end."""
    async with serve_in_process(quart_app()) as server:
        stream = server.open_stream(bounded(1024))
        await stream.send_all(REQUEST.replace(b"/ ", b"/large ", 1) * 3)
        await trio.sleep(LIMITS.write_seconds + 0.1)
        assert server.guard.statistics().connections_open == 0


async def test_a_peer_that_reads_slowly_gets_everything(autojump_clock: MockClock) -> None:
    async with serve_in_process(quart_app()) as server:
        stream = server.open_stream(lockstep_stream_pair)
        await stream.send_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b""
        while data := await stream.receive_some(8 * 1024):
            received += data
            await trio.sleep(LIMITS.write_seconds * 0.4)
        assert len(received.partition(b"\r\n\r\n")[2]) == LARGE_BYTES
        assert server.guard.statistics().writes_cut_total == 0


# --- WebSockets ------------------------------------------------------------------------------------------------------


async def test_frames_before_the_accept_wait_their_turn(autojump_clock: MockClock) -> None:
    async def handle(scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await trio.sleep(LIMITS.auth_seconds / 2)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})

    async with serve_in_process(for_websockets(handle)) as server:
        client = RawClient(server.open_stream())
        await client.upgrade(trailing=text("early"))
        assert await client.message() == "early"


async def test_an_upgrade_that_nobody_answers_ends(autojump_clock: MockClock) -> None:
    async def handle(scope: Scope, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with serve_in_process(for_websockets(handle)) as server:
        start = trio.current_time()
        assert await server.request(upgrade_request() + text("early")) == b""
        assert trio.current_time() - start == pytest.approx(LIMITS.auth_seconds)
        await wait_all_tasks_blocked()
        assert server.guard.statistics().connections_open == 0


async def test_compression_is_never_agreed_on(autojump_clock: MockClock) -> None:
    async with serve_in_process(quart_app()) as server:
        client = RawClient(server.open_stream())
        await client.upgrade("/ws", b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
        assert b"sec-websocket-extensions" not in client.response_head.lower()
        await client.send(text("plain"))
        assert await client.message() == "plain"


async def test_the_limit_of_a_message_is_in_bytes(autojump_clock: MockClock) -> None:
    async with serve_in_process(quart_app()) as server:
        client = RawClient(server.open_stream())
        await client.upgrade()
        await client.send(text("é" * (LIMITS.frame_bytes // 2)))
        assert await client.message() == "é" * (LIMITS.frame_bytes // 2)
        await client.send(text("é" * (LIMITS.frame_bytes // 2) + "x"))
        assert (await client.closing())[0] == 1009
        assert await client.event() is None


async def test_a_handler_that_sends_on_after_the_end_leaves_the_worker_alive(autojump_clock: MockClock) -> None:
    has_ended = trio.Event()

    async def handle(scope: Scope, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while not has_ended.is_set():
            await send({"type": "websocket.send", "text": "tick"})

    async with serve_in_process(for_websockets(handle)) as server:
        client = RawClient(server.open_stream())
        await client.upgrade()
        await client.stream.aclose()
        await assert_serves(server)
        has_ended.set()


async def test_a_handler_that_ends_with_messages_unread_ends_the_connection(autojump_clock: MockClock) -> None:
    async def handle(scope: Scope, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await trio.sleep(1)

    async with serve_in_process(for_websockets(handle)) as server:
        client = RawClient(server.open_stream())
        await client.upgrade()
        await client.send(*(text(str(n)) for n in range(1000)))
        assert (await client.closing())[0] == 1011
        await client.stream.aclose()
        await wait_all_tasks_blocked()
        assert server.guard.statistics().connections_open == 0


async def test_nothing_waits_for_an_application_that_has_ended() -> None:
    queue = ReceiveQueue(1)
    piece: ASGIReceiveEvent = {"type": "http.request", "body": b"", "more_body": True}
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(queue.put, piece)
        await wait_all_tasks_blocked()
        queue.close()


async def test_a_disconnect_reaches_a_handler_whose_queue_is_full(autojump_clock: MockClock) -> None:
    ends: list[str] = []

    async def handle(scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with trio.move_on_after(1):
            await trio.sleep_forever()
        await send({"type": "websocket.close", "code": 1000})
        while (event := await receive())["type"] == "websocket.receive":
            pass
        ends.append(event["type"])

    async with serve_in_process(for_websockets(handle)) as server:
        client = RawClient(server.open_stream())
        await client.upgrade()
        await client.send(*(text(str(n)) for n in range(1000)))
        assert (await client.closing())[0] == 1000
        await client.stream.aclose()
        await trio.sleep(5)
    assert ends == ["websocket.disconnect"]


async def test_the_stream_is_closed_and_not_written_when_its_taker_ends(autojump_clock: MockClock) -> None:
    async def handle(scope: Scope, receive: Any, send: Any) -> None:
        connection = scope["state"][CONNECTION_KEY]
        connection.reserve()
        await send({"type": "websocket.accept"})
        stream, leftover = connection.take()
        assert leftover == b"early"
        await send({"type": "websocket.send", "text": "not by this way any more"})
        await stream.send_all(b"raw bytes")

    async with serve_in_process(for_websockets(handle)) as server:
        response = await server.request(upgrade_request() + b"early")
        assert response.partition(b"\r\n\r\n")[2] == b"raw bytes"
        await wait_all_tasks_blocked()
        statistics = server.guard.statistics()
    assert (statistics.connections_open, statistics.applications_failed_total) == (0, 0)


async def test_a_stream_that_was_reserved_and_refused_is_answered_by_hypercorn(autojump_clock: MockClock) -> None:
    async def handle(scope: Scope, receive: Any, send: Any) -> None:
        scope["state"][CONNECTION_KEY].reserve()
        await send({"type": "websocket.close"})

    async with serve_in_process(for_websockets(handle)) as server:
        assert (await server.request(upgrade_request() + text("early"))).startswith(b"HTTP/1.1 403 ")
        await wait_all_tasks_blocked()
        assert server.guard.statistics().connections_open == 0


async def test_a_peer_that_left_before_its_upgrade_was_answered_leaves_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    async def handle(scope: Scope, receive: Any, send: Any) -> None:
        scope["state"][CONNECTION_KEY].reserve()
        await trio.sleep(1)
        await send({"type": "websocket.accept"})

    async with serve_in_process(for_websockets(handle)) as server:
        stream = server.open_stream()
        await stream.send_all(upgrade_request())
        await stream.aclose()
        await trio.sleep(2)
        assert server.guard.statistics().connections_open == 0


async def test_a_stream_cannot_be_taken_unless_it_was_reserved_and_accepted() -> None:
    stream, _ = memory_stream_pair()
    slot = OPEN_GATE.enter("")
    assert slot is not None
    connection = GuardedConnection(Guard(LIMITS, trio.lowlevel.checkpoint, OPEN_GATE), slot, stream)
    connection.reserve()
    with pytest.raises(RuntimeError, match="after the WebSocket was accepted"):
        connection.take()


async def test_the_direct_transport_says_goodbye_itself(autojump_clock: MockClock) -> None:
    async with serve_in_process(quart_app()) as server:
        client = RawClient(server.open_stream())
        await client.upgrade("/direct")
        assert await client.message() == "hello"
        assert await client.closing() == (1000, "done")
        assert await client.event() is None


# --- the worker ------------------------------------------------------------------------------------------------------


def test_installing_twice_is_installing_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = install(LIMITS, trio.lowlevel.checkpoint)
    second = install(LIMITS, trio.lowlevel.checkpoint)
    assert first is not second
    replacement = vars(hypercorn.trio.run)["TCPServer"]
    assert isinstance(replacement, partial)
    assert replacement.func is serve_connection
    assert replacement.args == (second,)


def test_another_version_of_hypercorn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ironwire.server.listener.hypercorn, "version", lambda _name: "0.19.0")
    with pytest.raises(RuntimeError, match=r"hypercorn 0\.18\.\*, not 0\.19\.0"):
        install(LIMITS, trio.lowlevel.checkpoint)


def test_another_shape_of_hypercorn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ironwire.server.listener.hypercorn._SHAPE, TCPServer.run, "self deadline")
    with pytest.raises(RuntimeError, match=r"TCPServer\.run takes \(self\) and not \(self deadline\)"):
        check_hypercorn()


def test_defaults_give_way_to_the_operator_but_http_2_does_not() -> None:
    config = Config.from_mapping(backlog=7, keep_alive_timeout=3, alpn_protocols=["h2", "http/1.1"])
    settle(config, Limits(header_seconds=9, frame_bytes=2048))
    assert (config.backlog, config.keep_alive_timeout) == (7, 3)
    assert (config.ssl_handshake_timeout, config.websocket_max_message_size) == (9, 2048)
    assert config.alpn_protocols == ["http/1.1"]

    untouched = Config()
    settle(untouched, LIMITS)
    assert untouched.backlog > Config.backlog


class _Worker:
    """Stands for Hypercorn's worker: waits for the trigger, as a server does."""

    def __init__(self) -> None:
        self.ended_at = -1.0

    async def __call__(self, app: Any, config: Config, *, sockets: Any, shutdown_trigger: Any) -> None:
        await shutdown_trigger()
        self.ended_at = trio.current_time()


async def run_worker(monkeypatch: pytest.MonkeyPatch, on_shutdown: Callable[[], Awaitable[None]]) -> float:
    """Return how long after the trigger the worker lets go."""
    worker = _Worker()
    monkeypatch.setattr(ironwire.server.listener.hypercorn, "worker_serve", worker)
    app = wrap_app(quart_app(), 0, "asgi")
    start = trio.current_time()
    await serve_worker(Guard(LIMITS, on_shutdown, OPEN_GATE), app, Config(), shutdown_trigger=partial(trio.sleep, 1))
    return worker.ended_at - start - 1


async def test_the_worker_says_goodbye_before_it_lets_go(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    assert await run_worker(monkeypatch, partial(trio.sleep, 0.5)) == pytest.approx(0.5)


async def test_a_goodbye_does_not_take_for_ever(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    with capture_logs() as logs:
        assert await run_worker(monkeypatch, trio.sleep_forever) == pytest.approx(LIMITS.drain_seconds)
    assert [entry["event"] for entry in logs] == ["some sessions did not leave in time"]


async def test_a_goodbye_that_fails_does_not_keep_the_worker(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def fail() -> None:
        raise KeyError("a mistake of ours")

    with capture_logs() as logs:
        assert await run_worker(monkeypatch, fail) == pytest.approx(0)
    assert [entry["event"] for entry in logs] == ["goodbye to the sessions failed"]
