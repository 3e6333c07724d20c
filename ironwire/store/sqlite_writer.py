"""What an operation does to the SQLite file: the half of `sqlite.py` that knows rows, and neither Trio nor threads.

Appended rows are gathered and inserted many at a time, because that is what makes a batch cheap. Whatever looks at rows
brings the gathered ones into the transaction first. Mailboxes are cached; the cache includes the batch under way.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, TypeVar

from ironwire.ids import ClientId, DeviceId, GroupId, is_group
from ironwire.store.operations import (
    Ack,
    Acked,
    Append,
    Block,
    ChangeGroup,
    EpochPassed,
    Forget,
    Forgotten,
    Known,
    MailboxFull,
    NoSuchDevice,
    NotMember,
    Operation,
    Placed,
    Register,
    Remove,
    Removed,
    Result,
    Stored,
    TooManyDevices,
    TooManyGroups,
    Touch,
    Touched,
    Unblock,
    Undeliverable,
)
from ironwire.store.records import (
    Envelope,
    Expired,
    Mailbox,
    MailboxId,
    Quota,
)
from ironwire.store.sqlite_boxes import Box, read_boxes
from ironwire.store.sqlite_depth import Depth
from ironwire.store.sqlite_expiry import drop_old_entries, let_go, unseen_mailboxes
from ironwire.store.sqlite_groups import GroupWriter
from ironwire.store.sqlite_ids import SELECT_KNOWN, known_as

T = TypeVar("T")

CACHED_CLIENTS = 20_000
WARY_BATCHES = 1_000

_SELECT_OWNER = "SELECT client FROM mailbox WHERE id = ?"
_INSERT_BOX = "INSERT INTO mailbox (client, device, created_ms, seen_ms) VALUES (?, ?, ?, ?)"
_UPDATE_BOX = """
    UPDATE mailbox SET acked = ?, tail = ?, waiting = ?, waiting_bytes = ?, is_full = ?, seen_ms = ? WHERE id = ?"""
_DELETE_BOX = "DELETE FROM mailbox WHERE id = ?"
_INSERT_ENVELOPE = """
    INSERT INTO envelope (id, verb, sender, device, recipient, message_id, ts, digest, owed, payload,
        is_archived, is_blocked)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_ENTRY = "INSERT INTO entry (mailbox, seq, envelope, size, is_own) VALUES (?, ?, ?, ?, ?)"
_FORGET_ID = """
    UPDATE envelope SET is_id_known = 0, is_archived = 0
    WHERE sender = ? AND device = ? AND message_id = ? AND is_id_known = 1"""

# An entry leaves a mailbox: whoever it points at is owed once less. What nobody owes any more loses its payload, and
# goes if it is not known by an id.
_SELECT_ENTRIES = "SELECT envelope, size FROM entry WHERE mailbox = ? AND seq > ? AND seq <= ?"
_DELETE_ENTRIES = "DELETE FROM entry WHERE mailbox = ? AND seq > ? AND seq <= ?"
_RELEASE = """
    UPDATE envelope SET owed = owed - 1, payload = CASE WHEN owed > 1 OR is_archived = 1 THEN payload END
    WHERE id = ?"""
_DELETE_ERASED = """
    DELETE FROM envelope WHERE owed = 0 AND is_archived = 0 AND (message_id IS NULL OR is_id_known = 0)"""


class _KnownId(Exception):
    """An id that was not looked up is known."""


