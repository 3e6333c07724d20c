"""Encrypted conversations in the SQLite file: generations, commits, tasks, and the pools of key packages.

`ConversationWriter` works within the writer's transaction, and sees what the current batch has changed; the other
functions read what is committed. Nothing of it is in the journal: it changes with commits, which are rare. A device
whose mailbox is deleted is looked after by a trigger (`schema/0011_conversations.sql`).
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing

from ironwire.ids import ClientId, ConversationId, parse_conversation_id
from ironwire.protocol.conversations.declaration import CLIENT_BYTES, decode_roster, encode_roster
from ironwire.protocol.conversations.slots import Leaf, Slots, leaves_in
from ironwire.protocol.conversations.tasks import Task, TaskKind, due_after
from ironwire.store.contract import conversations as kept
from ironwire.store.contract import operations as op
from ironwire.store.contract.records import Envelope
from ironwire.store.sqlite.directory import Cache

CACHED_LEAVES = 100_000
"""Leaves of all conversations that a cache holds, with their clients."""
CACHED_ANSWERS = 100_000

_COLUMNS = "id, generation, epoch, group_id, slots, roster"
_SELECT = f"SELECT {_COLUMNS} FROM conversation WHERE id = ?"  # noqa: S608  # a constant
_SELECT_OF_CLIENT = """
    SELECT id, generation, epoch, devices, instr(slots, ?) > 0
    FROM conversation_member JOIN conversation ON conversation.id = conversation
    WHERE client = ? AND conversation > ? ORDER BY conversation LIMIT ?"""
_SELECT_ALONE = """
    SELECT conversation FROM conversation_member JOIN conversation ON conversation.id = conversation
    WHERE client = ? AND length(roster) = ?"""
_PUT = f"INSERT OR REPLACE INTO conversation ({_COLUMNS}, devices) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # a constant
_EXISTS = "SELECT EXISTS (SELECT 1 FROM conversation WHERE id = ?)"
_ADD_MEMBER = "INSERT INTO conversation_member (client, conversation) VALUES (?, ?)"
_DROP_MEMBER = "DELETE FROM conversation_member WHERE client = ? AND conversation = ?"

_PUT_COMMIT = """
    INSERT INTO conversation_commit (conversation, generation, epoch, ts, payload) VALUES (?, ?, ?, ?, ?)"""
_SELECT_COMMITS = """
    SELECT epoch, payload FROM conversation_commit WHERE conversation = ? AND generation = ? AND epoch >= ?
    ORDER BY epoch LIMIT ?"""

_ASK = "INSERT OR IGNORE INTO conversation_task (conversation, kind, client, device_key) VALUES (?, ?, ?, ?)"
_ASK_EVERYWHERE = """
    INSERT OR IGNORE INTO conversation_task
    SELECT conversation, ?, client, ? FROM conversation_member WHERE client = ?"""
_ASK_TO_ADD = """
    INSERT OR IGNORE INTO conversation_task
    SELECT conversation, 'add', client, ? FROM conversation_member JOIN conversation ON conversation.id = conversation
    WHERE client = ? AND instr(slots, ?) = 0"""
_SELECT_TASKS = """
    SELECT kind, client, device_key FROM conversation_task WHERE conversation = ? ORDER BY kind, client, device_key"""
_DONE = "DELETE FROM conversation_task WHERE conversation = ? AND kind = ? AND client = ? AND device_key = ?"
_SELECT_WITH_TASKS = """
    SELECT conversation FROM conversation_member
    WHERE client = ? AND conversation IN (SELECT conversation FROM conversation_task) ORDER BY conversation"""

_SELECT_LISTED = "SELECT device_key FROM logged_device WHERE client = ? AND removed_ms IS NULL"

_EXPIRE = (
    "DELETE FROM conversation_commit WHERE ts < ?",
    "DELETE FROM package_claim WHERE claimed_ms < ?",
    "DELETE FROM key_package WHERE not_after_ms < ?",
)
_ERASE_CLAIMS = "DELETE FROM package_claim WHERE claimer = :client OR client = :client"
_DELETE_ALL = (
    "DELETE FROM conversation WHERE id = ?",
    "DELETE FROM conversation_commit WHERE conversation = ?",
    "DELETE FROM conversation_task WHERE conversation = ?",
)

_BLANK = bytes(2 * CLIENT_BYTES)


def _weigh(conversation: kept.StoredConversation | None) -> int:
    return 0 if conversation is None else len(conversation.slots) + len(conversation.roster)


class ConversationWriter:
    """Changes within the transaction that the caller has begun."""

    def __init__(self, changes: sqlite3.Connection) -> None:
        self._changes = changes
        self._cached: Cache[ConversationId, kept.StoredConversation | None] = Cache(CACHED_LEAVES, _weigh)
        """The current batch included."""
        self._encrypted: Cache[tuple[str, str], bool] = Cache(CACHED_ANSWERS, lambda _: 0)
        """By sender and recipient of an envelope. Asked for with every text."""

    def conversation(self, conversation: ConversationId) -> kept.StoredConversation | None:
        if conversation in self._cached.held:
            return self._cached.held[conversation]
        return self._cached.keep(conversation, read_conversation(self._changes, conversation))

    def forbids(self, envelope: Envelope) -> bool:
        """Whether it would say something in the clear where nothing may be said so any more."""
        key = (envelope.sender, envelope.to)
        is_encrypted = self._encrypted.held.get(key)
        if is_encrypted is None:
            row = self._changes.execute(_EXISTS, (kept.conversation_of(*key),)).fetchone()
            is_encrypted = self._encrypted.keep(key, bool(row[0]))
        return is_encrypted and envelope.verb in kept.CLEARTEXT_VERBS

    def moved(self, conversation: ConversationId, seen: tuple[int, int]) -> op.ConversationMoved | None:
        """None: the conversation is still as it was seen."""
        found = self.conversation(conversation)
        current = (0, 0) if found is None else (found.generation, found.epoch)
        return None if current == seen else op.ConversationMoved(*current)

    def advance(self, advance: op.AdvanceConversation) -> None:
        """To be asked after `moved`."""
        run, after = self._changes, advance.after
        before = self.conversation(after.id)
        slots, roster = encode_slots(after.slots), encode_roster(after.roster)
        devices = len(leaves_in(after.slots))
        run.execute(_PUT, (after.id, after.generation, after.epoch, after.group_id, slots, roster, devices))
        old = set() if before is None else before.roster.keys()
        run.executemany(_ADD_MEMBER, [(client, after.id) for client in after.roster.keys() - old])
        run.executemany(_DROP_MEMBER, [(client, after.id) for client in old - after.roster.keys()])
        envelope = advance.envelope
        run.execute(_PUT_COMMIT, (after.id, after.generation, after.epoch, envelope.ts, envelope.payload))
        tasks = read_tasks(run, after.id)
        due = set(due_after(tasks, after.slots, after.roster, advance.added))
        done = [(after.id, task.kind, task.client, task.device) for task in tasks if task not in due]
        run.executemany(_DONE, done)
        self._cached.drop(after.id)
        self._cached.keep(after.id, after)
        if before is None:
            self._encrypted.clear()

    def ask_for_those_who_left(self, conversation: ConversationId, gone: Iterable[ClientId]) -> None:
        found = self.conversation(conversation)
        if found is not None:
            rows = [(conversation, "left", client, b"") for client in gone if client in found.roster]
            self._changes.executemany(_ASK, rows)

    def rejoin(self, rejoin: op.AskToRejoin) -> op.AskedToRejoin:
        device, asked = rejoin.device, []
        for conversation in rejoin.conversations:
            found = self.conversation(conversation)
            if found is not None and device.client in found.roster:
                kind: TaskKind = "readd" if device in found.slots else "add"
                self._changes.execute(_ASK, (conversation, kind, device.client, device.device))
                asked.append(conversation)
        return op.AskedToRejoin(tuple(asked))

    def forget(self) -> None:
        """Drop what is cached: the transaction is undone."""
        self._cached.clear()
        self._encrypted.clear()


class ConversationReader:
    """Conversations as they are committed, read on the event loop."""

    def __init__(self, lookups: sqlite3.Connection) -> None:
        self._lookups = lookups
        self._cached: Cache[ConversationId, kept.StoredConversation | None] = Cache(CACHED_LEAVES, _weigh)

    def conversation(self, conversation: ConversationId) -> kept.StoredConversation | None:
        if conversation in self._cached.held:
            return self._cached.held[conversation]
        return self._cached.keep(conversation, read_conversation(self._lookups, conversation))

    def forget_changed(self, batch: Sequence[op.Operation]) -> None:
        """Drop what is cached of the conversations that this batch has changed, if it was committed."""
        for operation in batch:
            if isinstance(operation, op.AdvanceConversation):
                self._cached.drop(operation.after.id)

    def forget(self) -> None:
        self._cached.clear()


# --- reads -----------------------------------------------------------------------------------------------------------


def read_conversation(connection: sqlite3.Connection, conversation: ConversationId) -> kept.StoredConversation | None:
    row = connection.execute(_SELECT, (conversation,)).fetchone()
    return None if row is None else _conversation(*row)


def read_conversations_of(
    connection: sqlite3.Connection, device: Leaf, after: ConversationId | None, limit: int
) -> list[kept.ConversationSummary]:
    rows = connection.execute(_SELECT_OF_CLIENT, (_encode_leaf(device), device.client, after or "", limit))
    return [
        kept.ConversationSummary(parse_conversation_id(name), generation, epoch, devices, bool(is_in))
        for name, generation, epoch, devices, is_in in rows
    ]


def read_commits(
    connection: sqlite3.Connection, conversation: ConversationId, generation: int, first: int, limit: int
) -> list[kept.KeptCommit]:
    page, size = [], 0
    with closing(connection.execute(_SELECT_COMMITS, (conversation, generation, first, limit))) as rows:
        for epoch, payload in rows:
            page.append(kept.KeptCommit(epoch, payload))
            size += len(payload)
            if size >= kept.COMMITS_BYTES:
                break
    return page


def ask_to_add(changes: sqlite3.Connection, device: Leaf) -> None:
    """Within a transaction: make it a task to add the device to all conversations of its client that it is not in."""
    changes.execute(_ASK_TO_ADD, (device.device, device.client, _encode_leaf(device)))


def read_listed_devices(connection: sqlite3.Connection, client: ClientId) -> frozenset[bytes]:
    return frozenset(key for (key,) in connection.execute(_SELECT_LISTED, (client,)))


def read_tasks(connection: sqlite3.Connection, conversation: ConversationId) -> list[Task]:
    return [Task(*row) for row in connection.execute(_SELECT_TASKS, (conversation,))]


def read_conversations_with_tasks(connection: sqlite3.Connection, client: ClientId) -> list[ConversationId]:
    return [parse_conversation_id(name) for (name,) in connection.execute(_SELECT_WITH_TASKS, (client,))]


def _encode_leaf(leaf: Leaf) -> bytes:
    """Its bytes in `slots`. They are found nowhere else in there, because they are a key."""
    return bytes.fromhex(leaf.client) + leaf.device


def encode_slots(slots: Slots) -> bytes:
    return b"".join(_BLANK if leaf is None else _encode_leaf(leaf) for leaf in slots)


def _decode_slots(data: bytes) -> Slots:
    rows = (data[at : at + len(_BLANK)] for at in range(0, len(data), len(_BLANK)))
    return tuple(
        None if row == _BLANK else Leaf(ClientId(row[:CLIENT_BYTES].hex()), row[CLIENT_BYTES:]) for row in rows
    )


def _conversation(
    name: str, generation: int, epoch: int, group_id: bytes, slots: bytes, roster: bytes
) -> kept.StoredConversation:
    return kept.StoredConversation(
        parse_conversation_id(name), generation, epoch, group_id, _decode_slots(slots), decode_roster(roster)
    )


# --- what ends -------------------------------------------------------------------------------------------------------


def expire_conversations(changes: sqlite3.Connection, before_ms: int) -> None:
    """Within a transaction."""
    for statement in _EXPIRE:
        changes.execute(statement, (before_ms,))


def erase_from_conversations(changes: sqlite3.Connection, client: ClientId) -> None:
    """Within a transaction, after the client's mailboxes. A conversation that it had with nobody else goes with it."""
    changes.execute(_ERASE_CLAIMS, {"client": client})
    for (conversation,) in changes.execute(_SELECT_ALONE, (client, CLIENT_BYTES + 1)).fetchall():
        changes.execute(_DROP_MEMBER, (client, conversation))
        for statement in _DELETE_ALL:
            changes.execute(statement, (conversation,))
    changes.execute(_ASK_EVERYWHERE, ("left", b"", client))
