"""Old files become new ones, whole: at once, after a crash in the middle, and never backwards."""

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ironwire.errors import StoreError
from ironwire.ids import DeviceId
from ironwire.store.contract.faults import FaultPoint, watch
from ironwire.store.contract.operations import Acknowledge, Appended, Duplicate
from ironwire.store.contract.records import Mailbox
from ironwire.store.sqlite.migrations import load_migrations, migrate
from ironwire.store.sqlite.store import SqliteStore
from tests.contract.builders import ANN, BOB, PHONE, WIDE, append, envelope, texts

MIGRATIONS = load_migrations()
NEWEST = max(MIGRATIONS)
WAITING = append(envelope(BOB, ANN, "waiting", device=DeviceId("laptop"), id="w", ts=2_000))
ACKED = append(envelope(BOB, ANN, "acknowledged", id="a", ts=1_000))


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


def make_schema_1(path: Path) -> None:
    """A file as the first schema knew it: one mailbox with an envelope that was acknowledged and one that waits."""
    with closing(connect(path)) as old:
        migrate(old, path, {1: MIGRATIONS[1]})
        old.execute("INSERT INTO mailbox VALUES (7, ?, ?, 1, 2, 1, ?, 0, 500, 600)", (ANN, PHONE, 70))
        for number, sent, owed in ((1, ACKED, 0), (2, WAITING, 1)):
            each = sent.envelope
            row = (number, each.verb, each.sender, each.device or "", each.to, each.id, each.ts, sent.digest, owed)
            payload = each.payload if owed else None
            old.execute("INSERT INTO envelope VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, payload))
        old.execute("INSERT INTO entry VALUES (7, 2, 2, ?, 0)", (len(WAITING.envelope.payload),))


def schema_of(path: Path) -> tuple[int, list[tuple[str, str]]]:
    with closing(connect(path)) as database:
        tables = database.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").fetchall()
        return database.execute("PRAGMA user_version").fetchone()[0], tables


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ironwire.db"


def test_migrations_are_numbered_without_a_hole() -> None:
    assert list(MIGRATIONS) == list(range(1, NEWEST + 1))


async def test_a_file_of_the_first_schema_opens_and_everything_is_there(path: Path) -> None:
    make_schema_1(path)
    store = SqliteStore(path, WIDE)
    await store.open()
    (box,) = await store.mailboxes_of(ANN)
    assert box == Mailbox(box.id, ANN, PHONE, 7, 1, 2, 1, 70, 500, 600)
    assert [entry.envelope for entry in await store.read(box.id, after=0, limit=9)] == [WAITING.envelope]
    assert await store.read_history(ANN, BOB, before=None, limit=9) == []
    results = await store.apply([WAITING, ACKED, append(envelope(BOB, ANN, "new")), Acknowledge(box.id, 2)])
    assert [type(result) for result in results[:3]] == [Duplicate, Duplicate, Appended]
    assert await texts(store, box) == [(3, "new")]
    await store.close()


async def test_the_old_file_is_copied_first_and_only_then(path: Path) -> None:
    make_schema_1(path)
    old = schema_of(path)
    for _ in range(2):
        store = SqliteStore(path, WIDE)
        await store.open()
        await store.close()
    (backup,) = path.parent.glob("*.backup")
    assert backup.name == "ironwire.db.schema-1.backup"
    assert backup.stat().st_mode & 0o777 == 0o600
    assert schema_of(backup) == old
    with closing(connect(backup)) as copy:
        assert copy.execute("SELECT payload FROM envelope WHERE id = 2").fetchone()[0] == WAITING.envelope.payload
    assert not list(path.parent.glob("*.partial"))


def test_a_new_file_needs_no_copy(path: Path) -> None:
    with closing(connect(path)) as new:
        assert migrate(new, path, MIGRATIONS) is None
    assert schema_of(path)[0] == NEWEST
    assert not list(path.parent.glob("*.backup"))


def test_a_copy_that_was_interrupted_is_made_anew(path: Path) -> None:
    make_schema_1(path)
    (path.parent / "ironwire.db.schema-1.partial").write_bytes(b"half a copy")
    with closing(connect(path)) as old:
        backup = migrate(old, path, MIGRATIONS)
    assert backup is not None
    assert schema_of(backup)[0] == 1


def test_where_no_copy_can_be_made_nothing_is_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_schema_1(path)
    old = schema_of(path)
    (path.parent / "ironwire.db.schema-1.backup").mkdir()
    with closing(connect(path)) as database, pytest.raises(OSError, match="directory"):
        migrate(database, path, MIGRATIONS)
    assert schema_of(path) == old


async def test_a_newer_file_is_refused_and_not_touched(path: Path) -> None:
    with closing(connect(path)) as newer:
        migrate(newer, path, {**MIGRATIONS, NEWEST + 1: "CREATE TABLE later (x INTEGER) STRICT;"})
    before = path.read_bytes()  # noqa: ASYNC240  # a test has the loop for itself
    with pytest.raises(StoreError, match=f"has schema {NEWEST + 1}.*knows {NEWEST}.*install the newer"):
        await SqliteStore(path, WIDE).open()
    assert path.read_bytes() == before  # noqa: ASYNC240


def test_a_migration_that_fails_leaves_the_file_as_it_was_before_it(path: Path) -> None:
    make_schema_1(path)
    broken = {**MIGRATIONS, NEWEST + 1: "CREATE TABLE later (x INTEGER) STRICT; INSERT INTO nowhere VALUES (1);"}
    with closing(connect(path)) as database, pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(database, path, broken)
    version, tables = schema_of(path)
    assert version == NEWEST
    assert "later" not in dict(tables)


def test_two_programs_may_migrate_one_file_at_the_same_moment(path: Path) -> None:
    """The other one is quicker, after this one has looked."""

    class Late(dict[int, str]):
        def items(self) -> Any:
            with closing(connect(path)) as other:
                migrate(other, path, MIGRATIONS)
            return super().items()

    with closing(connect(path)) as database:
        migrate(database, path, Late(MIGRATIONS))
        database.execute("INSERT INTO ban VALUES (?, 0)", (ANN,))
    assert schema_of(path)[0] == NEWEST


def in_a_process_that_dies(work: Callable[[], None]) -> int:
    """Run `work` in a copy of this process; return the signal that ended it, 0 if it came to its end."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@pytest.mark.system
def test_a_process_may_die_at_any_statement_of_a_migration(
    path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def migrate_until(statement: int) -> None:
        left = [statement]

        def count(_: FaultPoint) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        watch(count)
        migrate(connect(path), path, MIGRATIONS)

    whole = _every_schema(tmp_path_factory)
    deaths = 0
    while True:
        make_schema_1(path)
        if in_a_process_that_dies(partial(migrate_until, deaths)) == 0:
            break
        deaths += 1
        assert schema_of(path) in whole
        with closing(connect(path)) as database:
            migrate(database, path, MIGRATIONS)
            assert database.execute("SELECT payload FROM envelope WHERE id = 2").fetchone()[0] is not None
        assert schema_of(path) == whole[-1]
        for file in path.parent.iterdir():
            file.unlink()
    assert deaths > 8


def _every_schema(folders: pytest.TempPathFactory) -> list[tuple[int, list[tuple[str, str]]]]:
    """What a file of the first schema is after each migration, when nothing goes wrong."""
    path = folders.mktemp("whole") / "ironwire.db"
    make_schema_1(path)
    schemas = [schema_of(path)]
    with closing(connect(path)) as database:
        for number in range(2, NEWEST + 1):
            migrate(database, path, {known: sql for known, sql in MIGRATIONS.items() if known <= number})
            schemas.append(schema_of(path))
    return schemas
