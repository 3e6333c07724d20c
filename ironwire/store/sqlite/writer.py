"""Batches of operations on the SQLite file, in the transaction of the caller: knows rows, and neither Trio nor threads.

Envelopes are decided here: who is owed an entry, and what is known, full or blocked. `DeviceWriter` changes devices
and takes entries out, `DirectoryWriter` changes groups and blocks. The package's docstring explains journal, memtable
and checkpoint.
"""

import sqlite3
from collections.abc import Sequence

from ironwire.ids import ClientId, DeviceId, GroupId
from ironwire.store.contract import operations as op
from ironwire.store.contract.faults import FaultPoint, reach
from ironwire.store.contract.maintenance import Erased, Expired
from ironwire.store.contract.order import answer_to, apply_in_lanes, refuse_after_all, refuse_next, settle_next
from ironwire.store.contract.records import Envelope, Number, Quota
from ironwire.store.sqlite.device_log import append_entry
from ironwire.store.sqlite.devices import DeviceWriter
from ironwire.store.sqlite.directory import DirectoryWriter
from ironwire.store.sqlite.erasure import erase_client
from ironwire.store.sqlite.expiry import drop_old_entries, let_go, unreachable_entries, unseen_mailboxes
from ironwire.store.sqlite.losses import note_lost_change
from ironwire.store.sqlite.mailboxes import MailboxCache
from ironwire.store.sqlite.memtable import Box, KnownRow, Recent, find_known, key_of, known_as, message_key, read_known
from ironwire.wire.messages import ErrorCode, GroupChanged

_FORGET_ID = "DELETE FROM known WHERE key = ? RETURNING envelope"
_UNARCHIVE = "UPDATE envelope SET is_archived = 0 WHERE id = ? AND sender = ? AND message_id = ?"
_UNARCHIVE_ALL = """
    UPDATE envelope SET is_archived = 0
    WHERE is_archived = 1 AND sender = ? AND recipient = ?
        AND device = ? AND message_id IS ? AND ts = ? AND payload = ?"""

_DELETE_ERASED = "DELETE FROM envelope WHERE owed = 0 AND is_archived = 0"


