"""The parts of Hypercorn's Trio worker that one hostile connection must not be able to break.

`ironwire.server.hypercorn` puts these in place of Hypercorn's own. The rules: whatever goes wrong in a connection ends that
connection; no write to a peer waits for ever; nothing waits for an application that has ended; and a WebSocket's stream can be handed
to the application, after which Hypercorn neither reads nor writes it. docs/decisions/0001 and 0002 have the reasons.
"""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, cast

import h11
import structlog
import trio
from attrs import define, field, frozen
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import events as protocol_events
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    LifespanState,
    Scope,
    WebsocketAcceptEvent,
    WorkerContext,
)
from hypercorn.utils import parse_socket_addr
from wsproto.connection import ConnectionState as WebSocketState
from wsproto.events import CloseConnection, Message, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

from ironwire.limits import Limits
from ironwire.server.transport import GONE, half_close, linger

CONNECTION_KEY = "ironwire.connection"
"""Where `scope["state"]` holds the `Connection`."""

_SLICE_BYTES = 16 * 1024
_HTTP_VERSIONS = frozenset({b"1.0", b"1.1"})

_log = structlog.get_logger(__name__)

Send = Callable[[ASGISendEvent | None], Awaitable[None]]


@frozen
class GuardStatistics:
    """What the guard has seen since the process began; only `connections_open` goes down again."""

    connections_open: int
    connections_total: int
    exceptions_contained: int
    """Connections that ended by an error which would have ended the server."""
    applications_failed: int
    """Requests and sockets whose handler let an exception out."""
    writes_cut: int
    """Connections cut because the peer did not read."""
    requests_refused: int
    """Requests refused before the application saw them: HTTP/2, and upgrades that are not ASCII."""


@define(eq=False)
class Guard:
    """What all connections of a worker share: the limits, what to do before leaving, and the counters."""

    limits: Limits
    on_shutdown: Callable[[], Awaitable[None]]
    """Called when the worker was told to stop, while connections still work: say goodbye to sessions and wait for them."""
    connections_open: int = field(default=0, init=False)
    connections_total: int = field(default=0, init=False)
    exceptions_contained: int = field(default=0, init=False)
    applications_failed: int = field(default=0, init=False)
    writes_cut: int = field(default=0, init=False)
    requests_refused: int = field(default=0, init=False)

    def statistics(self) -> GuardStatistics:
        return GuardStatistics(
            connections_open=self.connections_open,
            connections_total=self.connections_total,
            exceptions_contained=self.exceptions_contained,
            applications_failed=self.applications_failed,
            writes_cut=self.writes_cut,
            requests_refused=self.requests_refused,
        )


@define(eq=False)
class Connection:
    """One client connection, as the application may see it: the way to its stream.

    `reserve()` before accepting the WebSocket keeps Hypercorn from reading on; `take()` after it hands the stream over. When the
    application ends, the stream is closed.
    """

    guard: Guard
    _stream: trio.abc.Stream
    _protocol: "Http1Protocol | None" = field(default=None, init=False)
    is_reserved: bool = field(default=False, init=False)
    is_taken: bool = field(default=False, init=False)

    def serve(self, protocol: "Http1Protocol") -> None:
        self._protocol = protocol

    def reserve(self) -> None:
        self.is_reserved = True

    def take(self) -> tuple[trio.abc.Stream, bytes]:
        """Return the stream and the bytes that came behind the upgrade request.

        Raises:
            RuntimeError: not reserved, not a WebSocket, or taken before.
        """
        wrapper = None if self._protocol is None else self._protocol.connection
        if self.is_taken or not self.is_reserved or not isinstance(wrapper, H11WSConnection):
            raise RuntimeError("take() comes once, after reserve() and after the WebSocket was accepted")
        self.is_taken = True
        leftover = bytes(wrapper.buffer)
        wrapper.buffer.clear()
        return self._stream, leftover


