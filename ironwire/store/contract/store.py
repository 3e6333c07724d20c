"""The contract of a durable store: what is atomic, what is ordered, what a crash may do.

A store is changed by operations, and only in batches:

- **Atomic.** `apply(batch)` happens whole or not at all, whatever ends it: an error, a full disk, a crash of the
  machine.
- **Durable.** Once `apply` has returned, what it did survives a crash. Before that nobody may be told of it.
- **Ordered.** The operations of a batch take effect in their order, and each sees what those before it did. One batch
  is applied at a time; a second caller waits. What belongs to one lane is accepted in order or not at all: after a full
  mailbox, the rest of the lane in this batch is `Held` (`lanes.py`).
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
from typing import Protocol

from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.operations import Known, Operation, Result
from ironwire.store.contract.records import (
    Archived,
    Entry,
    Erased,
    Expired,
    Group,
    Mailbox,
    MailboxId,
    Membership,
    StoreStatistics,
)

HISTORY_BYTES = 256 * 1024
"""A page of the history ends early when it has this many: it must fit into an outbox, and into what clients take. So a
store need not read more than the one that reaches it.
"""


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

        Waits its turn like a batch, or several times if there is much; each time it is one, atomic and durable.

        Raises:
            StoreError: the store cannot work; what was removed before stays removed.
        """
        ...

    async def erase(self, client: ClientId) -> Erased:
        """Remove the client's devices with their mailboxes, its blocks, and every envelope from or to it, with its
        place in the history. A copy in somebody else's mailbox stays, and is gone with its last ack. Groups, blocks of
        others and a ban are not touched, and ids are known for the retention period: by themselves they name nobody.

        Waits its turn like a batch, and is one: atomic and durable.

        Raises:
            StoreError: the store cannot work; nothing was removed.
        """
        ...

    async def ban(self, client: ClientId, now_ms: int) -> bool:
        """Whether this is news; durable when it returns.

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

    def is_banned(self, client: ClientId) -> bool:
        """From memory."""
        ...

    async def checkpoint(self) -> None:
        """Make the store's files say all that was applied, for whoever looks at them beside it.

        Raises:
            StoreError: the store cannot work.
        """
        ...

    async def scrub(self) -> None:
        """Overwrite what erased envelopes left behind in the store's files; and so find out whether a store that
        failed works again.

        Raises:
            StoreError: the store cannot work.
        """
        ...

    async def newest_ms(self) -> int | None:
        """The newest time that the store knows: when a device was seen, or an envelope accepted. None if it is empty.

        Raises:
            StoreError: the store cannot work.
        """
        ...

    def mailbox_count(self, client: ClientId) -> int:
        """In how many mailboxes an envelope to or from the client may have a place. Quick enough to be asked for every
        envelope; counts what a batch under way has begun.

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

    def recall(self, sender: ClientId, device: DeviceId | None, id: MessageId, digest: bytes) -> Known | None:  # noqa: A002  # the frame's
        """What `Append` or `ChangeGroup` with this id would result in, if the id is known. Quick enough for the event
        loop.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def group(self, group: GroupId) -> Group | None:
        """Quick enough to be asked for every signal.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def groups_of(self, client: ClientId) -> Sequence[Membership]:
        """The groups of which the client is a member, oldest membership first. Quick enough for the event loop.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        """Whom the client has blocked. Quick enough to be asked for every envelope that is not stored; `Append` looks
        for itself.

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

    def losses(self, mailbox: MailboxId, first: int, last: int) -> Sequence[Loss]:
        """Why the numbers `first` to `last`, all of which `read` left out, hold nothing: in order, and without a hole;
        empty if the mailbox is gone. What an ack has passed may be forgotten. Quick enough for the event loop.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def read_history(self, client: ClientId, peer: Address, *, before: int | None, limit: int) -> list[Archived]:
        """Up to `limit` archived envelopes between `client` and `peer`, in either direction, newest first: the newest
        of all, or those whose number is below `before`. It may end with the one that reaches `HISTORY_BYTES`. Of a
        group: those since the client became a member, and none if it is not one.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def statistics(self) -> StoreStatistics: ...