class Writer:
    """Operations on the database behind `changes`, within the transaction that the caller has begun.

    `lookups` is another connection, which sees what is committed.
    """

    def __init__(self, changes: sqlite3.Connection, lookups: sqlite3.Connection, quota: Quota) -> None:
        self._changes = changes
        self._lookups = lookups
        self._quota = quota
        self._directory = DirectoryWriter(changes, quota)
        self.mailboxes = MailboxCache(lookups, quota)
        self._known_ids: dict[bytes, KnownRow] = {}
        """Ids of the current batch that the tables know."""
        self._devices = DeviceWriter(changes, self.mailboxes, quota)
        self.recover()

    def apply(self, batch: Sequence[op.Operation]) -> list[op.Result]:
        """Bring the whole batch into the transaction."""
        mailboxes = self.mailboxes
        mailboxes.ready()
        keys = [_key_of(operation) for operation in batch]
        self._known_ids = find_known(self._changes, filter(None, keys))
        results = apply_in_lanes(batch, lambda index, operation: self._apply(operation, keys[index]))
        if self._devices.released:
            self._devices.release()  # first: what comes takes the pages of what goes
        mailboxes.write(self._changes)
        reach(FaultPoint.APPLIED)
        return results

    def checkpoint(self) -> None:
        """Bring into the tables all that only the journal knows."""
        self.mailboxes.checkpoint(self._changes)

    def expire(self, before_ms: int) -> Expired:
        """Expire entries and devices. The caches no longer hold after it: `recover` after the commit."""
        self.checkpoint()
        entries = drop_old_entries(self._changes, before_ms, self._quota.lost_groups)
        unseen = unseen_mailboxes(self._changes, before_ms)
        for mailbox, acked, tail in unseen:
            self._devices.delete(mailbox, acked, tail)
        for mailbox, tail in unreachable_entries(self._changes):
            self._devices.take_out(mailbox, 0, tail)
        self._devices.release()
        reach(FaultPoint.EXPIRING)
        return Expired(entries, len(unseen))

    def let_go(self, before_ms: int, archived_before_ms: int) -> bool:
        """Expire some ids and some of the archive; returns whether more may be left."""
        is_more = let_go(self._changes, before_ms, archived_before_ms)
        self._changes.execute(_DELETE_ERASED)
        return is_more

    def erase(self, client: ClientId) -> Erased:
        """Erase a client. The caches no longer hold after it: `recover` after the commit."""
        self.checkpoint()
        return erase_client(self._changes, client)

    def recover(self) -> None:
        """Forget what is not committed.

        Raises:
            sqlite3.Error, StoreError: what is committed cannot be read; whatever is asked next tries again.
        """
        self._devices.forget()
        self._directory.forget()
        self.mailboxes.recover()

    def recall(self, key: bytes, digest: bytes) -> op.Known | None:
        """The result of an operation with this id, as of the last commit."""
        self.mailboxes.ready()
        return known_as(self.mailboxes.memtable.known_before(key) or read_known(self._lookups, key), digest)

    def _apply(self, operation: op.Operation, key: bytes | None) -> op.Result:
        match operation:
            case op.Append(number=Number() as number):
                return self._append_numbered(operation, number)
            case op.Append():
                return self._append(operation, key)
            case op.Acknowledge():
                return self._devices.acknowledge(operation)
            case op.Register():
                return self._devices.register(operation)
            case op.Touch(mailbox, now_ms):
                return self._devices.touch(mailbox, now_ms)
            case op.Remove():
                return self._devices.remove(operation)
            case op.Sweep(mailbox, upto):
                return self._devices.sweep(mailbox, upto)
            case op.RefuseNumber(number, code):
                return self._refuse_number(number, code)
            case op.Forget():
                return self._forget(operation)
            case op.ChangeGroup():
                return self._change_group(operation, key)
            case op.AddBlock():
                return self._directory.block(operation)
            case op.RemoveBlock():
                return self._directory.unblock(operation)
            case op.AppendToLog():
                return self._append_to_log(operation)

    def _append(self, append: op.Append, key: bytes | None) -> op.AppendResult:
        known = self._known(key, append.digest)
        if known is not None:
            return known
        match append.audience:
            case op.ToClient(client, is_live):
                return self._append_to_client(append, key, client, is_live=is_live)
            case op.ToGroup(group):
                return self._append_to_group(append, key, group)
            case op.ToDevices(devices):
                return self._append_to_devices(append, key, devices)

    def _append_to_client(
        self, append: op.Append, key: bytes | None, client: ClientId, *, is_live: bool
    ) -> op.Appended | op.MailboxFull | op.Undeliverable:
        envelope, boxes = append.envelope, self.mailboxes.of(client)
        if not boxes and not is_live:
            return op.Undeliverable()
        size, is_to_self = len(envelope.payload), envelope.sender == client
        have_room = [self.mailboxes.admit(box, size) for box in boxes]
        if boxes and not (any(have_room) if is_to_self else all(have_room)):
            return op.MailboxFull()
        is_blocked = envelope.sender in self._directory.blocks_of(client)
        owed = [] if is_blocked else [(box, False) for box in boxes]
        if not is_to_self:
            device = envelope.device or ""
            owed += [(box, True) for box in self.mailboxes.of(envelope.sender) if box.device != device]
        clients = () if is_blocked else (client,)
        return self._spread(append, key, owed, clients, is_archived=append.is_archived, is_blocked=is_blocked)

    def _append_numbered(self, append: op.Append, number: Number) -> op.Result:
        box = self.mailboxes.by_id(number.mailbox)
        answer = answer_to(box, number)
        if answer is not None or box is None:
            return answer or op.SessionOver()
        self.mailboxes.count(box)
        result = self._append(append, None)
        settle_next(box, result)
        return result

    def _refuse_number(self, number: Number, code: ErrorCode) -> op.NumberRefused | op.NotNext:
        box = self.mailboxes.by_id(number.mailbox)
        answer = answer_to(box, number)
        if answer is not None or box is None:
            return answer or op.SessionOver()
        self.mailboxes.count(box)
        refuse_next(box, code)
        return op.NumberRefused()

    def _append_to_group(self, append: op.Append, key: bytes | None, group: GroupId) -> op.Appended | op.NotMember:
        envelope = append.envelope
        members = self._directory.members_of(group)
        if envelope.sender not in members:
            return op.NotMember()
        sending = (envelope.sender, envelope.device or "")
        owed = [
            (box, False)
            for boxes in self.mailboxes.of_all(members)
            for box in boxes
            if (box.client, box.device) != sending
        ]
        return self._spread(append, key, owed, members, is_archived=append.is_archived)

    def _append_to_devices(
        self, append: op.Append, key: bytes | None, devices: Sequence[tuple[ClientId, DeviceId]]
    ) -> op.Appended | op.Undeliverable:
        owed = [(box, False) for client, device in devices for box in self.mailboxes.of(client) if box.device == device]
        if not owed:
            return op.Undeliverable()
        return self._spread(append, key, owed, (), is_archived=append.is_archived)

    def _change_group(self, change: op.ChangeGroup, key: bytes | None) -> op.ChangeResult:
        known = self._known(key, change.digest)
        if known is not None:
            return known
        everyone = self._directory.change(change, self.mailboxes.last_envelope)
        if not isinstance(everyone, tuple):
            return everyone
        owed = [(box, False) for boxes in self.mailboxes.of_all(everyone) for box in boxes]
        return self._spread(change, key, owed, everyone)

    def _append_to_log(self, append: op.AppendToLog) -> op.LogResult:
        client = append.envelope.sender
        gone = append_entry(self._changes, client, append.entry, self._quota)
        if not isinstance(gone, set):
            return gone
        removed, rest = self._devices.remove_keys(client, gone)
        owed = [(box, False) for box in self.mailboxes.of(client)]
        told = op.Append(append.envelope, b"", op.ToClient(client))
        return op.Logged(self._spread(told, None, owed, (client,)), removed, rest)

    def _spread(
        self,
        what: op.Append | op.ChangeGroup,
        key: bytes | None,
        owed: list[tuple[Box, bool]],
        clients: tuple[ClientId, ...],
        *,
        is_archived: bool = False,
        is_blocked: bool = False,
    ) -> op.Appended:
        """Store the envelope once, and an entry in each of these mailboxes, the sender's own or not. One that is full
        gives the number out and holds nothing under it. Sessions of `clients` may have it without a mailbox.
        """
        mailboxes, size = self.mailboxes, len(what.envelope.payload)
        having_room, lost = [], []
        for box, is_own in owed:
            if mailboxes.admit(box, size):
                having_room.append((box, is_own))
            else:
                lost.append(self._lose(box, what.envelope))
        placed = self._keep(what, key, having_room, is_archived=is_archived, is_blocked=is_blocked)
        return op.Appended(placed, clients, tuple(lost))

    def _lose(self, box: Box, envelope: Envelope) -> op.LostPlace:
        self.mailboxes.skip(box)
        if envelope.verb == GroupChanged.verb:
            note_lost_change(self._changes, box.id, envelope.to, box.tail, self._quota.lost_groups)
            box.has_lost_changes = True
        return op.LostPlace(box.id, box.tail)

    def _keep(
        self,
        what: op.Append | op.ChangeGroup,
        key: bytes | None,
        owed: list[tuple[Box, bool]],
        *,
        is_archived: bool,
        is_blocked: bool,
    ) -> tuple[op.Placed, ...]:
        mailboxes, envelope = self.mailboxes, what.envelope
        mailboxes.last_envelope += 1
        if not owed and not is_archived and key is None:
            return ()
        recent = Recent(mailboxes.last_envelope, key, envelope, what.digest, 0, is_archived, is_blocked)
        placed, places = [], []
        for box, is_own in owed:
            mailboxes.place(box, recent, is_own=is_own)
            places.append((box.id, box.tail, is_own))
            placed.append(op.Placed(box.id, box.client, box.device, box.tail, is_own))
        mailboxes.memtable.keep(recent)
        mailboxes.batch_log.keep(recent.number, envelope, what.digest, is_archived, is_blocked, places)
        return tuple(placed)

    def _known(self, key: bytes | None, digest: bytes) -> op.Known | None:
        if key is None:
            return None
        return known_as(self.mailboxes.memtable.known(key) or self._known_ids.get(key), digest)

    def _forget(self, forget: op.Forget) -> op.Forgotten:
        self.checkpoint()
        if forget.number is None:
            self._forget_id(forget.envelope)
        else:
            self._forget_number(forget.envelope, forget.number)
        self._changes.execute(_DELETE_ERASED)
        return op.Forgotten()

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
        if box is not None and isinstance(answer_to(box, number), op.AlreadySettled):
            self.mailboxes.count(box)
            refuse_after_all(box, number.n, "user_offline")


def _key_of(operation: op.Operation) -> bytes | None:
    return key_of(operation.envelope, operation.digest) if isinstance(operation, op.Carrying) else None
