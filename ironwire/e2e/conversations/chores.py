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
ADD_AGAIN_MS = 3_600_000


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
    _added_at: dict[ConversationId, int] = field(factory=dict, init=False)
    """When this device last tried to add its client's other ones."""

    def run(self) -> Steps[None]:
        published_at = self._state.now - PUBLISH_MS
        while True:
            if published_at + PUBLISH_MS <= self._state.now:
                now = self._state.now
                published_at = now if (yield from self._state.pool.publishing()) else published_at
            self._look()
            self._reading.give_up()
            for conversation in {conversation for conversation, _, _ in self._state.missing}:
                self._touch(self._state.member(conversation))
            for member in [each for each in self._state.members.values() if each.standing == "active"]:
                self._renew_keys(member)
                self._add_own_devices(member)
            yield Pause(EVERY_MS)

    def _renew_keys(self, member: DeviceMembership) -> None:
        due_at = member.facts.update_at
        if due_at is not None and due_at <= self._state.now and member.facts.was_used:
            self._changes.want(member, RenewKeys())

    def _add_own_devices(self, member: DeviceMembership) -> None:
        """The server asks to add a device when it publishes its first key packages: to conversations that begin at that
        moment nobody does.
        """
        now, own = self._state.now, self._state.own.client
        devices = [Leaf(own, each.key.raw) for each in self._state.logs.of(own).current]
        missing = tuple(leaf for leaf in devices if leaf not in member.slots)
        if missing and self._added_at.get(member.id, 0) + ADD_AGAIN_MS <= now:
            self._added_at[member.id] = now
            self._changes.want(member, ChangeDevices(missing))
