"""The conversation of a client with itself: what its devices tell each other (docs/between-devices.md, section 11.3).

    two devices in the own log  ──> it is begun, by whichever is there
    a session, once it can speak ──> `state`, the hash of what this device knows; and the head of the own device log
    another `state` is heard     ──> everything that this device knows, once for each state and epoch
    a person changes something   ──> that change
    records are heard            ──> merged; what holds from now on is kept, and told to the program

All devices come to know the same: what one knows and another does not, one of them tells once the hashes differ, and
nothing is said any more once they are equal.
"""

from collections.abc import Iterable

from attrs import define, field

from ironwire.e2e.bodies import SyncBody
from ironwire.e2e.conversations.changes import ChangeQueue
from ironwire.e2e.conversations.effects import SavedManifest, SavedOwn
from ironwire.e2e.conversations.events import OwnRecordsChanged
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.outgoing import OutgoingMessages
from ironwire.e2e.conversations.state import DeviceState
from ironwire.e2e.conversations.wishes import BeginGeneration
from ironwire.e2e.own_records import Kind, OwnRecord, OwnRecords, messages_of, records_of
from ironwire.protocol.conversations.slots import Leaf

BEGIN_AGAIN_MS = 60_000


@define(eq=False)
class OwnDevices:
    """The part of one device in it."""

    _state: DeviceState
    _changes: ChangeQueue
    _outgoing: OutgoingMessages
    records: OwnRecords = field(factory=OwnRecords, init=False)
    _has_greeted: bool = field(default=False, init=False)
    _begun_at: int = field(default=0, init=False)
    _told: tuple[tuple[int, int], str] = field(default=((0, 0), ""), init=False)
    """Where everything was told last, and its hash."""

    def end_session(self) -> None:
        self._has_greeted = False

    def has(self, device: bytes) -> bool:
        """Whether the own device with this key reads what is said here."""
        return Leaf(self._state.own.client, device) in self._member.slots

    def is_everywhere(self, device: bytes) -> bool:
        """Whether it reads in every conversation that this one is in, and here."""
        leaf = Leaf(self._state.own.client, device)
        active = [each for each in self._state.members.values() if each.standing in ("active", "pending")]
        return self.has(device) and all(leaf in each.slots for each in active)

    def is_gone(self, device: bytes) -> bool:
        """Whether it was revoked."""
        return self._state.logs.standing_of(Leaf(self._state.own.client, device)) == "removed"

    def go_on(self, member: DeviceMembership) -> None:
        """Something may go on in this conversation, perhaps this one."""
        if member.facts.peer == self._state.own.client:
            self.tend()

    def tend(self) -> None:
        """Begin it if there is a reason, and greet once a session."""
        state, member = self._state, self._member
        if not state.is_caught_up:
            return
        is_alone = len(state.logs.of(state.own.client).current) < 2
        if member.standing == "absent" and not is_alone and self._begun_at + BEGIN_AGAIN_MS <= state.now:
            self._begun_at = state.now
            self._changes.want(member, BeginGeneration((state.own.client,)))
        elif member.standing == "active" and not is_alone and not self._has_greeted:
            self._has_greeted = True
            self._outgoing.say(member, SyncBody(state=self.records.digest))

    def change(self, changes: Iterable[tuple[Kind, str, str]]) -> None:
        """A person says these on this device: kind, key and value of each."""
        now, own = self._state.now, self._state.own.device.hex()
        made = [self.records.change(kind, key, value, now, own) for kind, key, value in changes]
        known = [each for each in made if each is not None]
        self._keep(known)
        if known:
            self._say(known)

    def hear(self, sender: bytes, body: SyncBody) -> None:
        """The own device with the key `sender` says this."""
        news = self.records.merge(records_of(body))
        self._keep(news)
        if news:
            self._state.tell(OwnRecordsChanged(tuple(news)))
        if body.history is not None and body.history.device == self._state.own.device.hex():
            self._state.write(SavedManifest(sender, body.history))
        told = (self._member.place, self.records.digest)
        if body.state not in (None, self.records.digest) and self._told != told:
            self._told = told
            self._say(list(self.records))

    @property
    def _member(self) -> DeviceMembership:
        return self._state.place_with(self._state.own.client)

    def _keep(self, records: list[OwnRecord]) -> None:
        for record in records:
            self._state.write(SavedOwn(record))

    def _say(self, records: list[OwnRecord]) -> None:
        """Where it cannot be said now, the hashes differ at the next greeting."""
        if self._member.standing in ("active", "pending"):
            for body in messages_of(records, self.records.digest):
                self._outgoing.say(self._member, body)
