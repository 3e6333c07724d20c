"""Encrypted messages from the mailbox: opened, checked, and handed to the program; or asked for again.

    message ──MLS──> sender's leaf, plaintext ──log: not revoked──> content ──its own id, or asked for──> by kind
        │ of an epoch ahead: the commits between are fetched first
        └ does not open: a placeholder, `resend` to the sender's devices, and after seven days the last word

Rule: who has sent a message is its leaf. What the envelope says of sender and time is the server's word; it is used for
placeholders, for the time, and for the name of the device.
"""

from collections.abc import Callable

from attrs import define, evolve, field

from ironwire.e2e import bodies
from ironwire.e2e.content import Content, decode_content
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.e2e.conversations.calls import CallSignal, CallSignals
from ironwire.e2e.conversations.effects import Steps
from ironwire.e2e.conversations.healing import Healing
from ironwire.e2e.conversations.membership import DeviceMembership, leaf_of
from ironwire.e2e.conversations.outgoing import OutgoingMessages
from ironwire.e2e.conversations.packages import DAY_MS
from ironwire.e2e.conversations.state import DeviceState
from ironwire.errors import InvalidContent, InvalidId, MLSError, UpdateNeeded
from ironwire.ids import ClientId, ConversationId, GroupId, MessageId
from ironwire.limits import RECEIPT_IDS
from ironwire.mls import Application
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.conversations.slots import Leaf
from ironwire.wire import messages as msg
from ironwire.wire.base64url import from_base64url
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages.conversations import MlsMessage, RelayedMlsSignal

GIVEN_UP_MS = 7 * DAY_MS
MOST_RESENT = 3
"""How often one message is sent again in a session: each time costs everybody in the conversation."""

MOST_MISSING = 10_000
ASK_AGAIN_MS = 3_600_000


class _OtherId(MLSError):
    """Only a message that was asked for may have it."""


class _OfRevoked(MLSError):
    """It opens, but whose device it is has taken that device back: nobody sends it again."""


