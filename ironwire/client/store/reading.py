"""A device's store, read by programs that are not the device: with or without a server, and while another has it.

Everything here blocks.
"""

from collections.abc import Iterator
from pathlib import Path

from ironwire.client.store.conversations import everything, history
from ironwire.client.store.file import opened_for_reading
from ironwire.client.store.records import HistoryEntry, Owner
from ironwire.client.store.sealed import StoreKey
from ironwire.ids import Address


def read_history(path: Path, owner: Owner, key: StoreKey, peer: Address, limit: int) -> list[HistoryEntry]:
    """The last `limit` entries of the conversation with `peer`, oldest first.

    Raises:
        LocalStoreError: there is no such file, it belongs to somebody else, or it cannot be read.
    """
    with opened_for_reading(path, owner, key) as database:
        return history(database, owner, peer, limit)


def read_everything(path: Path, owner: Owner, key: StoreKey) -> Iterator[tuple[Address, HistoryEntry]]:
    """Every entry with its conversation, one conversation after the other. Raises as `read_history`, at the first."""
    with opened_for_reading(path, owner, key) as database:
        yield from everything(database, owner)
