"""A device's conversations, read out of its file: with or without a server, and back to the first thing that it knows.

Everything here blocks, as `localfile.py` does.
"""

import sqlite3
from typing import Any

from attrs import asdict

from ironwire.client.errors import LocalStoreError
from ironwire.client.local import Conversation, HistoryEntry, Owner, Said
from ironwire.ids import Address, is_group
from ironwire.wire.codec import decode_client, decode_server
from ironwire.wire.messages import DeliveredFile, DeliveredText, File, GroupChanged, Text

# What a client sends to itself comes back to the device that sent it; one of the two is enough.
_HISTORY = """
    SELECT number, state, ts, receipt, reason, frame FROM entry
    WHERE peer = ? AND number < ? AND NOT (state IN ('unseen', 'seen') AND peer = ? AND device = ?)
    ORDER BY number DESC LIMIT ?"""
_CONVERSATIONS = """
    SELECT peer, (
        SELECT count(*) FROM entry
        WHERE entry.peer = conversation.peer AND number > read_upto AND sender <> ? AND state IN ('unseen', 'seen')
            AND frame NOT GLOB ?
    ) FROM conversation ORDER BY newest DESC"""
_NOTHING_TO_READ = f'{{"type":"{GroupChanged.verb}"*'
_NO_NUMBER = 2**63 - 1
"""Above all of them."""


def conversations(database: sqlite3.Connection, owner: Owner) -> list[Conversation]:
    """Every conversation, the one that changed last first."""
    rows = database.execute(_CONVERSATIONS, (owner.client, _NOTHING_TO_READ)).fetchall()
    # Without an entry to show there is none: a note to oneself that came back to a device whose file is new.
    return [
        Conversation(peer, entry, unread) for peer, unread in rows for entry in history(database, owner, peer, limit=1)
    ]


def history(
    database: sqlite3.Connection, owner: Owner, peer: Address, limit: int, before: int | None = None
) -> list[HistoryEntry]:
    """The last `limit` entries of the conversation with `peer`, of those before entry `before`; oldest first."""
    upto = _NO_NUMBER if before is None else before
    rows = database.execute(_HISTORY, (peer, upto, owner.client, owner.device, limit))
    return [_history_entry(row, owner) for row in rows][::-1]


def _history_entry(row: tuple[Any, ...], owner: Owner) -> HistoryEntry:
    number, state, ts, receipt, reason, frame = row
    if state in ("unseen", "seen"):
        theirs, id_, _ = decode_server(frame)
        if isinstance(theirs, Said):
            return HistoryEntry(number, theirs, id_, "received", receipt)
    else:
        own, id_ = decode_client(frame)
        if isinstance(own, Text | File):
            return HistoryEntry(number, _as_delivered(own, owner, ts), id_, state, receipt, reason)
    raise LocalStoreError(f"what stands in the history as {state} belongs to no conversation")


def _as_delivered(own: Text | File, owner: Owner, ts: int) -> DeliveredText | DeliveredFile:
    kind = DeliveredText if isinstance(own, Text) else DeliveredFile
    said = asdict(own, recurse=False)
    to = said.pop("to")
    return kind(sender=owner.client, device=owner.device, ts=ts, **{"group" if is_group(to) else "to": to}, **said)
