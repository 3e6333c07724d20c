"""Message ids that are known: what was accepted under one, for whoever says it again."""

import sqlite3
from collections.abc import Iterable
from hashlib import blake2b

from ironwire.ids import GroupId
from ironwire.store.contract.operations import Duplicate, IdTaken, Known
from ironwire.store.contract.records import Envelope

ASKED_AT_ONCE = 32

_COLUMNS = "envelope, ts, digest, recipient"
_SELECT_KNOWN = f"SELECT {_COLUMNS} FROM known WHERE key = ?"  # noqa: S608  # constants
_SELECT_ALL_KNOWN = f"""
    SELECT key, {_COLUMNS} FROM known WHERE key IN ({", ".join("?" * ASKED_AT_ONCE)})"""  # noqa: S608  # constants

Row = tuple[int, int, bytes, str | None]
"""Number of the envelope, when it was accepted, its digest, and its group."""


def message_key(sender: str, device: str | None, id: str) -> bytes:  # noqa: A002  # the frame's
    """What an id is known by: a hash, from which nobody reads who said something."""
    return blake2b(f"{sender}/{device or ''}/{id}".encode(), digest_size=16).digest()


def key_of(envelope: Envelope, digest: bytes) -> bytes | None:
    """None: it has no id, or the id is not remembered."""
    if envelope.id is None or not digest:
        return None
    return message_key(envelope.sender, envelope.device, envelope.id)


def find_known(connection: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, Row]:
    """Those of many ids that the table knows. One statement for some of them costs a third of one for each."""
    wanted: list[bytes | None] = [*sorted(keys)]
    found: dict[bytes, Row] = {}
    for start in range(0, len(wanted), ASKED_AT_ONCE):
        some = wanted[start : start + ASKED_AT_ONCE]
        some += [None] * (ASKED_AT_ONCE - len(some))
        for key, *row in connection.execute(_SELECT_ALL_KNOWN, some):
            found[key] = tuple(row)
    return found


def read_known(connection: sqlite3.Connection, key: bytes) -> Row | None:
    row: Row | None = connection.execute(_SELECT_KNOWN, (key,)).fetchone()
    return row


def known_as(row: Row | None, digest: bytes) -> Known | None:
    if row is None:
        return None
    _, ts, known_digest, group = row
    if known_digest != digest:
        return IdTaken()
    return Duplicate(ts, None if group is None else GroupId(group))
