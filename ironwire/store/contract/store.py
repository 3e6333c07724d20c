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

Body and place are apart. An envelope is stored once; each mailbox that it is owed to holds an entry that points at
it. An envelope that no mailbox owes any more is erased: its body at once, unless it is archived; its id after the
retention period.

There are two kinds of reads, told apart by their form:

- **Exact** reads are coroutines. They see every batch whose `apply` had returned before the call, and nothing of a
  batch that is under way. Whatever a client is told, or is refused, follows from an exact read or from a result.
- **A glance** (`store.glance`) is synchronous, from memory, and may be old: for costs, typing, presence and calls,
  where a wrong answer costs a little time or a lost signal. A promise never follows from a glance.

Operations and their results stand in `operations.py`. The reads, and the changes that are no operations, are declared
by subject, each with the records that it returns.
"""

from collections.abc import Sequence
from typing import Protocol

from ironwire.store.contract.directory import Directory
from ironwire.store.contract.glance import Glance
from ironwire.store.contract.history import Archive
from ironwire.store.contract.mailboxes import Mailboxes
from ironwire.store.contract.maintenance import Maintenance
from ironwire.store.contract.operations import Operation, Result


class Store(Mailboxes, Directory, Archive, Maintenance, Protocol):
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
