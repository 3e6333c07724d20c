"""Groups and their members, and blocks."""

from collections.abc import Hashable, Mapping

from ironwire.ids import ClientId, Role
from ironwire.record import record
from ironwire.store.contract.records import Envelope


@record
class ChangeGroup:
    """Bring the group that the envelope goes to from one epoch to the next, and put the envelope into all mailboxes of
    all who were members or are now, that of the device which asked for the change included: each sees the change in
    order with the group's messages. Otherwise as `Append` with `ToGroup`.

    `expected_epoch` is the one that the change was made from; 0 makes the group. `name` and `roles` are the whole of it
    afterwards; whoever is a member already keeps the place in the order. A group without members is gone. Results in
    `Appended`, `Duplicate`, `IdTaken`, `Held`, `EpochPassed`, or `TooManyGroups`.
    """

    envelope: Envelope
    digest: bytes
    expected_epoch: int
    name: str | None
    roles: Mapping[ClientId, Role]
    lane: Hashable | None = None


@record
class EpochPassed:
    """The group has another epoch than the expected one, or does not exist, or does already; nothing was changed."""


@record
class TooManyGroups:
    """This client, the first such of those to be added, is in as many groups as one may be; nothing was changed."""

    client: ClientId


@record
class AddBlock:
    """`client` wants nothing more from `blocked`; repeating it changes nothing. Results in `Blocked`, or
    `TooManyBlocks`.
    """

    client: ClientId
    blocked: ClientId


@record
class Blocked:
    pass


@record
class TooManyBlocks:
    pass


@record
class RemoveBlock:
    """Ends a block, if there is one. Results in `Unblocked`."""

    client: ClientId
    blocked: ClientId


@record
class Unblocked:
    pass
