"""What an operation does to the SQLite file: the half of `sqlite.py` that knows rows, and neither Trio nor threads.

Appended rows are gathered and inserted many at a time, because that is what makes a batch cheap. Whatever looks at rows
brings the gathered ones into the transaction first. Mailboxes are cached; the cache includes the batch under way.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from attrs import define, field

from ironwire.ids import ClientId, DeviceId, parse_address
from ironwire.store.base import (
    Ack,
    Acked,
    Append,
    Block,
    ChangeGroup,
    Duplicate,
    Expired,
    Forget,
    Forgotten,
    IdTaken,
    Mailbox,
    MailboxFull,
    MailboxId,
    NoSuchDevice,
    Operation,
    Placed,
    Quota,
    Register,
    Remove,
    Removed,
    Result,
    Stored,
    TooManyDevices,
    Touch,
    Touched,
    Unblock,
    Undeliverable,
)

CACHED_CLIENTS = 20_000

_COLUMNS = "id, client, device, acked, tail, waiting, waiting_bytes, is_full, created_ms, seen_ms"
_SELECT_BOXES = f"SELECT {_COLUMNS} FROM mailbox WHERE client = ? ORDER BY id"  # noqa: S608  # a constant
_SELECT_OWNER = "SELECT client FROM mailbox WHERE id = ?"
_INSERT_BOX = "INSERT INTO mailbox (client, device, created_ms, seen_ms) VALUES (?, ?, ?, ?)"
_UPDATE_BOX = """
    UPDATE mailbox SET acked = ?, tail = ?, waiting = ?, waiting_bytes = ?, is_full = ?, seen_ms = ? WHERE id = ?"""
_DELETE_BOX = "DELETE FROM mailbox WHERE id = ?"
_INSERT_ENVELOPE = """
    INSERT INTO envelope (id, verb, sender, device, recipient, message_id, ts, digest, owed, payload, is_archived)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_ENTRY = "INSERT INTO entry (mailbox, seq, envelope, size, is_own) VALUES (?, ?, ?, ?, ?)"
_SELECT_KNOWN = """
    SELECT ts, digest, recipient FROM envelope
    WHERE sender = ? AND device = ? AND message_id = ? AND is_id_known = 1"""
_DELETE_KNOWN = """
    DELETE FROM envelope WHERE sender = ? AND device = ? AND message_id = ? AND is_id_known = 1 AND owed = 0"""
_FORGET_ID = """
    UPDATE envelope SET is_id_known = 0, is_archived = 0
    WHERE sender = ? AND device = ? AND message_id = ? AND is_id_known = 1"""

# An entry leaves a mailbox: whoever it points at is owed once less; what nobody owes any more is erased.
_MEASURE = "SELECT count(*), coalesce(sum(size), 0) FROM entry WHERE mailbox = ? AND seq > ? AND seq <= ?"
_RELEASE = """
    UPDATE envelope SET owed = owed - 1, payload = CASE WHEN owed > 1 OR is_archived = 1 THEN payload END
    WHERE id IN (SELECT envelope FROM entry WHERE mailbox = ? AND seq <= ?)"""
_DELETE_RELEASED = """
    DELETE FROM envelope WHERE id IN (SELECT envelope FROM entry WHERE mailbox = ? AND seq <= ?)
        AND owed = 0 AND is_archived = 0 AND (message_id IS NULL OR is_id_known = 0)"""
_CLEAR = "DELETE FROM entry WHERE mailbox = ? AND seq <= ?"

# What has expired. Entries are looked at only if some envelope is old and still owed: all of them have to be.
_ANY_OLD_OWED = "SELECT EXISTS (SELECT 1 FROM envelope WHERE ts < ? AND owed > 0)"
_DELETE_OLD_ENTRIES = """
    DELETE FROM entry WHERE envelope IN (SELECT id FROM envelope WHERE ts < ? AND owed > 0)"""
_RELEASE_OLD = """
    UPDATE envelope SET owed = 0, payload = CASE WHEN is_archived = 1 THEN payload END WHERE ts < ? AND owed > 0"""
_COUNT_WAITING = """
    UPDATE mailbox SET (waiting, waiting_bytes) =
        (SELECT count(*), coalesce(sum(size), 0) FROM entry WHERE entry.mailbox = mailbox.id)
    WHERE waiting > 0"""
_SELECT_UNSEEN = "SELECT id, tail FROM mailbox WHERE seen_ms < ?"
_UNARCHIVE_OLD = """
    UPDATE envelope SET is_archived = 0, payload = CASE WHEN owed > 0 THEN payload END
    WHERE is_archived = 1 AND ts < ?"""
_DELETE_UNARCHIVED = """
    DELETE FROM envelope WHERE is_archived = 1 AND ts < ? AND owed = 0 AND (message_id IS NULL OR is_id_known = 0)"""
