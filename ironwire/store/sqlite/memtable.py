"""The memtable: mailboxes with the effects of the journal and of the current batch, and recent envelopes.

Envelopes that were accepted of late stand in the journal, and here, and not in the tables yet. Most are acknowledged
before they ever get there; then all that the tables get is the id. Rule: a reader sees what is committed, in the tables
or here, and nothing twice.

And message ids that are known, in the tables or here: what was accepted under one is the answer to its repetition.
"""

import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import starmap, takewhile
from operator import attrgetter, itemgetter

import orjson
from attrs import define, field, setters

from ironwire.ids import ClientId, DeviceId, GroupId, is_group
from ironwire.store.contract.operations import Duplicate, IdTaken, Known
from ironwire.store.contract.records import Entry, Envelope, Mailbox, MailboxId, Quota, RefusedSpan
from ironwire.wire.messages import ErrorCode

_BOX_COLUMNS = """
    id, client, device, acked, tail, waiting, waiting_bytes, is_full, created_ms, seen_ms,
    EXISTS (SELECT 1 FROM lost_change WHERE mailbox = mailbox.id), session, sent, refused, device_key"""
_SELECT_BOXES = f"SELECT {_BOX_COLUMNS} FROM mailbox WHERE client = ? ORDER BY id"  # noqa: S608  # a constant
_SELECT_BOXES_OF_ALL = f"""
    SELECT {_BOX_COLUMNS} FROM mailbox WHERE client IN (SELECT value FROM json_each(?)) ORDER BY id"""  # noqa: S608  # as above
_SELECT_DEPTH = "SELECT count(*), coalesce(sum(waiting), 0), coalesce(sum(waiting_bytes), 0) FROM mailbox"

# The sqlite3 module looks for an adapter of each value that is not exactly an int, a float, a str or a bytearray, and
# that takes as long as the rest of an insertion. So in bulk bytes go in as bytearray, flags as int, and None as "".
_INSERT_ENVELOPE = """
    INSERT INTO envelope (id, verb, sender, device, recipient, message_id, ts, owed, payload, is_archived, is_blocked)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_ID = "INSERT INTO known (key, envelope, ts, digest, recipient) VALUES (?, ?, ?, ?, nullif(?, ''))"
_INSERT_ENTRY = "INSERT INTO entry (mailbox, seq, envelope, size, is_own) VALUES (?, ?, ?, ?, ?)"
_UPDATE_BOX = """
    UPDATE mailbox SET acked = ?, tail = ?, waiting = ?, waiting_bytes = ?, is_full = ?, seen_ms = ?, session = ?,
        sent = ?, refused = ?
    WHERE id = ?"""

ASKED_AT_ONCE = 32

_KNOWN_COLUMNS = "envelope, ts, digest, recipient"
_SELECT_KNOWN = f"SELECT {_KNOWN_COLUMNS} FROM known WHERE key = ?"  # noqa: S608  # constants
_SELECT_ALL_KNOWN = f"""
    SELECT key, {_KNOWN_COLUMNS} FROM known WHERE key IN ({", ".join("?" * ASKED_AT_ONCE)})"""  # noqa: S608  # constants

Waiting = tuple[int, int, int, bool]
"""A place that waits for its ack: seq, number of the envelope, size, and whether it is the sender's own copy."""
KnownRow = tuple[int, int, bytes, str | None]
"""Number of the envelope, when it was accepted, its digest, and its group."""


# --- mailboxes -------------------------------------------------------------------------------------------------------


def refused_spans(columns: Iterable[tuple[int, int, ErrorCode]]) -> tuple[RefusedSpan, ...]:
    return tuple(RefusedSpan(*span) for span in columns)


def _read_refused(text: str) -> tuple[RefusedSpan, ...]:
    return refused_spans(orjson.loads(text))


@define(eq=False, on_setattr=setters.NO_OP)
class Box:
    """A mailbox as the writer knows it, the batch under way included. It counts what waits in the tables and what is
    recent.
    """

    id: MailboxId
    client: ClientId
    device: DeviceId
    acked: int
    tail: int
    waiting: int
    waiting_bytes: int
    is_full: bool = field(converter=bool)
    created_ms: int
    seen_ms: int
    has_lost_changes: bool = field(converter=bool)
    """Whether the table of lost changes has rows of the mailbox."""
    session: int = 1
    sent: int = 0
    refused: tuple[RefusedSpan, ...] = field(default="[]", converter=_read_refused)
    device_key: bytes | None = None
    checkpointed: int = field(init=False)
    """Waiting entries up to this seq are in the tables; later ones are recent."""
    recent: deque[Waiting] = field(init=False, factory=deque)
    """Recent entries, by seq. Some at the front may be checkpointed already, until that is committed."""

    @checkpointed.default
    def _tail_when_read(self) -> int:
        return self.tail

    def admits(self, size: int, quota: Quota) -> bool:
        """Whether there is room for `size` bytes more; a mailbox that was full has room again at half (section 5)."""
        if self.is_full:
            self.is_full = self.waiting * 2 > quota.mailbox_envelopes or self.waiting_bytes * 2 > quota.mailbox_bytes
        if self.waiting >= quota.mailbox_envelopes or self.waiting_bytes + size > quota.mailbox_bytes:
            self.is_full = True
        return not self.is_full

    def snapshot(self) -> Mailbox:
        return Mailbox(
            id=self.id,
            client=self.client,
            device=self.device,
            epoch=self.id,
            acked=self.acked,
            tail=self.tail,
            waiting=self.waiting,
            waiting_bytes=self.waiting_bytes,
            created_ms=self.created_ms,
            seen_ms=self.seen_ms,
            session=self.session,
            sent=self.sent,
            refused=self.refused,
            device_key=self.device_key,
        )

    def refused_text(self) -> str:
        """The content of the column `refused`."""
        return orjson.dumps([(span.first, span.last, span.code) for span in self.refused]).decode()


