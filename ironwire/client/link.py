"""What a client does behind its interface: one session after the other, and every message until it is answered for.

    run             sessions, with `Backoff` between them
      ├─ _read      replies to those who wait for them, everything else to `pushes.py`
      ├─ _write     frames of unanswered messages, in the order in which they were sent, and acks
      └─ keep_alive
    keep            devices only: what comes and goes is kept, in batches (`keeper.py`)

A refusal that says "send again later" is no answer yet (`repeats.py`). A message that was unanswered when the
connection broke is sent again with the same id, by which a server that remembers ids knows it (docs/protocol.md,
section 4). What a device sends is kept before it is sent. What stands for as long as the session (section 7.3) is said
again at the beginning of every other.
"""

import math
import time
from contextlib import suppress
from functools import partial
from typing import TypeVar
from uuid import uuid4

import trio
from attrs import define, field, frozen

from ironwire.client.backoff import Backoff
from ironwire.client.callbook import CallBook
from ironwire.client.closing import TOO_BIG
from ironwire.client.dial import Dial
from ironwire.client.errors import (
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    LocalStoreError,
    NotTheProtocol,
    Refused,
    SessionEnded,
)
from ironwire.client.events import Connected, Disconnected, EventQueue, Received, Settled
from ironwire.client.inbox import Inbox
from ironwire.client.keeper import Keeper
from ironwire.client.local import Begin, Queue, Settle
from ironwire.client.nursery import plain_nursery
from ironwire.client.outgoing import Answer, Outbox, Pending, Reply
from ironwire.client.pushes import Pushes
from ironwire.client.repeats import Repeats
from ironwire.client.rosters import Rosters
from ironwire.client.session import Session, open_session
from ironwire.client.urls import ServerAddress
from ironwire.crypto.signing import Identity
from ironwire.ids import DeviceId, MessageId
from ironwire.wire.codec import encode
from ironwire.wire.messages import (
    Accepted,
    AuthChallenge,
    AuthOk,
    ClientMessage,
    Error,
    File,
    Receipt,
    Text,
)

STEADY_SECONDS = 30.0
"""A session that lasted this long was a good one: the next delay starts from the base again."""

R = TypeVar("R", bound=Answer)


def new_message_id() -> MessageId:
    """An id that no other message has."""
    return MessageId(uuid4().hex)


@frozen(eq=False)
class Target:
    """Whom a client talks to, and how it gets there."""

    address: ServerAddress
    identity: Identity
    device: DeviceId | None
    backoff: Backoff
    dial: Dial
    invite: str | None = None


