"""The contract of a durable store: what is atomic, what is ordered, what a crash may do.

A store is changed by operations, and only in batches:

- **Atomic.** `apply(batch)` happens whole or not at all, whatever ends it: an error, a full disk, a crash of the
  machine.
- **Durable.** Once `apply` has returned, what it did survives a crash. Before that nobody may be told of it.
- **Ordered.** The operations of a batch take effect in their order, and each sees what those before it did. One batch
  is applied at a time; a second caller waits.
- **Told.** `apply` returns one result for each operation, in order. A refusal (a full mailbox, a known id) is a
  result and changes nothing; only a store that cannot work raises `StoreError`, and then nothing of the batch has
  happened.
- **Cancelled.** A cancelled `apply` may have happened. So senders repeat with the same id, and ids are remembered.

Reads see what was applied and nothing of a batch that is under way.

Body and place are apart. An envelope is stored once; each mailbox that it is owed to holds an entry that points at
it. An envelope that no mailbox owes any more is erased: its body at once, unless it is archived; its id after the
retention period.
"""

from collections.abc import Mapping, Sequence
from typing import NewType, Protocol

from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId, Role
from ironwire.record import record

MailboxId = NewType("MailboxId", int)


@record
class Quota:
    """When a mailbox is full, and how much a client may have. A full mailbox opens again at half of both bounds."""

    mailbox_envelopes: int
    mailbox_bytes: int
    devices_per_client: int
    groups_per_client: int = 1_000
    blocks_per_client: int = 1_000


@record
class Envelope:
    """What is stored and routed. `payload` is the JSON object that recipients get; `ts` is when it was accepted, in
    Unix ms.
    """

    verb: str
    sender: ClientId
    device: DeviceId | None
    to: Address
    id: MessageId | None
    ts: int
    payload: bytes


@record
class Entry:
    """One place in a mailbox. `is_own` marks the copy for another device of the sender."""

    seq: int
    envelope: Envelope
    is_own: bool


@record
class Archived:
    """One place in the history. `number` grows in the order of acceptance and pages through it."""

    number: int
    envelope: Envelope


@record
class Mailbox:
    """A device's mailbox as it stands. `acked` and `tail` are sequence numbers: the last acknowledged, the last given
    out (0: none yet).

    `epoch` tells this mailbox from one that the same device had before it was removed: a client that finds another
    epoch starts anew.
    """

    id: MailboxId
    client: ClientId
    device: DeviceId
    epoch: int
    acked: int
    tail: int
    waiting: int
    waiting_bytes: int
    created_ms: int
    seen_ms: int


@record
class Group:
    """A group as it stands: its members with their roles, in the order in which they came."""

    id: GroupId
    epoch: int
    name: str | None
    roles: Mapping[ClientId, Role]


# --- operations, and what each may result in -------------------------------------------------------------------------


@record
class Register:
    """The device was seen now; make its mailbox if it has none. Results in `Mailbox`, or `TooManyDevices`."""

    client: ClientId
    device: DeviceId
    now_ms: int


@record
class TooManyDevices:
    pass


@record
class Touch:
    """The device of this mailbox was seen now; a mailbox that is gone stays gone. Results in `Touched`."""

    mailbox: MailboxId
    now_ms: int


@record
class Touched:
    pass


@record
class Remove:
    """Delete the device with its mailbox. Results in `Removed`, or `NoSuchDevice`."""

    client: ClientId
    device: DeviceId


@record
class Removed:
    pass


@record
class NoSuchDevice:
    pass


@record
class Append:
    """Put the envelope into every mailbox that it is owed to: all of the recipient's, and the sender's others.

    `digest` tells bodies apart when an id comes again. `is_live` says that the recipient has a session that can take
    it without a mailbox. One that `is_archived` stays readable after its last ack, until `expire`. One that
    `is_blocked` by its recipient takes the same way except into the recipient's mailboxes, and is not archived. Results
    in `Stored`, `Duplicate`, `IdTaken`, `MailboxFull`, or `Undeliverable`: no mailbox, and nobody live.

    To a group: into all mailboxes of its members, at the moment of the commit. A member's mailbox that is full loses
    the place, which later shows as a gap: a member who never reads must not silence the others. Results in `Stored`,
    `Duplicate`, `IdTaken`, or `NotMember`.
    """

    envelope: Envelope
    digest: bytes
    is_live: bool
    is_archived: bool = False
    is_blocked: bool = False


@record
class ChangeGroup:
    """Bring a group from one epoch to the next, and put the envelope that tells of it into all mailboxes of all who
    were members or are now, as `Append` to a group does.

    `expected_epoch` is the one that the change was made from; 0 makes the group. `roles` are the members afterwards; a
    group without members is gone. Results in `Stored`, `Duplicate`, `IdTaken`, `EpochPassed`, or `TooManyGroups`.
    """

    envelope: Envelope
    digest: bytes
    expected_epoch: int
    name: str | None
    roles: Mapping[ClientId, Role]