@define(eq=False)
class Reading:
    """Reads the messages of one device."""

    _state: DeviceState
    _healing: Healing
    _outgoing: OutgoingMessages
    _hear_own: Callable[[bytes, bodies.SyncBody], None]
    """Take what another device of the same client says to this one."""
    _start: Callable[[Steps[None]], None]
    """Have something done beside the mailbox."""
    _fell_behind: Callable[[], None]
    """Have it found out where things stand."""
    _asked: dict[tuple[ConversationId, ClientId, MessageId], int] = field(factory=dict, init=False)
    """What was asked for again in this session, and when."""
    _resent: dict[MessageId, int] = field(factory=dict, init=False)
    _calls: CallSignals = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._calls = CallSignals(self._state, self.open)

    def message(self, message: MlsMessage, envelope_id: MessageId | None, seq: int) -> Steps[None]:
        """Take a message as the mailbox brings it."""
        member = self._state.members.get(message.group)
        place = message.generation, message.epoch
        if member is None or message.generation > member.facts.generation:
            self._fell_behind()  # its welcome was lost, or is held back
        elif place > member.place:
            yield from self._healing.fill(member, message.epoch)
        try:
            leaf, data = self.open(member, message)
            content = decode_content(data, None)
        except (MLSError, InvalidContent) as error:
            yield from self._miss(message, envelope_id, error)
            return
        if content.id != envelope_id and (message.group, leaf.client, content.id) not in self._state.missing:
            # Sent again for somebody else; or renamed by the server, and then it is asked for by its own id.
            other = _OtherId("the message has another id than its envelope")
            yield from self._miss(evolve(message, sender=leaf.client), content.id, other)
            return
        if member is not None:
            self._take(member, message, leaf, content, seq)

    def plain(self, frame: ServerFrame) -> None:
        """Something came in the clear."""
        message = frame.message
        if not isinstance(message, msg.DeliveredText | msg.DeliveredFile):
            return
        own = self._state.own.client
        other = message.to if message.sender == own else message.sender
        conversation = message.group or pair_id(own, ClientId(other or message.sender))
        known = self._state.members.get(conversation)
        if known is not None and known.is_encrypted:
            self._state.tell(ev.NotEncrypted(conversation, message.sender, frame.id))

    def signal(self, signal: RelayedMlsSignal | CallSignal) -> None:
        """Take what is not stored; what cannot be read of it is worth nothing."""
        if not isinstance(signal, RelayedMlsSignal):
            self._calls.take(signal)
            return
        member = self._state.members.get(signal.group)
        try:
            leaf, data = self.open(member, signal)
            content = decode_content(data, None)
        except (MLSError, InvalidContent):
            return
        if member is not None and isinstance(content.body, bodies.TypingBody):
            self._state.tell(self._opened(member, leaf, signal, self._state.now, content, None))

    def open(self, member: DeviceMembership | None, message: MlsMessage | RelayedMlsSignal) -> tuple[Leaf, bytes]:
        """Raises:
        MLSError: it cannot be read here, or its device was revoked.
        """
        group = None if member is None else member.group
        if member is None or group is None or not group.is_active or message.generation != member.facts.generation:
            raise MLSError("a message of a group that is not here")
        try:
            opened = group.process(from_base64url(message.data))
        except InvalidId as error:
            raise MLSError(str(error)) from None
        member.is_dirty = True
        if not isinstance(opened, Application) or opened.epoch != message.epoch:
            raise MLSError("not the message that the server says")
        leaf = leaf_of(opened.sender)
        if self._state.logs.standing_of(leaf) == "removed":
            raise _OfRevoked("a message of a device that was revoked")
        return leaf, opened.data

    # --- what is read ------------------------------------------------------------------------------------------------

    def _take(self, member: DeviceMembership, message: MlsMessage, leaf: Leaf, content: Content, seq: int) -> None:
        state, body = self._state, content.body
        if state.missing.pop((member.id, leaf.client, content.id), None) is not None:
            state.write(fx.NoLongerMissing(member.id, leaf.client, content.id))
        member.note(was_used=True)
        if content.logs:
            self._start(state.logs.hear(content.logs))
        opened = self._opened(member, leaf, message, message.ts, content, seq)
        match body:
            case bodies.LogBody():
                return
            case bodies.ResendBody(ids):
                self._start(self._resend(member, leaf.client, ids))
                return
            case bodies.GroupBody(name) if member.roster.get(leaf.client) != "admin" or not member.is_group:
                return
            case bodies.GroupBody(name):
                member.note(name=name)
                state.tell(ev.GroupRenamed(member.id, leaf.client, name))
            case bodies.ReceiptBody() if member.is_group:
                return
            case bodies.SyncBody() | bodies.RevokeMeBody() if member.facts.peer != state.own.client:
                return
            case bodies.SyncBody() as said:
                self._hear_own(leaf.device, said)
                if said.read is None:
                    return
            case _:
                pass
        state.write(opened)
        state.tell(opened)

    def _opened(
        self,
        member: DeviceMembership,
        leaf: Leaf,
        message: MlsMessage | RelayedMlsSignal,
        ts: int,
        content: Content,
        seq: int | None,
    ) -> ev.OpenedMessage:
        peer = member.facts.peer
        place = message.generation, message.epoch
        return ev.OpenedMessage(member.id, peer, place, leaf.client, leaf.device, message.device, ts, content, seq)

    # --- what is not -------------------------------------------------------------------------------------------------

    def _miss(self, message: MlsMessage, envelope_id: MessageId | None, error: Exception) -> Steps[None]:
        """Tell that something was said, and have it said again, unless that would be in vain. What was read before is
        only a repetition: for another device, or by a server that was set back or that lies.
        """
        state, sender = self._state, message.sender
        if envelope_id is not None and isinstance(error, MLSError):
            was_opened: bool = yield fx.Inquiry(fx.WasOpened(sender, message.device, envelope_id))
            if was_opened:
                return
        is_lost = isinstance(error, _OfRevoked)
        state.tell(ev.Unreadable(message.group, sender, envelope_id, message.ts, str(error), is_lost))
        is_wanted = not is_lost and not isinstance(error, UpdateNeeded)
        if envelope_id is not None and is_wanted and len(state.missing) < MOST_MISSING:
            state.missing[message.group, sender, envelope_id] = message.ts
            state.write(fx.Missing(message.group, sender, envelope_id, message.ts))

    def ask_again(self, member: DeviceMembership) -> None:
        """Ask for what was missed in a conversation that can be read now, and now and then once more."""
        if member.standing != "active" or not self._state.is_caught_up:
            return
        now = self._state.now
        late = [key for key in self._state.missing if key[0] == member.id]
        wanted = [key for key in late if now >= self._asked.get(key, 0) + ASK_AGAIN_MS]
        if wanted:
            self._asked.update(dict.fromkeys(wanted, now))
            for start in range(0, len(wanted), RECEIPT_IDS):
                self._outgoing.say(
                    member, bodies.ResendBody([id_ for _, _, id_ in wanted[start : start + RECEIPT_IDS]])
                )

    def give_up(self) -> None:
        """What nobody has sent again within a week is lost, and that is said."""
        over = [key for key, ts in self._state.missing.items() if ts + GIVEN_UP_MS <= self._state.now]
        for conversation, sender, id_ in over:
            ts = self._state.missing.pop((conversation, sender, id_))
            self._state.write(fx.NoLongerMissing(conversation, sender, id_))
            self._state.tell(ev.Unreadable(conversation, sender, id_, ts, "nobody has sent it again", True))

    def _resend(self, member: DeviceMembership, asking: ClientId, ids: list[MessageId]) -> Steps[None]:
        """Encrypt messages again that this device has sent, under their ids, for a client that could read them then."""
        since = member.since_of(asking)
        to = GroupId(member.id) if member.is_group else member.facts.peer
        found: list[fx.Recalled] = [] if to is None else (yield fx.Inquiry(fx.Recall(to, tuple(ids))))
        for recalled in found:
            times = self._resent.get(recalled.id, 0)
            is_recent = recalled.ts + GIVEN_UP_MS > self._state.now
            if since is not None and since <= recalled.ts and is_recent and times < MOST_RESENT:
                self._resent[recalled.id] = times + 1
                self._outgoing.say(member, recalled.body, recalled.id, recalled.ts)

    def end_session(self) -> None:
        self._asked.clear()
        self._resent.clear()
