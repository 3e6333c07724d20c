"""One connection from the accepted socket to the last byte, in place of Hypercorn's `TCPServer`.

An exception that leaves `serve_connection` would end the worker and every session in it, so none does. Only
cancellation passes. A plain upgrade goes straight to the application (docs/decisions/0008); Hypercorn serves the rest.
"""

import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from math import inf
from typing import cast

import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, ConnectionState, LifespanState, Scope
from hypercorn.utils import parse_socket_addr
from structlog.contextvars import bind_contextvars

from ironwire.server.listener.addresses import Address
from ironwire.server.listener.connection_limiter import ConnectionSlot
from ironwire.server.listener.guard import CONNECTION_KEY, DirectSockets, Guard, GuardedConnection
from ironwire.server.listener.guarded_http import SECURITY_FIELDS, Http1Protocol
from ironwire.server.listener.upgrade import HEAD_BYTES, parse_upgrade
from ironwire.server.session.direct import GONE, half_close, linger, write_at_once, write_some
from ironwire.server.session.scheduler import Work

_FIRST_BYTES = 2 * HEAD_BYTES
"""The size of the first read: a plain upgrade and some frames. Every connection pays for a larger buffer."""

_ID_BYTES = 4
"""The length of the random id `connection` that marks all log lines of one connection."""

_log = structlog.get_logger(__name__)

Send = Callable[[ASGISendEvent | None], Awaitable[None]]
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


async def serve_connection(
    guard: Guard, app: AppWrapper, config: Config, context: WorkerContext, state: LifespanState, stream: Stream
) -> None:
    """Serve one connection to its end; no error of it gets out. Hypercorn calls this where it would make a `TCPServer`,
    and Trio's `serve_listeners` closes the stream after it.
    """
    guard.connections_open += 1
    guard.connections_total += 1
    bind_contextvars(connection=os.urandom(_ID_BYTES).hex())
    slot = None
    try:
        slot = guard.limiter.enter(_peer_of(stream))
        if slot is not None:
            serving = await _greet(guard, slot, app, config, context, state, stream)
            if serving is not None:
                await serving
    except* (*GONE, OSError):
        pass  # the peer left: getpeername() and half of the writes find out
    except* Exception as error:
        guard.exceptions_contained += 1
        _log.error("connection failed", exc_info=error)
    finally:
        guard.connections_open -= 1
        if slot is not None:
            slot.leave()


async def _greet(
    guard: Guard,
    slot: ConnectionSlot,
    app: AppWrapper,
    config: Config,
    context: WorkerContext,
    state: LifespanState,
    stream: Stream,
) -> Awaitable[None] | None:
    """Read the first bytes, and answer a plain upgrade; return the function that serves the rest of the connection.

    None: it has ended already. The first bytes are not kept, because a session may last for weeks.
    """
    if isinstance(stream, trio.SSLStream):
        try:
            with trio.fail_after(config.ssl_handshake_timeout):
                await stream.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError):
            return None
    deadline = trio.current_time() + config.keep_alive_timeout
    sockets = _direct_sockets(app, config)
    first = b""
    if sockets is not None:
        first = _read_at_once(stream)
        if not first:
            first = await _read_first(guard, stream, deadline)
            await guard.scheduler.slot(Work.UNAUTHENTICATED)
        if not first:
            return None
        upgrade = parse_upgrade(first, sockets.path)
        server = _address_of(_socket_of(stream).getsockname())
        # Hypercorn's path answers a refusal.
        if upgrade and slot.ask_for_socket(upgrade.forwarded_for, upgrade.origin, server) is None:
            await context.mark_request()
            if not await _write(guard, stream, upgrade.answer(_answer_fields(config, int(time.time())))):
                return None
            return sockets.serve(stream, upgrade.leftover, server, slot)
    return GuardedTCPServer(guard, slot, app, config, context, state, stream).serve(first, deadline)


@lru_cache(maxsize=1)
def _answer_fields(config: Config, second: int) -> tuple[tuple[bytes, bytes], ...]:
    """The fields that every answer has, `date` among them: made once in each `second`."""
    return (*config.response_headers("h11"), *SECURITY_FIELDS)


def _direct_sockets(app: AppWrapper, config: Config) -> DirectSockets | None:
    """The application's direct sockets; None if Hypercorn is configured for a feature of its own path: server names, an
    access log or statsd.
    """
    sockets = getattr(getattr(app, "app", None), "direct_sockets", None)
    if config.server_names or config.accesslog or config.statsd_host or not isinstance(sockets, DirectSockets):
        return None
    return sockets


def _read_at_once(stream: Stream) -> bytes:
    """Read without waiting: the request usually arrives with the connection. Trio accepts one connection in each
    iteration of the event loop, so this needs no scheduling slot.
    """
    if isinstance(stream, trio.SocketStream):
        with contextlib.suppress(BlockingIOError):
            return os.read(stream.socket.fileno(), _FIRST_BYTES)
    return b""


async def _read_first(guard: Guard, stream: Stream, deadline: float) -> bytes:
    """The first bytes of a connection; empty if it has ended, or has to end."""
    with trio.CancelScope(deadline=deadline) as reading:
        guard.idle.add(reading)
        try:
            return bytes(await stream.receive_some(_FIRST_BYTES))
        finally:
            guard.idle.discard(reading)
    return b""


