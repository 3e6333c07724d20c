"""Pages of mailboxes and of the history, read from the tables of the SQLite file, in threads."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from ironwire.ids import Address, ClientId, DeviceId, MessageId, is_group, parse_recipient
from ironwire.store.contract.records import HISTORY_BYTES, Archived, Entry, Envelope, MailboxId

PAGE_BYTES = 128 * 1024
"""A page of a mailbox ends with the entry that reaches it: a device that acknowledges one large text at a time has room
for one, and would have a hundred read for each.
"""
_LAST = 2**63 - 1

_ENVELOPE = "verb, sender, device, recipient, message_id, ts, payload"
_SELECT_PAGE = f"""
    SELECT seq, is_own, {_ENVELOPE} FROM entry JOIN envelope ON envelope.id = entry.envelope
    WHERE mailbox = ? AND seq > ? AND EXISTS (SELECT 1 FROM mailbox WHERE mailbox.id = entry.mailbox)
    ORDER BY seq LIMIT ?"""  # noqa: S608  # constants
_SELECT_HISTORY = f"""
    SELECT id, {_ENVELOPE} FROM envelope
        WHERE is_archived = 1 AND sender = :client AND recipient = :peer AND id < :before
    UNION ALL
    SELECT id, {_ENVELOPE} FROM envelope
        WHERE is_archived = 1 AND sender = :peer AND recipient = :client AND id < :before AND :peer <> :client
        AND is_blocked = 0
    ORDER BY id DESC LIMIT :limit"""  # noqa: S608  # constants
_SELECT_NEWEST = """
    SELECT max(ms) FROM (
        SELECT max(seen_ms) AS ms FROM mailbox
        UNION ALL SELECT max(ts) FROM envelope UNION ALL SELECT max(ts) FROM known)"""
_SELECT_GROUP_HISTORY = f"""
    SELECT id, {_ENVELOPE} FROM envelope
        WHERE is_archived = 1 AND recipient < '0' AND recipient = :peer AND id < :before
        AND id > (SELECT reads_from FROM member WHERE roster = :peer AND client = :client)
    ORDER BY id DESC LIMIT :limit"""  # noqa: S608  # constants


def read_newest_ms(connection: sqlite3.Connection) -> int | None:
    """The newest time in the tables; None if there is none."""
    newest: int | None = connection.execute(_SELECT_NEWEST).fetchone()[0]
    return newest


def read_entries(
    connection: sqlite3.Connection, mailbox: MailboxId, after: int, limit: int
) -> tuple[list[Entry], bool]:
    """Up to `limit` entries with a seq above `after`, in order, and whether `PAGE_BYTES` ended the page before."""
    rows, is_cut = _read(connection, _SELECT_PAGE, (mailbox, after, limit), PAGE_BYTES)
    return [Entry(seq, _envelope(*columns), bool(is_own)) for seq, is_own, *columns in rows], is_cut


def read_archived(
    connection: sqlite3.Connection, client: ClientId, peer: Address, before: int | None, limit: int
) -> list[Archived]:
    """A page as `Store.read_history` describes it."""
    page = {"client": client, "peer": peer, "before": _LAST if before is None else before, "limit": limit}
    rows, _ = _read(connection, _SELECT_GROUP_HISTORY if is_group(peer) else _SELECT_HISTORY, page, HISTORY_BYTES)
    return [Archived(number, _envelope(*columns)) for number, *columns in rows]


def _read(
    connection: sqlite3.Connection,
    select: str,
    parameters: tuple[int, ...] | Mapping[str, int | str],
    most_bytes: int,
) -> tuple[list[Any], bool]:
    """Rows up to the one that fills `most_bytes`, and whether that one ended it. Their last column is a payload."""
    rows, size = [], 0
    with closing(connection.execute(select, parameters)) as cursor:
        for row in cursor:
            rows.append(row)
            size += len(row[-1])
            if size >= most_bytes:
                return rows, True
    return rows, False


def _envelope(
    verb: str, sender: str, device: str, recipient: str, message_id: str | None, ts: int, payload: bytes
) -> Envelope:
    return Envelope(
        verb=verb,
        sender=ClientId(sender),
        device=DeviceId(device) if device else None,
        to=parse_recipient(recipient),
        id=None if message_id is None else MessageId(message_id),
        ts=ts,
        payload=payload,
    )
