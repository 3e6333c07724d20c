"""Messages where nothing is encrypted yet: the first one of a pair begins to encrypt, or goes in the clear while the
other client has no device log.

    to a pair ──device log of the other client──> there is one ──BeginGeneration──> encrypted, for good
                                                   │  └─ nothing is published yet ──> held, and tried again
                                                   └ there is none ──> in the clear, and asked again after a while

    to a group ──where things stand──> encrypted, and this device not in it yet ──> held, until it is added
                                       not encrypted ──> in the clear

Rule: whoever has a device log gets nothing in the clear, whatever the server says of key packages. What cannot be
encrypted yet waits, in this session and in the next ones, until a device of the other client has published keys.
"""

from typing import Literal

from attrs import define, evolve, field

from ironwire.crypto.signing import is_public_key
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations.changes import ChangeQueue
from ironwire.e2e.conversations.committing import NO_KEY
from ironwire.e2e.conversations.effects import Pause, Steps
from ironwire.e2e.conversations.events import MessagesHeld
from ironwire.e2e.conversations.jobs import Jobs
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.outgoing import OutgoingMessages
from ironwire.e2e.conversations.state import DeviceState
from ironwire.e2e.conversations.whereabouts import Whereabouts
from ironwire.e2e.conversations.wishes import BeginGeneration
from ironwire.ids import Address, ClientId, ConversationId, GroupId
from ironwire.wire.messages import Error

PLAIN_MS = 60_000
"""So long nobody asks again whether somebody has a device log."""
AGAIN_MS = 2_000
FIRST_PAUSE_MS = 2_000
MOST_PAUSE_MS = 30_000
"""Between two attempts to get key packages of somebody who has not published any."""
NOBODY = Error("not_found", NO_KEY)


@define(eq=False)
class Beginnings:
    """Conversations of one device that are not encrypted here, and the messages that wait for a decision."""

    _state: DeviceState
    _jobs: Jobs
    _changes: ChangeQueue
    _outgoing: OutgoingMessages
    _whereabouts: Whereabouts
    _deciding: set[ConversationId] = field(factory=set, init=False)
    _plain: dict[ConversationId, int] = field(factory=dict, init=False)
    """Whose other client has no device log, and until when that is believed."""
    _held: dict[ConversationId, Address] = field(factory=dict, init=False)

    def is_plain(self, member: DeviceMembership) -> bool:
        """Whether a conversation that is not encrypted here is believed to be one in the clear."""
        return self._whereabouts.is_known if member.is_group else self._plain.get(member.id, 0) > self._state.now

    def give_back(self) -> None:
        """The server does not know encrypted conversations: what waits and was never encrypted goes in the clear."""
        for member in self._state.members.values():
            if not member.is_encrypted:
                for message in self._outgoing.take_all(member):
                    self._state.report(fx.GoesPlain(message.id))

    def end_session(self) -> None:
        self._deciding.clear()

    def look_at(self, member: DeviceMembership) -> None:
        """Something may go on in the conversation: find out what is to become of the messages that wait there."""
        standing, peer = member.standing, member.facts.peer
        if standing not in ("absent", "wedged"):
            self._release(member)
        elif not self._state.is_caught_up or not self._outgoing.waiting_in(member):
            pass
        elif member.is_group and standing == "wedged":
            self._hold(member, GroupId(member.id), "entry")
        elif member.is_group and self._whereabouts.is_known:
            self._give_plain(member)
        elif peer is not None and standing == "absent" and member.id not in self._deciding:
            self._deciding.add(member.id)
            self._jobs.start(self._look_up(member, peer))

    def _release(self, member: DeviceMembership) -> None:
        to = self._held.pop(member.id, None)
        if to is not None:
            self._state.tell(MessagesHeld(member.id, to, None))

    def _hold(self, member: DeviceMembership, to: Address, reason: Literal["keys", "entry"]) -> None:
        if member.id not in self._held:
            self._held[member.id] = to
            self._state.tell(MessagesHeld(member.id, to, reason))

    def _give_plain(self, member: DeviceMembership) -> None:
        for message in self._outgoing.take_all(member):
            self._state.report(fx.GoesPlain(message.id))

    def _look_up(self, member: DeviceMembership, peer: ClientId) -> Steps[None]:
        logs = self._state.logs
        if not is_public_key(peer):
            self._refuse(member, NOBODY)
            return
        while not (yield from logs.refresh(peer)) and logs.of(peer).head is None:
            yield Pause(AGAIN_MS)
        if logs.of(peer).head is not None:
            self._begin(member, peer, FIRST_PAUSE_MS)
            return
        self._deciding.discard(member.id)
        self._plain[member.id] = self._state.now + PLAIN_MS
        self._give_plain(member)

    def _begin(self, member: DeviceMembership, peer: ClientId, pause: int) -> None:
        def then(refused: Error | None) -> None:
            if refused is None:
                self._deciding.discard(member.id)
            elif refused.msg == "user_offline":
                self._hold(member, peer, "keys")
                self._jobs.start(self._begin_later(member, peer, pause))
            else:
                self._refuse(member, refused)

        self._changes.want(member, BeginGeneration((peer,), {peer: "admin"}), then)

    def _begin_later(self, member: DeviceMembership, peer: ClientId, pause: int) -> Steps[None]:
        yield Pause(pause)
        if member.standing == "absent":
            self._begin(member, peer, min(2 * pause, MOST_PAUSE_MS))
        else:
            self._deciding.discard(member.id)

    def _refuse(self, member: DeviceMembership, error: Error) -> None:
        self._deciding.discard(member.id)
        self._release(member)
        for message in self._outgoing.take_all(member):
            self._state.report(fx.Sent(message.id, evolve(error, user=member.facts.peer)))
