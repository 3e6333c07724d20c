"""One task reads the sockets of all sessions (docs/decisions/0015).

Trio wakes one task for each socket that becomes readable, and asks the kernel anew for each wait. So the plain sockets
of authenticated sessions are in an epoll of their own, level-triggered, whose descriptor is readable while any of them
is; one task waits for that one, and reads each socket that is ready once in a round. Streams of another kind, and
platforms without epoll, are read by the session's own task. Both ways call the same `Take`.

    reading ── bytes ──> take ── nothing to await ──> reading
       ^                  └── something to await, the end of the connection or of the session ──> handed over
       └────────────── next() is called ── the session's task <─────────────────────────────────────┘

While a session is handed over nothing of it is read: its messages stay in order, and what it sends meanwhile waits in
the kernel, which tells the peer. Rule: a descriptor is in the epoll only while its socket is open, and is read through
the socket that it was registered for.
"""

import select
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from typing import Protocol

import outcome
import trio
from attrs import define, field

from ironwire.delivery.outbox import Outbox
from ironwire.server.listener.direct import SocketTransport
from ironwire.server.session.scheduler import ROUND_BYTES, ROUND_SESSIONS
from ironwire.server.session.transport import Transport
from ironwire.wire.frames import Payload

Wait = Callable[[], Awaitable[None]]
"""What has to be awaited before more of a session is handled."""

Take = Callable[[list[Payload]], Iterator[Wait]]
"""Handles what one read has brought, and yields what has to be awaited (`Intake.take`)."""


class Feed(Protocol):
    """Brings one session what its peer sends."""

    async def next(self) -> Iterator[Wait]:
        """Let what arrives be taken until the session's task has something to await, and return that. Nothing, where
        the session has an ending, or where the next call will raise.

        Raises:
            TransportClosed: as `Transport.receive` does.
            FrameViolation: as `Transport.receive` does.
            Exception: whatever `Take` has raised.
        """
        ...

    def close(self) -> None:
        """Read no more. Comes before the connection is closed."""
        ...


@define(eq=False)
class TaskFeed:
    """The session's own task reads."""

    _transport: Transport
    _take: Take

    async def next(self) -> Iterator[Wait]:
        return self._take(await self._transport.receive())

    def close(self) -> None:
        pass


@define(eq=False)
class PolledFeed:
    """The reader reads, and wakes the session's task for what has to be awaited."""

    _reader: "Reader"
    _descriptor: int
    _transport: SocketTransport
    _outbox: Outbox
    _take: Take
    _flush: Callable[[], object]
    _task: trio.lowlevel.Task | None = field(init=False, default=None)
    """The session's while it waits; None while the session is handed over to it."""

    async def next(self) -> Iterator[Wait]:
        if self._transport.is_over:
            self.close()
            return self._take(await self._transport.receive())
        self._reader.resume(self._descriptor, self)
        self._task = trio.lowlevel.current_task()
        steps: Iterator[Wait] = await trio.lowlevel.wait_task_rescheduled(self._abort)
        return steps

    def close(self) -> None:
        self._reader.pause(self._descriptor, self)

    def read(self, now: float) -> int:
        """Read once, and have taken what came; returns how many bytes that were."""
        task = self._task
        if task is None:  # the peer sends more than is handled yet: in a level-triggered epoll it would stay ready
            self.close()
            return 0
        return task.context.run(self._read, task, now)  # in the log, lines of the session name its client

    def _read(self, task: trio.lowlevel.Task, now: float) -> int:
        transport = self._transport
        try:
            size, messages = transport.receive_nowait(now)
            if transport.owes_pong:
                self._flush()
            steps = self._take(messages)
            for wait in steps:
                self._hand_over(task, outcome.Value(chain((wait,), steps)))
                return size
        except Exception as error:
            self._hand_over(task, outcome.Error(error))
            return 0
        if transport.is_over or self._outbox.ending is not None:
            self._hand_over(task, outcome.Value(steps))
        return size

    def _hand_over(self, task: trio.lowlevel.Task, result: outcome.Outcome[Iterator[Wait]]) -> None:
        self._task = None
        trio.lowlevel.reschedule(task, result)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Reader:
    """All sessions' sockets, and the rounds in which they are read."""

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._feeds: dict[int, PolledFeed] = {}
        """Those whose sockets are in the epoll, by descriptor."""
        self._ready: list[int] = []
        """Descriptors that were ready in the last round and not read in it."""

    def feed(self, transport: Transport, outbox: Outbox, take: Take, flush: Callable[[], object]) -> Feed:
        """The way in which a session is fed whose peer has authenticated.

        Args:
            outbox: the session's; it is not fed any more once that has an ending.
            flush: writes what waits for the session's peer, pongs included, without waiting.
        """
        if self._epoll is not None and isinstance(transport, SocketTransport):
            return PolledFeed(self, transport.descriptor, transport, outbox, take, flush)
        return TaskFeed(transport, take)

    async def run(self) -> None:
        """Read, round after round, for ever. One task runs this."""
        if self._epoll is None:
            await trio.sleep_forever()
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._round(self._epoll)

    def resume(self, descriptor: int, feed: PolledFeed) -> None:
        """Read the socket when it is ready."""
        if self._epoll is not None and descriptor not in self._feeds:
            self._epoll.register(descriptor, select.EPOLLIN)
            self._feeds[descriptor] = feed

    def pause(self, descriptor: int, feed: PolledFeed) -> None:
        """Do not read the socket, whether it is ready or not."""
        if self._epoll is not None and self._feeds.get(descriptor) is feed:
            del self._feeds[descriptor]
            self._epoll.unregister(descriptor)

    def _round(self, epoll: select.epoll) -> None:
        now = trio.current_time()
        ready = self._ready or [descriptor for descriptor, _ in epoll.poll(0, ROUND_SESSIONS)]
        size = 0
        while ready and size < ROUND_BYTES:
            feed = self._feeds.get(ready.pop())
            if feed is not None:
                size += feed.read(now)
        self._ready = ready
