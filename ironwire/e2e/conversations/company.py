"""Who hears what is said: before a device says something, it sees to it that all devices of the members are there.

    log of a member   device in it, no leaf     ─> added, if it has published key packages
                      device revoked, has leaf  ─> removed
                      as it is here             ─> speak

The server asks for the same, for what it knows, before it delivers anything. A message that is sent before that is done
would be for everybody but a new device, and for one that was stolen too.
"""

from collections.abc import Iterable

from attrs import define, field

from ironwire.e2e.conversations.changes import ChangeQueue
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.state import DeviceState
from ironwire.e2e.conversations.wishes import ChangeDevices
from ironwire.ids import ClientId, ConversationId
from ironwire.limits import TASKS_AT_ONCE
from ironwire.protocol.conversations.slots import Leaf

TRY_AGAIN_MS = 3_600_000
"""A device without key packages is left out so long."""
PATIENCE_MS = 60_000
"""The server asks one device after the other to remove a leaf, for half a minute each."""


@define(eq=False)
class Company:
    """The devices of all conversations of one device, compared with the logs of their clients."""

    _state: DeviceState
    _changes: ChangeQueue
    _compared: dict[ConversationId, tuple[tuple[int, int], int]] = field(factory=dict, init=False)
    """The place of the conversation and the version of the logs at the last comparison."""
    _due: dict[tuple[ConversationId, Leaf], int] = field(factory=dict, init=False)
    """When this device tries what nobody has asked it to."""

    def is_complete(self, member: DeviceMembership) -> bool:
        """Whether something may be said here. Otherwise that is being changed, and the conversation goes on later."""
        as_compared = member.place, self._state.logs.version
        if self._compared.get(member.id) != as_compared:
            self._compared[member.id] = as_compared
            self._change(member, self._lacking(member, member.roster), self._revoked(member))
        return not self._changes.is_awaited(member)

    def tend(self, member: DeviceMembership) -> None:
        """See to a conversation in which nothing is said. The server asks to add a device when it publishes its first
        key packages: to conversations that begin at that moment nobody does. A server that knows of a revocation asks
        to remove the device at once. One that hides it does not, and who has the log all the same removes it.
        """
        revoked = tuple(leaf for leaf in self._revoked(member) if self._is_due(member, leaf, PATIENCE_MS))
        self._change(member, self._lacking(member, [self._state.own.client]), revoked)

    def _change(self, member: DeviceMembership, add: tuple[Leaf, ...], remove: tuple[Leaf, ...]) -> None:
        if add or remove:
            self._changes.want(member, ChangeDevices(add[:TASKS_AT_ONCE], remove))

    def _lacking(self, member: DeviceMembership, clients: Iterable[ClientId]) -> tuple[Leaf, ...]:
        """Current devices of these clients that are not in it, and were not tried lately."""
        slots, logs = set(member.slots), self._state.logs
        devices = [Leaf(client, each.key.raw) for client in clients for each in logs.of(client).current]
        return tuple(leaf for leaf in devices if leaf not in slots and self._is_due(member, leaf, 0))

    def _revoked(self, member: DeviceMembership) -> tuple[Leaf, ...]:
        return tuple(leaf for leaf in member.slots if leaf and self._state.logs.standing_of(leaf) == "removed")

    def _is_due(self, member: DeviceMembership, leaf: Leaf, patience_ms: int) -> bool:
        """Whether it is time to try; then the next time is later."""
        now, key = self._state.now, (member.id, leaf)
        is_due = self._due.setdefault(key, now + patience_ms) <= now
        if is_due:
            self._due[key] = now + TRY_AGAIN_MS
        return is_due
