"""Maintenance: expiry, erasure, the state of the files, and statistics."""

from typing import Protocol

from ironwire.counting import Distribution, figure
from ironwire.ids import ClientId
from ironwire.record import record


@record
class Expired:
    """The result of `expire`: it removed `entries` from mailboxes, and whole devices."""

    entries: int
    devices: int


@record
class Erased:
    """The result of `erase`: the data of a client that it removed. `left_to_others` counts envelopes from or to it that
    stay in mailboxes of others until they are acknowledged or expire.
    """

    devices: int
    waiting: int
    archived: int
    blocks: int
    left_to_others: int
    log_entries: int


@record
class StoreStatistics:
    """Operations since the store was opened, entries that wait in it, and its state."""

    batches_total: int = figure("Applied batches, those of the janitor included.")
    operations_total: int = figure("Operations in applied batches.")
    is_failing: bool = figure("1 while the last attempt to write failed.")
    commit_seconds: Distribution = figure("Time that the disk took to commit a batch.")
    mailboxes: int = figure("Mailboxes, one per registered device.")
    waiting_envelopes: int = figure("Entries in all mailboxes that no device has acknowledged.")
    waiting_bytes: int = figure("Bytes of these entries; an envelope in three mailboxes counts three times.")
    file_bytes: int = figure("Bytes of the store on the disk, its log included, uploaded files not.")


class Maintenance(Protocol):
    async def expire(self, *, before_ms: int, archived_before_ms: int) -> Expired:
        """Erase envelopes that were accepted before `before_ms`, forget ids from then, and drop devices that were not
        seen since. What is archived stays readable if it was accepted at `archived_before_ms` or later, and no longer.

        Waits its turn like a batch, or several times if there is much; each time it is one, atomic and durable.

        Raises:
            StoreError: the store cannot work; what was removed before stays removed.
        """
        ...

    async def erase(self, client: ClientId) -> Erased:
        """Remove the client's devices with their mailboxes, its device log, its backups, its blocks, and every envelope
        from or to it, with its place in the history. A copy in somebody else's mailbox stays, and is gone with its last
        ack. Groups, blocks of others and a ban are not touched, and ids are known for the retention period: by
        themselves they name nobody.

        Waits its turn like a batch, and is one: atomic and durable.

        Raises:
            StoreError: the store cannot work; nothing was removed.
        """
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

    def statistics(self) -> StoreStatistics:
        """From memory."""
        ...
