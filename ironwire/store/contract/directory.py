"""The directory: groups and their members, who has blocked whom, and whom the operator has banned."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ironwire.ids import ClientId, GroupId, Role
from ironwire.record import record


@record
class Group:
    """A group as it stands: its members with their roles, in the order in which they came."""

    id: GroupId
    epoch: int
    name: str | None
    roles: Mapping[ClientId, Role]


@record
class Membership:
    """A group as one who is in it finds it in a list: `role` is that client's, `members` how many there are."""

    group: GroupId
    epoch: int
    role: Role
    members: int
    name: str | None


class Directory(Protocol):
    async def group(self, group: GroupId) -> Group | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        ...

    async def groups_of(self, client: ClientId) -> Sequence[Membership]:
        """The groups of which the client is a member, oldest membership first.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        """The clients that this one has blocked.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def ban(self, client: ClientId, now_ms: int) -> bool:
        """Whether this is news; durable, and known to `glance.is_banned`, when it returns.

        Raises:
            StoreError: the store cannot work.
        """
        ...

    async def unban(self, client: ClientId) -> bool:
        """Whether there was a ban to end; durable when it returns.

        Raises:
            StoreError: the store cannot work.
        """
        ...
