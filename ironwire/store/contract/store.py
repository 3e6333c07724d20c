"""The contract of a durable store: what is atomic, what is ordered, what a crash may do.

A store is changed by operations, and only in batches:

- **Atomic.** `apply(batch)` happens whole or not at all, whatever ends it: an error, a full disk, a crash of the
  machine.
- **Durable.** Once `apply` has returned, what it did survives a crash. Before that nobody may be told of it.
- **Ordered.** The operations of a batch take effect in their order, and each sees what those before it did. One batch
  is applied at a time; a second caller waits. What belongs to one lane is accepted in order or not at all: after a full
  mailbox, the rest of the lane in this batch is `Held` (`order.py`).
- **Told.** `apply` returns one result for each operation, in order. A refusal (a full mailbox, a known id) is a
  result and changes nothing; only a store that cannot work raises `StoreError`, and then nothing of the batch has
  happened.
- **Cancelled.** A cancelled `apply` may have happened. So senders repeat with the same id, and ids are remembered.

Body and place are apart. An envelope is stored once; each mailbox that it is owed to holds an entry that points at
it. An envelope that no mailbox owes any more is erased: its body at once, unless it is archived; its id after the
retention period.

There are two kinds of reads, told apart by their form:

- **Exact** reads are coroutines. They see every batch whose `apply` had returned before the call, and nothing of a
  batch that is under way. Whatever a client is told, or is refused, follows from an exact read or from a result.
- **A glance** (`store.glance`) is synchronous, from memory, and may be old: for costs, typing, presence and calls,
  where a wrong answer costs a little time or a lost signal. A promise never follows from a glance.

Operations and their results stand in `operations/`. The reads, and the changes that are no operations, are declared
by subject: here, in `directory.py`, in `device_log.py`, in `backups.py` and in `maintenance.py`.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId
from ironwire.store.contract.backups import Backups
from ironwire.store.contract.device_log import DeviceLogs
from ironwire.store.contract.directory import Directory, Group
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.maintenance import Maintenance
from ironwire.store.contract.operations import Known, Operation, Result
from ironwire.store.contract.records import Archived, Entry, Mailbox, MailboxId


class Mailboxes(Protocol):
    """Entries that wait for devices, losses among them, and the message ids that are known."""

    async def mailboxes_of(self, client: ClientId) -> Sequence[Mailbox]:
        """The client's mailboxes, oldest first.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        """Up to `limit` entries with a seq above `after`, in order; fewer if they are large, but not none. Numbers
        missing in between are lost; `losses` says why.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def losses(self, mailbox: MailboxId, first: int, last: int) -> Sequence[Loss]:
        """Why the numbers `first` to `last`, all of which `read` left out, hold nothing: in order, and without a hole;
        empty if the mailbox is gone. What an ack has passed may be forgotten.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def recall(self, sender: ClientId, device: DeviceId | None, id: MessageId, digest: bytes) -> Known | None:  # noqa: A002  # the frame's
        """The result of an `Append` or `ChangeGroup` with this id, if the id is known.

        Raises:
            StoreError: the store cannot be read.
        """
        ...


class Archive(Protocol):
    """The history: envelopes that stay readable after the last ack, page by page."""

    async def read_history(self, client: ClientId, peer: Address, *, before: int | None, limit: int) -> list[Archived]:
        """Up to `limit` archived envelopes between `client` and `peer`, in either direction, newest first: the newest
        of all, or those whose number is below `before`. It may end with the one that reaches `HISTORY_BYTES`. Of a
        group: those since the client became a member, and none if it is not one.

        Raises:
            StoreError: the store cannot be read.
        """
        ...


class Glance(Protocol):
    """Quick enough to be asked for every envelope and every signal. Never the ground of a promise: see above.

    In a store that belongs to one process a glance is as new as an exact read, or newer.
    """

    def mailbox_count(self, client: ClientId) -> int:
        """In how many mailboxes an envelope to or from the client may have an entry; counts what a batch under way has
        begun.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def mailbox_counts(self, clients: Iterable[ClientId]) -> list[int]:
        """As `mailbox_count`, of many clients.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def group(self, group: GroupId) -> Group | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        ...

    def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        """The clients that the client has blocked. `Append` looks for itself: this is for signals that are not stored.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def is_banned(self, client: ClientId) -> bool: ...


class Store(Mailboxes, Directory, DeviceLogs, Backups, Archive, Maintenance, Protocol):
    """See the module's docstring for what every implementation owes. Nothing may be asked of it before `open` or
    after `close`.
    """

    @property
    def glance(self) -> Glance: ...

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