class GuardedTCPServer(TCPServer):
    """One connection, from the accepted socket to the last byte."""

    def __init__(
        self,
        guard: Guard,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        stream: trio.abc.Stream,
    ) -> None:
        super().__init__(app, config, context, state, stream)
        self._guard = guard
        self._connection = Connection(guard, stream)
        self._reading = trio.CancelScope()
        self._is_closing = False

    async def run(self) -> None:
        self._guard.connections_open += 1
        self._guard.connections_total += 1
        try:
            await self._serve()
        except* (*GONE, OSError):
            pass  # the peer left: getpeername() and half of the writes find out
        except* Exception as error:
            self._guard.exceptions_contained += 1
            _log.error("connection failed", exc_info=error)
        finally:
            self._guard.connections_open -= 1
            await trio.aclose_forcefully(self.stream)

    async def _serve(self) -> None:
        is_tls = isinstance(self.stream, trio.SSLStream)
        if is_tls:
            try:
                with trio.fail_after(self.config.ssl_handshake_timeout):
                    await self.stream.do_handshake()
            except (trio.BrokenResourceError, trio.TooSlowError):
                return
        socket = self.stream.transport_stream.socket if is_tls else self.stream.socket
        client = parse_socket_addr(socket.family, socket.getpeername())
        server = parse_socket_addr(socket.family, socket.getsockname())

        async with AppTaskGroup(self._guard) as self._task_group:
            state = ConnectionState({**self.state, CONNECTION_KEY: self._connection})
            self.protocol = Http1Protocol(
                self.app,
                self.config,
                self.context,
                self._task_group,
                state,
                is_tls,
                client,
                server,
                self.protocol_send,
            )
            self._connection.serve(self.protocol)
            await self.idle_task.restart(self._task_group, self._idle_timeout)
            with self._reading:
                await self._read_data()
            await self.idle_task.stop()
            await self.protocol.handle(Closed())
            if self._is_closing:
                with trio.move_on_after(self._guard.limits.close_seconds):
                    await linger(self.stream)

    async def protocol_send(self, event: Event) -> None:
        if not isinstance(event, RawData):
            await super().protocol_send(event)
        elif not self._connection.is_taken:
            async with self.send_lock:
                if not await self._write(event.data):
                    await self.protocol.handle(Closed())

    async def _write(self, data: bytes) -> bool:
        """Send `data`, shielded because half a response cannot be taken back; return whether all of it went out.

        The deadline is on progress, not on the whole: a large piece of a file may take long on a thin line.
        """
        for start in range(0, len(data), _SLICE_BYTES):
            with trio.CancelScope(
                shield=True, deadline=trio.current_time() + self._guard.limits.write_seconds
            ) as slice_scope:
                try:
                    await self.stream.send_all(data[start : start + _SLICE_BYTES])
                except GONE:
                    return False
            if slice_scope.cancelled_caught:
                self._guard.writes_cut += 1
                await trio.aclose_forcefully(self.stream)
                return False
        return True

    async def _close(self) -> None:
        """Stop talking and stop serving; `_serve` then waits for the peer to hang up."""
        if self._connection.is_taken:
            await trio.aclose_forcefully(self.stream)
        else:
            self._is_closing = True
            with contextlib.suppress(*GONE, trio.BusyResourceError):
                await half_close(self.stream)
        self._reading.cancel()


class AppTaskGroup(TaskGroup):
    """Runs the application's calls for one connection."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    async def spawn_app(
        self, app: AppWrapper, config: Config, scope: Scope, send: Send
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        inbox = Inbox(config.max_app_queue_size)
        self.spawn(self._run_app, app, scope, inbox, send)
        return inbox.put

    async def _run_app(self, app: AppWrapper, scope: Scope, inbox: "Inbox", send: Send) -> None:
        try:
            await app(scope, inbox.receive, send, trio.to_thread.run_sync, trio.from_thread.run)
        except* Exception as error:
            self._guard.applications_failed += 1
            _log.error("application failed", scope_type=scope["type"], exc_info=error)
        finally:
            inbox.close()
            await send(None)


class Inbox:
    """What goes from a connection to one call of the application.

    Bounded, so that a peer is read only as fast as the application consumes; but a disconnect overtakes a full queue's blocked writer,
    and an application that has ended swallows everything.
    """

    def __init__(self, size: int) -> None:
        self._send_channel, self._receive_channel = trio.open_memory_channel[ASGIReceiveEvent](size)
        self._disconnect: ASGIReceiveEvent | None = None

    async def put(self, event: ASGIReceiveEvent) -> None:
        if event["type"] in {"http.disconnect", "websocket.disconnect"}:
            self._disconnect = event
            self._send_channel.close()
        else:
            with contextlib.suppress(*GONE):
                await self._send_channel.send(event)

    async def receive(self) -> ASGIReceiveEvent:
        try:
            return await self._receive_channel.receive()
        except trio.EndOfChannel:
            return cast(ASGIReceiveEvent, self._disconnect)

    def close(self) -> None:
        self._receive_channel.close()


class _Refused(Exception):
    """A request that gets an answer without the application."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Http1Protocol(H11Protocol):
    """HTTP/1.1 and nothing else: no HTTP/2 by prior knowledge, no h2c."""

    async def handle(self, event: Event) -> None:
        try:
            await super().handle(event)
        except _Refused as refused:
            cast(Connection, self.connection_state[CONNECTION_KEY]).guard.requests_refused += 1
            await self._send_error_response(refused.status)
            await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        if event.http_version not in _HTTP_VERSIONS:
            raise _Refused(505)
        if any(name.startswith(b"sec-websocket-") and not value.isascii() for name, value in event.headers):
            raise _Refused(400)


