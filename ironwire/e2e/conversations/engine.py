"""The engine of encrypted conversations: one device, without I/O, without a loop, without a clock.

    mailbox, pushes ─> take        ┐                  ┌> deliveries.py   welcomes and commits
    answers         ─> answer      │                  ├> reading.py      messages
    a person        ─> send, want  ├─> Engine ─ Jobs ─┼> outgoing.py     one's own messages
    the clock       ─> tick        │                  ├> changes.py      one's own commits (wishes, committing)
    sessions        ─> begin, end  ┘                  └> healing.py      what was missed
                          │
                          └─> Effects: to be kept, then to be asked, then to be told (`effects.py`)

What comes from the mailbox is processed in its order, one delivery at a time: while one waits for a device log or a
blob, those behind it wait too, and nothing of them is acknowledged. Nothing is sent before everything that waited in
the mailbox was processed.
"""

from collections import deque
from collections.abc import Iterable

from attrs import define, field

from ironwire.crypto.signing import KeyPair
from ironwire.e2e.bodies import AnyBody, CallBody
from ironwire.e2e.content import Content
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations.beginnings import Beginnings
from ironwire.e2e.conversations.calls import CallSignal
from ironwire.e2e.conversations.changes import ChangeQueue
from ironwire.e2e.conversations.chores import Chores
from ironwire.e2e.conversations.committing import CommitAuthor
from ironwire.e2e.conversations.company import Company
from ironwire.e2e.conversations.deliveries import Deliveries
from ironwire.e2e.conversations.effects import Effects, Steps
from ironwire.e2e.conversations.healing import Healing
from ironwire.e2e.conversations.jobs import Jobs
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.outgoing import OutgoingMessage, OutgoingMessages
from ironwire.e2e.conversations.own_devices import OwnDevices
from ironwire.e2e.conversations.reading import Reading
from ironwire.e2e.conversations.state import DeviceState, Surroundings
from ironwire.e2e.conversations.whereabouts import Whereabouts
from ironwire.e2e.conversations.wishes import Wish, wishes_of
from ironwire.e2e.own_records import Kind, OwnRecord
from ironwire.ids import Address, ClientId, ConversationId, MessageId, is_group
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.devices.log import DeviceLog
from ironwire.wire import messages as msg
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages import conversations as wire
from ironwire.wire.messages.key_packages import MlsLow


