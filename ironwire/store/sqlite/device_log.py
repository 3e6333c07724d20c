"""Device logs in the SQLite file: entries as they came, and the devices that they lead to.

A log changes when somebody links or loses a device. So it is not in the journal, and nothing of it is cached.
"""

import sqlite3

from ironwire.crypto.signing import PublicKey
from ironwire.errors import InvalidLogEntry, MisplacedLogEntry
from ironwire.ids import ClientId
from ironwire.protocol.devices.log import DevicesByKey, DeviceStanding, LoggedDevice, apply_entry, check_place
from ironwire.protocol.devices.log_entry import LogHead, SignedEntry
from ironwire.store.contract import operations as op
from ironwire.store.contract.device_log import KeptEntry, LogPage
from ironwire.store.contract.records import Quota

_SELECT_HEAD = "SELECT number, head FROM device_log WHERE client = ? ORDER BY number DESC LIMIT 1"
_SELECT_ENTRY_HEAD = "SELECT head FROM device_log WHERE client = ? AND number = ?"
_SELECT_ENTRIES = """
    SELECT entry, signature FROM device_log WHERE client = ? AND number >= ? ORDER BY number LIMIT ?"""
_INSERT_ENTRY = "INSERT INTO device_log (client, number, entry, signature, head) VALUES (?, ?, ?, ?, ?)"
_SELECT_DEVICES = "SELECT device_key, is_owner, added_ms, removed_ms FROM logged_device WHERE client = ?"
_SELECT_REMOVED = "SELECT removed_ms FROM logged_device WHERE client = ? AND device_key = ?"
_PUT_DEVICE = """
    INSERT OR REPLACE INTO logged_device (client, device_key, is_owner, added_ms, removed_ms) VALUES (?, ?, ?, ?, ?)"""
_DELETE_LOG = "DELETE FROM device_log WHERE client = ?"
_DELETE_DEVICES = "DELETE FROM logged_device WHERE client = ?"


def append_entry(
    changes: sqlite3.Connection, client: ClientId, signed: SignedEntry, quota: Quota
) -> set[bytes] | op.LogRefusal:
    """Put the entry behind the last one, within a transaction; returns the keys that it removes."""
    entry, head = signed.entry, _read_head(changes, client)
    kept = changes.execute(_SELECT_ENTRY_HEAD, (client, entry.index)).fetchone()
    if kept == (signed.head.hash,):
        return op.AlreadyLogged()
    before = _read_devices(changes, client)
    try:
        check_place(head, entry)
        after = apply_entry(before, entry)
    except MisplacedLogEntry:
        return op.LogMoved(head)
    except InvalidLogEntry as error:
        return op.LogRefused(str(error))
    if _current(after) > max(_current(before), quota.devices_per_client):
        return op.TooManyDevices()
    changes.execute(_INSERT_ENTRY, (client, entry.index, entry.encode(), signed.signature, signed.head.hash))
    changed = {raw: device for raw, device in after.items() if before.get(raw) != device}
    rows = [(client, raw, each.is_owner, each.added_ms, each.removed_ms) for raw, each in changed.items()]
    changes.executemany(_PUT_DEVICE, rows)
    return {raw for raw, device in changed.items() if not device.is_current}


def standing_of(connection: sqlite3.Connection, client: ClientId, key: bytes) -> DeviceStanding:
    row = connection.execute(_SELECT_REMOVED, (client, key)).fetchone()
    if row is None:
        return "unknown"
    return "current" if row == (None,) else "removed"


def read_log(connection: sqlite3.Connection, client: ClientId, first: int, limit: int) -> LogPage | None:
    head = _read_head(connection, client)
    if head is None:
        return None
    return LogPage([KeptEntry(*row) for row in connection.execute(_SELECT_ENTRIES, (client, first, limit))], head)


def erase_log(changes: sqlite3.Connection, client: ClientId) -> int:
    """Within a transaction; returns how many entries there were."""
    changes.execute(_DELETE_DEVICES, (client,))
    return changes.execute(_DELETE_LOG, (client,)).rowcount


def _current(devices: DevicesByKey) -> int:
    return sum(device.is_current for device in devices.values())


def _read_head(connection: sqlite3.Connection, client: ClientId) -> LogHead | None:
    row = connection.execute(_SELECT_HEAD, (client,)).fetchone()
    return None if row is None else LogHead(*row)


def _read_devices(connection: sqlite3.Connection, client: ClientId) -> dict[bytes, LoggedDevice]:
    rows = connection.execute(_SELECT_DEVICES, (client,))
    return {
        raw: LoggedDevice(PublicKey(raw), bool(is_owner), added_ms, removed_ms)
        for raw, is_owner, added_ms, removed_ms in rows
    }