async def _write(guard: Guard, stream: Stream, data: bytes) -> bool:
    """Send `data`, shielded because half a response cannot be taken back; return whether all of it went out.

    The deadline is on progress, not on the whole: a large piece of a file may take long on a slow link.
    """
    rest = memoryview(data)
    try:
        rest = rest[write_at_once(stream, rest) :]
        while rest:
            with trio.CancelScope(shield=True) as progress:
                progress.deadline = trio.current_time() + guard.limits.write_seconds
                rest = rest[await write_some(stream, rest) :]
            if progress.cancelled_caught:
                guard.writes_cut += 1
                await trio.aclose_forcefully(stream)
                return False
    except (*GONE, OSError):
        return False
    return True


def _peer_of(stream: Stream) -> str:
    """The peer's address; "" for a stream without one, such as a Unix socket.

    Raises:
        OSError: the peer has left.
    """
    address = _address_of(_socket_of(stream).getpeername())
    return "" if address is None else address[0]


def _address_of(name: object) -> Address | None:
    """Host and port in the `name` of a socket; None for one that has none, such as a Unix socket."""
    return (name[0], name[1]) if isinstance(name, tuple) else None


def _socket_of(stream: Stream) -> trio.socket.SocketType:
    return stream.transport_stream.socket if isinstance(stream, trio.SSLStream) else stream.socket


class GuardedTCPServer(TCPServer):
    """One connection that Hypercorn's protocol serves."""

    def __init__(
        self,
        guard: Guard,
        slot: ConnectionSlot,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        stream: Stream,
    ) -> None:
        annotated = cast("trio.SSLStream[trio.SocketStream]", stream)  # Hypercorn's annotation, not its practice
        super().__init__(app, config, context, state, annotated)
        self._guard = guard
        self._connection = GuardedConnection(guard, slot, stream)
        self._reading = trio.CancelScope()
        self._is_read_to_end = False
        self._is_closing = False

    async def serve(self, first: bytes, deadline: float) -> None:
        """Serve the connection, of which `first` was read already; the first request has to be there by `deadline`."""
        socket = _socket_of(self.stream)
        client = parse_socket_addr(socket.family, socket.getpeername())
        server = parse_socket_addr(socket.family, socket.getsockname())
        async with AppTaskGroup(self._guard) as self._task_group:
            state = ConnectionState({**self.state, CONNECTION_KEY: self._connection})
            protocol = Http1Protocol(
                self.app,
                self.config,
                self.context,
                self._task_group,
                state,
                isinstance(self.stream, trio.SSLStream),
                client,
                server,
                self.protocol_send,
            )
            self.protocol = protocol  # type: ignore[assignment]  # what Hypercorn's wrapper would have chosen
            self._connection.serve(protocol)
            self._set_idle(True)
            self._reading.deadline = deadline
            with self._reading:
                if first:
                    await protocol.handle(RawData(first))
                await self._read_data()
                await protocol.handle_end_of_input()
            self._is_read_to_end = True
            self._set_idle(False)
            await self.protocol.handle(Closed())
            if self._is_closing:
                with trio.move_on_after(self._guard.limits.close_seconds):
                    await linger(self.stream)

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if not self._connection.is_taken:
                async with self.send_lock:
                    if not await _write(self._guard, self.stream, event.data):
                        await self.protocol.handle(Closed())
                        self._reading.cancel()  # with pipelined requests it waits for this response, which has no end
        elif isinstance(event, Updated):
            self._set_idle(event.idle and not self._is_read_to_end)  # after the end of input no request follows
        else:
            await super().protocol_send(event)

    def _set_idle(self, is_idle: bool) -> None:
        """Set or clear the read deadline between requests. Hypercorn would start a task each time."""
        self._reading.deadline = trio.current_time() + self.config.keep_alive_timeout if is_idle else inf
        if is_idle:
            self._guard.idle.add(self._reading)
        else:
            self._guard.idle.discard(self._reading)

    async def _close(self) -> None:
        """Half-close and stop serving; `_serve` then waits for the peer to hang up."""
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
        queue = ReceiveQueue(config.max_app_queue_size)
        self.spawn(self._run_app, app, scope, queue, send)
        return queue.put

    async def _run_app(self, app: AppWrapper, scope: Scope, queue: "ReceiveQueue", send: Send) -> None:
        try:
            await app(scope, queue.receive, send, trio.to_thread.run_sync, trio.from_thread.run)
        except* Exception as error:
            self._guard.applications_failed += 1
            _log.error("application failed", scope_type=scope["type"], exc_info=error)
        finally:
            queue.close()
            limits = self._guard.limits
            with trio.move_on_after(limits.write_seconds + limits.close_seconds, shield=True):
                await send(None)


class ReceiveQueue:
    """The events from a connection to one call of the application.

    Bounded: a peer is read only as fast as the application consumes (backpressure). A disconnect never waits for room,
    and events for an application that has ended are discarded.
    """

    def __init__(self, size: int) -> None:
        self._send_channel, self._receive_channel = trio.open_memory_channel[ASGIReceiveEvent](size)
        self._disconnect: ASGIReceiveEvent

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
            return self._disconnect

    def close(self) -> None:
        self._receive_channel.close()
