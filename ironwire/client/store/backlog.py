"""Sends the messages that a device has queued, in order, a window of them at a time.

    file ─ fill ─> window ─ launch ─> the link, which sends and repeats it until it is answered for
                     └─ answered: taken out; the reply is kept, then told

Rules: the window holds the first messages of the queue, so a message goes out only when fewer than `WINDOW` before it
are unanswered. Those to somebody whose mailbox is full do not count, and more of them are not fetched: they silence
nobody else. While the window holds the whole queue, a new message enters it without a look into the file.
"""

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from uuid import uuid4

import trio
from attrs import define, field

from ironwire.client.connection.outgoing import Pending, Reply
from ironwire.client.events import EventQueue, Queued, Settled
from ironwire.client.inbox import Inbox
from ironwire.client.store.amendments import Amendment
from ironwire.client.store.numbers import Given, Numbers
from ironwire.client.store.records import Queue, Sendable, Settle
from ironwire.client.store.write_queue import WriteQueue
from ironwire.e2e.bodies import AnyBody
from ironwire.errors import ClientError
from ironwire.ids import Address, MessageId
from ironwire.wire.messages import Accepted, Error, File, Text

WINDOW = 256
"""Messages that are on their way at a time: enough for a server far away, and little to repeat where a rate is hit."""


