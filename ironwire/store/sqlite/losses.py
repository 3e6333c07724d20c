"""Losses of mailboxes, in the SQLite file: see `store/contract/losses.py`.

All of it is in the tables at once: hardly anything is ever lost, and then a row costs less than another effect in the
journal.
"""

import sqlite3

from ironwire.ids import ConversationId, parse_conversation_id
from ironwire.store.contract.losses import CHANGE_VERBS, Loss, losses_between, widened
from ironwire.store.contract.records import MailboxId

_OTHERS = ""
"""The name under which groups stand that are too many to be named."""

_SELECT_EXPIRED = "SELECT expired FROM mailbox WHERE id = ?"
_SELECT_CHANGES = "SELECT roster, first, last FROM lost_change WHERE mailbox = ?"
_REPLACE_CHANGE = "REPLACE INTO lost_change (mailbox, roster, first, last) VALUES (?, ?, ?, ?)"
_FORGET_CHANGES = "DELETE FROM lost_change WHERE mailbox = ? AND last <= ?"
_ANY_CHANGE = "SELECT EXISTS (SELECT 1 FROM lost_change WHERE mailbox = ?)"

_OLD_ENTRY = "envelope IN (SELECT id FROM envelope WHERE ts < ? AND owed > 0)"
_MARK_EXPIRED = f"""
    UPDATE mailbox SET expired = max(expired, gone.seq)
    FROM (SELECT mailbox AS id, max(seq) AS seq FROM entry WHERE {_OLD_ENTRY} GROUP BY mailbox) AS gone
    WHERE mailbox.id = gone.id"""  # noqa: S608  # constants
_SELECT_OLD_CHANGES = """
    SELECT mailbox, recipient, seq FROM entry JOIN envelope ON envelope.id = entry.envelope
    WHERE ts < ? AND owed > 0 AND verb IN (?, ?, ?) AND mailbox IN (SELECT id FROM mailbox) ORDER BY mailbox, seq"""


def note_lost_change(
    changes: sqlite3.Connection, mailbox: MailboxId, group: ConversationId, seq: int, most: int
) -> None:
    """A change of the group was lost under this number. No more than `most` groups are named."""
    spans = {roster: (first, last) for roster, first, last in changes.execute(_SELECT_CHANGES, (mailbox,))}
    name = group if group in spans or len(spans) < most else _OTHERS
    changes.execute(_REPLACE_CHANGE, (mailbox, name, *widened(spans.get(name), seq)))


def forget_lost_changes(changes: sqlite3.Connection, mailbox: MailboxId, upto: int) -> bool:
    """The device was told of everything up to `upto`; says whether something is left to tell."""
    changes.execute(_FORGET_CHANGES, (mailbox, upto))
    return bool(changes.execute(_ANY_CHANGE, (mailbox,)).fetchone()[0])


def note_expiry(changes: sqlite3.Connection, before_ms: int, most: int) -> None:
    """Entries of envelopes that were accepted before `before_ms` are about to be dropped."""
    changes.execute(_MARK_EXPIRED, (before_ms,))
    for mailbox, group, seq in changes.execute(_SELECT_OLD_CHANGES, (before_ms, *CHANGE_VERBS)).fetchall():
        note_lost_change(changes, mailbox, group, seq, most)


def read_losses(lookups: sqlite3.Connection, mailbox: MailboxId, first: int, last: int) -> list[Loss]:
    row = lookups.execute(_SELECT_EXPIRED, (mailbox,)).fetchone()
    if row is None:
        return []
    rows = lookups.execute(_SELECT_CHANGES, (mailbox,))
    spans = {parse_conversation_id(roster) if roster else None: (begin, end) for roster, begin, end in rows}
    return losses_between(first, last, row[0], spans)