@define(eq=False)
class Engine:
    """Made with the key of a device and its certificate; then what its store has is restored, before anything else."""

    _state: DeviceState
    _jobs: Jobs = field(init=False)
    _outgoing: OutgoingMessages = field(init=False)
    _changes: ChangeQueue = field(init=False)
    own_devices: OwnDevices = field(init=False)
    _deliveries: Deliveries = field(init=False)
    _healing: Healing = field(init=False)
    _reading: Reading = field(init=False)
    _beginnings: Beginnings = field(init=False)
    _chores: Chores = field(init=False)
    _whereabouts: Whereabouts = field(init=False)
    _inbox: deque[ServerFrame] = field(factory=deque, init=False)
    _is_reading: bool = field(default=False, init=False)
    _position: int = field(default=0, init=False)
    _touched: dict[ConversationId, DeviceMembership] = field(factory=dict, init=False)
    """Where something may go on."""
    _watched: set[ConversationId] = field(factory=set, init=False)

    @classmethod
    def new(cls, key: KeyPair, certificate: bytes, client: ClientId, around: Surroundings) -> "Engine":
        return cls(DeviceState(key, certificate, Leaf(client, key.public_key.raw), around))

    def __attrs_post_init__(self) -> None:
        state, around = self._state, self._state.around
        self._jobs = Jobs(around.now_ms, state.request)
        parts = (state.key, state.own, state.logs, state.pool, state.policy_of)
        author = CommitAuthor(*parts, around.now_ms, around.new_id, around.random)
        self._whereabouts = Whereabouts(state, self._jobs, lambda: self._healing.reconcile(), self._touch_all)
        look = self._whereabouts.ask
        self._changes = ChangeQueue(state, self._jobs, author, self._touch, look)
        company = Company(state, self._changes)
        self._outgoing = OutgoingMessages(state, self._jobs, company.is_complete, self._touch, look)
        own = self.own_devices = OwnDevices(state, self._changes, self._outgoing)
        self._deliveries = Deliveries(state, self._outgoing)
        self._healing = Healing(state, self._deliveries.apply, self._deliveries.committed, self._changes.want)
        self._deliveries.healing = self._healing
        self._beginnings = Beginnings(state, self._jobs, self._changes, self._outgoing, self._whereabouts)
        self._reading = Reading(state, self._healing, self._outgoing, own.hear, self._jobs.start, look)
        look_if_due = self._whereabouts.ask_if_due
        self._chores = Chores(state, self._changes, company, self._reading, own.tend, self._touch, look_if_due)

    def restore(
        self,
        memberships: Iterable[fx.SavedMembership],
        packages: Iterable[fx.SavedPackage],
        logs: Iterable[fx.SavedLog],
        missing: Iterable[fx.Missing],
        own: Iterable[OwnRecord] = (),
    ) -> None:
        """What the store of the device has.

        Raises:
            MLSError, InvalidLogEntry, ValueError: it is damaged, or another device's.
        """
        for log in logs:
            self._state.logs.restore(log)
        for package in packages:
            self._state.pool.restore(package)
        for membership in memberships:
            self._state.restore(membership)
        for each in missing:
            self._state.missing[each.conversation, each.sender, each.id] = each.since
        self.own_devices.records.merge(own)

    # --- sessions and the clock --------------------------------------------------------------------------------------

    def prepare_session(self, *, is_new_mailbox: bool) -> Effects:
        """There will be a session: first of all, publish key packages, where the server cannot have any."""
        self._end_work()
        if is_new_mailbox or not self._state.pool.is_published:
            self._jobs.start(self._state.pool.publishing())
        return self._effects()

    def begin_session(self, own_log: DeviceLog, position: int, *, is_new_mailbox: bool) -> Effects:
        """There is a session. Everything up to `position` in the mailbox has been dealt with."""
        self._end_work()
        self._position = position
        if is_new_mailbox:
            self._whereabouts.doubt()
        self._state.logs.adopt(own_log)
        return self._effects()

    def end_session(self) -> Effects:
        """The session is over: what was under way is taken up in the next one."""
        self._end_work()
        return self._effects()

    def _end_work(self) -> None:
        self._state.is_caught_up = False
        self._jobs.end()
        self._inbox.clear()
        self._is_reading = False
        self._whereabouts.end_session()
        self._beginnings.end_session()
        self._watched.clear()
        self._outgoing.end_session()
        self._changes.end_session()
        self._reading.end_session()
        self.own_devices.end_session()

    @property
    def due_at(self) -> int | None:
        """When `tick` is due, in Unix ms."""
        return self._jobs.due_at

    def tick(self) -> Effects:
        self._jobs.tick()
        return self._effects()

    def answer(self, number: int, reply: object) -> Effects:
        """The answer to a request."""
        self._jobs.answer(number, reply)
        return self._effects()

    # --- what comes --------------------------------------------------------------------------------------------------

    def take(self, frame: ServerFrame) -> Effects:
        """A delivery or a push of the server."""
        match frame.message:
            case wire.MlsTask() as task:
                self._take_task(task)
            case MlsLow():
                self._jobs.start(self._state.pool.publishing())
            case _:
                self._inbox.append(frame)
                if not self._is_reading:
                    self._is_reading = True
                    self._jobs.start(self._read_inbox())
        return self._effects()

    def _read_inbox(self) -> Steps[None]:
        while self._inbox:
            frame = self._inbox.popleft()
            if not self._is_known(frame):
                yield from self._read(frame)
            gap = frame.message if isinstance(frame.message, msg.Gap) else None
            first, seq = (frame.seq, frame.seq) if gap is None else (min(gap.first, self._position + 1), gap.last)
            if first is not None and seq is not None:
                self._position = max(self._position, seq)
                self._state.write(fx.Passed(first, seq))
        self._is_reading = False

    def _is_known(self, frame: ServerFrame) -> bool:
        """Whether it has been dealt with, and only the ack got lost."""
        seq = frame.message.last if isinstance(frame.message, msg.Gap) else frame.seq
        return seq is not None and seq <= self._position

    def _read(self, frame: ServerFrame) -> Steps[None]:
        match frame.message:
            case wire.MlsWelcome() as welcome:
                yield from self._deliveries.welcome(welcome)
                self._touch(self._state.member(welcome.group))
            case wire.MlsCommitted() as commit:
                yield from self._deliveries.committed(commit)
                self._touch(self._state.member(commit.group))
            case wire.MlsMessage() as message:
                yield from self._reading.message(message, frame.id, frame.seq or 0)
                self._touch(self._state.member(message.group))
            case signal if isinstance(signal, wire.RelayedMlsSignal | CallSignal):
                self._reading.signal(signal)
            case msg.CaughtUp():
                self._state.write(fx.KeptFrame(frame))
                self._catch_up()
            case _:
                self._keep_plain(frame)
                if isinstance(frame.message, msg.DeviceLogChanged):
                    yield from self._state.logs.refresh(frame.message.client)
                    self.own_devices.tend()

    def _keep_plain(self, frame: ServerFrame) -> None:
        message = frame.message
        if isinstance(message, msg.Gap):
            if message.groups or message.more_groups:
                self._whereabouts.doubt()
            self._whereabouts.ask()
        self._state.write(fx.KeptFrame(frame))
        self._reading.plain(frame)

    def _take_task(self, task: wire.MlsTask) -> None:
        """The server asks this device to commit. The commit is checked as any, so it can ask for nothing else than what
        members may do.
        """
        member = self._state.members.get(task.group)
        if member is None or member.standing not in ("active", "pending"):
            return
        for wish in wishes_of(task):
            self._changes.want(member, wish)

    # --- what a person wants -----------------------------------------------------------------------------------------

    def send(self, to: Address, message_id: MessageId, body: AnyBody) -> Effects:
        """Send a message; `Sent` or `GoesPlain` follows."""
        member = self._state.place_with(to)
        content = Content(message_id, self._state.now, body)
        if not self.may_encrypt(to):
            self._state.report(fx.GoesPlain(message_id))
        else:
            self._outgoing.put(member, OutgoingMessage(message_id, content, is_reported=True))
        return self._effects()

    def settle(self, message_id: MessageId, reply: msg.Accepted | msg.Error) -> Effects:
        """The next session tells what became of a message that had no answer. `Sent` follows."""
        self._outgoing.settle(message_id, reply)
        return self._effects()

    def signal(self, to: Address, body: AnyBody) -> Effects:
        self._outgoing.signal(self._state.place_with(to), body)
        return self._effects()

    def seal(self, to: Address, body: CallBody, wish: MessageId) -> Effects:
        """Encrypt the secret half of a signal of a call; `Sealed` follows."""
        self._state.report(fx.Sealed(wish, self._outgoing.seal(self._state.place_with(to), body)))
        return self._effects()

    def want(self, to: Address, wish: Wish, wish_id: MessageId) -> Effects:
        """Have a conversation changed; `WishDone` follows."""
        member = self._state.place_with(to)
        self._changes.want(member, wish, lambda refused: self._state.report(fx.WishDone(wish_id, refused)))
        return self._effects()

    def change_own(self, changes: Iterable[tuple[Kind, str, str]]) -> Effects:
        """A person has told this device what all of their devices are to know: kind, key and value of each."""
        self.own_devices.change(changes)
        return self._effects()

    def is_encrypted(self, to: Address) -> bool:
        """Whether nothing goes to this client or group in the clear."""
        member = self.member_of(to)
        return member is not None and member.is_encrypted

    def may_encrypt(self, to: Address) -> bool:
        """Whether a message to this client or group is a matter of the engine, or certainly goes in the clear."""
        return self.is_encrypted(to) or not self._beginnings.is_plain(self._state.place_with(to))

    def look(self, wish_id: MessageId) -> Effects:
        """`WishDone` follows as soon as it is known which groups are encrypted."""
        self._whereabouts.await_known(wish_id)
        return self._effects()

    def epoch_code(self, to: Address) -> str | None:
        """Thirty digits that are the same on all devices, unless somebody has split the conversation."""
        member = self.member_of(to)
        return None if member is None else member.epoch_code

    def give_back(self) -> Effects:
        """The server does not know encrypted conversations: what waits and was never encrypted goes in the clear."""
        self._whereabouts.report(is_sure=True)
        self._beginnings.give_back()
        return self._effects()

    def find(self, conversation: ConversationId) -> DeviceMembership | None:
        """The place in a conversation, for looking at."""
        return self._state.members.get(conversation)

    def member_of(self, to: Address) -> DeviceMembership | None:
        """The place in the conversation with a client or group, for looking at."""
        return self._state.members.get(to if is_group(to) else pair_id(self._state.own.client, ClientId(to)))  # type: ignore[arg-type]  # a GroupId

    # --- what goes on ------------------------------------------------------------------------------------------------

    def _touch(self, member: DeviceMembership) -> None:
        self._touched[member.id] = member

    def _touch_all(self) -> None:
        self._touched.update(self._state.members)

    def _effects(self) -> Effects:
        """Let everything go on that may, and take what has been gathered."""
        while self._touched:
            _, member = self._touched.popitem()
            self._go_on(member)
        self._whereabouts.report()
        return self._state.take_effects()

    def _go_on(self, member: DeviceMembership) -> None:
        if member.standing == "out":
            for message in self._outgoing.take_all(member):
                refused = msg.Error("not_found", "this device is not in the conversation")
                self._state.report(fx.Sent(message.id, refused))
        elif member.standing == "wedged" and self._state.is_caught_up and member.id not in self._watched:
            self._watched.add(member.id)
            self._whereabouts.ask()
            self._jobs.start(self._healing.watch(member), lambda _: self._watched.discard(member.id))
        self._beginnings.look_at(member)
        self._changes.work(member)
        self._reading.ask_again(member)
        self._outgoing.pump(member)
        self.own_devices.go_on(member)

    def _catch_up(self) -> None:
        """Everything that waited was processed: now this device speaks."""
        self._state.is_caught_up = True
        self._jobs.start(self._chores.run())
        self._touch_all()
