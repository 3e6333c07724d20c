"""The pools of key packages in the SQLite file, and who has claimed what."""

import sqlite3
from collections.abc import Sequence

import orjson

from ironwire.ids import ClientId, ConversationId
from ironwire.protocol.conversations.key_packages import POOL_PACKAGES
from ironwire.protocol.conversations.slots import Leaf
from ironwire.store.contract import conversations as kept
from ironwire.store.contract import operations as op
from ironwire.store.sqlite.conversations import ask_to_add

_OF_DEVICE = "client = ? AND device_key = ?"
_EVER_PUBLISHED = f"SELECT EXISTS (SELECT 1 FROM key_package WHERE {_OF_DEVICE})"  # noqa: S608  # a constant
_SELECT_POOL = f"""
    SELECT total(is_last_resort = 0), total(is_last_resort) FROM key_package
    WHERE {_OF_DEVICE} AND is_taken = 0"""  # noqa: S608  # a constant
_PUT_PACKAGE = """
    INSERT OR IGNORE INTO key_package (client, device_key, ref, init_key, data, is_last_resort, not_after_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
_PACKAGE_KNOWN = "SELECT EXISTS (SELECT 1 FROM key_package WHERE ref = ? OR init_key = ?)"
_REPLACE_LAST_RESORT = f"""
    UPDATE key_package SET is_taken = 1, data = X''
    WHERE {_OF_DEVICE} AND is_taken = 0 AND is_last_resort = 1"""  # noqa: S608  # a constant
_SELECT_PACKAGE = f"""
    SELECT number, ref, data FROM key_package
    WHERE {_OF_DEVICE} AND is_taken = 0 AND is_last_resort = ? AND not_after_ms > ?
    ORDER BY number LIMIT 1"""  # noqa: S608  # a constant
_TAKE_PACKAGE = "UPDATE key_package SET is_taken = 1, data = X'' WHERE number = ?"
_PUT_CLAIM = """
    INSERT OR REPLACE INTO package_claim (conversation, claimer, ref, client, device_key, claimed_ms)
    VALUES (?, ?, ?, ?, ?, ?)"""
_SELECT_CLAIMED = """
    SELECT ref, client, device_key FROM package_claim
    WHERE conversation = ? AND claimer = ? AND hex(ref) IN (SELECT value FROM json_each(?))"""


class PackageWriter:
    """Changes within the transaction that the caller has begun."""

    def __init__(self, changes: sqlite3.Connection) -> None:
        self._changes = changes

    def publish(self, publish: op.PublishPackages) -> op.PackagesPublished | op.PackageKnown | op.TooManyPackages:
        """Of a device that has a mailbox."""
        run, device = self._changes.execute, publish.device
        named = (device.client, device.device)
        fresh: set[bytes] = set()
        for index, package in enumerate(publish.packages):
            is_known = run(_PACKAGE_KNOWN, (package.ref, package.init_key)).fetchone()[0]
            if is_known or package.ref in fresh or package.init_key in fresh:
                return op.PackageKnown(index)
            fresh |= {package.ref, package.init_key}
        added = sum(not package.is_last_resort for package in publish.packages)
        if read_pool(self._changes, device).count + added > POOL_PACKAGES:
            return op.TooManyPackages()
        if not run(_EVER_PUBLISHED, named).fetchone()[0]:
            ask_to_add(self._changes, device)
        for each in publish.packages:
            if each.is_last_resort:
                run(_REPLACE_LAST_RESORT, named)
            run(_PUT_PACKAGE, (*named, each.ref, each.init_key, each.data, each.is_last_resort, each.not_after_ms))
        return op.PackagesPublished(read_pool(self._changes, device))

    def claim(self, claim: op.ClaimPackages, blocked_by: frozenset[ClientId]) -> op.PackagesClaimed:
        """`blocked_by` are those of the targets' clients that have blocked the claimer."""
        run, claimed = self._changes.execute, []
        for device, may_take in claim.targets:
            named = (device.client, device.device)
            taken, is_last_resort = None, False
            if may_take and device.client not in blocked_by:
                taken = run(_SELECT_PACKAGE, (*named, False, claim.now_ms)).fetchone()
            if taken is None:
                taken, is_last_resort = run(_SELECT_PACKAGE, (*named, True, claim.now_ms)).fetchone(), True
            if taken is None:
                continue
            number, ref, data = taken
            if not is_last_resort:
                run(_TAKE_PACKAGE, (number,))
            run(_PUT_CLAIM, (claim.conversation, claim.claimer, ref, *named, claim.now_ms))
            left = read_pool(self._changes, device).count
            claimed.append(op.ClaimedPackage(device, data, is_last_resort, left))
        return op.PackagesClaimed(tuple(claimed))


def read_claimed(
    connection: sqlite3.Connection, conversation: ConversationId, claimer: ClientId, refs: Sequence[bytes]
) -> dict[bytes, Leaf]:
    wanted = orjson.dumps([ref.hex().upper() for ref in refs]).decode()
    rows = connection.execute(_SELECT_CLAIMED, (conversation, claimer, wanted))
    return {ref: Leaf(client, device) for ref, client, device in rows}


def read_pool(connection: sqlite3.Connection, device: Leaf) -> kept.Pool:
    count, last_resorts = connection.execute(_SELECT_POOL, (device.client, device.device)).fetchone()
    return kept.Pool(int(count), has_last_resort=bool(last_resorts))
