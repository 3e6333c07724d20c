"""Backups of clients: encrypted blobs under names that nobody can guess, and that are good for nothing but to be found
(docs/protocol.md, section 8.3).
"""

from typing import Literal, Protocol

from ironwire.ids import BackupName, ClientId

BACKUPS_PER_CLIENT = 2
"""The one of the recovery code, and for a while that of the next code."""

BackupRefusal = Literal["not_yours", "too_many", "no_room"]
"""The name is another client's; the client has as many under other names; all backups together take what they may."""


class Backups(Protocol):
    async def keep_backup(self, client: ClientId, name: BackupName, body: bytes, now_ms: int) -> BackupRefusal | None:
        """Store the client's backup under that name, instead of an earlier one; an empty one removes it. Durable when
        this returns, unless it is refused.

        Raises:
            StoreError: the store cannot work; an earlier one is still there.
        """
        ...

    async def backup(self, name: BackupName) -> bytes | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        ...
