"""Devices with their mailboxes in the SQLite file: registered, seen, acknowledged, removed; and what leaves a mailbox.

An entry that is acknowledged while only the journal knows it leaves the memory alone. One that is in the tables is
deleted there; its envelope is owed once less, and goes with the last.
"""

import sqlite3

from ironwire.ids import ClientId, DeviceId
from ironwire.store.contract import operations as op
from ironwire.store.contract.device_log import is_taken
from ironwire.store.contract.records import MailboxId, Quota
from ironwire.store.sqlite.device_log import standing_of
from ironwire.store.sqlite.losses import forget_lost_changes
from ironwire.store.sqlite.mailboxes import MailboxCache
from ironwire.store.sqlite.memtable import Box

SWEPT_AT_ONCE = 250
"""Entries that one operation erases of a removed mailbox, in about 2 ms."""

_INSERT_BOX = "INSERT INTO mailbox (client, device, created_ms, seen_ms, session, device_key) VALUES (?, ?, ?, ?, 1, ?)"
_BIND_BOX = "UPDATE mailbox SET device_key = ? WHERE id = ?"
_TAKE_FROM_BOX = """
    UPDATE mailbox SET acked = ?, waiting = waiting - ?, waiting_bytes = waiting_bytes - ? WHERE id = ?"""
_DELETE_BOX = "DELETE FROM mailbox WHERE id = ?"
_SELECT_ENTRIES = "SELECT envelope, size FROM entry WHERE mailbox = ? AND seq > ? AND seq <= ?"
_DELETE_ENTRIES = "DELETE FROM entry WHERE mailbox = ? AND seq > ? AND seq <= ?"
_RELEASE = "UPDATE envelope SET owed = owed - 1 WHERE id = ?"
_DELETE_ERASED = "DELETE FROM envelope WHERE owed = 0 AND is_archived = 0"


class DeviceWriter:
    """Changes to devices, within the transaction that the caller has begun."""

    def __init__(self, changes: sqlite3.Connection, mailboxes: MailboxCache, quota: Quota) -> None:
        self._changes = changes
        self._mailboxes = mailboxes
        self._quota = quota
        self.released: list[tuple[int]] = []
        """Envelopes in the tables that have lost an entry."""

    def acknowledge(self, ack: op.Acknowledge) -> op.Acked | op.SessionOver:
        box = self._mailboxes.by_id(ack.mailbox)
        if box is not None and ack.session not in (None, box.session):
            return op.SessionOver()
        if box is not None and ack.upto > box.acked:
            self._erase(box, min(ack.upto, box.tail))
        return op.Acked()

    def register(self, register: op.Register) -> op.RegisterResult:
        boxes, key = self._mailboxes.of(register.client), register.device_key
        if key is not None:
            standing = standing_of(self._changes, register.client, key)
            if standing != "current":
                return op.DeviceNotLogged(standing)
            if is_taken(boxes, register.device, key):
                return op.DeviceNameTaken()
        for box in boxes:
            if box.device == register.device:
                self._mailboxes.begin_session(box, register.now_ms)
                if key is not None and box.device_key is None:
                    box.device_key = key
                    self._changes.execute(_BIND_BOX, (key, box.id))
                return box.snapshot()
        if len(boxes) >= self._quota.devices_per_client:
            return op.TooManyDevices()
        row = (register.client, register.device, register.now_ms, register.now_ms, key)
        number = MailboxId(self._changes.execute(_INSERT_BOX, row).lastrowid or 0)
        box = Box(number, register.client, register.device, 0, 0, 0, 0, False, register.now_ms, register.now_ms, False)
        box.device_key = key
        self._mailboxes.add(box)
        return box.snapshot()

    def touch(self, mailbox: MailboxId, now_ms: int) -> op.Touched:
        box = self._mailboxes.by_id(mailbox)
        if box is not None:
            self._mailboxes.see(box, now_ms)
        return op.Touched()

    def remove(self, remove: op.Remove) -> op.Removed | op.NoSuchDevice | op.SessionOver:
        for box in self._mailboxes.of(remove.client):
            if box.device == remove.device:
                if remove.session not in (None, box.session):
                    return op.SessionOver()
                return op.Removed(self._remove(box))
        return op.NoSuchDevice()

    def remove_keys(self, client: ClientId, keys: set[bytes]) -> tuple[tuple[DeviceId, ...], tuple[op.Sweep, ...]]:
        """Delete the mailboxes that belong to these keys; returns the names of their devices, and what is left to be
        erased.
        """
        boxes = [box for box in self._mailboxes.of(client) if box.device_key in keys]
        rest = [sweep for box in boxes for sweep in self._remove(box)]
        return tuple(box.device for box in boxes), tuple(rest)

    def _remove(self, box: Box) -> tuple[op.Sweep, ...]:
        """Delete a mailbox and the first of its entries; returns what is left to be erased."""
        self._mailboxes.checkpoint(self._changes)
        swept = min(box.acked + SWEPT_AT_ONCE, box.tail)
        self._erase(box, swept)
        self._changes.execute(_DELETE_BOX, (box.id,))
        self._mailboxes.drop(box)
        parts = range(swept + SWEPT_AT_ONCE, box.tail + SWEPT_AT_ONCE, SWEPT_AT_ONCE)
        return tuple(op.Sweep(box.id, upto) for upto in parts)

    def sweep(self, mailbox: MailboxId, upto: int) -> op.Swept:
        if self._mailboxes.by_id(mailbox) is None:
            self.take_out(mailbox, 0, upto)
        return op.Swept()

    def _erase(self, box: Box, upto: int) -> None:
        """Take everything up to `upto` out of the mailbox."""
        self._mailboxes.change(box)
        if box.acked < box.checkpointed:
            count, size = self.take_out(box.id, box.acked, min(upto, box.checkpointed))
            box.waiting -= count
            box.waiting_bytes -= size
            self._changes.execute(_TAKE_FROM_BOX, (upto, count, size, box.id))
        self._mailboxes.acknowledge(box, upto)
        if box.has_lost_changes:
            box.has_lost_changes = forget_lost_changes(self._changes, box.id, upto)

    def delete(self, mailbox: MailboxId, acked: int, tail: int) -> None:
        """Delete the row of a mailbox, and its entries."""
        self.take_out(mailbox, acked, tail)
        self._changes.execute(_DELETE_BOX, (mailbox,))

    def take_out(self, mailbox: MailboxId, after: int, upto: int) -> tuple[int, int]:
        """Delete entries from the tables; returns how many they were, and their bytes."""
        place = (mailbox, after, upto)
        rows = self._changes.execute(_SELECT_ENTRIES, place).fetchall()
        if rows:
            self._changes.execute(_DELETE_ENTRIES, place)
            self.released += [(number,) for number, _ in rows]
        return len(rows), sum(size for _, size in rows)

    def release(self) -> None:
        """Count down the envelopes whose entries were taken out, and erase those without an entry."""
        self._changes.executemany(_RELEASE, self.released)
        self._changes.execute(_DELETE_ERASED)
        self.released.clear()

    def forget(self) -> None:
        """The transaction is undone."""
        self.released.clear()