def read_boxes(connection: sqlite3.Connection, client: ClientId) -> list[Box]:
    return [*starmap(Box, connection.execute(_SELECT_BOXES, (client,)))]


def read_boxes_of_all(connection: sqlite3.Connection, clients: Iterable[ClientId]) -> dict[ClientId, list[Box]]:
    """The mailboxes of each of many clients, in a tenth of the time that one statement for each takes."""
    boxes: dict[ClientId, list[Box]] = {client: [] for client in clients}
    for box in starmap(Box, connection.execute(_SELECT_BOXES_OF_ALL, (orjson.dumps([*boxes]).decode(),))):
        boxes[box.client].append(box)
    return boxes


@define
class Depth:
    """How much waits in all mailboxes together, as it was committed last: counted once, which reads every mailbox, and
    kept up to date from then on. Changes of the current transaction are kept apart until `commit`.
    """

    mailboxes: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    _changed_mailboxes: int = 0
    _changed_waiting: int = 0
    _changed_bytes: int = 0

    def change(self, *, mailboxes: int = 0, waiting: int = 0, waiting_bytes: int = 0) -> None:
        """Add what the transaction changes; negative values take away."""
        self._changed_mailboxes += mailboxes
        self._changed_waiting += waiting
        self._changed_bytes += waiting_bytes

    def recount(self, connection: sqlite3.Connection) -> None:
        """Count anew after a transaction on `connection` that changed many mailboxes."""
        mailboxes, waiting, waiting_bytes = connection.execute(_SELECT_DEPTH).fetchone()
        self.roll_back()
        self.change(
            mailboxes=mailboxes - self.mailboxes,
            waiting=waiting - self.waiting,
            waiting_bytes=waiting_bytes - self.waiting_bytes,
        )

    def commit(self) -> None:
        self.mailboxes += self._changed_mailboxes
        self.waiting += self._changed_waiting
        self.waiting_bytes += self._changed_bytes
        self.roll_back()

    def roll_back(self) -> None:
        self._changed_mailboxes = self._changed_waiting = self._changed_bytes = 0


# --- recent envelopes ------------------------------------------------------------------------------------------------


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
    """Whether it was written into the tables in the current batch."""

    def row(self) -> tuple[object, ...]:
        of = self.envelope
        named = (of.verb, of.sender, of.device or "", of.to, of.id, of.ts)
        return (self.number, *named, self.owed, bytearray(of.payload), int(self.is_archived), int(self.is_blocked))

    def id_row(self, key: bytes) -> tuple[object, ...]:
        number, ts, digest, group = self.known()
        return bytearray(key), number, ts, bytearray(digest), group or ""

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
        """Count one acknowledged entry of this envelope."""
        recent = self._by_number[number]
        recent.owed -= 1
        if not recent.owed and not recent.is_archived and recent.key is None:
            del self._by_number[number]

    def known(self, key: bytes) -> KnownRow | None:
        """The envelope that was accepted under an id, the batch under way included."""
        recent = self._by_id.get(key)
        return None if recent is None else recent.known()

    def known_before(self, key: bytes) -> KnownRow | None:
        """As `known`, without the batch under way."""
        recent = self._by_id.get(key)
        return None if recent is None or recent.number > self._committed else recent.known()

    def forget_id(self, key: bytes) -> None:
        self._by_id.pop(key, None)

    def entries(self, box: Box, after: int) -> Iterator[Entry]:
        """Committed entries of the mailbox behind `after`, in order."""
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
                    entries.append((box.id, seq, number, size, int(is_own)))
                else:
                    checkpointed = min(checkpointed, seq - 1)
                    waiting -= 1
                    waiting_bytes -= size
            box.checkpointed = checkpointed
            counted = (box.session, box.sent, box.refused_text())
            rows.append((box.acked, box.tail, waiting, waiting_bytes, int(box.is_full), box.seen_ms, *counted, box.id))
        ids, envelopes = [], []
        for number, recent in self._by_number.items():
            if number > upto:
                break
            if not recent.is_checkpointed:
                recent.is_checkpointed = True
                if recent.key is not None:
                    ids.append((recent.key, recent))
                if recent.owed or recent.is_archived:
                    envelopes.append(recent.row())
        connection.executemany(_INSERT_ID, [recent.id_row(key) for key, recent in sorted(ids, key=itemgetter(0))])
        connection.executemany(_INSERT_ENVELOPE, envelopes)
        connection.executemany(_INSERT_ENTRY, entries)
        connection.executemany(_UPDATE_BOX, rows)

    def commit(self, last: int) -> None:
        """Take over the changes of the batch; `last` is the last number that it gave out."""
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
    """The hash that stands for an id, so that the file does not name the sender."""
    return blake2b(f"{sender}/{device or ''}/{id}".encode(), digest_size=16).digest()


def key_of(envelope: Envelope, digest: bytes) -> bytes | None:
    """The key of the envelope's id; None if it has none, or the id is not remembered."""
    if envelope.id is None or not digest:
        return None
    return message_key(envelope.sender, envelope.device, envelope.id)


def find_known(connection: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, KnownRow]:
    """Those of many ids that the table knows. One statement for some of them costs a third of one for each."""
    wanted = [*map(bytearray, sorted(keys))]
    found: dict[bytes, KnownRow] = {}
    for start in range(0, len(wanted), ASKED_AT_ONCE):
        some = wanted[start : start + ASKED_AT_ONCE]
        some += [bytearray()] * (ASKED_AT_ONCE - len(some))
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
