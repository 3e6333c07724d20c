"""What a device has queued goes to the server, in the order in which it was queued, a window of it at a time.

    file ─ fill ─> window ─ send ─> the session's outbox
                     ├─ answered ──────> taken out; the reply is kept, then told
                     └─ rate_limited ──> nothing more is sent until all of the window that was sent is answered and the
                                         server's time is over; then what was refused goes out again, in the old order

Rules: the window holds the first messages of the queue, so a message goes out only when fewer than `WINDOW` before it
are unanswered. While the window holds the whole queue, a new message enters it without a look into the file. A rate is
not a fate: `rate_limited` is waited out, however often it takes (docs/protocol.md, section 6).
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from uuid import uuid4

import trio
from attrs import define, field

from ironwire.client.errors import Refused
from ironwire.client.events import EventQueue, Queued, Settled
from ironwire.client.inbox import Inbox
from ironwire.client.keeper import Keeper
from ironwire.client.local import Queue, Sendable, Settle
from ironwire.client.outgoing import Outbox, Pending, Reply
from ironwire.errors import ClientError
from ironwire.ids import MessageId
from ironwire.wire.messages import Accepted, Error, File, Text

WINDOW = 256
"""Messages that are on their way at a time: enough for a server far away, and little to repeat where a rate is hit."""

LEAST_HOLD_SECONDS = 0.05
"""A server that names no time is asked again after this."""


@define(eq=False)
class Backlog:
    """Of one device, over all sessions. `run` sends in each of them."""

    _keeper: Keeper
    _events: EventQueue | Inbox
    waiting: int = field(default=0, init=False)
    """Messages in the file without an answer."""
    hold_until: float = field(default=0.0, init=False)
    """On Trio's clock: nothing is sent before, because the server asked for that."""
    _window: dict[MessageId, Pending] = field(factory=dict, init=False)
    _sent: dict[MessageId, None] = field(factory=dict, init=False)
    """Of the window: sent in this session, and unanswered."""
    _is_limited: bool = field(default=False, init=False)
    _answered: set[MessageId] = field(factory=set, init=False)
    """Taken out of the window, while the file does not know it yet."""
    _awaited: dict[MessageId, Pending] = field(factory=dict, init=False)
    """Messages of this run that somebody wanted an answer to."""
    _work: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _moved: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)

    async def restore(self) -> None:
        """Take up what an earlier run left.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        self.waiting = await self._keeper.store.count_queued()

    # --- queueing ----------------------------------------------------------------------------------------------------

    def keep(self, pending: Pending, message: Sendable) -> None:
        """Send `message` once it is kept; whoever waits for `pending` gets the answer."""
        self._awaited[pending.id] = pending
        self._put(pending, message, _now_ms())

    async def queue(self, messages: Sequence[Sendable], *, is_awaited: bool = False) -> list[Pending]:
        """Return once `messages` are kept; they go out in their order, and the program hears of each.

        Raises:
            ClientError: they are not kept.
        """
        queued = [
            Pending(MessageId(uuid4().hex), message, is_awaited=is_awaited, is_announced=True) for message in messages
        ]
        now_ms = _now_ms()
        for pending, message in zip(queued, messages, strict=True):
            if is_awaited:
                self._awaited[pending.id] = pending
            self._put(pending, message, now_ms)
        await self._keeper.commit(None)
        return queued

    def awaited(self) -> list[Pending]:
        """Those for whose answer somebody waits."""
        return [pending for pending in self._awaited.values() if pending.is_awaited]

    def _put(self, pending: Pending, message: Sendable, now_ms: int) -> None:
        pending.is_kept = True
        self._keeper.put(Queue(pending.id, message, now_ms), partial(self._kept, pending, message, now_ms))

    def _kept(self, pending: Pending, message: Sendable, ts: int, error: ClientError | None) -> None:
        if error is not None:
            pending.answer(error)
            return
        is_whole = len(self._window) == self.waiting
        self.waiting += 1
        if is_whole and len(self._window) < WINDOW:
            self._window[pending.id] = pending
        self._work.unpark()
        if isinstance(message, Text | File) and pending.is_announced:
            self._events.put(Queued(pending.id, message, ts))

    # --- replies -----------------------------------------------------------------------------------------------------

    def take(self, message_id: MessageId | None, reply: Reply) -> bool:
        """A reply came; False if it is to nothing of this."""
        if message_id not in self._window:
            return False
        self._sent.pop(message_id, None)
        if isinstance(reply, Error) and reply.msg == "rate_limited":
            self._is_limited = True
            seconds = max((reply.retry_after_ms or 0) / 1000, LEAST_HOLD_SECONDS)
            self.hold_until = max(self.hold_until, trio.current_time() + seconds)
        else:
            self._settle(self._window[message_id], reply)
        self._work.unpark()
        self._moved.unpark_all()
        return True

    def _settle(self, pending: Pending, reply: Reply) -> None:
        """Whoever sent it is told once the reply is kept too."""
        del self._window[pending.id]
        self._answered.add(pending.id)
        self.waiting -= 1
        ts = reply.ts if isinstance(reply, Accepted) else None
        reason = reply.msg if isinstance(reply, Error) else None
        self._keeper.put(Settle(pending.id, ts, reason), partial(self._settled, pending, reply))

    def _settled(self, pending: Pending, reply: Reply, error: ClientError | None) -> None:
        self._answered.discard(pending.id)
        self._awaited.pop(pending.id, None)
        pending.answer(error or reply)
        is_news = error is None and (pending.is_announced or not pending.is_awaited)
        if is_news and isinstance(pending.message, Sendable) and isinstance(reply, Accepted | Error):
            self._events.put(Settled(pending.id, pending.message, reply))

    # --- sending -----------------------------------------------------------------------------------------------------

    async def moved(self) -> None:
        """Return when the server has answered one more, even if only by asking for time."""
        await self._moved.park()

    async def run(self, outbox: Outbox, check: Callable[[Pending], None]) -> None:
        """Send in one session, until it is cancelled. `check` raises `Refused` for what this server never takes.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        self._sent.clear()
        self._is_limited = True  # the client's allowance is what the last session left of it
        while True:
            if self._is_limited and not self._sent:
                await trio.sleep_until(self.hold_until)
                self._is_limited = False
            if not self._is_limited:
                await self._fill()
            # No checkpoint from here to the wait: what is answered in between would not be noticed.
            if not self._is_limited:
                for pending in [*self._window.values()]:
                    self._send(pending, outbox, check)
            if self._is_idle():
                await self._work.park()

    def _is_idle(self) -> bool:
        """Whether there is nothing to do before something is answered or queued."""
        if self._is_limited:
            return bool(self._sent)
        return len(self._window) in (WINDOW, self.waiting)

    def _send(self, pending: Pending, outbox: Outbox, check: Callable[[Pending], None]) -> None:
        if pending.id in self._sent:
            return
        try:
            check(pending)
        except Refused as refused:
            # The server would close the session over it, every time.
            self._settle(pending, Error(refused.code, refused.detail))
        else:
            self._sent[pending.id] = None
            outbox.send(pending)

    async def _fill(self) -> None:
        """Have the first messages of the queue in the window, as many as it holds."""
        if len(self._window) in (WINDOW, self.waiting):
            return
        # What is answered while the file is read, or what it does not know to be answered, is not to come back.
        known = {*self._window, *self._answered}
        limit = len(known) + WINDOW - len(self._window)
        for message_id, message in await self._keeper.store.queued(limit):
            if message_id not in known and len(self._window) < WINDOW:
                awaited = self._awaited.get(message_id)
                self._window[message_id] = awaited or Pending(message_id, message, is_kept=True, is_awaited=False)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
