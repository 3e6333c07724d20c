"""A client's groups: durable memberships, each of which changes by one epoch at a time (docs/protocol.md, section 7.2).

Texts and files go to a group as they go to a client, through `Client`. What comes from one carries `group`, and every
change comes as a `GroupChanged`, in order with them.
"""

from collections.abc import Iterable

from attrs import define

from ironwire.client.connection.requests import Requests
from ironwire.client.errors import NotTheProtocol
from ironwire.client.rosters import Rosters
from ironwire.ids import ClientId, GroupId, Role
from ironwire.wire import messages as msg


@define(eq=False)
class OwnGroups:
    """`Client.groups`. Changes wait through reconnections, and are made once however often they had to be sent.

    With `if_epoch`, a change is made only if that is still the group's epoch. `epoch` of the answer is what it is then.

    Raises, every one of them:
        Refused: `not_found`: there is no such group, or this client is not in it. `forbidden`: only an admin may do
            this. `conflict`: the epoch has passed, or the group would be left without an admin. `quota`: somebody, or
            the group, has as much as the server allows.
        SessionEnded, AuthenticationRefused, NotTheProtocol: the client has stopped; whether the change was made is
            not known.
    """

    _requests: Requests
    _rosters: Rosters

    async def create(self, clients: Iterable[ClientId], name: str | None = None) -> GroupId:
        """Make a group of this client, which is its admin, and `clients`."""
        accepted = await self._change(msg.GroupCreate([*clients], name))
        if accepted.group is None:
            raise NotTheProtocol("the server made a group and did not say which")
        return accepted.group

    async def add(self, group: GroupId, clients: Iterable[ClientId], *, if_epoch: int | None = None) -> msg.Accepted:
        """Make `clients` members."""
        return await self._change(msg.GroupAdd(group, [*clients], if_epoch))

    async def remove(self, group: GroupId, clients: Iterable[ClientId], *, if_epoch: int | None = None) -> msg.Accepted:
        """Remove `clients`; they learn of it, and of nothing after it."""
        return await self._change(msg.GroupRemove(group, [*clients], if_epoch))

    async def leave(self, group: GroupId, *, if_epoch: int | None = None) -> msg.Accepted:
        """Remove this client. The last admin cannot leave while others are in the group."""
        return await self._change(msg.GroupLeave(group, if_epoch))

    async def set_role(
        self, group: GroupId, client: ClientId, role: Role, *, if_epoch: int | None = None
    ) -> msg.Accepted:
        """Make a member an admin, or an admin a member like others."""
        return await self._change(msg.GroupRole(group, client, role, if_epoch))

    async def rename(self, group: GroupId, name: str, *, if_epoch: int | None = None) -> msg.Accepted:
        """Give the group another name, for all of its members."""
        return await self._change(msg.GroupRename(group, name, if_epoch))

    async def info(self, group: GroupId) -> msg.GroupDetails:
        """Name, epoch and members of the group: from what this client knows, as long as it knows of every change."""
        rosters = self._rosters
        known = rosters.get(group)
        if known is not None:
            return known
        forgotten = rosters.forgotten
        details = await self._requests.ask(msg.GroupInfo(group), msg.GroupDetails)
        if rosters.forgotten == forgotten:
            rosters.learn(details)
        return details

    async def all(self) -> list[msg.GroupSummary]:
        """The groups in which this client is, oldest membership first, as the server has them."""
        return (await self._requests.ask(msg.Groups(), msg.GroupList)).groups

    async def _change(self, change: msg.ClientMessage) -> msg.Accepted:
        accepted = await self._requests.ask(change, msg.Accepted)
        if accepted.group is not None and accepted.epoch is not None:
            self._rosters.hear(accepted.group, accepted.epoch)
        return accepted
