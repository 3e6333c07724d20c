"""What a store knows at a glance: synchronously, from memory, and perhaps no longer true."""

from typing import Protocol

from ironwire.ids import ClientId, GroupId
from ironwire.store.contract.directory import Group


class Glance(Protocol):
    """Quick enough to be asked for every envelope and every signal. Never the ground of a promise: see `store.py`.

    In a store that belongs to one process a glance is as new as an exact read, or newer.
    """

    def mailbox_count(self, client: ClientId) -> int:
        """In how many mailboxes an envelope to or from the client may have an entry; counts what a batch under way has
        begun.

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
        """Whom the client has blocked. `Append` looks for itself: this is for signals that are not stored.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    def is_banned(self, client: ClientId) -> bool: ...