@define(eq=False)
class Link:
    """One client's way to its server. With a keeper it is a device's."""

    target: Target
    keeper: Keeper | None
    events: EventQueue | Inbox
    rosters: Rosters = field(init=False)
    _calls: CallBook = field(factory=CallBook, init=False)
    _pushes: Pushes = field(init=False)
    _standing: dict[str, ClientMessage] = field(factory=dict, init=False)
    """By verb: what every session begins with."""
    _pending: dict[MessageId, Pending] = field(factory=dict, init=False)
    _outbox: Outbox | None = field(default=None, init=False)
    _repeats: Repeats | None = field(default=None, init=False)
    """These two are of the live session."""
    _frame_bytes: int | None = field(default=None, init=False)
    _up: trio.Event = field(factory=trio.Event, init=False)
    _leaving: trio.Event = field(factory=trio.Event, init=False)
    _running: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _has_connected: bool = field(default=False, init=False)
    _end: ClientError | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.rosters = Rosters(self.target.identity.client_id)
        self._pushes = Pushes(self.events, self.rosters, self._calls, self.keeper)

    @property
    def is_up(self) -> bool:
        """Whether there is a session now."""
        return self._outbox is not None and self._end is None

    async def wait_up(self) -> None:
        """Return once there is a session.

        Raises:
            ClientError: there will be none any more.
        """
        await self._up.wait()
        if self._end is not None:
            raise self._end

    # --- asking ------------------------------------------------------------------------------------------------------

    async def ask(self, message: ClientMessage, kind: type[R], message_id: MessageId | None = None) -> R:
        """Send `message`, after it was kept if it is for somebody else, and wait for the reply.

        Args:
            message_id: a new one, unless given.

        Raises:
            Refused: the server answered with an error, or would have.
            ClientError: the client has stopped.
        """
        is_kept = self.keeper is not None and isinstance(message, Text | File | Receipt)
        pending = Pending(message_id or new_message_id(), message, is_kept)
        pending.check_size(self._frame_bytes)
        if self._end is not None:
            raise self._end
        if self.keeper is not None and isinstance(message, Text | File | Receipt):
            self.keeper.put(Queue(pending.id, message, _now_ms()), partial(self._launch, pending))
        else:
            self._launch(pending, None)
        try:
            await pending.replied.wait()
        finally:
            pending.is_awaited = False
            if not is_kept:
                self._pending.pop(pending.id, None)
        match pending.reply:
            case Error(code, detail, user, retry_after_ms):
                raise Refused(code, detail, user, retry_after_ms)
            case ClientError() as ended:
                raise ended
            case reply if isinstance(reply, kind):
                return reply
            case _:
                raise NotTheProtocol(f"the server gave another answer to `{message.verb}` than there is")

    async def stand(self, message: ClientMessage) -> Accepted:
        """Ask, and say it again in every session until a message of the same verb takes its place. Raises as `ask`."""
        self._standing[message.verb] = message
        try:
            return await self.ask(message, Accepted)
        except Refused:
            if self._standing.get(message.verb) is message:
                del self._standing[message.verb]
            raise

    def say(self, message: ClientMessage) -> None:
        """Say what is worth nothing later: now, or never where there is no session."""
        if self._outbox is not None:
            self._outbox.say(message)

    def _launch(self, pending: Pending, error: ClientError | None) -> None:
        ended = error or self._end
        if ended is not None:
            pending.answer(ended)
            return
        self._pending[pending.id] = pending
        if self._repeats is not None:
            self._repeats.send(pending)

    def _settle(self, pending: Pending, reply: Reply) -> None:
        """There is a reply. Whoever sent a message that is kept is told once the reply is kept too."""
        self._calls.answered(pending.message, reply)
        if self.keeper is None or not pending.is_kept:
            pending.answer(reply)
            return
        ts = reply.ts if isinstance(reply, Accepted) else None
        self.keeper.put(Settle(pending.id, ts), partial(self._settled, pending, reply))

    def _settled(self, pending: Pending, reply: Reply, error: ClientError | None) -> None:
        if pending.is_awaited or error is not None:
            pending.answer(error or reply)
        elif isinstance(pending.message, Text | File | Receipt) and isinstance(reply, Accepted | Error):
            self.events.put(Settled(pending.id, pending.message, reply))

    # --- the tasks, and their end ------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Take up what an earlier run of the program left unanswered.

        Raises:
            LocalStoreError: the store cannot be read.
        """
        if self.keeper is not None:
            for message_id, message in await self.keeper.store.queued():
                self._pending[message_id] = Pending(message_id, message, is_kept=True, is_awaited=False)

    async def keep(self) -> None:
        """Keep what comes and goes, until it is cancelled; a store that fails stops the client."""
        if self.keeper is not None:
            try:
                await self.keeper.run()
            except LocalStoreError as error:
                self.keeper.end(error)
                self.stop(error)
                self._running.cancel()

    async def run(self) -> None:
        """Sessions, until one ends for good or the program leaves. The first attempt has to succeed."""
        with self._running:
            await self._run_sessions()

    async def leave(self) -> None:
        """The program is done: say goodbye."""
        if isinstance(self.events, Inbox):
            # Where it cannot be kept that the last event is finished, it comes again. The program is gone by then.
            with suppress(ClientError):
                await self.events.finish()
        self._leaving.set()
        if not self.is_up:
            self._running.cancel()

    def stop(self, error: ClientError) -> None:
        """Whoever waits for anything is told `error`, unless there was one before."""
        self._end = self._end or error
        self.events.end(self._end)
        self._up.set()
        for pending in self._pending.values():
            pending.answer(self._end)

    async def _run_sessions(self) -> None:
        target = self.target
        attempt = 0
        while True:
            steady_at = math.inf
            try:
                async with open_session(
                    target.address, target.identity, target.device, invite=target.invite, dial=target.dial
                ) as session:
                    steady_at = trio.current_time() + STEADY_SECONDS
                    await self._live(session)
                return
            except ClientError as error:
                if self._leaving.is_set():
                    return
                is_worth_it = isinstance(error, ConnectionFailed | ConnectionLost) or self._drop_largest(error)
                if not (self._has_connected and is_worth_it):
                    self.stop(error)
                    return
                reason = str(error)
                spread_seconds = error.spread_seconds if isinstance(error, ConnectionLost) else None
            if trio.current_time() >= steady_at:
                attempt = 0
            delay_seconds = target.backoff.delay_seconds(attempt, spread_seconds)
            attempt += 1
            self.events.put(Disconnected(reason, delay_seconds))
            for end in self._calls.lost(is_device=self.keeper is not None):
                self.events.put(Received(end))
            await trio.sleep(delay_seconds)

    # --- one session -------------------------------------------------------------------------------------------------

    def _drop_largest(self, error: ClientError) -> bool:
        """Where the server ended the session over a frame that was too big: whether there is one that can have been it.
        It is refused, and never sent again.
        """
        if not (isinstance(error, SessionEnded) and error.code == TOO_BIG and self._pending):
            return False
        largest = max(self._pending.values(), key=lambda pending: pending.frame_bytes)
        del self._pending[largest.id]
        self._settle(largest, Error("too_large", f"this message takes {largest.frame_bytes} bytes"))
        return True

    def _come_up(self, session: Session, nursery: trio.Nursery) -> tuple[Outbox, Repeats]:
        welcome = session.welcome
        if self.keeper is not None:
            if welcome.epoch is None or welcome.seq is None:
                raise NotTheProtocol("the server keeps no mailboxes: connect without a device")
            self.keeper.put(Begin(welcome.epoch, welcome.seq), lambda _: None)
        self.rosters.forget_all()
        if welcome.limits is not None:
            self._frame_bytes = welcome.limits.frame_bytes
        outbox = Outbox()
        repeats = Repeats(outbox, self._pending, nursery)
        for message in self._standing.values():
            outbox.say(message)
        for pending in [*self._pending.values()]:
            try:
                pending.check_size(self._frame_bytes)
                repeats.send(pending)
            except Refused as refused:
                # The server takes less than it did, and would close the session over it, every time.
                del self._pending[pending.id]
                self._settle(pending, Error(refused.code, refused.detail))
        self._outbox, self._repeats = outbox, repeats
        self._has_connected = True
        self.events.put(Connected())
        self._up.set()
        return outbox, repeats

    async def _live(self, session: Session) -> None:
        """Returns when the program leaves; raises what ended the session otherwise."""
        try:
            async with plain_nursery() as nursery:
                outbox, repeats = self._come_up(session, nursery)
                nursery.start_soon(self._read, session, outbox, repeats)
                nursery.start_soon(self._write, session, outbox)
                nursery.start_soon(session.keep_alive)
                await self._leaving.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._outbox = self._repeats = None
            if self._end is None and self._up.is_set():
                self._up = trio.Event()

    async def _read(self, session: Session, outbox: Outbox, repeats: Repeats) -> None:
        while True:
            frame = await session.receive()
            match frame.message:
                case Error() as error if frame.id in self._pending and repeats.takes_over(
                    self._pending[frame.id], error
                ):
                    pass  # it will be sent again
                case reply if isinstance(reply, Reply) and frame.id in self._pending:
                    self._settle(self._pending.pop(frame.id), reply)
                case reply if isinstance(reply, Answer):
                    pass  # nobody waits for it any more
                case AuthChallenge() | AuthOk() as message:
                    raise NotTheProtocol(f"the server sent `{message.verb}` in the middle of a session")
                case _:
                    await self._pushes.take(frame, outbox)

    async def _write(self, session: Session, outbox: Outbox) -> None:
        while True:
            match await outbox.next():
                case str() as message_id:
                    pending = self._pending.get(message_id)
                    if pending is not None:
                        await session.send(pending.frame)
                case message:
                    await session.send(encode(message).decode())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
