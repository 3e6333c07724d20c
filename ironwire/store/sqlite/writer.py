"""The effect of each operation on the SQLite file: the half of `store.py` that knows rows, not Trio or threads.

A batch changes the mailboxes in memory, and writes down in the journal what it did; once in a while what is left of
that goes into the tables. What is in the tables already is changed there. Mailboxes are cached; the cache includes the
batch under way, and holds at least those of which the tables do not know all.
"""

import sqlite3
from collections.abc import Sequence

from ironwire.ids import ClientId, DeviceId, GroupId
from ironwire.store.contract.lanes import apply_in_lanes
from ironwire.store.contract.numbers import answer_to, refuse_after_all, refuse_next, settle_next
from ironwire.store.contract.operations import (
    Acked,
    Acknowledge,
    AddBlock,
    AlreadySettled,
    Append,
    Appended,
    ChangeGroup,
    EpochPassed,
    Forget,
    Forgotten,
    Known,
    Lost,
    MailboxFull,
    NoSuchDevice,
    NotMember,
    Number,
    NumberRefused,
    Operation,
    OutOfTurn,
    Placed,
    RefuseNumber,
    Register,
    Remove,
    RemoveBlock,
    Removed,
    Result,
    SessionOver,
    Sweep,
    Swept,
    ToClient,
    ToDevices,
    ToGroup,
    TooManyDevices,
    TooManyGroups,
    Touch,
    Touched,
    Undeliverable,
)
from ironwire.store.contract.records import (
    Envelope,
    Erased,
    Expired,
    Mailbox,
    MailboxId,
    Quota,
)
from ironwire.store.sqlite.boxes import Box
from ironwire.store.sqlite.expiry import drop_old_entries, let_go, unreachable_entries, unseen_mailboxes
from ironwire.store.sqlite.groups import GroupWriter
from ironwire.store.sqlite.ids import Row, find_known, key_of, known_as, message_key, read_known
from ironwire.store.sqlite.losses import forget_lost_changes, note_lost_change
from ironwire.store.sqlite.mailboxes import Mailboxes
from ironwire.store.sqlite.memtable import Recent
from ironwire.store.sqlite.operator import erase_client
from ironwire.wire.messages import ErrorCode, GroupChanged

SWEPT_AT_ONCE = 250
"""Entries of a mailbox that is removed which one operation erases: about 2 ms."""

_INSERT_BOX = "INSERT INTO mailbox (client, device, created_ms, seen_ms, session) VALUES (?, ?, ?, ?, 1)"
_DELETE_BOX = "DELETE FROM mailbox WHERE id = ?"
_TAKE_FROM_BOX = """
    UPDATE mailbox SET acked = ?, waiting = waiting - ?, waiting_bytes = waiting_bytes - ? WHERE id = ?"""
_FORGET_ID = "DELETE FROM known WHERE key = ? RETURNING envelope"
_UNARCHIVE = "UPDATE envelope SET is_archived = 0 WHERE id = ? AND sender = ? AND message_id = ?"
_UNARCHIVE_ALL = """
    UPDATE envelope SET is_archived = 0
    WHERE is_archived = 1 AND sender = ? AND recipient = ?
        AND device = ? AND message_id IS ? AND ts = ? AND payload = ?"""

# An entry leaves a mailbox: whoever it points at is owed once less, and goes when nobody is owed it any more.
_SELECT_ENTRIES = "SELECT envelope, size FROM entry WHERE mailbox = ? AND seq > ? AND seq <= ?"
_DELETE_ENTRIES = "DELETE FROM entry WHERE mailbox = ? AND seq > ? AND seq <= ?"
_RELEASE = "UPDATE envelope SET owed = owed - 1 WHERE id = ?"
_DELETE_ERASED = "DELETE FROM envelope WHERE owed = 0 AND is_archived = 0"


