"""Backups of clients in the SQLite file: what a recovery code brings back."""

import sqlite3

from ironwire.ids import BackupName, ClientId
from ironwire.store.contract.backups import BACKUPS_PER_CLIENT, BackupRefusal

_OWNER = "SELECT client, size FROM backup WHERE name = ?"
_OTHERS = "SELECT count(*) FROM backup WHERE client = ? AND name != ?"
_ALL_BYTES = "SELECT total(size) FROM backup"
_PUT = """
    INSERT INTO backup (name, client, stored_ms, size, body) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET stored_ms = excluded.stored_ms, size = excluded.size, body = excluded.body"""
_DELETE = "DELETE FROM backup WHERE name = ?"
_BODY = "SELECT body FROM backup WHERE name = ?"


def put_backup(
    changes: sqlite3.Connection, client: ClientId, name: BackupName, body: bytes, now_ms: int, most_bytes: int
) -> BackupRefusal | None:
    """`most_bytes` is what all backups together may take."""
    owner, size = changes.execute(_OWNER, (name,)).fetchone() or (client, 0)
    if owner != client:
        return "not_yours"
    if not body:
        changes.execute(_DELETE, (name,))
        return None
    if changes.execute(_OTHERS, (client, name)).fetchone()[0] >= BACKUPS_PER_CLIENT:
        return "too_many"
    if changes.execute(_ALL_BYTES).fetchone()[0] - size + len(body) > most_bytes:
        return "no_room"
    changes.execute(_PUT, (name, client, now_ms, len(body), body))
    return None


def read_backup(pages: sqlite3.Connection, name: BackupName) -> bytes | None:
    row: tuple[bytes] | None = pages.execute(_BODY, (name,)).fetchone()
    return None if row is None else row[0]
