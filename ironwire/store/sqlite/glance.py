"""A glance at the SQLite store: its caches, and a look-up on the event loop on a miss."""

from collections.abc import Set as AbstractSet

import trio

from ironwire.ids import ClientId, GroupId
from ironwire.store.contract.directory import Group
from ironwire.store.sqlite.database import Database
from ironwire.store.sqlite.directory import DirectoryReader
from ironwire.store.sqlite.mailboxes import MailboxCache


class SqliteGlance:
    """`turn` is held while a batch is under way; `banned` is kept up to date by the store."""

    def __init__(
        self,
        database: Database,
        turn: trio.Lock,
        mailboxes: MailboxCache,
        directory: DirectoryReader,
        banned: AbstractSet[ClientId],
    ) -> None:
        self._database = database
        self._turn = turn
        self._mailboxes = mailboxes
        self._directory = directory
        self._banned = banned

    def mailbox_count(self, client: ClientId) -> int:
        boxes = self._mailboxes.cached.get(client)
        if boxes is None:
            if not self._turn.locked():
                self._mailboxes.trim()
            with self._database.errors():
                boxes = self._mailboxes.of(client)
        return len(boxes)

    def group(self, group: GroupId) -> Group | None:
        with self._database.errors():
            return self._directory.group(group)

    def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        blocks = self._directory.blocks.get(client)  # first: to enter the context below costs more than all else here
        if blocks is None:
            with self._database.errors():
                blocks = self._directory.blocks_of(client)
        return blocks

    def is_banned(self, client: ClientId) -> bool:
        return client in self._banned
