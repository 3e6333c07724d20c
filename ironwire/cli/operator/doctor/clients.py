"""Checks of what clients leave with a server: logs of their devices, key packages, encrypted conversations, backups."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from ironwire.cli.operator.doctor.data import DATABASE, look_only
from ironwire.cli.operator.doctor.findings import Finding, fail, ok, warn
from ironwire.crypto.signing import parse_public_key
from ironwire.errors import SigningError
from ironwire.ids import short_client
from ironwire.limits import Limits
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import open_entry
from ironwire.store.sqlite.migrations import load_migrations

LOGS_READ = 1_000
"""Logs to be verified, another choice each time: a signature takes 0.1 ms."""
LITTLE_ROOM = 0.9

_SOME_LOGS = "SELECT client FROM (SELECT DISTINCT client FROM device_log) ORDER BY random() LIMIT ?"
_COUNT_LOGS = "SELECT count(DISTINCT client) FROM device_log"
_ENTRIES = "SELECT entry, signature FROM device_log WHERE client = ? ORDER BY number"
_CONVERSATIONS = "SELECT count(*), coalesce(sum(devices), 0) FROM conversation"
_DUE = "SELECT count(DISTINCT conversation) FROM conversation_task"
_POOLS = """
    SELECT count(*), total(packages = 0) FROM (
        SELECT total(is_last_resort = 0 AND is_taken = 0 AND not_after_ms > ?) AS packages FROM mailbox
        LEFT JOIN key_package USING (client, device_key) WHERE device_key IS NOT NULL GROUP BY client, device_key
    )"""
_BACKUPS = "SELECT count(*), coalesce(sum(size), 0) FROM backup"


def examine_clients(data: Path, limits: Limits) -> list[Finding]:
    """Nothing where there is no database of the newest schema: that is another check's finding, if it is one."""
    path = data / DATABASE
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(look_only(path), uri=True)) as database:
            if database.execute("PRAGMA user_version").fetchone()[0] != max(load_migrations()):
                return []
            return [
                device_logs(database),
                key_packages(database, time.time_ns() // 1_000_000),
                conversations(database),
                backups(database, limits.backups_bytes),
            ]
    except sqlite3.Error:
        return []


def device_logs(database: sqlite3.Connection) -> Finding:
    """Every log is what its client has signed, from its first entry to its last."""
    check = "device logs"
    total = database.execute(_COUNT_LOGS).fetchone()[0]
    chosen = [client for (client,) in database.execute(_SOME_LOGS, (LOGS_READ,))]
    for client in chosen:
        try:
            key = parse_public_key(client)
            DeviceLog(key).append(*(open_entry(key, *row) for row in database.execute(_ENTRIES, (client,))))
        except SigningError as error:
            what = f"the log of {short_client(client)} is not what the client has signed: {error}"
            return fail(check, what, "stop the server and restore it from a backup: other clients refuse such a log")
    return ok(check, f"{len(chosen):,} of {total:,} verified")


def key_packages(database: sqlite3.Connection, now_ms: int) -> Finding:
    """How many devices have some: one without is added by its last resort, if at all."""
    devices, empty = database.execute(_POOLS, (now_ms,)).fetchone()
    return ok(
        "key packages", f"{devices:,} devices with keys, of which {int(empty):,} have none left but a last resort"
    )


def conversations(database: sqlite3.Connection) -> Finding:
    """How many there are, and in how many somebody has to commit: a member who comes is asked."""
    total, devices = database.execute(_CONVERSATIONS).fetchone()
    due = database.execute(_DUE).fetchone()[0]
    return ok("conversations", f"{total:,} encrypted, of {devices:,} devices; {due:,} wait for a member to change them")


def backups(database: sqlite3.Connection, most_bytes: int) -> Finding:
    """There is room for those of more clients."""
    check = "client backups"
    total, size = database.execute(_BACKUPS).fetchone()
    what = f"{total:,} take {size / 1024**2:,.0f} of {most_bytes / 1024**2:,.0f} MiB"
    if size > most_bytes * LITTLE_ROOM:
        return warn(check, what, "raise `limits.backups_bytes` before recovery codes cannot be stored any more")
    return ok(check, what)
