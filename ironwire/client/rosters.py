"""The groups of a client as far as it knows them without asking: members and epoch.

Rule: what is known is whole, or not known. Knowledge begins with an answer of the server; from there each change leads
to the next epoch (docs/protocol.md, section 7.2). Where one is missing, the group has to be asked for anew; a gap in
the mailbox says of which groups one may be.
"""

from collections.abc import Iterable

from attrs import define, evolve, field

from ironwire.ids import ClientId, GroupId
from ironwire.wire.messages import GroupChanged, GroupDetails, GroupMember


@define(eq=False)
class Rosters:
    """The groups of the client `own`."""

    _own: ClientId
    _known: dict[GroupId, GroupDetails] = field(factory=dict, init=False)
    _newest: dict[GroupId, int] = field(factory=dict, init=False)
    """The highest epoch that this client has heard of."""
    forgotten: int = field(default=0, init=False)
    """Counts what had to be forgotten: an answer that was asked for before may be older than a missed change."""

    def get(self, group: GroupId) -> GroupDetails | None:
        """The group as it is now; None where that has to be asked."""
        details = self._known.get(group)
        return details if details is not None and details.epoch == self._newest[group] else None

    def learn(self, details: GroupDetails) -> None:
        """The server has answered; it may have been overtaken by a change."""
        if details.epoch >= self._newest.get(details.group, 0):
            self._known[details.group] = details
            self._newest[details.group] = details.epoch

    def hear(self, group: GroupId, epoch: int) -> None:
        """The group has come to `epoch`, by a change that is still on its way here."""
        self._newest[group] = max(epoch, self._newest.get(group, 0))

    def follow(self, change: GroupChanged) -> None:
        """A change came: the next one, one that was known before, or one that says that others are missing."""
        self.hear(change.group, change.epoch)
        known = self._known.get(change.group)
        if self._own in change.removed:
            self._known.pop(change.group, None)
        elif known is not None and change.epoch == known.epoch + 1:
            self._known[change.group] = after(known, change)

    def forget_all(self) -> None:
        """Changes may have been missed, of any group."""
        self.forget(list(self._known))

    def forget(self, groups: Iterable[GroupId]) -> None:
        """Changes of these groups were missed."""
        self.forgotten += 1
        for group in groups:
            self._known.pop(group, None)


def after(details: GroupDetails, change: GroupChanged) -> GroupDetails:
    """The group after `change`, which is the next one. A new client without a given role is a member."""
    roles = {member.client: member.role for member in change.roles}
    stayed = [member for member in details.members if member.client not in change.removed]
    came = [GroupMember(client, "member") for client in change.added]
    members = [evolve(member, role=roles.get(member.client, member.role)) for member in [*stayed, *came]]
    return evolve(details, epoch=change.epoch, name=change.name or details.name, members=members)
