"""Groups: a durable membership that changes by one epoch at a time (docs/protocol.md, section 7.2)."""

from typing import Annotated, ClassVar

from ironwire.ids import ClientId, DeviceId, GroupId, Role
from ironwire.limits import CLIENTS_PER_FRAME, GROUP_MEMBERS, GROUPS_PER_CLIENT
from ironwire.record import record
from ironwire.wire.messages.fields import Count, GivenGroupName, GroupName, Items, UnixMs

Clients = Annotated[list[ClientId], Items(0, CLIENTS_PER_FRAME)]
SomeClients = Annotated[list[ClientId], Items(1, CLIENTS_PER_FRAME)]


@record
class GroupCreate:
    """Makes a group of this client, who is its admin, and `clients`."""

    verb: ClassVar[str] = "group_create"

    clients: Clients
    name: GroupName | None = None


@record
class GroupAdd:
    """Makes `clients` members. With `if_epoch`, here and in every other change: only if that is still the epoch."""

    verb: ClassVar[str] = "group_add"

    group: GroupId
    clients: SomeClients
    if_epoch: Count | None = None


@record
class GroupRemove:
    """Removes `clients`: this change is the last they get."""

    verb: ClassVar[str] = "group_remove"

    group: GroupId
    clients: SomeClients
    if_epoch: Count | None = None


@record
class GroupLeave:
    """Removes this client itself."""

    verb: ClassVar[str] = "group_leave"

    group: GroupId
    if_epoch: Count | None = None


@record
class GroupRole:
    """Gives a member another role."""

    verb: ClassVar[str] = "group_role"

    group: GroupId
    client: ClientId
    role: Role
    if_epoch: Count | None = None


@record
class GroupRename:
    """Gives the group another name."""

    verb: ClassVar[str] = "group_rename"

    group: GroupId
    name: GroupName
    if_epoch: Count | None = None


@record
class GroupInfo:
    """Asks for a group of which this client is a member."""

    verb: ClassVar[str] = "group_info"

    group: GroupId


@record
class Groups:
    """Asks for all groups of which this client is a member."""

    verb: ClassVar[str] = "groups"


@record
class GroupMember:
    client: ClientId
    role: Role


@record
class GroupChanged:
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
class GroupDetails:
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
class GroupList:
    """The answer to `groups`, oldest membership first."""

    verb: ClassVar[str] = "groups"

    groups: Annotated[list[GroupSummary], Items(0, GROUPS_PER_CLIENT)]
