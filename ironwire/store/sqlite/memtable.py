"""Envelopes that were accepted of late: they stand in the journal, and here, and not in the tables yet.

Most are acknowledged before they ever get there; then all that the tables get is the id. Rule: a reader sees what is
committed, in the tables or here, and nothing twice.

And message ids that are known, in the tables or here: what was accepted under one is the answer to its repetition.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import takewhile
from operator import attrgetter

from attrs import define, setters

from ironwire.ids import GroupId, is_group
from ironwire.store.contract.operations import Duplicate, IdTaken, Known
from ironwire.store.contract.records import Entry, Envelope
from ironwire.store.sqlite.boxes import Box

_INSERT_ENVELOPE = """
    INSERT INTO envelope (id, verb, sender, device, recipient, message_id, ts, owed, payload, is_archived, is_blocked)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_ID = "INSERT INTO known (key, envelope, ts, digest, recipient) VALUES (?, ?, ?, ?, ?)"
_INSERT_ENTRY = "INSERT INTO entry (mailbox, seq, envelope, size, is_own) VALUES (?, ?, ?, ?, ?)"
_UPDATE_BOX = """
    UPDATE mailbox
    SET acked = ?, tail = ?, waiting = ?, waiting_bytes = ?, is_full = ?, seen_ms = ?,
        session = ?, sent = ?, refused = ?
    WHERE id = ?"""

ASKED_AT_ONCE = 32

_COLUMNS = "envelope, ts, digest, recipient"
_SELECT_KNOWN = f"SELECT {_COLUMNS} FROM known WHERE key = ?"  # noqa: S608  # constants
_SELECT_ALL_KNOWN = f"""
    SELECT key, {_COLUMNS} FROM known WHERE key IN ({", ".join("?" * ASKED_AT_ONCE)})"""  # noqa: S608  # constants

KnownRow = tuple[int, int, bytes, str | None]
"""Number of the envelope, when it was accepted, its digest, and its group."""


@define(eq=False, on_setattr=setters.NO_OP)
class Recent:
    """`owed` counts the places that wait for their ack."""

    number: int
    key: bytes | None
    envelope: Envelope
    digest: bytes
    owed: int
    is_archived: bool
    is_blocked: bool
    is_checkpointed: bool = False
    """It is in the tables; which is not committed yet."""

    def row(self) -> tuple[object, ...]:
        envelope = self.envelope
        return (
            self.number,
            envelope.verb,
            envelope.sender,
            envelope.device or "",
            envelope.to,
            envelope.id,
            envelope.ts,
            self.owed,
            envelope.payload,
            self.is_archived,
            self.is_blocked,
        )

    def known(self) -> KnownRow:
        to = self.envelope.to
        return self.number, self.envelope.ts, self.digest, to if is_group(to) else None


