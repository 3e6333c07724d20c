"""Drives the engine of encrypted conversations of one device, over all its sessions (`ironwire.e2e.conversations`).

    server ─frames─> Pushes ─┐                      ┌─ Absorb ─> WriteQueue ─> the device's file
    program ─messages, wishes┼─> Encryption ─> Engine                │ kept
    the clock ───────────────┘        ^             └─────────────── v ─> acks, requests, events, answers to the program
                                      └────────── replies ───────────┘

Rule: what the engine wants kept is kept before anything that follows from it leaves or is told. The queue to the file
keeps the order, so a message never leaves before the key that it was encrypted with is known to be used.
"""

import os
from collections.abc import Callable
from functools import partial

import trio
from attrs import define, evolve, field, frozen

from ironwire.client.clock import SessionClock
from ironwire.client.connection.dial import Target
from ironwire.client.connection.outgoing import Pending, Reply, SendQueue, new_message_id
from ironwire.client.errors import LocalStoreError, Refused
from ironwire.client.events import DeviceRenewed, EventQueue, Received
from ironwire.client.inbox import Inbox
from ironwire.client.letters import Letters
from ironwire.client.lookups import Lookups
from ironwire.client.store.arrivals import as_told
from ironwire.client.store.device_keys import DeviceKeys
from ironwire.client.store.mark import StoreMark
from ironwire.client.store.numbers import Given
from ironwire.client.store.records import Absorb
from ironwire.client.store.write_queue import WriteQueue
from ironwire.client.wishes import AwaitedWishes
from ironwire.e2e.bodies import AnyBody, CallBody
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.e2e.conversations.calls import CallSignal
from ironwire.e2e.conversations.engine import Engine
from ironwire.e2e.conversations.state import Surroundings
from ironwire.e2e.conversations.wishes import Wish
from ironwire.errors import ClientError, InvalidLogEntry, MLSError
from ironwire.ids import Address, GroupId
from ironwire.wire import messages as msg
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages.conversations import MlsTask, RelayedMlsSignal
from ironwire.wire.messages.key_packages import MlsLow

FEATURE = "mls"
HELD_REASONS = {
    "keys": "no device of the recipient has published keys yet",
    "entry": "this device is not in the group yet: a device of another member has to let it in",
}
_PUSHES = MlsTask | MlsLow | RelayedMlsSignal | CallSignal


@frozen(eq=False)
class EncryptedSession:
    """One session of a server that knows encrypted conversations."""

    nursery: trio.Nursery
    queue: SendQueue

    @property
    def is_ending(self) -> bool:
        """Whether the nursery takes no task any more, or not for long. A session ends by that, and `end` follows."""
        return self.nursery.cancel_scope.cancel_called