class Writer:
    """Operations on the database behind `changes`, within the transaction that the caller has begun.

    `lookups` is another connection, which sees what is committed.
    """

    def __init__(self, changes: sqlite3.Connection, lookups: sqlite3.Connection, quota: Quota) -> None:
        self._changes = changes
        self._lookups = lookups
        self._quota = quota
        self._groups = GroupWriter(changes, quota)
        self.boxes: dict[ClientId, list[Box]] = {}
        """The cache. An empty list stands for a client that has no mailbox."""
        self._box_by_id: dict[MailboxId, Box] = {}
        self._dirty: set[Box] = set()
        self._released: list[tuple[int]] = []
        """Envelopes that are owed once less."""
        self._envelopes: list[tuple[Any, ...]] = []
        self._entries: list[tuple[Any, ...]] = []
        self._new_ids: dict[tuple[str, str, str | None], tuple[int, bytes, str]] = {}
        self._wary_batches = 0
        """How many batches more are to look every id up."""
        row = changes.execute("SELECT coalesce(max(id), 0) FROM envelope").fetchone()
        self._last_envelope: int = row[0]
        self.depth = Depth()
        self.depth.recount(changes)
        self.depth.commit()

    def apply(self, batch: Sequence[Operation]) -> list[Result]:
        """Bring the whole batch into the transaction.

        Ids hardly ever come again, and to look each up costs as much as storing the envelope. So at first none is: if
        one turns out to be known, the transaction begins anew and all are. They are in the batches that follow too,
        because whoever repeats one may repeat many, and beginning anew is dear for everybody.
        """
        self._wary_batches = max(self._wary_batches - 1, 0)
        try:
            return self._attempt(batch)
        except (_KnownId, sqlite3.IntegrityError):
            self._wary_batches = WARY_BATCHES
            self.forget()
            self._changes.rollback()
            self._changes.execute("BEGIN IMMEDIATE")
            return self._attempt(batch)

    def _attempt(self, batch: Sequence[Operation]) -> list[Result]:
        results = [self._apply(operation) for operation in batch]
        self._flush()
        return results

    def expire(self, before_ms: int, archived_before_ms: int) -> Expired:
        """The changes of `Store.expire`. The cache no longer holds after them."""
        entries = drop_old_entries(self._changes, before_ms)
        unseen = unseen_mailboxes(self._changes, before_ms)
        for mailbox, acked, tail in unseen:
            self._take_out(mailbox, acked, tail)
            self._changes.execute(_DELETE_BOX, (mailbox,))
        self._flush()
        let_go(self._changes, before_ms, archived_before_ms)
        self._changes.execute(_DELETE_ERASED)
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
        self.depth.roll_back()
        self._groups.forget()

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
                self._changes.execute(_FORGET_ID, (sender, device or "", message))
                self._changes.execute(_DELETE_ERASED)
                return Forgotten()
            case ChangeGroup():
                return self._change_group(operation)
            case Block():
                return self._groups.block(operation)
            case Unblock():
                return self._groups.unblock(operation)

    def _append(self, append: Append) -> Stored | Known | MailboxFull | Undeliverable | NotMember:
        envelope, digest = append.envelope, append.digest
        known = self._known(envelope, digest)
        if known is not None:
            return known
        if is_group(envelope.to):
            return self._append_to_group(append)
        owed = [(box, False) for box in self.boxes_of(ClientId(envelope.to))]
        if not owed and not append.is_live:
            return self._refused(envelope, Undeliverable())
        if envelope.sender != envelope.to:
            device = envelope.device or ""
            owed += [(box, True) for box in self.boxes_of(envelope.sender) if box.device != device]
        size = len(envelope.payload)
        admitted = [box.admits(size, self._quota) for box, _ in owed]
        self._dirty.update(box for box, _ in owed)
        if not all(admitted):
            return self._refused(envelope, MailboxFull())
        if append.is_blocked:
            owed = [(box, is_own) for box, is_own in owed if box.client != envelope.to]
        kept = self._keep(envelope, digest, owed, is_archived=append.is_archived, is_blocked=append.is_blocked)
        return Stored(kept)

    def _append_to_group(self, append: Append) -> Stored | NotMember:
        envelope = append.envelope
        members = self._groups.members_of(GroupId(envelope.to))
        if envelope.sender not in members:
            return self._refused(envelope, NotMember())
        sending = (envelope.sender, envelope.device or "")
        boxes = [box for client in members for box in self.boxes_of(client) if (client, box.device) != sending]
        placed = self._spread(envelope, append.digest, boxes, is_archived=append.is_archived)
        return Stored(placed, owed_live=members)

    def _change_group(self, change: ChangeGroup) -> Stored | Known | EpochPassed | TooManyGroups:
        known = self._known(change.envelope, change.digest)
        if known is not None:
            return known
        everyone = self._groups.change(change, self._last_envelope)
        if not isinstance(everyone, tuple):
            return self._refused(change.envelope, everyone)
        boxes = [box for client in everyone for box in self.boxes_of(client)]
        placed = self._spread(change.envelope, change.digest, boxes, is_archived=False)
        return Stored(placed, owed_live=everyone)

    def _spread(self, envelope: Envelope, digest: bytes, boxes: list[Box], *, is_archived: bool) -> tuple[Placed, ...]:
        """Into all these mailboxes of a group; one that is full gives the number out and holds nothing under it."""
        size = len(envelope.payload)
        owed = []
        for box in boxes:
            if box.admits(size, self._quota):
                owed.append((box, False))
            else:
                box.tail += 1
        self._dirty.update(boxes)
        return self._keep(envelope, digest, owed, is_archived=is_archived)

    def _keep(
        self,
        envelope: Envelope,
        digest: bytes,
        owed: list[tuple[Box, bool]],
        *,
        is_archived: bool,
        is_blocked: bool = False,
    ) -> tuple[Placed, ...]:
        """The envelope once, and a place in each mailbox that it is owed to."""
        self._last_envelope += 1
        number, size, device = self._last_envelope, len(envelope.payload), envelope.device or ""
        is_kept = bool(owed) or is_archived
        if envelope.id is not None:
            self._new_ids[envelope.sender, device, envelope.id] = (envelope.ts, digest, envelope.to)
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
                    is_archived,
                    is_blocked,
                )
            )
        placed = []
        for box, is_own in owed:
            box.tail += 1
            box.waiting += 1
            box.waiting_bytes += size
            self._entries.append((box.id, box.tail, number, size, is_own))
            placed.append(Placed(box.id, box.client, box.device, box.tail, is_own))
        self.depth.change(waiting=len(owed), waiting_bytes=len(owed) * size)
        return tuple(placed)

    def _known(self, envelope: Envelope, digest: bytes) -> Known | None:
        if envelope.id is None:
            return None
        key = (envelope.sender, envelope.device or "", envelope.id)
        row = self._new_ids.get(key)
        if row is None and self._wary_batches:
            row = self._changes.execute(SELECT_KNOWN, key).fetchone()
        return known_as(row, digest)

    def _refused(self, envelope: Envelope, refusal: T) -> T:
        """The refusal, unless the id turns out to be known: then that is what has to be told."""
        if envelope.id is not None and not self._wary_batches:
            key = (envelope.sender, envelope.device or "", envelope.id)
            if self._changes.execute(SELECT_KNOWN, key).fetchone() is not None:
                raise _KnownId
        return refusal

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
        self.depth.change(mailboxes=1)
        box = Box(number, register.client, register.device, 0, 0, 0, 0, False, register.now_ms, register.now_ms)
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
                self.depth.change(mailboxes=-1)
                boxes.remove(box)
                del self._box_by_id[box.id]
                return Removed()
        return NoSuchDevice()

    def _erase(self, box: Box, upto: int) -> None:
        """Everything up to `upto` leaves the mailbox."""
        if upto > box.flushed:
            self._flush()
        count, size = self._take_out(box.id, box.acked, upto)
        box.acked = upto
        box.waiting -= count
        box.waiting_bytes -= size
        self.depth.change(waiting=-count, waiting_bytes=-size)
        self._dirty.add(box)

    def _take_out(self, mailbox: MailboxId, after: int, upto: int) -> tuple[int, int]:
        """Delete entries; returns how many they were, and their bytes. The next flush releases their envelopes."""
        place = (mailbox, after, upto)
        rows = self._changes.execute(_SELECT_ENTRIES, place).fetchall()
        if rows:
            self._changes.execute(_DELETE_ENTRIES, place)
            self._released += [(number,) for number, _ in rows]
        return len(rows), sum(size for _, size in rows)

    def _flush(self) -> None:
        """Bring what was gathered into the transaction."""
        run = self._changes.executemany
        run(_INSERT_ENVELOPE, self._envelopes)
        run(_INSERT_ENTRY, self._entries)
        rows = [
            (box.acked, box.tail, box.waiting, box.waiting_bytes, box.is_full, box.seen_ms, box.id)
            for box in self._dirty
        ]
        run(_UPDATE_BOX, rows)
        if self._released:
            run(_RELEASE, self._released)
            self._changes.execute(_DELETE_ERASED)
        for box in self._dirty:
            box.flushed = box.tail
        for gathered in (self._envelopes, self._entries, self._dirty, self._new_ids, self._released):
            gathered.clear()

    def boxes_of(self, client: ClientId) -> list[Box]:
        """The client's mailboxes. A client that is not cached was not touched by the batch under way, so what is
        committed holds.
        """
        boxes = self.boxes.get(client)
        if boxes is None:
            boxes = self.boxes[client] = read_boxes(self._lookups, client)
            self._box_by_id.update((box.id, box) for box in boxes)
        return boxes

    def _box(self, mailbox: MailboxId) -> Box | None:
        if mailbox not in self._box_by_id:
            row = self._lookups.execute(_SELECT_OWNER, (mailbox,)).fetchone()
            if row is not None:
                self.boxes_of(row[0])
        return self._box_by_id.get(mailbox)
