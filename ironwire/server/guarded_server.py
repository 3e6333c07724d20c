"""One connection from the accepted socket to the last byte, in place of Hypercorn's `TCPServer`.

An exception that leaves `run` would end the worker with everybody in it, so none does. Only cancellation passes.
"""

import contextlib
from collections.abc import Awaitable, Callable
from math import inf

import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    LifespanState,
    Scope,
)
from hypercorn.utils import parse_socket_addr

from ironwire.server.guard import CONNECTION_KEY, Connection, Guard
from ironwire.server.guarded_http import Http1Protocol
from ironwire.server.transport import GONE, half_close, linger, write_at_once, write_some

_log = structlog.get_logger(__name__)

Send = Callable[[ASGISendEvent | None], Awaitable[None]]


class GuardedTCPServer(TCPServer):
    """One connection, from the accepted socket to the last byte."""

    def __init__(
        self,
        guard: Guard,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        stream: trio.SSLStream[trio.SocketStream],  # or a plain SocketStream: Hypercorn's annotation, not its practice
    ) -> None:
        super().__init__(app, config, context, state, stream)
        self._guard = guard
        self._connection = Connection(guard, stream)
        self._reading = trio.CancelScope()
        self._is_read_to_end = False
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
            protocol = Http1Protocol(
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
            self.protocol = protocol  # type: ignore[assignment]  # what Hypercorn's wrapper would have chosen
            self._connection.serve(protocol)
            self._set_idle(True)
            with self._reading:
                await self._read_data()
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
                    if not await self._write(event.data):
                        await self.protocol.handle(Closed())
        elif isinstance(event, Updated):
            self._set_idle(event.idle and not self._is_read_to_end)  # at the end there is no next request to wait for
        else:
            await super().protocol_send(event)

    def _set_idle(self, is_idle: bool) -> None:
        """Between requests, and before the first, reading has a deadline. Hypercorn would start a task each time."""
        self._reading.deadline = trio.current_time() + self.config.keep_alive_timeout if is_idle else inf
        if is_idle:
            self._guard.idle.add(self._reading)
        else:
            self._guard.idle.discard(self._reading)

    async def _write(self, data: bytes) -> bool:
        """Send `data`, shielded because half a response cannot be taken back; return whether all of it went out.

        The deadline is on progress, not on the whole: a large piece of a file may take long on a thin line.
        """
        rest = memoryview(data)
        try:
            rest = rest[write_at_once(self.stream, rest) :]
            while rest:
                with trio.CancelScope(shield=True) as progress:
                    progress.deadline = trio.current_time() + self._guard.limits.write_seconds
                    rest = rest[await write_some(self.stream, rest) :]
                if progress.cancelled_caught:
                    self._guard.writes_cut += 1
                    await trio.aclose_forcefully(self.stream)
                    return False
        except (*GONE, OSError):
            return False
        return True

    async def _close(self) -> None:
        """Stop talking and stop serving; `_serve` then waits for the peer to hang up."""
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
            limits = self._guard.limits
            with trio.move_on_after(limits.write_seconds + limits.close_seconds, shield=True):
                await send(None)


class Inbox:
    """What goes from a connection to one call of the application.

    Bounded, so that a peer is read only as fast as the application consumes; but a disconnect never waits for room,
    and an application that has ended swallows everything.
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
