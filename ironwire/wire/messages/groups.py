"""Groups: a durable membership that changes by one epoch at a time (docs/protocol.md, section 7.2)."""

from typing import Annotated, ClassVar

from ironwire.ids import ClientId, DeviceId, GroupId, Role
from ironwire.limits import CLIENTS_PER_FRAME, GROUP_MEMBERS, GROUPS_PER_CLIENT
from ironwire.record import record
from ironwire.wire.messages.base import Answer, ClientMessage, Members, ServerMessage
from ironwire.wire.messages.fields import Count, GivenGroupName, GroupName, Items, UnixMs

Clients = Annotated[list[ClientId], Items(0, CLIENTS_PER_FRAME)]
SomeClients = Annotated[list[ClientId], Items(1, CLIENTS_PER_FRAME)]


@record
class GroupCreate(ClientMessage):
    """Makes a group of this client, who is its admin, and `clients`."""

    verb: ClassVar[str] = "group_create"
    is_ordered = True

    clients: Clients
    name: GroupName | None = None

    def surcharge(self, members: Members) -> int:
        return len(self.clients)


@record
class GroupAdd(ClientMessage):
    """Makes `clients` members. With `if_epoch`, here and in every other change: only if that is still the epoch."""

    verb: ClassVar[str] = "group_add"
    is_ordered = True

    group: GroupId
    clients: SomeClients
    if_epoch: Count | None = None

    def surcharge(self, members: Members) -> int:
        return len(self.clients) + members(self.group)


@record
class GroupRemove(ClientMessage):
    """Removes `clients`: this change is the last they get."""

    verb: ClassVar[str] = "group_remove"
    is_ordered = True

    group: GroupId
    clients: SomeClients
    if_epoch: Count | None = None

    def surcharge(self, members: Members) -> int:
        return len(self.clients) + members(self.group)


@record
class GroupLeave(ClientMessage):
    """Removes this client itself."""

    verb: ClassVar[str] = "group_leave"
    is_ordered = True

    group: GroupId
    if_epoch: Count | None = None

    def surcharge(self, members: Members) -> int:
        return members(self.group)


@record
class GroupRole(ClientMessage):
    """Gives a member another role."""

    verb: ClassVar[str] = "group_role"
    is_ordered = True

    group: GroupId
    client: ClientId
    role: Role
    if_epoch: Count | None = None

    def surcharge(self, members: Members) -> int:
        return members(self.group)


@record
class GroupRename(ClientMessage):
    """Gives the group another name."""

    verb: ClassVar[str] = "group_rename"
    is_ordered = True

    group: GroupId
    name: GroupName
    if_epoch: Count | None = None

    def surcharge(self, members: Members) -> int:
        return members(self.group)


@record
class GroupInfo(ClientMessage):
    """Asks for a group of which this client is a member."""

    verb: ClassVar[str] = "group_info"

    group: GroupId

    def surcharge(self, members: Members) -> int:
        return 99


@record
class Groups(ClientMessage):
    """Asks for all groups of which this client is a member."""

    verb: ClassVar[str] = "groups"

    def surcharge(self, members: Members) -> int:
        return 99


@record
class GroupMember:
    client: ClientId
    role: Role


@record
class GroupChanged(ServerMessage):
    """A change by `by` brought the group to `epoch`. An envelope like any other, to every former and present member;
    `roles` and `name` hold the difference.
    """

    verb: ClassVar[str] = "group_changed"

    group: GroupId
    epoch: Count
    by: ClientId
    added: Annotated[list[ClientId], Items(0, CLIENTS_PER_FRAME + 1)]
    """The creator of a group is one of them."""
    removed: Clients
    roles: Annotated[list[GroupMember], Items(0, CLIENTS_PER_FRAME + 1)]
    name: GivenGroupName | None = None
    ts: UnixMs | None = None
    device: DeviceId | None = None


@record
class GroupDetails(Answer):
    """The answer to `group_info`: members in the order in which they came."""

    verb: ClassVar[str] = "group_info"

    group: GroupId
    epoch: Count
    members: Annotated[list[GroupMember], Items(1, GROUP_MEMBERS)]
    name: GivenGroupName | None = None


@record
class GroupSummary:
    """One of this client's groups: its own role there, and how many are in it."""

    group: GroupId
    epoch: Count
    role: Role
    members: Count
    name: GivenGroupName | None = None


@record
class GroupList(Answer):
    """The answer to `groups`, oldest membership first."""

    verb: ClassVar[str] = "groups"

    groups: Annotated[list[GroupSummary], Items(0, GROUPS_PER_CLIENT)]