@define(eq=False)
class Backlog:
    """The backlog of one device, over all sessions. `run` sends in each of them."""

    _write_queue: WriteQueue
    _events: EventQueue | Inbox
    _launch: Callable[[Pending], None]
    _give_number: Callable[[Pending], Given | None]
    """A number for a message that is sent at once; None where it cannot be."""
    waiting: int = field(default=0, init=False)
    """Messages in the file without an answer."""
    _window: dict[MessageId, Pending] = field(factory=dict, init=False)
    """Messages that were launched and have no answer."""
    _is_behind: bool = field(default=False, init=False)
    """Whether the file has messages that are not in the window."""
    _passed_by: int = field(default=0, init=False)
    """Messages that did not enter the window when they were queued."""
    _resting: Collection[Address] = field(default=(), init=False)
    """Recipients to whom nothing is sent at the moment."""
    held: dict[Address, str] = field(factory=dict, init=False)
    """Recipients for whom nothing can be encrypted yet, and why."""
    _read_upto: int = field(default=0, init=False)
    """The last entry of the file that the window has, or has had, but for those to these:"""
    _read_without: Collection[Address] = field(default=frozenset(), init=False)
    _answered: dict[MessageId, Pending | None] = field(factory=dict, init=False)
    """Messages that were taken out of the window while the file does not know of the answer yet."""
    _awaited: dict[MessageId, Pending] = field(factory=dict, init=False)
    """Messages of this run that somebody wanted an answer to."""
    _coming: set[MessageId] = field(factory=set, init=False)
    """Messages that are being kept with a number, and enter the window then."""
    _unnumbered: int = field(default=0, init=False)
    """Messages that are being kept without a number: nothing overtakes them."""
    _work: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _moved: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)

    async def restore(self) -> Numbers:
        """Take up what an earlier run left. What it had sent without an answer comes first: the next session tells what
        became of it.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        self.waiting = await self._write_queue.store.count_queued()
        numbered = await self._write_queue.store.numbered()
        for each in numbered.queued:
            if each.message is None:
                self._drop(each.id)
            else:
                pending = Pending(each.id, each.message, each.body, is_kept=True, is_awaited=False)
                pending.n, pending.was_encrypted = each.n, each.is_encrypted
                self._enter(pending)
        self._is_behind = len(self._window) < self.waiting
        return Numbers(numbered.epoch, numbered.highest)

    # --- queueing ----------------------------------------------------------------------------------------------------

    def keep(self, pending: Pending, message: Sendable) -> None:
        """Send `message` once it is kept; whoever waits for `pending` gets the answer."""
        self._awaited[pending.id] = pending
        self._put(pending, message, _now_ms())

    async def queue(
        self,
        messages: Sequence[Sendable],
        ids: Sequence[MessageId] | None = None,
        *,
        is_awaited: bool = False,
        body: AnyBody | None = None,
    ) -> list[Pending]:
        """Return once `messages` are kept; they go out in their order, and the program hears of each.

        Args:
            ids: make this idempotent: a message whose id the device's file knows is not kept a second time.
            body: what is sent instead of each message, encrypted.

        Raises:
            ClientError: they are not kept.
        """
        names = ids or [MessageId(uuid4().hex) for _ in messages]
        queued = [
            Pending(message_id, message, body, is_awaited=is_awaited, is_announced=True)
            for message_id, message in zip(names, messages, strict=True)
        ]
        sent = await self._write_queue.store.sent(ids) if ids else {}
        now_ms = _now_ms()
        for index, (pending, message) in enumerate(zip(queued, messages, strict=True)):
            if pending.id in sent:
                queued[index] = self._rejoin(pending, sent[pending.id])
                continue
            if is_awaited:
                self._awaited[pending.id] = pending
            self._put(pending, message, now_ms)
        await self._write_queue.commit(None)
        return queued

    def _rejoin(self, pending: Pending, reply: Accepted | Error | None) -> Pending:
        """The message with this id as it is under way, or `pending` with the reply that it has got already."""
        if reply is not None:
            pending.answer(reply)
            return pending
        under_way = self._window.get(pending.id) or self._answered.get(pending.id) or self._awaited.get(pending.id)
        if under_way is None:
            pending.is_kept = True
            under_way = pending
        if pending.is_awaited:
            under_way.is_awaited = True
            self._awaited[pending.id] = under_way
        return under_way

    def awaited(self) -> list[Pending]:
        """Messages for whose answer a task waits."""
        return [pending for pending in self._awaited.values() if pending.is_awaited]

    def _put(self, pending: Pending, message: Sendable, now_ms: int) -> None:
        pending.is_kept = True
        if self._unnumbered == 0 and self._may_enter(message):
            pending.given = self._give_number(pending)
        if pending.given is None:
            self._unnumbered += 1
        else:
            self._coming.add(pending.id)
        n = None if pending.given is None else pending.given.n
        change = Queue(pending.id, message, now_ms, n, pending.body)
        self._write_queue.put(change, partial(self._kept, pending, message, now_ms))

    def _may_enter(self, message: Sendable) -> bool:
        """Whether the window takes it next. Of those to whom nothing is sent, some may be in the file alone: none
        overtakes them.
        """
        return not self._is_behind and self._room > 0 and not self._is_silent(message.to)

    def _is_silent(self, to: Address | None) -> bool:
        return to in self._resting or to in self.held

    def _kept(self, pending: Pending, message: Sendable, ts: int, error: ClientError | None) -> None:
        is_numbered = pending.id in self._coming
        if is_numbered:
            self._coming.remove(pending.id)
        else:
            self._unnumbered -= 1
        if error is not None:
            pending.answer(error)
            return
        self.waiting += 1
        if pending.id in self._window or pending.id in self._answered:
            pass  # it was read from the file a moment ago
        elif is_numbered or self._may_enter(message):
            self._enter(pending)
        else:
            self._is_behind = True
            self._passed_by += 1
            self._work.unpark()
        if isinstance(message, Text | File) and not isinstance(pending.body, Amendment) and pending.is_announced:
            self._events.put(Queued(pending.id, message, ts))

    # --- replies -----------------------------------------------------------------------------------------------------

    def take(self, pending: Pending, reply: Reply, *, is_encrypted: bool = False) -> None:
        """Take an answer of the server. The sender of the message is told once the reply is kept too."""
        del self._window[pending.id]
        self._answered[pending.id] = pending
        self.waiting -= 1
        self.note_moved()
        # Of what was settled in an earlier session, the server does not know when: then it is as old as it was.
        ts = reply.ts if isinstance(reply, Accepted) and not reply.duplicate else None
        reason = reply.msg if isinstance(reply, Error) else None
        change = Settle(pending.id, ts, reason, is_encrypted)
        self._write_queue.put(change, partial(self._settled, pending, reply))

    def _settled(self, pending: Pending, reply: Reply, error: ClientError | None) -> None:
        del self._answered[pending.id]
        self._awaited.pop(pending.id, None)
        pending.answer(error or reply)
        is_news = error is None and (pending.is_announced or not pending.is_awaited)
        if is_news and isinstance(pending.message, Sendable) and isinstance(reply, Accepted | Error):
            self._events.put(Settled(pending.id, pending.message, reply))

    # --- sending -----------------------------------------------------------------------------------------------------

    def note_moved(self) -> None:
        """Something was answered, even if only with a request for a pause; or may go out again."""
        self._is_behind = len(self._window) < self.waiting
        self._work.unpark()
        self._moved.unpark_all()

    def hold(self, to: Address, reason: str | None) -> None:
        """Nothing can be encrypted for this recipient yet, for this reason; or it can now."""
        self.held.pop(to, None)
        if reason is not None:
            self.held[to] = reason
        self.note_moved()

    async def moved(self) -> None:
        """Return when that happens."""
        await self._moved.park()

    async def run(self, resting: Collection[Address]) -> None:
        """Fill the window, in one session, until it is cancelled. To those who are `resting` nothing is sent now.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        self._resting = resting
        self.note_moved()
        while True:
            while self._is_behind and self._room > 0:
                await self._fill()
            await self._work.park()

    @property
    def _room(self) -> int:
        taken = len(self._window)
        if self._resting or self.held:
            taken = sum(not self._is_silent(pending.recipient) for pending in self._window.values())
        return max(0, WINDOW - taken - len(self._coming))

    async def _fill(self) -> None:
        """Have the next messages of the queue in the window, as many as it has room for."""
        # What is answered while the file is read, or what it does not know to be answered, is not to come back.
        known, passed_by, room = {*self._window, *self._answered, *self._coming}, self._passed_by, self._room
        resting = frozenset({*self._resting, *self.held})
        if resting != self._read_without:
            self._read_upto, self._read_without = 0, resting
        found = await self._write_queue.store.queued(limit=room, skipped=resting, after=self._read_upto)
        for each in found:
            self._read_upto = each.number
            if each.id in known:
                continue
            if each.message is None:
                self._drop(each.id)
            else:
                awaited = self._awaited.get(each.id)
                self._enter(awaited or Pending(each.id, each.message, each.body, is_kept=True, is_awaited=False))
        if len(found) < room and self._passed_by == passed_by and resting <= {*self._resting, *self.held}:
            self._is_behind = False

    def _enter(self, pending: Pending) -> None:
        self._window[pending.id] = pending
        self._launch(pending)

    def _drop(self, message_id: MessageId) -> None:
        self._answered[message_id] = None
        self.waiting -= 1
        self._write_queue.put(Settle(message_id, None, "invalid"), partial(self._dropped, message_id))

    def _dropped(self, message_id: MessageId, _: ClientError | None) -> None:
        del self._answered[message_id]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