class GuardedHTTPStream(HTTPStream):
    """One request and its response."""

    async def app_send(self, message: ASGISendEvent | None) -> None:
        # Quart cancels its own last send, since that is what tells it that the client is done with; but the same call still has to
        # close the connection or make it ready for the next request.
        is_last = (
            message is not None and message["type"] == "http.response.body" and not message.get("more_body", False)
        )
        with trio.CancelScope(shield=is_last):
            await super().app_send(message)


class ByteCountingBuffer(WebsocketBuffer):
    """Counts a text in bytes, where Hypercorn counts characters."""

    def extend(self, event: Message) -> None:
        if isinstance(event, TextMessage):
            self.length += len(event.data.encode()) - len(event.data)
        super().extend(event)


class GuardedWSStream(WSStream):
    """One WebSocket.

    The connection's reading task stays inside `handle(Request)` until the application has answered the upgrade, so that frames which
    come early wait their turn; and where the application takes the stream, until the application has ended.
    """

    def __init__(self, app: AppWrapper, config: Config, *args: Any) -> None:
        super().__init__(app, config, *args)
        self.buffer = ByteCountingBuffer(config.websocket_max_message_size)
        self._connection: Connection
        self._is_answered = trio.Event()
        self._is_ended = trio.Event()

    async def handle(self, event: protocol_events.Event) -> None:
        if not isinstance(event, protocol_events.Request):
            await super().handle(event)
            return
        self._connection = cast(Connection, event.state[CONNECTION_KEY])
        await super().handle(event)
        if self.app_put is None:
            return
        with trio.move_on_after(self._connection.guard.limits.auth_seconds) as answering:
            await self._is_answered.wait()
        if answering.cancelled_caught:
            await self.send(protocol_events.StreamClosed(stream_id=self.stream_id))
        elif self._connection.is_reserved:
            await self._is_ended.wait()

    async def app_send(self, message: ASGISendEvent | None) -> None:
        if message is not None:
            await trio.lowlevel.checkpoint()  # a handler that goes on sending after the end must not freeze the worker
            await super().app_send(message)
            return
        try:
            if self._connection.is_taken:
                await self.send(protocol_events.StreamClosed(stream_id=self.stream_id))
            else:
                await super().app_send(None)
        finally:
            self._is_answered.set()
            self._is_ended.set()

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        self.handshake.extensions = None  # no permessage-deflate: 97 KB of it can hold 278 MB
        await super()._accept(message)
        self._is_answered.set()

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            match event:
                case Message():
                    try:
                        self.buffer.extend(event)
                    except FrameTooLargeError:
                        await self._finish(CloseConnection(code=CloseReason.MESSAGE_TOO_BIG))
                        return
                    if event.message_finished:
                        await self._put(self.buffer.to_message())
                        self.buffer.clear()
                case Ping():
                    await self._send_wsproto_event(event.response())
                case CloseConnection():
                    # In REMOTE_CLOSING the peer said it; else wsproto did, of a peer that broke the protocol.
                    has_peer_closed = self.connection.state is WebSocketState.REMOTE_CLOSING
                    await self._finish(event.response() if has_peer_closed else event)
                    return

    async def _put(self, message: dict[str, Any]) -> None:
        if self.app_put is not None:
            await self.app_put(message)

    async def _finish(self, farewell: CloseConnection) -> None:
        await self._send_wsproto_event(farewell)
        await self.send(protocol_events.StreamClosed(stream_id=self.stream_id))
