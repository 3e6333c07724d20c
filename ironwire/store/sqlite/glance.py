"""What the SQLite store knows at a glance: its caches, and a look-up on the event loop on a miss."""

from collections.abc import Iterable

import trio

from ironwire.ids import ClientId, ConversationId, GroupId
from ironwire.store.contract.conversations import StoredConversation
from ironwire.store.contract.directory import Group
from ironwire.store.sqlite.conversations import ConversationReader
from ironwire.store.sqlite.database import Database
from ironwire.store.sqlite.directory import DirectoryReader
from ironwire.store.sqlite.mailboxes import MailboxCache


class SqliteGlance:
    """The caches of the store, and a look-up on the event loop on a miss. `turn` is held while a batch is under way."""

    _mailboxes: MailboxCache
    _directory: DirectoryReader
    _conversations: ConversationReader

    def __init__(self, database: Database, turn: trio.Lock) -> None:
        self._database = database
        self._turn = turn
        self.banned: set[ClientId] = set()
        """Kept up to date by the store."""

    def open(
        self,
        mailboxes: MailboxCache,
        directory: DirectoryReader,
        conversations: ConversationReader,
        banned: set[ClientId],
    ) -> None:
        self._mailboxes, self._directory, self._conversations = mailboxes, directory, conversations
        self.banned = banned

    def mailbox_count(self, client: ClientId) -> int:
        boxes = self._mailboxes.cached.get(client)
        if boxes is None:
            if not self._turn.locked():
                self._mailboxes.trim()
            with self._database.errors():
                boxes = self._mailboxes.of(client)
        return len(boxes)

    def mailbox_counts(self, clients: Iterable[ClientId]) -> list[int]:
        if not self._turn.locked():
            self._mailboxes.trim()
        with self._database.errors():
            return [*map(len, self._mailboxes.of_all(clients))]

    def group(self, group: GroupId) -> Group | None:
        with self._database.errors():
            return self._directory.group(group)

    def conversation(self, conversation: ConversationId) -> StoredConversation | None:
        with self._database.errors():
            return self._conversations.conversation(conversation)

    def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        blocks = self._directory.blocks.get(client)  # first: to enter the context below costs more than all else here
        if blocks is None:
            with self._database.errors():
                blocks = self._directory.blocks_of(client)
        return blocks

    def is_banned(self, client: ClientId) -> bool:
        return client in self.banned
