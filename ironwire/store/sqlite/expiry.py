"""Expiry: data older than the operator keeps leaves the SQLite file: entries, archived payloads, ids.

Functions on the transaction that the caller has begun; whatever nobody needs after them is the caller's to delete.
"""

import sqlite3

from ironwire.store.contract.records import MailboxId
from ironwire.store.sqlite.losses import note_expiry

# Entries are looked at only if some envelope is old and still owed: all of them have to be.
_ANY_OLD_OWED = "SELECT EXISTS (SELECT 1 FROM envelope WHERE ts < ? AND owed > 0)"
_DELETE_OLD_ENTRIES = """
    DELETE FROM entry WHERE envelope IN (SELECT id FROM envelope WHERE ts < ? AND owed > 0)"""
_RELEASE_OLD = "UPDATE envelope SET owed = 0 WHERE ts < ? AND owed > 0"
_COUNT_WAITING = """
    UPDATE mailbox SET (waiting, waiting_bytes) =
        (SELECT count(*), coalesce(sum(size), 0) FROM entry WHERE entry.mailbox = mailbox.id)
    WHERE waiting > 0"""
_SELECT_UNSEEN = "SELECT id, acked, tail FROM mailbox WHERE seen_ms < ?"
# From one mailbox to the next by the key: entries that nobody can reach are rare, and entries are many.
_SELECT_UNREACHABLE = """
    WITH RECURSIVE box (id) AS (
        SELECT min(mailbox) FROM entry
        UNION ALL SELECT (SELECT min(mailbox) FROM entry WHERE mailbox > box.id) FROM box WHERE box.id IS NOT NULL)
    SELECT id, (SELECT max(seq) FROM entry WHERE mailbox = box.id) FROM box
    WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM mailbox)"""
_UNARCHIVE_OLD = """
    UPDATE envelope SET is_archived = 0
    WHERE id IN (SELECT id FROM envelope WHERE is_archived = 1 AND ts < ? LIMIT ?)"""
_FORGET_OLD_IDS = "DELETE FROM known WHERE key IN (SELECT key FROM known WHERE ts < ? LIMIT ?)"

LET_GO_AT_ONCE = 500
"""Ids, and archived payloads, that one transaction drops, in 25 ms. Senders wait meanwhile, and a busy server has
millions in an hour, each on a page of its own.
"""


def drop_old_entries(connection: sqlite3.Connection, before_ms: int, lost_groups: int) -> int:
    """Take envelopes that were accepted before `before_ms` out of all mailboxes, of which each names so many groups
    that it has lost changes of; says how many entries that were.
    """
    if not connection.execute(_ANY_OLD_OWED, (before_ms,)).fetchone()[0]:
        return 0
    note_expiry(connection, before_ms, lost_groups)
    entries = connection.execute(_DELETE_OLD_ENTRIES, (before_ms,)).rowcount
    connection.execute(_RELEASE_OLD, (before_ms,))
    connection.execute(_COUNT_WAITING)
    return entries


def unseen_mailboxes(connection: sqlite3.Connection, before_ms: int) -> list[tuple[MailboxId, int, int]]:
    """Id, acked and tail of the mailboxes whose device was not seen since `before_ms`."""
    return connection.execute(_SELECT_UNSEEN, (before_ms,)).fetchall()


def unreachable_entries(connection: sqlite3.Connection) -> list[tuple[MailboxId, int]]:
    """Mailboxes that were removed and not swept, because the server was stopped meanwhile, and their last entries."""
    return connection.execute(_SELECT_UNREACHABLE).fetchall()


def let_go(connection: sqlite3.Connection, before_ms: int, archived_before_ms: int) -> bool:
    """Forget some ids from before `before_ms`, and take some of what is older than `archived_before_ms` out of the
    archive. Says whether more of either may be left.
    """
    unarchived = connection.execute(_UNARCHIVE_OLD, (archived_before_ms, LET_GO_AT_ONCE)).rowcount
    forgotten = connection.execute(_FORGET_OLD_IDS, (before_ms, LET_GO_AT_ONCE)).rowcount
    return max(unarchived, forgotten) == LET_GO_AT_ONCE
