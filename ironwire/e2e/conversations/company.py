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

TRIED_AGAIN_MS = 3_600_000
"""A device without key packages is left out so long."""


@define(eq=False)
class Company:
    """The devices of all conversations of one device, compared with the logs of their clients."""

    _state: DeviceState
    _changes: ChangeQueue
    _compared: dict[ConversationId, tuple[tuple[int, int], int]] = field(factory=dict, init=False)
    """The place of the conversation and the version of the logs at the last comparison."""
    _tried_at: dict[tuple[ConversationId, Leaf], int] = field(factory=dict, init=False)

    def is_complete(self, member: DeviceMembership) -> bool:
        """Whether something may be said here. Otherwise that is being changed, and the conversation goes on later."""
        as_compared = member.place, self._state.logs.version
        if self._compared.get(member.id) != as_compared:
            self._compared[member.id] = as_compared
            self.complete(member, member.roster)
        return not self._changes.is_awaited(member)

    def complete(self, member: DeviceMembership, clients: Iterable[ClientId]) -> None:
        """Have the devices of these clients added, and those removed that were revoked."""
        slots, logs = member.slots, self._state.logs
        lacking = [Leaf(client, each.key.raw) for client in clients for each in logs.of(client).current]
        add = tuple(leaf for leaf in lacking if leaf not in slots and self._may_try(member, leaf))[:TASKS_AT_ONCE]
        remove = tuple(leaf for leaf in slots if leaf is not None and logs.standing_of(leaf) == "removed")
        if add or remove:
            self._tried_at.update(dict.fromkeys(((member.id, leaf) for leaf in add), self._state.now))
            self._changes.want(member, ChangeDevices(add, remove))

    def _may_try(self, member: DeviceMembership, leaf: Leaf) -> bool:
        tried_at = self._tried_at.get((member.id, leaf))
        return tried_at is None or tried_at + TRIED_AGAIN_MS <= self._state.now
