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

from collections.abc import Sequence
from typing import NewType, Protocol

from attrs import frozen

from ironwire.ids import Address, ClientId, DeviceId, MessageId

MailboxId = NewType("MailboxId", int)


@frozen
class Quota:
    """When a mailbox is full, and how many a client may have. A full mailbox opens again at half of both bounds."""

    mailbox_envelopes: int
    mailbox_bytes: int
    devices_per_client: int


@frozen
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


@frozen
class Entry:
    """One place in a mailbox. `is_own` marks the copy for another device of the sender."""

    seq: int
    envelope: Envelope
    is_own: bool


@frozen
class Archived:
    """One place in the history. `number` grows in the order of acceptance and pages through it."""

    number: int
    envelope: Envelope


@frozen
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


# --- operations, and what each may result in -------------------------------------------------------------------------


@frozen
class Register:
    """The device was seen now; make its mailbox if it has none. Results in `Mailbox`, or `TooManyDevices`."""

    client: ClientId
    device: DeviceId
    now_ms: int


@frozen
class TooManyDevices:
    pass


@frozen
class Touch:
    """The device of this mailbox was seen now; a mailbox that is gone stays gone. Results in `Touched`."""

    mailbox: MailboxId
    now_ms: int


@frozen
class Touched:
    pass


@frozen
class Remove:
    """Delete the device with its mailbox. Results in `Removed`, or `NoSuchDevice`."""

    client: ClientId
    device: DeviceId


@frozen
class Removed:
    pass


@frozen
class NoSuchDevice:
    pass


@frozen
class Append:
    """Put the envelope into every mailbox that it is owed to: all of the recipient's, and the sender's others.

    `digest` tells bodies apart when an id comes again. `is_live` says that the recipient has a session that can take
    it without a mailbox. One that `is_archived` stays readable after its last ack, until `expire`. Results in
    `Stored`, `Duplicate`, `IdTaken`, `MailboxFull`, or `Undeliverable`: no mailbox, and nobody live.
    """

    envelope: Envelope
    digest: bytes
    is_live: bool
    is_archived: bool = False


@frozen
class Placed:
    """Where a stored envelope went."""

    mailbox: MailboxId
    client: ClientId
    device: DeviceId
    seq: int
    is_own: bool


@frozen
class Stored:
    placed: tuple[Placed, ...]


@frozen
class Duplicate:
    """The same id with the same body is known: it was accepted at `ts`."""

    ts: int


@frozen
class IdTaken:
    """The same id with another body is known."""


@frozen
class Undeliverable:
    """Nobody can get the envelope; nothing was stored."""


@frozen
class MailboxFull:
    """One of the mailboxes has no room; nothing was stored for anyone."""


@frozen
class Ack:
    """Everything up to `upto` may be erased from the mailbox; repeating it, or going back, changes nothing. Results
    in `Acked`.
    """

    mailbox: MailboxId
    upto: int


@frozen
class Acked:
    pass


@frozen
class Forget:
    """The envelope with this id reached nobody after all: the id may come again, and the archive drops it. Copies for
    other devices of the sender stay where they are. Results in `Forgotten`.
    """

    sender: ClientId
    device: DeviceId | None
    id: MessageId


@frozen
class Forgotten:
    pass


Operation = Register | Touch | Remove | Append | Ack | Forget
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
    | Acked
    | Forgotten
)


@frozen
class Expired:
    """What `expire` removed: `entries` from mailboxes, and whole devices."""

    entries: int
    devices: int


@frozen
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

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        """Up to `limit` entries with a seq above `after`, in order. Numbers missing in between have expired.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def read_history(self, client: ClientId, peer: Address, *, before: int | None, limit: int) -> list[Archived]:
        """Up to `limit` archived envelopes between `client` and `peer`, in either direction, newest first: the newest
        of all, or those whose number is below `before`.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def statistics(self) -> StoreStatistics: ...
