"""A device's conversations, read out of its file: with or without a server, and back to the first thing that it knows.

Everything here blocks, as `file.py` does.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any

from attrs import asdict

from ironwire.client.errors import LocalStoreError
from ironwire.client.store.amendments import Amendment, with_amendments
from ironwire.client.store.records import Conversation, HistoryEntry, Owner, Said, Sendable
from ironwire.e2e.content import decode_content
from ironwire.errors import InvalidMessage
from ironwire.ids import Address, GroupId, is_group
from ironwire.wire.codec import decode_client, decode_server
from ironwire.wire.messages import DeliveredFile, DeliveredText, File, GroupChanged, Text

# A message to oneself comes back to the device that sent it; one of the two is enough.
_HISTORY = """
    SELECT number, state, ts, receipt, reason, message_id, frame, encrypted, content, told_by FROM entry
    WHERE peer = ? AND number < ? AND NOT (state IN ('unseen', 'seen') AND peer = ? AND device = ?)
    ORDER BY number DESC LIMIT ?"""
_EVERYTHING = """
    SELECT peer, number, state, ts, receipt, reason, message_id, frame, encrypted, content, told_by FROM entry
    WHERE peer IS NOT NULL AND NOT (state IN ('unseen', 'seen') AND peer = ? AND device = ?)
    ORDER BY peer, number"""
_CONVERSATIONS = """
    SELECT peer, (
        SELECT count(*) FROM entry
        WHERE entry.peer = conversation.peer AND number > read_upto AND sender <> ? AND state IN ('unseen', 'seen')
            AND frame NOT GLOB ?
    ) FROM conversation ORDER BY newest DESC"""
_GROUP_NAMES = """
    SELECT peer, (
        SELECT frame FROM entry WHERE entry.peer = conversation.peer AND frame GLOB ? ORDER BY number DESC LIMIT 1
    ) FROM conversation WHERE peer GLOB '#*'"""
_NAMED = f'{{"type":"{GroupChanged.verb}"*"name":*'
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
    entries: list[HistoryEntry] = []
    upto = _NO_NUMBER if before is None else before
    while len(entries) < limit:
        rows = database.execute(_HISTORY, (peer, upto, owner.client, owner.device, limit - len(entries))).fetchall()
        if not rows:
            break
        found = [entry for row in rows if (entry := _history_entry(row, owner)) is not None]
        entries += [with_amendments(database, peer, entry) for entry in found]
        upto = rows[-1][0]
    return entries[::-1]


def everything(database: sqlite3.Connection, owner: Owner) -> Iterator[tuple[Address, HistoryEntry]]:
    """Every entry with its conversation, one conversation after the other and each from its beginning."""
    for peer, *row in database.execute(_EVERYTHING, (owner.client, owner.device)):
        entry = _history_entry(tuple(row), owner)
        if entry is not None:
            yield peer, with_amendments(database, peer, entry)


def group_names(database: sqlite3.Connection) -> dict[GroupId, str]:
    """The own name of each group, by the last change that gave it one."""
    names: dict[GroupId, str] = {}
    for peer, frame in database.execute(_GROUP_NAMES, (_NAMED,)):
        change = None if frame is None else decode_server(frame).message
        if isinstance(change, GroupChanged) and change.name is not None:
            names[GroupId(peer)] = change.name
    return names


def own_message(frame: str) -> Sendable | None:
    """A message of this device; None where the frame is of an older version, and no server of this one takes it."""
    try:
        message, _, _ = decode_client(frame)
    except InvalidMessage:
        return None
    if not isinstance(message, Sendable):
        raise LocalStoreError(f"`{message.verb}` stands in the queue")
    return message


def _history_entry(row: tuple[Any, ...], owner: Owner) -> HistoryEntry | None:
    number, state, ts, receipt, reason, message_id, frame, encrypted, inside, told_by = row
    secret = (bool(encrypted), None if inside is None else decode_content(inside, None), told_by)
    if state in ("unseen", "seen"):
        theirs, id_, _ = decode_server(frame)
        if isinstance(theirs, Said):
            return HistoryEntry(number, theirs, id_, "received", receipt, None, *secret)
    else:
        own = own_message(frame)
        if own is None or (secret[1] is not None and isinstance(secret[1].body, Amendment)):
            return None
        if isinstance(own, Text | File):
            return HistoryEntry(number, _as_delivered(own, owner, ts), message_id, state, receipt, reason, *secret)
    raise LocalStoreError(f"what stands in the history as {state} belongs to no conversation")


def _as_delivered(own: Text | File, owner: Owner, ts: int) -> DeliveredText | DeliveredFile:
    kind = DeliveredText if isinstance(own, Text) else DeliveredFile
    said = asdict(own, recurse=False)
    to = said.pop("to")
    return kind(sender=owner.client, device=owner.device, ts=ts, **{"group" if is_group(to) else "to": to}, **said)
