"""History between own devices, in a device's file: what this one gives to another, and what another one told it
(docs/between-devices.md, section 12.3).

What was told has numbers below 0, older messages lower ones: so it stands before everything that came to this device
itself, and is never unread. A message is told once; what comes itself takes the place of what was told.

Everything here blocks, as `file.py` does.
"""

import sqlite3

import orjson
from attrs import evolve

from ironwire.client.store.arrivals import as_delivered
from ironwire.client.store.records import DropGift, FinishPart, Gift, KeepGift, OfferedPart, Owner, TellHistory
from ironwire.e2e.archive import ArchivedMessage
from ironwire.e2e.bodies import HistoryManifest, TextBody
from ironwire.e2e.content import Content, decode_content, encode_content
from ironwire.e2e.conversations.events import OpenedMessage
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId, is_group
from ironwire.protocol.conversations.names import pair_id
from ironwire.wire import messages as msg
from ironwire.wire.codec import decode_client, decode_server, encode
from ironwire.wire.strict import strict_converter

_GIVEN = """
    FROM entry
    WHERE peer IS NOT NULL AND state IN ('unseen', 'seen', 'accepted') AND message_id IS NOT NULL AND ts >= ?
        AND number < ? AND (content IS NOT NULL OR frame GLOB '{"type":"text"*')
        AND NOT (state IN ('unseen', 'seen') AND peer = ? AND device = ?)"""
_COUNT_GIVEN = f"SELECT count(*) {_GIVEN}"
_PAGE = f"""
    SELECT number, peer, sender, state, message_id, ts, frame, content, encrypted {_GIVEN}
    ORDER BY number DESC LIMIT ?"""
_KEEP_GIFT = """
    INSERT INTO history_gift (device, since, before, manifest, told) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (device) DO UPDATE
    SET since = excluded.since, before = excluded.before, manifest = excluded.manifest, told = excluded.told"""
_IS_THERE = "SELECT 1 FROM entry WHERE sender = ? AND message_id = ? AND peer = ? LIMIT 1"
_TELL = """
    INSERT INTO entry (number, state, peer, sender, device, message_id, ts, frame, content, encrypted, told_by)
    VALUES ((SELECT min(0, coalesce(min(number), 0)) - 1 FROM entry), 'seen', ?, ?, '', ?, ?, ?, ?, ?, ?)"""
_NOTE_OLDEST = """
    INSERT INTO conversation (peer, newest) VALUES (?, last_insert_rowid())
    ON CONFLICT (peer) DO UPDATE SET newest = max(newest, excluded.newest)"""

_converter = strict_converter()


HistoryChange = KeepGift | DropGift | TellHistory | FinishPart


def make(database: sqlite3.Connection, owner: Owner, change: HistoryChange) -> None:
    """Make a change of the device's file."""
    match change:
        case KeepGift(gift):
            manifests = (_text(gift.manifest), _text(gift.told))
            database.execute(_KEEP_GIFT, (gift.device, gift.since, gift.before, *manifests))
        case DropGift(device):
            database.execute("DELETE FROM history_gift WHERE device = ?", (device,))
        case TellHistory(source, messages):
            for message in messages:
                _tell(database, owner.client, source, message)
        case FinishPart(sha256, reason):
            database.execute("INSERT OR REPLACE INTO history_part (sha256, reason) VALUES (?, ?)", (sha256, reason))


# --- giving ----------------------------------------------------------------------------------------------------------


def unfinished_gifts(database: sqlite3.Connection, _: Owner) -> list[Gift]:
    """Those of which the other device was not told everything."""
    return [gift for gift in _gifts(database) if not gift.told.is_complete]


def gift_for(device: str, database: sqlite3.Connection, _: Owner) -> Gift | None:
    """That for the device with this key."""
    return next((gift for gift in _gifts(database) if gift.device == device), None)


def _gifts(database: sqlite3.Connection) -> list[Gift]:
    rows = database.execute("SELECT device, since, before, manifest, told FROM history_gift ORDER BY device")
    return [
        Gift(device, since, before, _manifest(manifest), _manifest(told))
        for device, since, before, manifest, told in rows
    ]


def count_given(since: int, before: int, database: sqlite3.Connection, owner: Owner) -> int:
    """How many messages there are to be given."""
    count: int = database.execute(_COUNT_GIVEN, (since, before, owner.client, owner.device)).fetchone()[0]
    return count


def given(
    since: int, before: int, limit: int, database: sqlite3.Connection, owner: Owner
) -> list[tuple[int, ArchivedMessage]]:
    """The newest `limit` messages before entry `before`, each with its number, newest first."""
    rows = database.execute(_PAGE, (since, before, owner.client, owner.device, limit))
    return [(number, _archived(owner.client, *row)) for number, *row in rows]


def _archived(
    own: ClientId,
    peer: Address,
    sender: ClientId,
    state: str,
    message_id: MessageId,
    ts: int,
    frame: str,
    inside: bytes | None,
    is_encrypted: int,
) -> ArchivedMessage:
    to = None if is_group(peer) or sender != own else ClientId(peer)
    conversation = GroupId(peer) if is_group(peer) else pair_id(own, ClientId(peer))
    if inside is None:
        content = Content(message_id, ts, TextBody(_text_in(state, frame)))
    else:
        content = decode_content(inside, None)
    return ArchivedMessage(conversation, ClientId(sender), ts, content, to, is_plain=not is_encrypted)


def _text_in(state: str, frame: str) -> str:
    message = decode_client(frame)[0] if state == "accepted" else decode_server(frame).message
    return message.text if isinstance(message, msg.Text | msg.DeliveredText) else ""


# --- being told ------------------------------------------------------------------------------------------------------


def next_part(database: sqlite3.Connection, _: Owner) -> OfferedPart | None:
    finished = {sha256 for (sha256,) in database.execute("SELECT sha256 FROM history_part")}
    for source, text in database.execute("SELECT source, manifest FROM history_offer ORDER BY source"):
        manifest = _manifest(text)
        done = 0
        for number, part in enumerate(manifest.parts, start=1):
            if part.file.sha256 not in finished:
                is_last = manifest.is_complete and number == len(manifest.parts)
                return OfferedPart(source, part, done, manifest.total, is_last)
            done += part.messages
    return None


def _tell(database: sqlite3.Connection, own: ClientId, source: str, message: ArchivedMessage) -> None:
    """Take a message as told by the own device with the key `source`, older than everything here; not if it is here."""
    peer, content = message.peer(own), message.content
    if peer is None or database.execute(_IS_THERE, (message.sender, content.id, peer)).fetchone() is not None:
        return
    other = None if is_group(peer) else ClientId(peer)
    place, nobody = (0, 0), DeviceId("-")
    opened = OpenedMessage(message.conversation, other, place, message.sender, b"", nobody, message.ts, content, None)
    shown = as_delivered(opened)
    if isinstance(shown, msg.DeliveredText | msg.DeliveredFile):
        frame = encode(evolve(shown, device=None), content.id).decode()
        named = (peer, message.sender, content.id, message.ts)
        database.execute(_TELL, (*named, frame, encode_content(content), not message.is_plain, source))
        database.execute(_NOTE_OLDEST, (peer,))


def _manifest(text: bytes) -> HistoryManifest:
    return _converter.structure(orjson.loads(text), HistoryManifest)


def _text(manifest: HistoryManifest) -> bytes:
    return orjson.dumps(_converter.unstructure(manifest))
