"""The first message of a pair: it begins to encrypt, or goes in the clear while the other client has no device.

    first message ──log of the other client──> has devices ──BeginGeneration──> encrypted, for good
                                                    └─ none of them can be had ──> refused: nobody is there
                                               has none ──> in the clear, and asked again after a while

Rule: whoever has devices in a log gets nothing in the clear, whatever the server says of their packages.
"""

from attrs import define, evolve, field

from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations.changes import ChangeQueue
from ironwire.e2e.conversations.effects import Pause, Steps
from ironwire.e2e.conversations.jobs import Jobs
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.outgoing import OutgoingMessages
from ironwire.e2e.conversations.state import DeviceState
from ironwire.e2e.conversations.wishes import BeginGeneration
from ironwire.ids import ClientId, ConversationId
from ironwire.wire.messages import Error

PLAIN_MS = 10 * 60_000
"""So long nobody asks again whether somebody has devices that read encrypted messages."""
AGAIN_MS = 2_000
ATTEMPTS = 5
"""A device that was linked a moment ago is about to publish its key packages."""
NOBODY_THERE = Error("user_offline", "no device of this client can be reached")


@define(eq=False)
class Beginnings:
    """Pairs of one device that are not encrypted, and the messages that wait for a decision."""

    _state: DeviceState
    _jobs: Jobs
    _changes: ChangeQueue
    _outgoing: OutgoingMessages
    _deciding: set[ConversationId] = field(factory=set, init=False)
    _plain: dict[ConversationId, int] = field(factory=dict, init=False)
    """Whose other client has no devices, and until when that is believed."""

    def is_plain(self, member: DeviceMembership) -> bool:
        """Whether the other client is believed to have no devices that read encrypted messages."""
        return self._plain.get(member.id, 0) > self._state.now

    def end_session(self) -> None:
        self._deciding.clear()

    def decide(self, member: DeviceMembership) -> None:
        """Messages wait in a pair that is not encrypted: find out what is to become of them."""
        if member.id not in self._deciding and member.facts.peer is not None:
            self._deciding.add(member.id)
            self._jobs.start(self._look_up(member, member.facts.peer))

    def _look_up(self, member: DeviceMembership, peer: ClientId) -> Steps[None]:
        logs = self._state.logs
        while not (yield from logs.refresh(peer)) and logs.of(peer).head is None:
            yield Pause(AGAIN_MS)
        if logs.of(peer).current:
            self._found(member, peer, ATTEMPTS)
            return
        self._deciding.discard(member.id)
        self._plain[member.id] = self._state.now + PLAIN_MS
        for message in self._outgoing.take_all(member):
            self._state.report(fx.GoesPlain(message.id))

    def _found(self, member: DeviceMembership, peer: ClientId, attempts: int) -> None:
        def then(refused: Error | None) -> None:
            if refused is not None and refused.msg == "not_found" and attempts > 1:
                self._jobs.start(self._found_later(member, peer, attempts - 1))
                return
            self._deciding.discard(member.id)
            if refused is not None:
                error = NOBODY_THERE if refused.msg == "not_found" else refused
                for message in self._outgoing.take_all(member):
                    self._state.report(fx.Sent(message.id, evolve(error, user=peer)))

        self._changes.want(member, BeginGeneration((peer,), {peer: "admin"}), then)

    def _found_later(self, member: DeviceMembership, peer: ClientId, attempts: int) -> Steps[None]:
        yield Pause(AGAIN_MS)
        self._found(member, peer, attempts)