@record
class EpochPassed:
    """The group has another epoch than the expected one, or there is no such group; nothing was changed."""


@record
class TooManyGroups:
    """This client, who was to be added, is in as many groups as one may be; nothing was changed."""

    client: ClientId


@record
class NotMember:
    """There is no such group, or the sender is not in it; nothing was stored."""


@record
class Placed:
    """Where a stored envelope went."""

    mailbox: MailboxId
    client: ClientId
    device: DeviceId
    seq: int
    is_own: bool


@record
class Stored:
    """`owed_live` are the clients whose sessions without a mailbox get the envelope too, where it went to a group."""

    placed: tuple[Placed, ...]
    owed_live: tuple[ClientId, ...] = ()


@record
class Duplicate:
    """The same id with the same body is known: it was accepted at `ts`, for `to`."""

    ts: int
    to: Address


@record
class IdTaken:
    """The same id with another body is known."""


@record
class Undeliverable:
    """Nobody can get the envelope; nothing was stored."""


@record
class MailboxFull:
    """One of the mailboxes has no room; nothing was stored for anyone."""


@record
class Ack:
    """Everything up to `upto` may be erased from the mailbox; repeating it, or going back, changes nothing. Results
    in `Acked`.
    """

    mailbox: MailboxId
    upto: int


@record
class Acked:
    pass


@record
class Forget:
    """The envelope with this id reached nobody after all: the id may come again, and the archive drops it. Copies for
    other devices of the sender stay where they are. Results in `Forgotten`.
    """

    sender: ClientId
    device: DeviceId | None
    id: MessageId


@record
class Forgotten:
    pass


@record
class Block:
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
class Unblock:
    """Ends a block, if there is one. Results in `Unblocked`."""

    client: ClientId
    blocked: ClientId


@record
class Unblocked:
    pass


Operation = Register | Touch | Remove | Append | ChangeGroup | Ack | Forget | Block | Unblock
Result = (
    Mailbox
    | TooManyDevices
    | Touched
    | Removed
    | NoSuchDevice
    | Stored
    | Duplicate
    | IdTaken
    | MailboxFull
    | Undeliverable
    | EpochPassed
    | TooManyGroups
    | NotMember
    | Acked
    | Forgotten
    | Blocked
    | TooManyBlocks
    | Unblocked
)


@record
class Expired:
    """What `expire` removed: `entries` from mailboxes, and whole devices."""

    entries: int
    devices: int


@record
class StoreStatistics:
    """What was applied since the store was opened, and whether the last attempt to change it failed."""

    batches_total: int
    operations_total: int
    is_failing: bool


class Store(Protocol):
    """See the module's docstring for what every implementation owes. Nothing may be asked of it before `open` or
    after `close`.
    """

    async def open(self) -> None:
        """Raises:
        StoreError: another process has it, it is damaged or newer than this program, or it cannot be read or written.
        """
        ...

    async def close(self) -> None:
        """Waits for the batch that is under way."""
        ...

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        """Raises:
        StoreError: the store cannot work; nothing of the batch has happened.
        """
        ...

    async def expire(self, *, before_ms: int, archived_before_ms: int) -> Expired:
        """Erase envelopes that were accepted before `before_ms`, forget ids from then, and drop devices that were not
        seen since. What is archived stays readable if it was accepted at `archived_before_ms` or later, and no longer.

        Waits its turn like a batch, and is one: atomic and durable.

        Raises:
            StoreError: the store cannot work; nothing was removed.
        """
        ...

    async def scrub(self) -> None:
        """Overwrite what erased envelopes left behind in the store's files; and so find out whether a store that
        failed works again.

        Raises:
            StoreError: the store cannot work.
        """
        ...

    def has_mailboxes(self, client: ClientId) -> bool:
        """Whether an envelope to or from the client may be owed to a mailbox. Quick; counts what a batch under way
        has begun.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def mailboxes_of(self, client: ClientId) -> Sequence[Mailbox]:
        """The client's mailboxes, oldest first. Quick enough for the event loop.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def group(self, group: GroupId) -> Group | None:
        """Quick enough for the event loop.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def groups_of(self, client: ClientId) -> Sequence[Group]:
        """The groups of which the client is a member, oldest membership first. Quick enough for the event loop.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        """Whom the client has blocked. Quick enough to be asked for every envelope.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        """Up to `limit` entries with a seq above `after`, in order. Numbers missing in between have expired.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def read_history(self, client: ClientId, peer: Address, *, before: int | None, limit: int) -> list[Archived]:
        """Up to `limit` archived envelopes between `client` and `peer`, in either direction, newest first: the newest
        of all, or those whose number is below `before`. Of a group: those since the client became a member, and none if
        it is not one.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def statistics(self) -> StoreStatistics: ...
