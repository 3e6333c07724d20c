"""What is said of messages later: another text, that one is deleted, and reactions (docs/between-devices.md, 11.2).

Rules: of the edits of a message the newest holds, and of the reactions of each client. Only who has said something
edits or deletes it: an id names a message of the client that says so. What was deleted leaves the file, and does not
come back where it arrives later than that.

Everything here blocks, as `file.py` does.
"""

import sqlite3

from attrs import evolve

from ironwire.client.store.records import HistoryEntry
from ironwire.e2e.bodies import DeleteBody, EditBody, MessageName, ReactionBody
from ironwire.e2e.content import Content, decode_content
from ironwire.ids import Address, ClientId, DeviceId, MessageId
from ironwire.wire.messages import DeliveredFile, DeliveredText

Amendment = EditBody | DeleteBody | ReactionBody

_NOTE = """
    INSERT INTO amendment (peer, sender, message_id, by, kind, ts, value) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (peer, sender, message_id, by, kind) DO UPDATE SET ts = excluded.ts, value = excluded.value
    WHERE excluded.ts >= amendment.ts"""
_ERASE = """
    DELETE FROM entry
    WHERE peer = ? AND sender = ? AND message_id = ? AND encrypted AND state IN ('unseen', 'seen', 'accepted')"""
_IS_DELETED = """
    SELECT 1 FROM amendment WHERE peer = ? AND sender = ? AND message_id = ? AND by = sender AND kind = 'delete'"""
_SENT = """
    SELECT peer, content FROM entry
    WHERE sender = ? AND message_id = ? AND device = ? AND state = 'accepted' AND encrypted AND content IS NOT NULL
        AND peer IS NOT NULL"""
_OF = "SELECT kind, by, value FROM amendment WHERE peer = ? AND sender = ? AND message_id = ? ORDER BY ts, by"


def note(database: sqlite3.Connection, peer: Address, by: ClientId, content: Content) -> None:
    """Keep what `by` has said in the conversation with `peer`, if it is an amendment."""
    match content.body:
        case EditBody(of, text):
            _note(database, peer, MessageName(by, of), (by, "edit", content.ts, text))
        case DeleteBody(of):
            _note(database, peer, MessageName(by, of), (by, "delete", content.ts, None))
            database.execute(_ERASE, (peer, by, of))
        case ReactionBody(to, emoji):
            _note(database, peer, to, (by, "reaction", content.ts, emoji))
        case _:
            pass


def note_accepted(database: sqlite3.Connection, sent: tuple[ClientId, MessageId, DeviceId]) -> None:
    """Something was settled: what this device says of a message holds once the server has taken it."""
    row = database.execute(_SENT, sent).fetchone()
    if row is not None:
        note(database, row[0], sent[0], decode_content(row[1], None))


def _note(
    database: sqlite3.Connection, peer: Address, of: MessageName, said: tuple[ClientId, str, int, str | None]
) -> None:
    database.execute(_NOTE, (peer, of.sender, of.id, *said))


def is_deleted(database: sqlite3.Connection, peer: Address, sender: ClientId, message_id: MessageId) -> bool:
    return database.execute(_IS_DELETED, (peer, sender, message_id)).fetchone() is not None


def with_amendments(database: sqlite3.Connection, peer: Address, entry: HistoryEntry) -> HistoryEntry:
    """The entry as it reads by now."""
    message = entry.message
    if entry.id is None or not entry.is_encrypted or not isinstance(message, DeliveredText | DeliveredFile):
        return entry
    reactions: list[tuple[ClientId, str]] = []
    for kind, by, value in database.execute(_OF, (peer, message.sender, entry.id)):
        if kind == "reaction" and value is not None:
            reactions.append((ClientId(by), value))
        elif kind == "edit" and by == message.sender:
            edited = {"text" if isinstance(message, DeliveredText) else "caption": value}
            entry = evolve(entry, message=evolve(message, **edited), is_edited=True)
    return evolve(entry, reactions=tuple(reactions)) if reactions else entry
