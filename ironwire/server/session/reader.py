"""One task reads the plain sockets of all sessions (docs/decisions/0015).

Theory of operation. Trio wakes one task for each socket that becomes readable, and calls `epoll_ctl` before each wait.
The reader registers the sockets of authenticated sessions, level-triggered, in an epoll of its own, whose descriptor is
readable while any of them is; the reader waits for that descriptor and then does a round: it reads every ready socket
once, within `ROUND_SESSIONS` and `ROUND_BYTES`. Sockets that were ready and not read come first in the next round.

    state         socket in the epoll       the session's task     leaves the state by
    reading       yes                       parked in `next`       something to await, the end of the connection or of
                                                                   the session (handed over); cancellation (closed)
    handed over   until it becomes ready    awaits, step by step   `next` (reading), `close` (closed)
    closed        no                        leaves                 nothing: the session closes the connection

`Take` handles each read and yields whatever has to be awaited. Mostly it yields nothing, and the session stays in
`reading`. While a session is handed over nothing of it is read: its messages keep their order, and the kernel holds
what the peer sends meanwhile, which is the backpressure. A socket that becomes ready in that state leaves the epoll,
because it would stay ready in every round; most peers wait for their answer first, and cost no system call.

The end of a connection and a violation are only noticed here. The session's task finds them again in
`Transport.receive`, which raises them, so that they end the session that they concern and no other.

TLS, streams in memory, and platforms without epoll have a `TaskFeed`: the session's task reads, and calls the same
`Take`.

Rule: a descriptor is in the epoll only while its socket is open (`close` comes before the connection is closed), and is
read through the socket that it was registered for, so that nobody reads a number that the kernel has given away again.
"""

import select
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from typing import Protocol

import outcome
import trio
from attrs import define, field

from ironwire.delivery.outbox import Outbox
from ironwire.server.session.direct import SocketTransport
from ironwire.server.session.scheduler import ROUND_BYTES, ROUND_SESSIONS
from ironwire.server.session.transport import Transport
from ironwire.wire.frames import Payload

Wait = Callable[[], Awaitable[None]]
"""A coroutine function to await before more of a session is handled."""

Take = Callable[[list[Payload]], Iterator[Wait]]
"""Handles the messages of one read, and yields each thing that has to be awaited (`Intake.take`)."""


class Feed(Protocol):
    """Brings one session the messages of its peer."""

    def next(self) -> Awaitable[Iterator[Wait]]:
        """Let messages be taken until the session's task has something to await, and return that. The iterator is
        empty if the session has an ending, or if the next call will raise. Await the result at once.

        Raises:
            TransportClosed: as `Transport.receive` does.
            FrameViolation: as `Transport.receive` does.
            Exception: any that `Take` has raised.
        """
        ...

    def close(self) -> None:
        """Read no more. Comes before the connection is closed; a second call does nothing."""
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
    """The reader reads, and wakes the session's task for whatever has to be awaited."""

    _reader: "Reader"
    _descriptor: int
    _transport: SocketTransport
    _outbox: Outbox
    _take: Take
    _flush: Callable[[], object]
    _task: trio.lowlevel.Task | None = field(init=False, default=None)
    """The session's while it is parked in `next`."""

    def next(self) -> Awaitable[Iterator[Wait]]:
        # No coroutine of its own: its frame would stay for as long as the session is idle.
        if self._transport.is_over:
            self.close()
            return TaskFeed(self._transport, self._take).next()
        self._reader.resume(self._descriptor, self)
        self._task = trio.lowlevel.current_task()
        return trio.lowlevel.wait_task_rescheduled(self._abort)  # noqa: ASYNC105  # the session's task awaits it

    def close(self) -> None:
        self._reader.pause(self._descriptor, self)

    def read(self, now: float) -> int:
        """Read once, and have the messages taken; returns the number of bytes."""
        if self._task is None:
            self.close()  # handed over, and ready again
            return 0
        return self._task.context.run(self._read, now)  # in the log, lines of the session name its client

    def _read(self, now: float) -> int:
        size = 0
        try:
            size, messages = self._transport.receive_nowait(now)
            steps = self._take(messages)
            wait = next(steps, None)
            if self._transport.owes_pong:
                self._flush()  # may end the session, which wakes its task
        except Exception as error:
            self._hand_over(outcome.Error(error))
            return size
        if wait is not None:
            self._hand_over(outcome.Value(chain((wait,), steps)))
        elif self._transport.is_over or self._outbox.ending is not None:
            self._hand_over(outcome.Value(steps))
        return size

    def _hand_over(self, result: outcome.Outcome[Iterator[Wait]]) -> None:
        """Wake the session's task, unless a cancellation has woken it."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, result)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Reader:
    """The sockets of all sessions, and the rounds in which they are read."""

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._feeds: dict[int, PolledFeed] = {}
        """The feeds whose sockets are in the epoll, by descriptor."""
        self._ready: list[int] = []
        """Descriptors that were ready in the last round and not read in it."""

    def feed(self, transport: Transport, outbox: Outbox, take: Take, flush: Callable[[], object]) -> Feed:
        """The feed of a session whose peer has authenticated.

        Args:
            outbox: the session's; the session is handed over once it has an ending.
            flush: writes what waits for the session's peer, pongs included, without waiting. It may cancel the session.
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
            self._round()

    def resume(self, descriptor: int, feed: PolledFeed) -> None:
        """Read the socket whenever it is ready."""
        if self._epoll is not None and descriptor not in self._feeds:
            self._epoll.register(descriptor, select.EPOLLIN)
            self._feeds[descriptor] = feed

    def pause(self, descriptor: int, feed: PolledFeed) -> None:
        """Do not read the socket, whether it is ready or not."""
        if self._epoll is not None and self._feeds.get(descriptor) is feed:
            del self._feeds[descriptor]
            self._epoll.unregister(descriptor)

    def _round(self) -> None:
        now = trio.current_time()
        ready = self._ready
        if not ready and self._epoll is not None:
            ready = [descriptor for descriptor, _ in self._epoll.poll(0, ROUND_SESSIONS)]
        size = 0
        while ready and size < ROUND_BYTES:
            feed = self._feeds.get(ready.pop())
            if feed is not None:
                size += feed.read(now)
        self._ready = ready
