"""What a client does behind its interface: one session after the other, and every message until it is answered for.

    run                sessions, with `Backoff` between them
      ├─ _read         replies to those who wait for them, everything else to `pushes.py`
      ├─ _write        frames of unanswered messages, in the order in which they were sent, and acks
      ├─ backlog.run   devices only: what they have kept to be sent (`client/store/backlog.py`)
      └─ keep_alive
    keep               devices only: what comes and goes is kept, in batches (`client/store/write_queue.py`)

A refusal that says "send again later" is no answer yet (`repeats.py`). A message that was unanswered when the
connection broke is sent again with the same id (docs/protocol.md, section 4), unless it is a device's and the server
says what became of it. What a device sends is kept before it is sent, with its number (`client/store/numbers.py`). What
stands for as long as the session (section 7.3) is said
again at the beginning of every other.

A link that `is_lasting` is there with or without a session: where the server says that this client should stop, it
waits to be told to try again.
"""

import math
from contextlib import suppress
from functools import partial
from uuid import uuid4

import trio
from attrs import define, field, frozen

from ironwire.client.callbook import CallBook
from ironwire.client.connection.backoff import Backoff
from ironwire.client.connection.closing import TOO_BIG
from ironwire.client.connection.dial import Dial
from ironwire.client.connection.nursery import plain_nursery
from ironwire.client.connection.outgoing import Answer, Outbox, Pending, R, Reply, checked
from ironwire.client.connection.pushes import Pushes
from ironwire.client.connection.repeats import Repeats
from ironwire.client.connection.session import Session, open_session
from ironwire.client.connection.urls import ServerAddress
from ironwire.client.errors import (
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    LocalStoreError,
    NotTheProtocol,
    Refused,
    SessionEnded,
)
from ironwire.client.events import Connected, Connection, Disconnected, EventQueue, Received
from ironwire.client.inbox import Inbox
from ironwire.client.rosters import Rosters
from ironwire.client.store.backlog import Backlog
from ironwire.client.store.numbers import Given, Numbers
from ironwire.client.store.records import Begin, GiveNumber, Sendable
from ironwire.client.store.write_queue import WriteQueue
from ironwire.crypto.signing import Identity
from ironwire.ids import DeviceId, MessageId
from ironwire.wire.codec import encode
from ironwire.wire.messages import (
    Accepted,
    AuthChallenge,
    AuthOk,
    ClientMessage,
    Error,
)
from ironwire.wire.rules import is_retryable

