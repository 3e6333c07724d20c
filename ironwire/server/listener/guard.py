"""State shared by all guarded connections of a worker, and the application's way to its own connection.

`guarded_server` and `guarded_http` are the parts that `hypercorn` puts in place of Hypercorn's own. Their rules:
an error in a connection ends that connection alone; no write to a peer waits for ever; nothing waits for an application
that has ended; and a WebSocket's stream can be handed to the application, after which Hypercorn neither reads nor
writes it. docs/decisions/0001 and 0002 have the reasons.
"""

from collections.abc import Awaitable, Callable

import trio
from attrs import define, field, frozen
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection

from ironwire.counting import figure
from ironwire.limits import Limits
from ironwire.server.listener.addresses import Address
from ironwire.server.listener.connection_limiter import ConnectionLimiter, ConnectionSlot
from ironwire.server.session.scheduler import Scheduler

CONNECTION_KEY = "ironwire.connection"
"""Where `scope["state"]` holds the `GuardedConnection`."""


@frozen
class GuardStatistics:
    """Counters since the process began, and the gauge `connections_open`."""

    connections_open: int = figure("Open TCP connections, of sessions and of HTTP.")
    connections_total: int = figure("Accepted TCP connections.")
    exceptions_contained_total: int = figure("Exceptions contained in their connection instead of ending the server.")
    applications_failed_total: int = figure("Requests and sockets whose handler raised an exception.")
    writes_cut_total: int = figure("Connections cut because the peer did not read.")
    requests_refused_total: int = figure("Requests refused before they reached the application.")


@define(eq=False)
class Guard:
    """Shared by all connections of a worker: limits, shutdown, connection limiter, scheduler and counters."""

    limits: Limits
    on_shutdown: Callable[[], Awaitable[None]]
    """Called when the worker is told to stop, while connections still work: drains the sessions."""
    limiter: ConnectionLimiter
    """Admits connections."""
    scheduler: Scheduler = field(factory=Scheduler)
    """Gives scheduling slots to connections."""
    idle: set[trio.CancelScope] = field(factory=set, init=False)
    """Cancels the reads of connections that wait for a request."""
    listens: tuple[str, ...] = field(default=(), init=False)
    """Where the worker listens: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/ironwire.sock`."""
    connections_open: int = field(default=0, init=False)
    connections_total: int = field(default=0, init=False)
    exceptions_contained: int = field(default=0, init=False)
    applications_failed: int = field(default=0, init=False)
    writes_cut: int = field(default=0, init=False)
    requests_refused: int = field(default=0, init=False)

    def hang_up_idle(self) -> None:
        """End the connections that wait for a request."""
        for reading in self.idle:
            reading.cancel()

    def statistics(self) -> GuardStatistics:
        return GuardStatistics(
            connections_open=self.connections_open,
            connections_total=self.connections_total,
            exceptions_contained_total=self.exceptions_contained,
            applications_failed_total=self.applications_failed,
            writes_cut_total=self.writes_cut,
            requests_refused_total=self.requests_refused,
        )


@frozen
class DirectSockets:
    """The attribute `direct_sockets` of an application that serves WebSockets on their own streams.

    A plain upgrade at `path` is then answered by the guard, and neither Hypercorn's protocol nor the application's
    ASGI side is asked. An application wrapped in another one has none: the wrapper has to see the request.
    """

    path: bytes
    serve: Callable[[trio.abc.Stream, bytes, Address | None, ConnectionSlot], Awaitable[None]]
    """Called after 101 with the stream, the bytes behind the upgrade, the server's address if it has one, and the
    connection as the limiter counts it. The stream is closed when it returns.
    """


@define(eq=False)
class GuardedConnection:
    """One client connection, as the application may see it: the way to its stream.

    `reserve()` before accepting the WebSocket keeps Hypercorn from reading on; `take()` after it hands the stream over.
    When the application ends, the stream is closed.
    """

    guard: Guard
    slot: ConnectionSlot
    _stream: trio.abc.Stream
    _protocol: H11Protocol | None = field(default=None, init=False)
    is_reserved: bool = field(default=False, init=False)
    is_taken: bool = field(default=False, init=False)

    def serve(self, protocol: H11Protocol) -> None:
        """Name the protocol that reads this connection until the stream is taken."""
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