class Memtable:
    def __init__(self) -> None:
        self._by_number: dict[int, Recent] = {}
        self._by_id: dict[bytes, Recent] = {}
        self._archived = 0
        self._committed = 0
        self._checkpointed: set[Box] | None = None
        """Mailboxes that the current batch has checkpointed; None without a checkpoint."""

    @property
    def have_archived(self) -> bool:
        """Whether the history has something that the tables do not."""
        return self._archived > 0

    def keep(self, recent: Recent) -> None:
        self._by_number[recent.number] = recent
        if recent.key is not None:
            self._by_id[recent.key] = recent
        self._archived += recent.is_archived

    def release(self, number: int) -> None:
        """One place of this envelope was acknowledged."""
        recent = self._by_number[number]
        recent.owed -= 1
        if not recent.owed and not recent.is_archived and recent.key is None:
            del self._by_number[number]

    def known(self, key: bytes) -> KnownRow | None:
        """What was accepted under an id, the batch under way included."""
        recent = self._by_id.get(key)
        return None if recent is None else recent.known()

    def known_before(self, key: bytes) -> KnownRow | None:
        """As `known`, without the batch under way."""
        recent = self._by_id.get(key)
        return None if recent is None or recent.number > self._committed else recent.known()

    def forget_id(self, key: bytes) -> None:
        self._by_id.pop(key, None)

    def entries(self, box: Box, after: int) -> Iterator[Entry]:
        """What waits in the mailbox behind `after` and is committed, in order."""
        for seq, number, _, is_own in box.recent:
            if seq > after and number <= self._committed:
                yield Entry(seq, self._by_number[number].envelope, is_own)

    def checkpoint(self, connection: sqlite3.Connection, boxes: set[Box], upto: int) -> None:
        """Bring envelopes up to number `upto` into the tables, and `boxes` as they are without the later ones.

        Args:
            boxes: the mailboxes in which these envelopes wait, and others.
        """
        self._checkpointed = boxes | (self._checkpointed or set())
        entries, rows = [], []
        for box in boxes:
            waiting, waiting_bytes, checkpointed = box.waiting, box.waiting_bytes, box.tail
            for seq, number, size, is_own in box.recent:
                if seq <= box.checkpointed:
                    continue
                if number <= upto:
                    entries.append((box.id, seq, number, size, is_own))
                else:
                    checkpointed = min(checkpointed, seq - 1)
                    waiting -= 1
                    waiting_bytes -= size
            box.checkpointed = checkpointed
            counted = (box.session, box.sent, box.refused_text())
            rows.append((box.acked, box.tail, waiting, waiting_bytes, box.is_full, box.seen_ms, *counted, box.id))
        ids, envelopes = [], []
        for number, recent in self._by_number.items():
            if number > upto:
                break
            if not recent.is_checkpointed:
                recent.is_checkpointed = True
                if recent.key is not None:
                    ids.append((recent.key, *recent.known()))
                if recent.owed or recent.is_archived:
                    envelopes.append(recent.row())
        ids.sort()
        connection.executemany(_INSERT_ID, ids)
        connection.executemany(_INSERT_ENVELOPE, envelopes)
        connection.executemany(_INSERT_ENTRY, entries)
        connection.executemany(_UPDATE_BOX, rows)

    def commit(self, last: int) -> None:
        """The batch under way is committed, and `last` is the number that was given out last."""
        self._committed = last
        if self._checkpointed is None:
            return
        for box in self._checkpointed:
            while box.recent and box.recent[0][0] <= box.checkpointed:
                box.recent.popleft()
        self._checkpointed = None
        for recent in list(takewhile(attrgetter("is_checkpointed"), self._by_number.values())):
            del self._by_number[recent.number]
            if recent.key is not None and self._by_id.get(recent.key) is recent:
                del self._by_id[recent.key]
            self._archived -= recent.is_archived


# --- message ids -----------------------------------------------------------------------------------------------------


def message_key(sender: str, device: str | None, id: str) -> bytes:  # noqa: A002  # the frame's
    """The hash that stands for an id: nobody reads from it who said something."""
    return blake2b(f"{sender}/{device or ''}/{id}".encode(), digest_size=16).digest()


def key_of(envelope: Envelope, digest: bytes) -> bytes | None:
    """None: it has no id, or the id is not remembered."""
    if envelope.id is None or not digest:
        return None
    return message_key(envelope.sender, envelope.device, envelope.id)


def find_known(connection: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, KnownRow]:
    """Those of many ids that the table knows. One statement for some of them costs a third of one for each."""
    wanted: list[bytes | None] = [*sorted(keys)]
    found: dict[bytes, KnownRow] = {}
    for start in range(0, len(wanted), ASKED_AT_ONCE):
        some = wanted[start : start + ASKED_AT_ONCE]
        some += [None] * (ASKED_AT_ONCE - len(some))
        for key, *row in connection.execute(_SELECT_ALL_KNOWN, some):
            found[key] = tuple(row)
    return found


def read_known(connection: sqlite3.Connection, key: bytes) -> KnownRow | None:
    row: KnownRow | None = connection.execute(_SELECT_KNOWN, (key,)).fetchone()
    return row


def known_as(row: KnownRow | None, digest: bytes) -> Known | None:
    if row is None:
        return None
    _, ts, known_digest, group = row
    if known_digest != digest:
        return IdTaken()
    return Duplicate(ts, None if group is None else GroupId(group))