STEADY_SECONDS = 30.0
"""A session that lasted this long was a good one: the next delay starts from the base again."""


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
    """One client's way to its server. With a write queue it is a device's."""

    target: Target
    write_queue: WriteQueue | None
    events: EventQueue | Inbox
    is_lasting: bool = False
    connection: Connection = field(factory=lambda: Connection("connecting"), init=False)
    backlog: Backlog | None = field(init=False)
    rosters: Rosters = field(init=False)
    _calls: CallBook = field(factory=CallBook, init=False)
    _pushes: Pushes = field(init=False)
    _standing: dict[str, ClientMessage] = field(factory=dict, init=False)
    """By verb: what every session begins with."""
    _pending: dict[MessageId, Pending] = field(factory=dict, init=False)
    """Without an answer, in the order in which they are sent. Of what a device keeps, the first ones are here."""
    _outbox: Outbox | None = field(default=None, init=False)
    _repeats: Repeats | None = field(default=None, init=False)
    """These two are of the live session."""
    _frame_bytes: int | None = field(default=None, init=False)
    _numbers: Numbers | None = field(default=None, init=False)
    """Of a device whose file was read."""
    _lacks_numbers: bool = field(default=False, init=False)
    """So many numbered messages have no answer that others wait for one."""
    _up: trio.Event = field(factory=trio.Event, init=False)
    _retry: trio.Event = field(factory=trio.Event, init=False)
    _leaving: trio.Event = field(factory=trio.Event, init=False)
    _running: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _has_connected: bool = field(default=False, init=False)
    _end: ClientError | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.rosters = Rosters(self.target.identity.client_id)
        self._pushes = Pushes(self.events, self.rosters, self._calls, self.write_queue)
        if self.write_queue is None:
            self.backlog = None
        else:
            self.backlog = Backlog(self.write_queue, self.events, self._launch, self._give_number)

    @property
    def is_up(self) -> bool:
        """Whether there is a session now."""
        return self._outbox is not None and self._end is None

    @property
    def hold_until(self) -> float:
        """When the server takes the next message, on Trio's clock; in the past, unless it has asked for patience."""
        return 0.0 if self._repeats is None else self._repeats.hold_until

    @property
    def offline_reason(self) -> str:
        """Why nothing is sent now; empty where there is a session, or the first attempt goes on."""
        return self.connection.reason if self._outbox is None else ""

    async def wait_up(self) -> None:
        """Return once there is a session.

        Raises:
            ClientError: there will be none any more, or none before `reconnect_now`.
        """
        await self._up.wait()
        if self._why_not is not None:
            raise self._why_not

    def reconnect_now(self) -> None:
        """Do not wait for the next attempt, and begin the delays anew; where the client has stopped, try again."""
        self._retry.set()

    @property
    def _why_not(self) -> ClientError | None:
        """Why nothing can be asked."""
        return self._end or self.connection.error

    # --- asking ------------------------------------------------------------------------------------------------------

    async def ask(self, message: ClientMessage, kind: type[R], message_id: MessageId | None = None) -> R:
        """Send `message`, after it was kept if it is for somebody else, and wait for the reply.

        Args:
            message_id: a new one, unless given.

        Raises:
            Refused: the server answered with an error, or would have.
            ClientError: the client has stopped.
        """
        return checked(message.verb, await self.reply_to(message, message_id), kind)

    async def reply_to(self, message: ClientMessage, message_id: MessageId | None = None) -> Reply:
        """The same, whatever the reply is."""
        pending = Pending(message_id or new_message_id(), message)
        pending.check_size(self._frame_bytes)
        if self._why_not is not None:
            raise self._why_not
        if self.backlog is not None and isinstance(message, Sendable):
            self.backlog.keep(pending, message)
        else:
            self._launch(pending)
        try:
            return await pending.reply_or_error()
        finally:
            if not pending.is_kept:
                self._pending.pop(pending.id, None)

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

    def _launch(self, pending: Pending) -> None:
        self._pending[pending.id] = pending
        if self._repeats is not None:
            self._send(pending, self._repeats)

    def _send(self, pending: Pending, repeats: Repeats) -> None:
        try:
            pending.check_size(self._frame_bytes)
        except Refused as refused:
            # The server would close the session over it, every time. It may have taken more before.
            self._reply(self._pending.pop(pending.id), Error(refused.code, refused.detail))
            return
        if self.write_queue is None or not pending.is_ordered:
            repeats.send(pending)
        elif self._numbers is None or not pending.is_kept:
            # Behind those messages that are being kept: one order holds for all of them.
            self.write_queue.put(None, partial(self._send_kept, pending, repeats, None))
        elif self._numbers.is_valid(pending.given):
            self._send_kept(pending, repeats, pending.given, None)
        else:
            self._send_numbered(pending, repeats, self.write_queue)

    def _send_numbered(self, pending: Pending, repeats: Repeats, write_queue: WriteQueue) -> None:
        """Send it under a new number, once that is kept; later, where it has to wait."""
        given = None if repeats.is_resting(pending) else self._give_number()
        if given is not None:
            pending.given = given
            change = GiveNumber(pending.id, given.n)
            write_queue.put(change, partial(self._send_kept, pending, repeats, given))

    def _send_kept(self, pending: Pending, repeats: Repeats, given: Given | None, error: ClientError | None) -> None:
        """Send what is kept, unless its session is over, or its number stands for nothing any more."""
        if error is not None or repeats is not self._repeats or pending.id not in self._pending:
            return
        if given is not None and self._numbers is not None:
            if not self._numbers.is_valid(given):
                return
            pending.number(given.n)
        repeats.send(pending)

    def _give_number(self) -> Given | None:
        """The next number of this session. None: none can be given now, and all that have none get one later."""
        numbers, repeats = self._numbers, self._repeats
        if numbers is None or repeats is None or repeats.is_held:
            return None
        given = numbers.give()
        if given is None:
            self._lacks_numbers = True
        return given

    def _send_all(self, sent: int | None) -> None:
        """The server takes messages again whose order matters: all of them go out anew."""
        if self._numbers is not None:
            self._numbers.go_on(sent or 0)
        for pending in [each for each in self._pending.values() if each.is_ordered]:
            self._send_again(pending)

    def _send_again(self, pending: Pending) -> None:
        if self._repeats is not None and pending.id in self._pending:
            self._send(pending, self._repeats)

    def _send_rest(self) -> None:
        """There was an answer: those go out that had got no number, as many as may."""
        self._lacks_numbers = False
        for pending in [*self._pending.values()]:
            if self._lacks_numbers:
                break
            if pending.is_kept and self._numbers is not None and not self._numbers.is_valid(pending.given):
                self._send_again(pending)

    # --- the tasks, and their end ------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Take up what an earlier run of the program left unanswered.

        Raises:
            LocalStoreError: the store cannot be read.
        """
        if self.backlog is not None:
            self._numbers = await self.backlog.restore()

    async def keep(self) -> None:
        """Keep what comes and goes, until it is cancelled; a store that fails stops the client."""
        if self.write_queue is not None:
            try:
                await self.write_queue.run()
            except LocalStoreError as error:
                self.write_queue.end(error)
                self.stop(error)
                self._running.cancel()
            finally:
                # Cancelled: nobody is to wait any more for what will not be kept.
                self.write_queue.end(SessionEnded(1000, "the client was closed"))

    async def run(self) -> None:
        """Sessions, until the program leaves. Unless the link is a lasting one, the first attempt has to succeed, and a
        session that ends for good is the last one.
        """
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
        """Nothing goes on: whoever waits for anything is told `error`, unless there was one before."""
        self._end = self._end or error
        self.events.end(self._end)
        self._tell_those_who_wait(self._end)

    def _tell_those_who_wait(self, error: ClientError) -> None:
        self._up.set()
        for pending in [*self._pending.values(), *(self.backlog.awaited() if self.backlog is not None else ())]:
            pending.answer(error)

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
                is_passing = isinstance(error, ConnectionFailed | ConnectionLost) or self._drop_largest(error)
                goes_on = self.is_lasting or (self._has_connected and is_passing)
                if not goes_on or isinstance(error, LocalStoreError):
                    self.stop(error)
                    return
                ended = error
            if trio.current_time() >= steady_at:
                attempt = 0
            if is_passing:
                spread_seconds = ended.spread_seconds if isinstance(ended, ConnectionLost) else None
                delay_seconds = target.backoff.delay_seconds(attempt, spread_seconds)
                is_asked = await self._wait_to_retry(str(ended), delay_seconds)
                attempt = 0 if is_asked else attempt + 1
            else:
                await self._wait_to_be_told(ended)

    async def _wait_to_retry(self, reason: str, delay_seconds: float) -> bool:
        """Wait so long, or until `reconnect_now`; then it is true."""
        self.connection = Connection("waiting", reason, trio.current_time() + delay_seconds)
        self.events.put(Disconnected(reason, delay_seconds))
        self._end_lost_calls()
        self._retry = trio.Event()
        with trio.move_on_after(delay_seconds):
            await self._retry.wait()
        self.connection = Connection("connecting", reason)
        return self._retry.is_set()

    async def _wait_to_be_told(self, error: ClientError) -> None:
        self.connection = Connection("stopped", str(error), error=error)
        self.events.put(Disconnected(str(error), None))
        self._end_lost_calls()
        self._tell_those_who_wait(error)
        self._retry = trio.Event()
        await self._retry.wait()
        self.connection = Connection("connecting", str(error))
        self._up = trio.Event()

    def _end_lost_calls(self) -> None:
        for end in self._calls.lost(is_device=self.write_queue is not None):
            self.events.put(Received(end))

    # --- one session -------------------------------------------------------------------------------------------------

    def _drop_largest(self, error: ClientError) -> bool:
        """Where the server ended the session over a frame that was too big: whether there is one that can have been it.
        It is refused, and never sent again.
        """
        if not (isinstance(error, SessionEnded) and error.code == TOO_BIG and self._pending):
            return False
        largest = max(self._pending.values(), key=lambda pending: pending.frame_bytes)
        del self._pending[largest.id]
        self._reply(largest, Error("too_large", f"this message takes {largest.frame_bytes} bytes"))
        return True

    def _come_up(self, session: Session, nursery: trio.Nursery) -> tuple[Outbox, Repeats]:
        welcome = session.welcome
        if self.write_queue is not None:
            if welcome.epoch is None or welcome.seq is None or welcome.sent is None:
                raise NotTheProtocol("the server keeps no mailboxes: connect without a device")
            self.write_queue.put(Begin(welcome.epoch, welcome.seq, welcome.sent), lambda _: None)
            self._learn_fates(welcome, welcome.epoch, welcome.sent)
        self.rosters.forget_all()
        if welcome.limits is not None:
            self._frame_bytes = welcome.limits.frame_bytes
        outbox = Outbox()
        repeats = Repeats(outbox, self._pending, nursery, self._note_moved, self._send_all, self._send_again)
        for message in self._standing.values():
            outbox.say(message)
        self._outbox, self._repeats = outbox, repeats
        for pending in [*self._pending.values()]:
            self._send(pending, repeats)
        self._has_connected = True
        self.connection = Connection("connected")
        self.events.put(Connected())
        self._up.set()
        return outbox, repeats

    def _learn_fates(self, welcome: AuthOk, epoch: int, sent: int) -> None:
        """What became of the messages that had no answer when the last session ended."""
        if self._numbers is None:
            return
        fates = self._numbers.begin(welcome, epoch, sent)
        for pending in [each for each in self._pending.values() if fates.is_settled(each.n)]:
            code = fates.refused.get(pending.n or 0)
            if code is None:
                self._reply(self._pending.pop(pending.id), Accepted(welcome.server_time or 0, duplicate=True))
            elif not is_retryable(code):
                self._reply(self._pending.pop(pending.id), Error(code))
        for pending in self._pending.values():
            pending.n = None

    async def _live(self, session: Session) -> None:
        """Returns when the program leaves; raises what ended the session otherwise."""
        try:
            async with plain_nursery() as nursery:
                outbox, repeats = self._come_up(session, nursery)
                nursery.start_soon(self._read, session, outbox, repeats)
                nursery.start_soon(self._write, session, outbox)
                nursery.start_soon(session.keep_alive)
                if self.backlog is not None:
                    nursery.start_soon(self.backlog.run, repeats.resting)
                await self._leaving.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._outbox = self._repeats = None
            self._lacks_numbers = False
            self.connection = Connection("connecting")
            if self._end is None and self._up.is_set():
                self._up = trio.Event()

    async def _read(self, session: Session, outbox: Outbox, repeats: Repeats) -> None:
        while True:
            frame = await session.receive()
            match frame.message:
                case Error() as error if frame.id in self._pending and repeats.takes_over(
                    self._pending[frame.id], error
                ):
                    self._note_moved()  # it will be sent again
                case reply if isinstance(reply, Reply) and frame.id in self._pending:
                    self._reply(self._pending.pop(frame.id), reply)
                case reply if isinstance(reply, Answer):
                    pass  # nobody waits for it any more
                case AuthChallenge() | AuthOk() as message:
                    raise NotTheProtocol(f"the server sent `{message.verb}` in the middle of a session")
                case _:
                    await self._pushes.take(frame, outbox)

    def _reply(self, pending: Pending, reply: Reply) -> None:
        if self._numbers is not None:
            self._numbers.answered(pending.given)
        self._calls.answered(pending.message, reply)
        if pending.is_kept and self.backlog is not None:
            self.backlog.take(pending, reply)
        else:
            pending.answer(reply)
        if self._lacks_numbers:
            self._send_rest()

    def _note_moved(self) -> None:
        if self.backlog is not None:
            self.backlog.note_moved()

    async def _write(self, session: Session, outbox: Outbox) -> None:
        while True:
            match await outbox.next():
                case str() as message_id:
                    pending = self._pending.get(message_id)
                    if pending is not None:
                        await session.send(pending.frame)
                case message:
                    await session.send(encode(message).decode())
