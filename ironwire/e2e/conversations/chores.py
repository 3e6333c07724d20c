"""What a device does by itself, from the moment in which it has caught up: once, and then every minute."""

from collections.abc import Callable

from attrs import define, field

from ironwire.e2e.conversations.changes import ChangeQueue
from ironwire.e2e.conversations.effects import Pause, Steps
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.reading import Reading
from ironwire.e2e.conversations.state import DeviceState
from ironwire.e2e.conversations.wishes import ChangeDevices, RenewKeys
from ironwire.ids import ConversationId
from ironwire.protocol.conversations.slots import Leaf

EVERY_MS = 60_000
PUBLISH_MS = 12 * 3_600_000
TRY_AGAIN_MS = 3_600_000
PATIENCE_MS = 60_000
"""The server asks one device after the other to remove a leaf, for half a minute each."""


@define(eq=False)
class Chores:
    """The chores of one device. `run` begins anew in each session."""

    _state: DeviceState
    _changes: ChangeQueue
    _reading: Reading
    _touch: Callable[[DeviceMembership], None]
    """Let a conversation go on."""
    _look: Callable[[], None]
    """Have it found out where things stand, if that is due. Who is added again needs key packages first."""
    _due: dict[tuple[ConversationId, Leaf], int] = field(factory=dict, init=False)
    """When this device changes by itself what nobody has asked it to: a leaf that is missing, or too many."""

    def run(self) -> Steps[None]:
        published_at = self._state.now - PUBLISH_MS
        while True:
            if published_at + PUBLISH_MS <= self._state.now:
                published_at = self._state.now
                yield from self._state.pool.publishing()
            self._look()
            self._reading.give_up()
            for conversation in {conversation for conversation, _, _ in self._state.missing}:
                self._touch(self._state.member(conversation))
            for member in [each for each in self._state.members.values() if each.standing == "active"]:
                self._renew_keys(member)
                self._add_own_devices(member)
                self._remove_revoked(member)
            yield Pause(EVERY_MS)

    def _renew_keys(self, member: DeviceMembership) -> None:
        due_at = member.facts.update_at
        if due_at is not None and due_at <= self._state.now and member.facts.was_used:
            self._changes.want(member, RenewKeys())

    def _add_own_devices(self, member: DeviceMembership) -> None:
        """The server asks to add a device when it publishes its first key packages: to conversations that begin at that
        moment nobody does.
        """
        own = self._state.own.client
        devices = [Leaf(own, each.key.raw) for each in self._state.logs.of(own).current]
        missing = tuple(leaf for leaf in devices if leaf not in member.slots and self._is_due(member, leaf, 0))
        if missing:
            self._changes.want(member, ChangeDevices(missing))

    def _remove_revoked(self, member: DeviceMembership) -> None:
        """A server that knows of a revocation asks to remove the device at once. One that hides it does not, and who
        has the log all the same does not wait for it.
        """
        revoked = [leaf for leaf in member.slots if leaf and self._state.logs.standing_of(leaf) == "removed"]
        due = tuple(leaf for leaf in revoked if self._is_due(member, leaf, PATIENCE_MS))
        if due:
            self._changes.want(member, ChangeDevices(remove=due))

    def _is_due(self, member: DeviceMembership, leaf: Leaf, patience_ms: int) -> bool:
        """Whether it is time to try; then the next time is later."""
        now, key = self._state.now, (member.id, leaf)
        is_due = self._due.setdefault(key, now + patience_ms) <= now
        if is_due:
            self._due[key] = now + TRY_AGAIN_MS
        return is_due
