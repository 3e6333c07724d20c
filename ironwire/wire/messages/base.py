"""A message class declares its verb, its direction, and what it counts for."""

from collections.abc import Callable
from typing import ClassVar

from ironwire.ids import Address, GroupId, is_group

Members = Callable[[GroupId], int]
"""How many members a group has; 0 of a group that is none of the client's business."""


class ClientMessage:
    """A verb that clients say."""

    __slots__ = ()

    verb: ClassVar[str]
    is_ordered: ClassVar[bool] = False
    """Accepted in the order in which one session sends it, or not at all (section 4)."""

    def surcharge(self, members: Members) -> int:
        """How many messages more than one this one counts for: what it makes the server read, write or tell (section
        6.1).
        """
        return 0


class ServerMessage:
    """A verb that the server says."""

    __slots__ = ()

    verb: ClassVar[str]


class Answer(ServerMessage):
    """The server's reply to a request that it has carried out."""

    __slots__ = ()


def members_at(to: Address, members: Members) -> int:
    """The surcharge of what goes to a client or to a group."""
    return members(GroupId(to)) if is_group(to) else 0