_DELETE_OLD = "DELETE FROM envelope WHERE ts < ? AND is_archived = 0"
_FORGET_OLD_IDS = "UPDATE envelope SET is_id_known = 0 WHERE ts < ? AND is_id_known = 1"


@define(eq=False, on_setattr=[])
class _Box:
    """A mailbox as the writer knows it, the batch under way included."""

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
    flushed: int = field(init=False)
    """The last seq that is in the transaction and not only gathered."""

    @flushed.default
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
        )


class Writer:
    """Operations on the database behind `changes`, within the transaction that the caller has begun.

    `lookups` is another connection, which sees what is committed.
    """

    def __init__(self, changes: sqlite3.Connection, lookups: sqlite3.Connection, quota: Quota) -> None:
        self._changes = changes
        self._lookups = lookups
        self._quota = quota
        self.boxes: dict[ClientId, list[_Box]] = {}
        """The cache. An empty list stands for a client that has no mailbox."""
        self._box_by_id: dict[MailboxId, _Box] = {}
        self._dirty: set[_Box] = set()
        self._released: dict[MailboxId, int] = {}
        """Up to where entries have been acknowledged, and are still in the table."""
        self._envelopes: list[tuple[Any, ...]] = []
        self._entries: list[tuple[Any, ...]] = []
        self._new_ids: dict[tuple[str, str, str | None], tuple[int, bytes, str]] = {}
        row = changes.execute("SELECT coalesce(max(id), 0) FROM envelope").fetchone()
        self._last_envelope: int = row[0]

    def apply(self, batch: Sequence[Operation]) -> list[Result]:
        """Bring the whole batch into the transaction."""
        results = [self._apply(operation) for operation in batch]
        self._flush()
        return results

    def expire(self, before_ms: int, archived_before_ms: int) -> Expired:
        """The changes of `Store.expire`. The cache no longer holds after them."""
        run = self._changes.execute
        entries = 0
        if run(_ANY_OLD_OWED, (before_ms,)).fetchone()[0]:
            entries = run(_DELETE_OLD_ENTRIES, (before_ms,)).rowcount
            run(_RELEASE_OLD, (before_ms,))
            run(_COUNT_WAITING)
        unseen = run(_SELECT_UNSEEN, (before_ms,)).fetchall()
        for mailbox, tail in unseen:
            self._release(mailbox, tail)
            run(_DELETE_BOX, (mailbox,))
        run(_DELETE_UNARCHIVED, (archived_before_ms,))
        run(_UNARCHIVE_OLD, (archived_before_ms,))
        run(_DELETE_OLD, (before_ms,))
        run(_FORGET_OLD_IDS, (before_ms,))
        return Expired(entries, len(unseen))

    def forget(self) -> None:
        """Drop what is cached and gathered: the transaction is undone, or the file was changed beside the cache."""
        for known in (
            self.boxes,
            self._box_by_id,
            self._dirty,
            self._envelopes,
            self._entries,
            self._new_ids,
            self._released,
        ):
            known.clear()

    def trim(self) -> None:
        """Keep the cache in bounds. Not while a batch is under way."""
        if len(self.boxes) > CACHED_CLIENTS:
            self.forget()

    def _apply(self, operation: Operation) -> Result:
        match operation:
            case Append():
                return self._append(operation)
            case Ack(mailbox, upto):
                return self._ack(mailbox, upto)
            case Register():
                return self._register(operation)
            case Touch(mailbox, now_ms):
                return self._touch(mailbox, now_ms)
            case Remove(client, device):
                return self._remove(client, device)
            case Forget(sender, device, message):
                self._flush()
                for statement in (_DELETE_KNOWN, _FORGET_ID):
                    self._changes.execute(statement, (sender, device or "", message))
                return Forgotten()
            case ChangeGroup() | Block() | Unblock():
                raise NotImplementedError

    def _append(self, append: Append) -> Stored | Duplicate | IdTaken | MailboxFull | Undeliverable:
        envelope, digest = append.envelope, append.digest
        device = envelope.device or ""
        key = (envelope.sender, device, envelope.id)
        if envelope.id is not None:
            known = self._new_ids.get(key) or self._changes.execute(_SELECT_KNOWN, key).fetchone()
            if known is not None:
                return Duplicate(known[0], parse_address(known[2])) if known[1] == digest else IdTaken()
        owed = [(box, False) for box in self.boxes_of(ClientId(envelope.to))]
        if not owed and not append.is_live:
            return Undeliverable()
        if envelope.sender != envelope.to:
            owed += [(box, True) for box in self.boxes_of(envelope.sender) if box.device != device]
        size = len(envelope.payload)
        admitted = [box.admits(size, self._quota) for box, _ in owed]
        self._dirty.update(box for box, _ in owed)
        if not all(admitted):
            return MailboxFull()
        self._last_envelope += 1
        number = self._last_envelope
        is_kept = bool(owed) or append.is_archived
        if envelope.id is not None:
            self._new_ids[key] = (envelope.ts, digest, envelope.to)
        if is_kept or envelope.id is not None:
            self._envelopes.append(
                (
                    number,
                    envelope.verb,
                    envelope.sender,
                    device,
                    envelope.to,
                    envelope.id,
                    envelope.ts,
                    digest,
                    len(owed),
                    envelope.payload if is_kept else None,
                    append.is_archived,
                )
            )
        placed = []
        for box, is_own in owed:
            box.tail += 1
            box.waiting += 1
            box.waiting_bytes += size
            self._entries.append((box.id, box.tail, number, size, is_own))
            placed.append(Placed(box.id, box.client, box.device, box.tail, is_own))
        return Stored(tuple(placed))

    def _ack(self, mailbox: MailboxId, upto: int) -> Acked:
        box = self._box(mailbox)
        if box is not None and upto > box.acked:
            self._erase(box, min(upto, box.tail))
        return Acked()

    def _register(self, register: Register) -> Mailbox | TooManyDevices:
        boxes = self.boxes_of(register.client)
        for box in boxes:
            if box.device == register.device:
                box.seen_ms = max(box.seen_ms, register.now_ms)
                self._dirty.add(box)
                return box.snapshot()
        if len(boxes) >= self._quota.devices_per_client:
            return TooManyDevices()
        row = (register.client, register.device, register.now_ms, register.now_ms)
        number = MailboxId(self._changes.execute(_INSERT_BOX, row).lastrowid or 0)
        box = _Box(number, register.client, register.device, 0, 0, 0, 0, False, register.now_ms, register.now_ms)
        boxes.append(box)
        self._box_by_id[number] = box
        return box.snapshot()

    def _touch(self, mailbox: MailboxId, now_ms: int) -> Touched:
        box = self._box(mailbox)
        if box is not None:
            box.seen_ms = max(box.seen_ms, now_ms)
            self._dirty.add(box)
        return Touched()

    def _remove(self, client: ClientId, device: DeviceId) -> Removed | NoSuchDevice:
        boxes = self.boxes_of(client)
        for box in boxes:
            if box.device == device:
                self._erase(box, box.tail)
                self._flush()
                self._changes.execute(_DELETE_BOX, (box.id,))
                boxes.remove(box)
                del self._box_by_id[box.id]
                return Removed()
        return NoSuchDevice()

    def _erase(self, box: _Box, upto: int) -> None:
        """Everything up to `upto` is out of the mailbox from now on; the entries themselves go with the next flush."""
        if upto > box.flushed:
            self._flush()
        count, size = self._changes.execute(_MEASURE, (box.id, box.acked, upto)).fetchone()
        box.acked = upto
        box.waiting -= count
        box.waiting_bytes -= size
        if count:
            self._released[box.id] = upto
        self._dirty.add(box)

    def _release(self, mailbox: MailboxId, upto: int) -> None:
        for statement in (_RELEASE, _DELETE_RELEASED, _CLEAR):
            self._changes.execute(statement, (mailbox, upto))

    def _flush(self) -> None:
        """Bring what was gathered into the transaction."""
        self._changes.executemany(_INSERT_ENVELOPE, self._envelopes)
        self._changes.executemany(_INSERT_ENTRY, self._entries)
        rows = [
            (box.acked, box.tail, box.waiting, box.waiting_bytes, box.is_full, box.seen_ms, box.id)
            for box in self._dirty
        ]
        self._changes.executemany(_UPDATE_BOX, rows)
        for mailbox, upto in self._released.items():
            self._release(mailbox, upto)
        for box in self._dirty:
            box.flushed = box.tail
        for gathered in (self._envelopes, self._entries, self._dirty, self._new_ids, self._released):
            gathered.clear()

    def boxes_of(self, client: ClientId) -> list[_Box]:
        """The client's mailboxes. A client that is not cached was not touched by the batch under way, so what is
        committed holds.
        """
        boxes = self.boxes.get(client)
        if boxes is None:
            boxes = self.boxes[client] = read_boxes(self._lookups, client)
            self._box_by_id.update((box.id, box) for box in boxes)
        return boxes

    def _box(self, mailbox: MailboxId) -> _Box | None:
        if mailbox not in self._box_by_id:
            row = self._lookups.execute(_SELECT_OWNER, (mailbox,)).fetchone()
            if row is not None:
                self.boxes_of(row[0])
        return self._box_by_id.get(mailbox)


def read_boxes(connection: sqlite3.Connection, client: ClientId) -> list[_Box]:
    return [_Box(*row) for row in connection.execute(_SELECT_BOXES, (client,))]
