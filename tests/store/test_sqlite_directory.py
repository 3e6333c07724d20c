"""What the SQLite store remembers of groups and blocks is what the file says, whatever becomes of a batch."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.errors import StoreError
from ironwire.ids import ClientId, GroupId, Role
from ironwire.store.contract.directory import Group
from ironwire.store.contract.operations import AddBlock, Appended, NotMember
from ironwire.store.sqlite import directory as sqlite_directory
from ironwire.store.sqlite import pages as sqlite_pages
from ironwire.store.sqlite.directory import Cache
from ironwire.store.sqlite.store import SqliteStore
from tests.contract.builders import ANN, BOB, CAT, PHONE, WIDE, append, apply, change, envelope, registered, texts

CLUB = GroupId("#" + "1" * 32)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "ironwire.db", WIDE)
    await opened.open()
    yield opened
    await opened.close()


async def test_a_batch_that_failed_has_changed_no_group_and_no_block(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.apply([change(CLUB, 0, {ANN: "admin"}), AddBlock(ANN, CAT)])
    box = await registered(store, BOB, PHONE)

    def fail(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    joined = change(CLUB, 1, {ANN: "admin", BOB: "member"})
    with monkeypatch.context() as broken:
        broken.setattr(store._mailboxes.batch_log, "write", fail)
        unwanted = append(envelope(BOB, ANN, device=PHONE), is_live=True)
        with pytest.raises(StoreError):
            await store.apply([joined, append(envelope(BOB, CLUB)), AddBlock(ANN, BOB), unwanted])
    assert await store.group(CLUB) == Group(CLUB, 1, None, {ANN: "admin"})
    assert await store.blocks_of(ANN) == {CAT}
    assert await apply(store, append(envelope(BOB, CLUB))) == NotMember()
    assert await apply(store, append(envelope(BOB, ANN, device=PHONE), is_live=True)) == Appended((), owed=(ANN,))
    assert isinstance(await apply(store, append(envelope(ANN, CLUB))), Appended)
    assert await texts(store, box) == []


async def test_what_is_cached_stays_in_bounds(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any sequence of questions by any client, and for groups of any size."""
    reader, writer = store._directory, store._writer._directory
    caches = reader._groups, reader._blocks, writer._members, writer._blocks
    for cache in caches:
        monkeypatch.setattr(cache, "_most", 20)
    members: dict[ClientId, Role] = {ANN: "admin", **{ClientId(f"{number:064x}"): "member" for number in range(5)}}
    for number in range(30):
        group, client = GroupId(f"#{number:032x}"), ClientId(f"{number:064x}")
        assert await store.group(group) is None
        assert await apply(store, append(envelope(ANN, group))) == NotMember()
        await store.apply([change(group, 0, members), *(AddBlock(client, blocked) for blocked in members)])
        assert isinstance(await apply(store, append(envelope(ANN, group))), Appended)
        assert await store.group(group) == Group(group, 1, None, members)
        assert await store.blocks_of(client) == members.keys()
        assert await apply(store, append(envelope(ANN, client), is_live=True)) == Appended(())
        assert all(len(cache.held) <= 3 for cache in caches)


async def test_no_statement_reads_a_whole_table(store: SqliteStore) -> None:
    statements = {
        name: value for name, value in vars(sqlite_directory).items() if name.startswith(("_SELECT", "_COUNT"))
    }
    assert len(statements) >= 5
    for name, statement in statements.items():
        plan = store._database.changes.execute(f"EXPLAIN QUERY PLAN {statement}", ("x",) * statement.count("?"))
        assert not any(row[3].startswith("SCAN") and "json_each" not in row[3] for row in plan), name


async def test_a_groups_history_is_read_by_its_index(store: SqliteStore) -> None:
    page = {"client": "x", "peer": "#", "before": 1, "limit": 1}
    plan = store._database.changes.execute(f"EXPLAIN QUERY PLAN {sqlite_pages._SELECT_GROUP_HISTORY}", page).fetchall()
    assert any("archived_of_group" in row[3] for row in plan)
    assert not any(row[3].startswith("SCAN") or "TEMP B-TREE" in row[3] for row in plan)


# --- the cache, whose keys and values strangers choose --------------------------------------------------------------

KEYS = st.integers(0, 5)
SIZES = st.integers(0, 12)


@given(st.lists(st.tuples(KEYS, SIZES) | KEYS))
def test_it_holds_what_was_put_there_last_and_never_more_than_it_may(steps: list[tuple[int, int] | int]) -> None:
    cache: Cache[int, str] = Cache(20, len)
    last: dict[int, str] = {}
    for step in steps:
        if isinstance(step, int):
            cache.drop(step)
            last.pop(step, None)
        elif step[0] not in cache.held:
            last[step[0]] = cache.keep(step[0], "x" * step[1])
        assert sum(1 + len(value) for value in cache.held.values()) <= 20
        assert cache.held.items() <= last.items()


def test_dropping_makes_room() -> None:
    cache: Cache[int, str] = Cache(20, len)
    cache.keep(1_000, "kept")
    for number in range(100):
        cache.keep(number, "x" * 10)
        cache.drop(number)
    assert cache.held == {1_000: "kept"}