@define(eq=False)
class Encryption:
    """The engine of one device and everything around it. `launch_plain` and `settle` are those of its requests."""

    _target: Target
    _keys: DeviceKeys
    _write_queue: WriteQueue
    _events: EventQueue | Inbox
    _launch: Callable[[Pending], None]
    _forget: Callable[[Pending], None]
    _launch_plain: Callable[[Pending], None]
    _settle: Callable[[Pending, Reply], None]
    _hold: Callable[[Address, str | None], None]
    _give_number: Callable[[Pending], Given | None]
    engine: Engine = field(init=False)
    _clock: SessionClock = field(factory=SessionClock, init=False)
    _session: EncryptedSession | None = field(default=None, init=False)
    _is_off: bool = field(default=False, init=False)
    """The server of the last session does not know encrypted conversations."""
    _epoch: int = field(default=0, init=False)
    """Of the mailbox whose deliveries have been dealt with."""
    letters: Letters = field(init=False)
    _asked: dict[int, Pending] = field(factory=dict, init=False)
    """Requests of this session that have no reply yet."""
    wishes: AwaitedWishes = field(init=False)
    history_news: trio.Event = field(factory=trio.Event, init=False)
    """Set when there is history to be given or taken."""
    _timer: trio.Event = field(factory=trio.Event, init=False)
    _caught_up: trio.Event = field(factory=trio.Event, init=False)
    _mark: StoreMark = field(init=False)
    _lookups: Lookups = field(init=False)

    def __attrs_post_init__(self) -> None:
        store = self._write_queue.store
        self._mark = StoreMark(store, self._keys)
        self._lookups = Lookups(self._target, store, self._ask_server)
        self.wishes = AwaitedWishes(self.carry_out)

    async def open(self) -> None:
        """Take up what is in the device's file.

        Raises:
            LocalStoreError: it cannot be read, or is damaged.
            KeystoreError: the files of the device's key cannot be read or written.
        """
        self._clock.set()
        if await self._mark.opened():
            self._events.put(DeviceRenewed())
        keys, around = self._keys, Surroundings(self._clock.now_ms, new_message_id, os.urandom)
        self.engine = Engine.new(keys.key, keys.certificate.encode(), keys.account.client_id, around)
        ways = (self._give_number, self.may_encrypt, self._launch_plain, self._settle, self.carry_out)
        self.letters = Letters(self.engine, self._write_queue, *ways)
        store = self._write_queue.store
        kept = await store.secrets()
        self._epoch = (await store.numbered()).epoch
        try:
            self.engine.restore(kept.memberships, kept.packages, kept.logs, kept.missing, kept.own)
        except (MLSError, InvalidLogEntry, ValueError) as error:
            raise LocalStoreError(
                f"{store.path}: what it has of encrypted conversations is damaged: {error}"
            ) from error

    async def close(self) -> None:
        """The program ends. Nothing is lost where this is not called.

        Raises:
            LocalStoreError, KeystoreError: it cannot be noted.
        """
        await self._mark.closed()

    # --- sessions ----------------------------------------------------------------------------------------------------

    async def prepare(self, welcome: msg.AuthOk) -> list[fx.Request]:
        """There is a session, and nobody uses it yet. What the engine asks first is answered by `take_reply`.

        Raises:
            ClientError: what it wants kept cannot be.
        """
        if FEATURE not in (welcome.features or ()):
            return []
        self._clock.set()
        return await self._prepared(self.engine.prepare_session(is_new_mailbox=welcome.epoch != self._epoch))

    async def take_reply(self, request: fx.Request, reply: object) -> list[fx.Request]:
        """The answer to a request of `prepare`; what is to be asked then. Raises as `prepare` does."""
        return await self._prepared(self.engine.answer(request.number, reply))

    async def _prepared(self, effects: fx.Effects) -> list[fx.Request]:
        self.carry_out(evolve(effects, requests=[]))
        await self._write_queue.commit(None)
        return effects.requests

    async def begin(self, welcome: msg.AuthOk, nursery: trio.Nursery, queue: SendQueue) -> None:
        """A session began, and is in the file. `end` follows.

        Raises:
            ClientError: the file cannot be read.
        """
        is_new, self._epoch = welcome.epoch != self._epoch, welcome.epoch or 0
        self._is_off = FEATURE not in (welcome.features or ())
        if self._is_off:
            self.carry_out(self.engine.give_back())
            return
        await self._write_queue.commit(None)
        position = await self._write_queue.store.position()
        self._clock.set()
        self._caught_up = trio.Event()
        self._session = EncryptedSession(nursery, queue)
        self.carry_out(self.engine.begin_session(self._keys.log, position, is_new_mailbox=is_new))
        nursery.start_soon(self._keep_time)

    def end(self) -> None:
        """The session is over."""
        if self._session is not None:
            self._session = None
            self._caught_up.set()
            for pending in self._asked.values():
                self._forget(pending)
            self._asked.clear()
            self.carry_out(self.engine.end_session())

    async def _keep_time(self) -> None:
        while True:
            due_at, self._timer = self.engine.due_at, trio.Event()
            with trio.move_on_after(float("inf") if due_at is None else max(due_at - self._clock.now_ms(), 1) / 1000):
                await self._timer.wait()
            if self.engine.due_at is not None and self.engine.due_at <= self._clock.now_ms():
                self.carry_out(self.engine.tick())

    def take(self, frame: ServerFrame) -> bool:
        """Whether this push is a matter of the engine; then it has it."""
        is_for_it = frame.seq is not None or isinstance(frame.message, msg.Gap | msg.CaughtUp | _PUSHES)
        if self._session is None or not is_for_it:
            return False
        self.carry_out(self.engine.take(frame))
        return True

    # --- what follows ------------------------------------------------------------------------------------------------

    def carry_out(self, effects: fx.Effects) -> None:
        """Keep what is to be kept of an input to the engine, then let the rest follow."""
        self._timer.set()
        if effects == fx.Effects():
            return
        change = Absorb(tuple(effects.writes)) if effects.writes else None
        sealed = self.letters.seal(effects.requests)
        self._write_queue.put(change, partial(self._kept, effects, sealed, self._session))

    def _kept(
        self,
        effects: fx.Effects,
        sealed: dict[int, Pending],
        session: EncryptedSession | None,
        error: ClientError | None,
    ) -> None:
        if error is not None:
            return  # the client stops
        for write in effects.writes:
            self._tell_kept(write, session)
        self.letters.kept(sealed.values())
        if session is not None and session is self._session and not session.is_ending:
            for request in effects.requests:
                self._ask(request, sealed.get(request.number), session)
        for event in effects.events:
            self._tell(event)
        for report in effects.reports:
            if not self.wishes.note(report):
                self.letters.report(report)

    def _tell_kept(self, write: fx.Write, session: EncryptedSession | None) -> None:
        match write:
            case fx.Passed(_, seq) if session is not None:
                session.queue.ack(seq)
                self._events.wake()
            case fx.SavedManifest():
                self.note_history()
            case fx.KeptFrame(frame) if isinstance(frame.message, msg.CaughtUp):
                self._events.put(Received(frame.message))
                self._caught_up.set()
            case _:
                pass

    def note_history(self) -> None:
        """There may be history to be given or taken."""
        self.history_news.set()
        self.history_news = trio.Event()

    def _tell(self, event: ev.EngineEvent) -> None:
        if isinstance(event, ev.MessagesHeld):
            self._hold(event.to, None if event.reason is None else HELD_REASONS[event.reason])
        told = as_told(event)
        if told is not None:
            self._events.put(told)

    def _ask(self, request: fx.Request, sealed: Pending | None, session: EncryptedSession) -> None:
        """Ask at once, in the order in which the engine asks."""
        question, number = request.ask.question, request.number
        if not isinstance(question, msg.ClientMessage):
            session.nursery.start_soon(self._look_up, number, question, session)
            return
        try:
            pending = sealed or Pending(request.ask.id or new_message_id(), question)
            pending.then = partial(self._answered, number, session)
            self._asked[number] = pending
            self._launch(pending)
        except Refused as refused:
            self._answered(number, session, msg.Error(refused.code, refused.detail))

    def _answered(self, number: int, session: EncryptedSession, reply: Reply | ClientError) -> None:
        if not isinstance(reply, ClientError):
            self._asked.pop(number, None)
            self._answer(number, reply, session)

    async def _look_up(self, number: int, question: fx.Question, session: EncryptedSession) -> None:
        self._answer(number, await self._lookups.find(question), session)

    async def _ask_server(self, question: msg.ClientMessage) -> Reply:
        pending = Pending(new_message_id(), question)
        self._launch(pending)
        try:
            return await pending.reply_or_error()
        finally:
            self._forget(pending)

    def _answer(self, number: int, reply: object, session: EncryptedSession) -> None:
        if session is self._session:
            self.carry_out(self.engine.answer(number, reply))

    # --- what the program wants --------------------------------------------------------------------------------------

    def may_encrypt(self, to: Address) -> bool:
        """Whether what goes to this client or group is not certainly sent in the clear."""
        return self.engine.is_encrypted(to) if self._is_off else self.engine.may_encrypt(to)

    async def is_secret(self, group: GroupId) -> bool:
        """Whether a group is encrypted. A new device finds that out in its first session: this waits for it.

        Raises:
            SessionEnded: the client has stopped.
        """
        if not self._is_off and not self.engine.is_encrypted(group):
            await self.wishes.outcome(self.engine.look)
        return self.engine.is_encrypted(group)

    async def epoch_code(self, to: Address) -> str | None:
        """The code of a conversation, in the newest epoch: with a session, once what waited has been read."""
        if self._session is not None:
            await self._caught_up.wait()
        return self.engine.epoch_code(to)

    def signal(self, to: Address, body: AnyBody) -> bool:
        """Say something that is worth nothing later. False: the conversation is not encrypted."""
        if not self.engine.is_encrypted(to):
            return False
        self.carry_out(self.engine.signal(to, body))
        return True

    async def change(self, to: Address, wish: Wish) -> None:
        """Have a conversation changed; waits through reconnections.

        Raises:
            Refused: it cannot be.
            SessionEnded: the client has stopped.
        """
        done = await self.wishes.outcome(partial(self.engine.want, to, wish))
        refused = done.refused if isinstance(done, fx.WishDone) else None
        if refused is not None:
            raise Refused(refused.msg, refused.detail, refused.user, refused.retry_after_ms)

    async def seal(self, to: Address, body: CallBody) -> str | None:
        """The text for the secret half of a signal of a call, once the key that it took is known to be used; None: it
        cannot be made now.

        Raises:
            SessionEnded: the client has stopped.
        """
        done = await self.wishes.outcome(partial(self.engine.seal, to, body))
        return done.text if isinstance(done, fx.Sealed) else None

    def fail_waiting(self, error: ClientError) -> None:
        """The client has stopped: raise `error` for every change that is waited for."""
        self.wishes.fail(error)