class Writer:
    """Operations on the database behind `changes`, within the transaction that the caller has begun.

    `lookups` is another connection, which sees what is committed.
    """

    def __init__(self, changes: sqlite3.Connection, lookups: sqlite3.Connection, quota: Quota) -> None:
        self._changes = changes
        self._lookups = lookups
        self._quota = quota
        self._groups = GroupWriter(changes, quota)
        self.mailboxes = Mailboxes(lookups, quota)
        self._known_ids: dict[bytes, Row] = {}
        """Of the batch under way, those that the tables know."""
        self._released: list[tuple[int]] = []
        """Envelopes of the tables that are owed once less."""
        self.recover()

    def apply(self, batch: Sequence[Operation]) -> list[Result]:
        """Bring the whole batch into the transaction."""
        mailboxes = self.mailboxes
        mailboxes.ready()
        keys = [_key_of(operation) for operation in batch]
        self._known_ids = find_known(self._changes, filter(None, keys))
        results = apply_in_lanes(batch, lambda index, operation: self._apply(operation, keys[index]))
        self._release()  # first: what comes takes the pages of what goes
        mailboxes.write(self._changes)
        return results

    def checkpoint(self) -> None:
        """Bring into the tables all that only the journal knows."""
        self.mailboxes.checkpoint(self._changes)

    def expire(self, before_ms: int) -> Expired:
        """What `Store.expire` does to mailboxes. The cache no longer holds after it."""
        self.checkpoint()
        entries = drop_old_entries(self._changes, before_ms, self._quota.lost_groups)
        unseen = unseen_mailboxes(self._changes, before_ms)
        for mailbox, acked, tail in unseen:
            self._take_out(mailbox, acked, tail)
            self._changes.execute(_DELETE_BOX, (mailbox,))
        for mailbox, tail in unreachable_entries(self._changes):
            self._take_out(mailbox, 0, tail)
        self._release()
        self._changes.execute(_DELETE_ERASED)
        return Expired(entries, len(unseen))

    def let_go(self, before_ms: int, archived_before_ms: int) -> bool:
        """A part of what `Store.expire` does besides; says whether more may be left."""
        is_more = let_go(self._changes, before_ms, archived_before_ms)
        self._changes.execute(_DELETE_ERASED)
        return is_more

    def erase(self, client: ClientId) -> Erased:
        """The changes of `Store.erase`. The cache no longer holds after them."""
        self.checkpoint()
        return erase_client(self._changes, client)

    def recover(self) -> None:
        """Forget what is not committed.

        Raises:
            sqlite3.Error, StoreError: what is committed cannot be read; whatever is asked next tries again.
        """
        self._released.clear()
        self._groups.forget()
        self.mailboxes.recover()

    def recall(self, key: bytes, digest: bytes) -> Known | None:
        """What was accepted under this id, without the batch under way."""
        self.mailboxes.ready()
        return known_as(self.mailboxes.memtable.known_before(key) or read_known(self._lookups, key), digest)

    def _apply(self, operation: Operation, key: bytes | None) -> Result:
        match operation:
            case Append(number=Number() as number):
                return self._append_numbered(operation, number)
            case Append():
                return self._append(operation, key)
            case Acknowledge(mailbox, upto):
                return self._ack(mailbox, upto)
            case Register():
                return self._register(operation)
            case Touch(mailbox, now_ms):
                return self._touch(mailbox, now_ms)
            case Remove(client, device):
                return self._remove(client, device)
            case Sweep(mailbox, upto):
                return self._sweep(mailbox, upto)
            case RefuseNumber(number, code):
                return self._refuse_number(number, code)
            case Forget():
                return self._forget(operation)
            case ChangeGroup():
                return self._change_group(operation, key)
            case AddBlock():
                return self._groups.block(operation)
            case RemoveBlock():
                return self._groups.unblock(operation)

    def _append(self, append: Append, key: bytes | None) -> Appended | Known | MailboxFull | Undeliverable | NotMember:
        known = self._known(key, append.digest)
        if known is not None:
            return known
        match append.audience:
            case ToClient(client, is_live):
                return self._append_to_client(append, key, client, is_live=is_live)
            case ToGroup(group):
                return self._append_to_group(append, key, group)
            case ToDevices(devices):
                return self._append_to_devices(append, key, devices)

    def _append_to_client(
        self, append: Append, key: bytes | None, client: ClientId, *, is_live: bool
    ) -> Appended | MailboxFull | Undeliverable:
        envelope, boxes = append.envelope, self.mailboxes.of(client)
        if not boxes and not is_live:
            return Undeliverable()
        size, is_to_self = len(envelope.payload), envelope.sender == client
        have_room = [self.mailboxes.admit(box, size) for box in boxes]
        if boxes and not (any(have_room) if is_to_self else all(have_room)):
            return MailboxFull()
        is_blocked = envelope.sender in self._groups.blocks_of(client)
        owed = [] if is_blocked else [(box, False) for box in boxes]
        if not is_to_self:
            device = envelope.device or ""
            owed += [(box, True) for box in self.mailboxes.of(envelope.sender) if box.device != device]
        clients = () if is_blocked else (client,)
        return self._spread(append, key, owed, clients, is_archived=append.is_archived, is_blocked=is_blocked)

    def _append_numbered(self, append: Append, number: Number) -> Result:
        box = self.mailboxes.by_id(number.mailbox)
        answer = answer_to(box, number)
        if answer is not None or box is None:
            return answer or SessionOver()
        self.mailboxes.count(box)
        result = self._append(append, None)
        settle_next(box, result)
        return result

    def _refuse_number(
        self, number: Number, code: ErrorCode
    ) -> NumberRefused | AlreadySettled | OutOfTurn | SessionOver:
        box = self.mailboxes.by_id(number.mailbox)
        answer = answer_to(box, number)
        if answer is not None or box is None:
            return answer or SessionOver()
        self.mailboxes.count(box)
        refuse_next(box, code)
        return NumberRefused()

    def _append_to_group(self, append: Append, key: bytes | None, group: GroupId) -> Appended | NotMember:
        envelope = append.envelope
        members = self._groups.members_of(group)
        if envelope.sender not in members:
            return NotMember()
        sending = (envelope.sender, envelope.device or "")
        owed = [
            (box, False) for client in members for box in self.mailboxes.of(client) if (client, box.device) != sending
        ]
        return self._spread(append, key, owed, members, is_archived=append.is_archived)

    def _append_to_devices(
        self, append: Append, key: bytes | None, devices: Sequence[tuple[ClientId, DeviceId]]
    ) -> Appended | Undeliverable:
        owed = [(box, False) for client, device in devices for box in self.mailboxes.of(client) if box.device == device]
        if not owed:
            return Undeliverable()
        return self._spread(append, key, owed, (), is_archived=append.is_archived)

    def _change_group(self, change: ChangeGroup, key: bytes | None) -> Appended | Known | EpochPassed | TooManyGroups:
        known = self._known(key, change.digest)
        if known is not None:
            return known
        everyone = self._groups.change(change, self.mailboxes.last_envelope)
        if not isinstance(everyone, tuple):
            return everyone
        owed = [(box, False) for client in everyone for box in self.mailboxes.of(client)]
        return self._spread(change, key, owed, everyone)

    def _spread(
        self,
        what: Append | ChangeGroup,
        key: bytes | None,
        owed: list[tuple[Box, bool]],
        clients: tuple[ClientId, ...],
        *,
        is_archived: bool = False,
        is_blocked: bool = False,
    ) -> Appended:
        """The envelope once, and a place in each of these mailboxes, the sender's own or not; one that is full gives
        the number out and holds nothing under it. Sessions of `clients` may have it without a mailbox.
        """
        mailboxes, size = self.mailboxes, len(what.envelope.payload)
        having_room, lost = [], []
        for box, is_own in owed:
            if mailboxes.admit(box, size):
                having_room.append((box, is_own))
            else:
                lost.append(self._lose(box, what.envelope))
        placed = self._keep(what, key, having_room, is_archived=is_archived, is_blocked=is_blocked)
        return Appended(placed, clients, tuple(lost))

    def _lose(self, box: Box, envelope: Envelope) -> Lost:
        self.mailboxes.skip(box)
        if envelope.verb == GroupChanged.verb:
            note_lost_change(self._changes, box.id, envelope.to, box.tail, self._quota.lost_groups)
            box.has_lost_changes = True
        return Lost(box.id, box.tail)

    def _keep(
        self,
        what: Append | ChangeGroup,
        key: bytes | None,
        owed: list[tuple[Box, bool]],
        *,
        is_archived: bool,
        is_blocked: bool,
    ) -> tuple[Placed, ...]:
        mailboxes, envelope = self.mailboxes, what.envelope
        mailboxes.last_envelope += 1
        if not owed and not is_archived and key is None:
            return ()
        recent = Recent(mailboxes.last_envelope, key, envelope, what.digest, 0, is_archived, is_blocked)
        placed, places = [], []
        for box, is_own in owed:
            mailboxes.place(box, recent, is_own=is_own)
            places.append((box.id, box.tail, is_own))
            placed.append(Placed(box.id, box.client, box.device, box.tail, is_own))
        mailboxes.memtable.keep(recent)
        mailboxes.page.keep(recent.number, envelope, what.digest, is_archived, is_blocked, places)
        return tuple(placed)

    def _known(self, key: bytes | None, digest: bytes) -> Known | None:
        if key is None:
            return None
        return known_as(self.mailboxes.memtable.known(key) or self._known_ids.get(key), digest)

    def _forget(self, forget: Forget) -> Forgotten:
        self.checkpoint()
        if forget.number is None:
            self._forget_id(forget.envelope)
        else:
            self._forget_number(forget.envelope, forget.number)
        self._changes.execute(_DELETE_ERASED)
        return Forgotten()

    def _forget_id(self, envelope: Envelope) -> None:
        if envelope.id is None:
            return
        key = message_key(envelope.sender, envelope.device, envelope.id)
        for (number,) in self._changes.execute(_FORGET_ID, (key,)).fetchall():
            self._changes.execute(_UNARCHIVE, (number, envelope.sender, envelope.id))
        self.mailboxes.memtable.forget_id(key)
        self._known_ids.pop(key, None)

    def _forget_number(self, envelope: Envelope, number: Number) -> None:
        named = (envelope.sender, envelope.to, envelope.device or "", envelope.id, envelope.ts, envelope.payload)
        self._changes.execute(_UNARCHIVE_ALL, named)
        box = self.mailboxes.by_id(number.mailbox)
        if box is not None and isinstance(answer_to(box, number), AlreadySettled):
            self.mailboxes.count(box)
            refuse_after_all(box, number.n, "user_offline")

    def _ack(self, mailbox: MailboxId, upto: int) -> Acked:
        box = self.mailboxes.by_id(mailbox)
        if box is not None and upto > box.acked:
            self._erase(box, min(upto, box.tail))
        return Acked()

    def _register(self, register: Register) -> Mailbox | TooManyDevices:
        boxes = self.mailboxes.of(register.client)
        for box in boxes:
            if box.device == register.device:
                self.mailboxes.begin_session(box, register.now_ms)
                return box.snapshot()
        if len(boxes) >= self._quota.devices_per_client:
            return TooManyDevices()
        row = (register.client, register.device, register.now_ms, register.now_ms)
        number = MailboxId(self._changes.execute(_INSERT_BOX, row).lastrowid or 0)
        box = Box(number, register.client, register.device, 0, 0, 0, 0, False, register.now_ms, register.now_ms, False)
        self.mailboxes.add(box)
        return box.snapshot()

    def _touch(self, mailbox: MailboxId, now_ms: int) -> Touched:
        box = self.mailboxes.by_id(mailbox)
        if box is not None:
            self.mailboxes.see(box, now_ms)
        return Touched()

    def _remove(self, client: ClientId, device: DeviceId) -> Removed | NoSuchDevice:
        for box in self.mailboxes.of(client):
            if box.device == device:
                self.checkpoint()
                swept = min(box.acked + SWEPT_AT_ONCE, box.tail)
                self._erase(box, swept)
                self._changes.execute(_DELETE_BOX, (box.id,))
                self.mailboxes.drop(box)
                parts = range(swept + SWEPT_AT_ONCE, box.tail + SWEPT_AT_ONCE, SWEPT_AT_ONCE)
                return Removed(tuple(Sweep(box.id, upto) for upto in parts))
        return NoSuchDevice()

    def _sweep(self, mailbox: MailboxId, upto: int) -> Swept:
        if self.mailboxes.by_id(mailbox) is None:
            self._take_out(mailbox, 0, upto)
        return Swept()

    def _erase(self, box: Box, upto: int) -> None:
        """Everything up to `upto`, which was given out, leaves the mailbox."""
        self.mailboxes.change(box)
        if box.acked < box.checkpointed:
            count, size = self._take_out(box.id, box.acked, min(upto, box.checkpointed))
            box.waiting -= count
            box.waiting_bytes -= size
            self._changes.execute(_TAKE_FROM_BOX, (upto, count, size, box.id))
        self.mailboxes.acknowledge(box, upto)
        if box.has_lost_changes:
            box.has_lost_changes = forget_lost_changes(self._changes, box.id, upto)

    def _take_out(self, mailbox: MailboxId, after: int, upto: int) -> tuple[int, int]:
        """Delete entries from the tables; returns how many they were, and their bytes."""
        place = (mailbox, after, upto)
        rows = self._changes.execute(_SELECT_ENTRIES, place).fetchall()
        if rows:
            self._changes.execute(_DELETE_ENTRIES, place)
            self._released += [(number,) for number, _ in rows]
        return len(rows), sum(size for _, size in rows)

    def _release(self) -> None:
        """Let go of the envelopes whose places were taken out."""
        if self._released:
            self._changes.executemany(_RELEASE, self._released)
            self._changes.execute(_DELETE_ERASED)
            self._released.clear()


def _key_of(operation: Operation) -> bytes | None:
    return key_of(operation.envelope, operation.digest) if isinstance(operation, Append | ChangeGroup) else None
