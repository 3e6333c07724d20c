"""The directory in the SQLite file: groups and their members, blocks, bans.

`DirectoryWriter` works within the writer's transaction, and sees what the current batch has changed.
`DirectoryReader` sees what is committed. Each caches what it is asked for with every envelope. Groups and blocks are
not in the journal: their changes are rare, and go into the tables at once.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import orjson
from attrs import define, field

from ironwire.ids import ClientId, GroupId
from ironwire.store.contract import operations as op
from ironwire.store.contract.directory import Group, Membership
from ironwire.store.contract.records import Quota

Key = TypeVar("Key")
Value = TypeVar("Value")

CACHED_MEMBERS = 100_000
"""Members of all groups that a cache holds, which take 20 MB."""
CACHED_BLOCKS = 100_000
"""Blocked clients, and clients whose blocks are cached, together."""

_SELECT_GROUP = """
    SELECT epoch, name, client, role FROM roster JOIN member ON member.roster = roster.id
    WHERE roster.id = ? ORDER BY number"""
_UPSERT_ROSTER = """
    INSERT INTO roster (id, epoch, name, members) VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, name = excluded.name, members = excluded.members"""
_DELETE_ROSTER = "DELETE FROM roster WHERE id = ?"
_SELECT_MEMBERS = "SELECT client FROM member WHERE roster = ? ORDER BY number"
_SELECT_MEMBERSHIPS = """
    SELECT id, epoch, role, members, name FROM member JOIN roster ON roster.id = member.roster
    WHERE client = ? ORDER BY number"""
_SELECT_FULL = """
    SELECT client FROM member WHERE client IN (SELECT value FROM json_each(?)) GROUP BY client HAVING count(*) >= ?"""
_INSERT_MEMBER = "INSERT INTO member (roster, client, role, reads_from) VALUES (?, ?, ?, ?)"
_UPDATE_MEMBER = "UPDATE member SET role = ? WHERE roster = ? AND client = ?"
_DELETE_MEMBER = "DELETE FROM member WHERE roster = ? AND client = ?"

_SELECT_BLOCKS = "SELECT blocked FROM block WHERE client = ?"
_INSERT_BLOCK = "INSERT INTO block (client, blocked) VALUES (?, ?)"
_DELETE_BLOCK = "DELETE FROM block WHERE client = ? AND blocked = ?"

_ALL_BANS = "SELECT client FROM ban"
_INSERT_BAN = "INSERT OR IGNORE INTO ban (client, banned_ms) VALUES (?, ?)"
_DELETE_BAN = "DELETE FROM ban WHERE client = ?"


@define(eq=False)
class Cache(Generic[Key, Value]):
    """Values that weigh `most` together, each 1 at least; one more than that, and all before it are dropped.

    A bound on the number of values would not bound the memory: strangers decide how large each is. So the weight of a
    value is the number of members or blocked clients that it names.
    """

    _most: int
    _weigh: Callable[[Value], int]
    held: dict[Key, Value] = field(init=False, factory=dict)
    """Read-only for callers."""
    _weight: int = field(init=False, default=0)

    def keep(self, key: Key, value: Value) -> Value:
        """Hold a value for a key that has none; returns the value."""
        weight = 1 + self._weigh(value)
        if self._weight + weight > self._most:
            self.clear()
        self.held[key] = value
        self._weight += weight
        return value

    def drop(self, key: Key) -> None:
        if key in self.held:
            self._weight -= 1 + self._weigh(self.held.pop(key))

    def clear(self) -> None:
        self.held.clear()
        self._weight = 0


class DirectoryWriter:
    """Changes to groups and blocks, within the transaction that the caller has begun."""

    def __init__(self, changes: sqlite3.Connection, quota: Quota) -> None:
        self._changes = changes
        self._quota = quota
        self._members: Cache[GroupId, tuple[ClientId, ...]] = Cache(CACHED_MEMBERS, len)
        """The current batch included. An empty tuple stands for a group that does not exist."""
        self._blocks: Cache[ClientId, frozenset[ClientId]] = Cache(CACHED_BLOCKS, len)
        """The current batch included."""

    def members_of(self, group: GroupId) -> tuple[ClientId, ...]:
        """The members in the order in which they came; none of a group that does not exist."""
        members = self._members.held.get(group)
        if members is None:
            rows = self._changes.execute(_SELECT_MEMBERS, (group,))
            members = self._members.keep(group, tuple(client for (client,) in rows))
        return members

    def change(
        self, change: op.ChangeGroup, last_envelope: int
    ) -> tuple[ClientId, ...] | op.EpochPassed | op.TooManyGroups:
        """Bring the group to its next epoch; returns all who were members or are now. Whoever is added reads the
        history that follows `last_envelope`.
        """
        group = GroupId(change.envelope.to)
        before = _read_group(self._changes, group) or Group(group, 0, None, {})
        if before.epoch != change.expected_epoch:
            return op.EpochPassed()
        added = [client for client in change.roles if client not in before.roles]
        full = self._full(added)
        if full:
            return op.TooManyGroups(next(client for client in added if client in full))
        if change.roles:
            self._changes.execute(_UPSERT_ROSTER, (group, change.expected_epoch + 1, change.name, len(change.roles)))
        else:
            self._changes.execute(_DELETE_ROSTER, (group,))
        removed = [(group, client) for client in before.roles if client not in change.roles]
        self._changes.executemany(_DELETE_MEMBER, removed)
        moved = [
            (role, group, client) for client, role in change.roles.items() if before.roles.get(client, role) != role
        ]
        self._changes.executemany(_UPDATE_MEMBER, moved)
        rows = [(group, client, change.roles[client], last_envelope) for client in added]
        self._changes.executemany(_INSERT_MEMBER, rows)
        self._members.drop(group)
        return (*before.roles, *added)

    def _full(self, clients: list[ClientId]) -> set[ClientId]:
        """Those of them that may be in no more groups; one statement for all takes a fifth of one for each."""
        rows = self._changes.execute(_SELECT_FULL, (orjson.dumps(clients).decode(), self._quota.groups_per_client))
        return {client for (client,) in rows}

    def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        blocks = self._blocks.held.get(client)
        if blocks is None:
            blocks = self._blocks.keep(client, _read_blocks(self._changes, client))
        return blocks

    def block(self, block: op.AddBlock) -> op.Blocked | op.TooManyBlocks:
        blocks = self.blocks_of(block.client)
        if block.blocked in blocks:
            return op.Blocked()
        if len(blocks) >= self._quota.blocks_per_client:
            return op.TooManyBlocks()
        self._changes.execute(_INSERT_BLOCK, (block.client, block.blocked))
        self._blocks.drop(block.client)
        return op.Blocked()

    def unblock(self, unblock: op.RemoveBlock) -> op.Unblocked:
        self._changes.execute(_DELETE_BLOCK, (unblock.client, unblock.blocked))
        self._blocks.drop(unblock.client)
        return op.Unblocked()

    def forget(self) -> None:
        """Drop what is cached: the transaction is undone."""
        self._members.clear()
        self._blocks.clear()


class DirectoryReader:
    """Groups and blocks as they are committed, read on the event loop."""

    def __init__(self, lookups: sqlite3.Connection) -> None:
        self._lookups = lookups
        self._groups: Cache[GroupId, Group | None] = Cache(CACHED_MEMBERS, _members_in)
        self._blocks: Cache[ClientId, frozenset[ClientId]] = Cache(CACHED_BLOCKS, len)
        self.blocks = self._blocks.held

    def group(self, group: GroupId) -> Group | None:
        if group in self._groups.held:
            return self._groups.held[group]
        return self._groups.keep(group, _read_group(self._lookups, group))

    def groups_of(self, client: ClientId) -> list[Membership]:
        """The groups of which the client is a member, oldest membership first."""
        return [Membership(*row) for row in self._lookups.execute(_SELECT_MEMBERSHIPS, (client,))]

    def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        if client in self.blocks:
            return self.blocks[client]
        return self._blocks.keep(client, _read_blocks(self._lookups, client))

    def forget_blocks(self, client: ClientId) -> None:
        self._blocks.drop(client)

    def forget_changed(self, batch: Sequence[op.Operation]) -> None:
        """Drop what is cached of the groups and clients that this batch has changed, if it was committed."""
        for operation in batch:
            match operation:
                case op.ChangeGroup(envelope) | op.AdvanceConversation(group=op.ChangeGroup(envelope)):
                    self._groups.drop(GroupId(envelope.to))
                case op.AddBlock(client) | op.RemoveBlock(client):
                    self._blocks.drop(client)
                case _:
                    pass


def _members_in(group: Group | None) -> int:
    return 0 if group is None else len(group.roles)


def _read_group(connection: sqlite3.Connection, group: GroupId) -> Group | None:
    rows = connection.execute(_SELECT_GROUP, (group,)).fetchall()
    if not rows:
        return None
    epoch, name, _, _ = rows[0]
    return Group(group, epoch, name, {client: role for _, _, client, role in rows})


def _read_blocks(connection: sqlite3.Connection, client: ClientId) -> frozenset[ClientId]:
    return frozenset(blocked for (blocked,) in connection.execute(_SELECT_BLOCKS, (client,)))


def read_bans(connection: sqlite3.Connection) -> set[ClientId]:
    return {client for (client,) in connection.execute(_ALL_BANS)}


def put_ban(connection: sqlite3.Connection, client: ClientId, now_ms: int) -> bool:
    """Add a ban, within a transaction; returns whether there was none."""
    return connection.execute(_INSERT_BAN, (client, now_ms)).rowcount > 0


def take_ban(connection: sqlite3.Connection, client: ClientId) -> bool:
    """Remove a ban, within a transaction; returns whether there was one."""
    return connection.execute(_DELETE_BAN, (client,)).rowcount > 0
