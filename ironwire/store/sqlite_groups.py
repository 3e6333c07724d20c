"""Groups and blocks in the SQLite file: who is in which group, and who wants nothing from whom.

The writer's half works within its transaction, and sees what the batch under way has changed. The reader's half sees
what is committed. Each caches what it is asked for every envelope.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from ironwire.ids import ClientId, GroupId
from ironwire.store.operations import (
    Block,
    Blocked,
    ChangeGroup,
    EpochPassed,
    Operation,
    TooManyBlocks,
    TooManyGroups,
    Unblock,
    Unblocked,
)
from ironwire.store.records import Group, Quota

CACHED_GROUPS = 1_000
CACHED_BLOCKS = 20_000
"""Clients whose blocks are cached."""

_SELECT_GROUP = """
    SELECT epoch, name, client, role FROM roster JOIN member ON member.roster = roster.id
    WHERE roster.id = ? ORDER BY number"""
_UPSERT_ROSTER = """
    INSERT INTO roster (id, epoch, name) VALUES (?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, name = excluded.name"""
_DELETE_ROSTER = "DELETE FROM roster WHERE id = ?"
_SELECT_MEMBERS = "SELECT client FROM member WHERE roster = ? ORDER BY number"
_SELECT_ROSTERS = "SELECT roster FROM member WHERE client = ? ORDER BY number"
_COUNT_ROSTERS = "SELECT count(*) FROM member WHERE client = ?"
_INSERT_MEMBER = "INSERT INTO member (roster, client, role, reads_from) VALUES (?, ?, ?, ?)"
_UPDATE_MEMBER = "UPDATE member SET role = ? WHERE roster = ? AND client = ?"
_DELETE_MEMBER = "DELETE FROM member WHERE roster = ? AND client = ?"

_SELECT_BLOCKS = "SELECT blocked FROM block WHERE client = ?"
_INSERT_BLOCK = "INSERT INTO block (client, blocked) VALUES (?, ?)"
_DELETE_BLOCK = "DELETE FROM block WHERE client = ? AND blocked = ?"


class GroupWriter:
    """The part of the writer that knows groups and blocks, within the transaction that its caller has begun."""

    def __init__(self, changes: sqlite3.Connection, quota: Quota) -> None:
        self._changes = changes
        self._quota = quota
        self._members: dict[GroupId, tuple[ClientId, ...]] = {}
        """The cache, the batch under way included. An empty tuple stands for a group that does not exist."""

    def members_of(self, group: GroupId) -> tuple[ClientId, ...]:
        """The members in the order in which they came; none of a group that does not exist."""
        members = self._members.get(group)
        if members is None:
            _make_room(self._members, CACHED_GROUPS)
            members = tuple(client for (client,) in self._changes.execute(_SELECT_MEMBERS, (group,)))
            self._members[group] = members
        return members

    def change(self, change: ChangeGroup, last_envelope: int) -> tuple[ClientId, ...] | EpochPassed | TooManyGroups:
        """Bring the group to its next epoch; returns all who were members or are now. Whoever is added reads the
        history that follows `last_envelope`.
        """
        group = GroupId(change.envelope.to)
        before = _read_group(self._changes, group) or Group(group, 0, None, {})
        if before.epoch != change.expected_epoch:
            return EpochPassed()
        added = [client for client in change.roles if client not in before.roles]
        for client in added:
            if self._changes.execute(_COUNT_ROSTERS, (client,)).fetchone()[0] >= self._quota.groups_per_client:
                return TooManyGroups(client)
        if change.roles:
            self._changes.execute(_UPSERT_ROSTER, (group, change.expected_epoch + 1, change.name))
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
        self._members.pop(group, None)
        return (*before.roles, *added)

    def block(self, block: Block) -> Blocked | TooManyBlocks:
        blocks = _read_blocks(self._changes, block.client)
        if block.blocked in blocks:
            return Blocked()
        if len(blocks) >= self._quota.blocks_per_client:
            return TooManyBlocks()
        self._changes.execute(_INSERT_BLOCK, (block.client, block.blocked))
        return Blocked()

    def unblock(self, unblock: Unblock) -> Unblocked:
        self._changes.execute(_DELETE_BLOCK, (unblock.client, unblock.blocked))
        return Unblocked()

    def forget(self) -> None:
        """Drop what is cached: the transaction is undone."""
        self._members.clear()


class GroupReader:
    """Groups and blocks as they are committed, quick enough for the event loop."""

    def __init__(self, lookups: sqlite3.Connection) -> None:
        self._lookups = lookups
        self._groups: dict[GroupId, Group | None] = {}
        self.blocks: dict[ClientId, frozenset[ClientId]] = {}
        """What is cached of them."""

    def group(self, group: GroupId) -> Group | None:
        if group not in self._groups:
            _make_room(self._groups, CACHED_GROUPS)
            self._groups[group] = _read_group(self._lookups, group)
        return self._groups[group]

    def groups_of(self, client: ClientId) -> list[Group]:
        """The groups of which the client is a member, oldest membership first."""
        rosters = self._lookups.execute(_SELECT_ROSTERS, (client,)).fetchall()
        groups = (_read_group(self._lookups, group) for (group,) in rosters)
        return [group for group in groups if group is not None and client in group.roles]

    def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        if client not in self.blocks:
            _make_room(self.blocks, CACHED_BLOCKS)
            self.blocks[client] = _read_blocks(self._lookups, client)
        return self.blocks[client]

    def forget_blocks(self, client: ClientId) -> None:
        self.blocks.pop(client, None)

    def forget_changed(self, batch: Sequence[Operation]) -> None:
        """Drop what is cached of whatever this batch has changed, if it was committed."""
        for operation in batch:
            match operation:
                case ChangeGroup(envelope):
                    self._groups.pop(GroupId(envelope.to), None)
                case Block(client) | Unblock(client):
                    self.blocks.pop(client, None)
                case _:
                    pass


def _make_room(cache: dict[Any, Any], most: int) -> None:
    if len(cache) >= most:
        cache.clear()


def _read_group(connection: sqlite3.Connection, group: GroupId) -> Group | None:
    rows = connection.execute(_SELECT_GROUP, (group,)).fetchall()
    if not rows:
        return None
    epoch, name, _, _ = rows[0]
    return Group(group, epoch, name, {client: role for _, _, client, role in rows})


def _read_blocks(connection: sqlite3.Connection, client: ClientId) -> frozenset[ClientId]:
    return frozenset(blocked for (blocked,) in connection.execute(_SELECT_BLOCKS, (client,)))
