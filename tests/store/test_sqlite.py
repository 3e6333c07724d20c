"""What the SQLite store does when the disk, the file or another program stands in its way, and what it leaves behind.

In every case: a clear StoreError, nothing kept that was refused, and the next batch works when the cause is gone.
"""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ironwire.errors import StoreError, StoreFull
from ironwire.ids import ClientId
from ironwire.store.contract.operations import (
    Acknowledge,
    Appended,
    Forget,
    Register,
    Remove,
    Removed,
    Sweep,
    Undeliverable,
)
from ironwire.store.contract.records import HISTORY_BYTES, Mailbox
from ironwire.store.sqlite import database as sqlite_database
from ironwire.store.sqlite import devices as sqlite_devices
from ironwire.store.sqlite import directory as sqlite_directory
from ironwire.store.sqlite import expiry as sqlite_expiry
from ironwire.store.sqlite import mailboxes as sqlite_mailboxes
from ironwire.store.sqlite import memtable as sqlite_memtable
from ironwire.store.sqlite import pages as sqlite_pages
from ironwire.store.sqlite import writer as sqlite_writer
from ironwire.store.sqlite.store import SqliteStore
from tests.contract.builders import ANN, BOB, CAT, LAPTOP, PHONE, WIDE, append, envelope, numbered, registered, texts

SECRET = "the-erased-text-" * 40  # longer than a page's free rest, shorter than a page
LONG_SECRET = "the-erased-text-" * 3_000  # goes to overflow pages


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ironwire.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(path, WIDE)
    await opened.open()
    yield opened
    await opened.close()


async def refuses_a_batch(store: SqliteStore, error: type[StoreError], match: str) -> None:
    """One batch fails and leaves nothing, not even in what the store remembers."""
    box = (
        await registered(store, ANN, PHONE) if not await store.mailboxes_of(ANN) else (await store.mailboxes_of(ANN))[0]
    )
    before = await texts(store, box), list(await store.mailboxes_of(ANN))
    with pytest.raises(error, match=match):
        await store.apply([Register(CAT, PHONE, 1), append(envelope(BOB, ANN, "x" * 60_000, id="1"))])
    assert store.statistics().is_failing
    assert (await texts(store, box), list(await store.mailboxes_of(ANN))) == before
    assert not store.glance.mailbox_count(CAT)


async def works_again(store: SqliteStore) -> None:
    results = await store.apply([append(envelope(BOB, ANN, "x" * 60_000, id="1"))])
    assert isinstance(results[0], Appended)
    assert not store.statistics().is_failing


# --- a full disk and a disk that fails -------------------------------------------------------------------------------


async def test_a_full_database_refuses_and_recovers(store: SqliteStore) -> None:
    await registered(store, ANN, PHONE)
    pages = store._database.changes.execute("PRAGMA page_count").fetchone()[0]
    store._database.changes.execute(f"PRAGMA max_page_count = {pages + 2}")
    await refuses_a_batch(store, StoreFull, "database or disk is full.*SQLITE_FULL")
    store._database.changes.execute("PRAGMA max_page_count = 100000")
    await works_again(store)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes; Python ignores the signal that comes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_log_that_cannot_grow_refuses_and_recovers(store: SqliteStore, path: Path) -> None:
    await registered(store, ANN, PHONE)
    with files_limited_to(path.with_name("ironwire.db-wal").stat().st_size + 8_192):
        await refuses_a_batch(store, StoreError, "disk")
        with pytest.raises(StoreError):
            await store.apply([append(envelope(BOB, ANN, "x" * 60_000)) for _ in range(3)])
    await works_again(store)
    await store.scrub()


class FailingDisk:
    """A connection, except that COMMIT meets an I/O error, and perhaps ROLLBACK too."""

    def __init__(self, connection: sqlite3.Connection, *, cannot_undo: bool = False) -> None:
        self._connection = connection
        if cannot_undo:
            self.rollback = self.commit

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def commit(self) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error


async def test_a_batch_that_cannot_even_be_undone_leaves_nothing(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(store, ANN, PHONE)
    with monkeypatch.context() as broken:
        broken.setattr(store._database, "changes", FailingDisk(store._database.changes, cannot_undo=True))
        await refuses_a_batch(store, StoreError, "disk I/O error")
        await refuses_a_batch(store, StoreError, "disk I/O error")
    await works_again(store)


async def test_a_commit_that_fails_leaves_nothing(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await registered(store, ANN, PHONE)
    with monkeypatch.context() as broken:
        broken.setattr(store._database, "changes", FailingDisk(store._database.changes))
        await refuses_a_batch(store, StoreError, "disk I/O error.*SQLITE_IOERR_FSYNC")
        with pytest.raises(StoreError):
            await store.expire(before_ms=99_000, archived_before_ms=99_000)
        with pytest.raises(StoreError):
            await store.scrub()
    assert [box.device for box in await store.mailboxes_of(ANN)] == [PHONE]
    await works_again(store)


async def test_scrub_finds_out_that_the_store_works_again(store: SqliteStore) -> None:
    await registered(store, ANN, PHONE)
    store._database.changes.execute("PRAGMA max_page_count = 1")
    await refuses_a_batch(store, StoreFull, "full")
    store._database.changes.execute("PRAGMA max_page_count = 100000")
    await store.scrub()
    assert not store.statistics().is_failing


# --- a locked database -----------------------------------------------------------------------------------------------


async def test_a_batch_waits_for_another_programs_lock_beside_the_event_loop(store: SqliteStore, path: Path) -> None:
    box = await registered(store, ANN, PHONE)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.apply, [append(envelope(BOB, ANN))])
            await wait_all_tasks_blocked()
            assert await texts(store, box) == []
            other.execute("COMMIT")
    assert await texts(store, box) == [(1, "hello")]


async def test_a_lock_that_is_not_given_back_is_an_error(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_database, "_BUSY_MS", 20)
    await registered(store, ANN, PHONE)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await refuses_a_batch(store, StoreError, "database is locked.*SQLITE_BUSY")
    await works_again(store)


async def test_scrub_says_when_a_reader_keeps_the_log(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_database, "_BUSY_MS", 20)
    await registered(store, ANN, PHONE)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM mailbox").fetchall()
        await registered(store, BOB, PHONE)
        with pytest.raises(StoreError, match="another program"):
            await store.scrub()
    await store.scrub()


# --- a file that cannot be opened ------------------------------------------------------------------------------------


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def fails_to_open(path: Path, match: str) -> None:
    store = SqliteStore(path, WIDE)
    with pytest.raises(StoreError, match=match):
        await store.open()


async def opens(path: Path) -> None:
    store = SqliteStore(path, WIDE)
    await store.open()
    await store.close()


async def test_a_second_store_on_the_file_is_refused(store: SqliteStore, path: Path) -> None:
    await fails_to_open(path, "in use by another IronWire process")


@contextmanager
def process_that_has(path: Path) -> Iterator[None]:
    """Another process with the store open; it is killed at the end."""
    script = f"""
        import sys, trio
        from pathlib import Path
        from ironwire.store.contract.records import Quota
        from ironwire.store.sqlite.store import SqliteStore
        async def main():
            await SqliteStore(Path({str(path)!r}), Quota(9, 999, 9)).open()
            print("open", flush=True)
            sys.stdin.read()
        trio.run(main)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield
        process.kill()


@pytest.mark.system
async def test_the_file_is_free_again_when_its_process_is_gone(path: Path) -> None:
    with process_that_has(path):
        await fails_to_open(path, "in use")
    await opens(path)


async def test_what_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    os.mkdir(path.parent)
    write(path, b"not a database, by far" * 500)
    await fails_to_open(path, "not a database")
    assert content_of(path) == b"not a database, by far" * 500
    os.unlink(path)
    await opens(path)


async def test_a_damaged_database_is_refused(path: Path) -> None:
    store = SqliteStore(path, WIDE)
    await store.open()
    await registered(store, ANN, PHONE)
    for number in range(100):
        await store.apply([append(envelope(BOB, ANN, "x" * 500, id=str(number)))])
    await store.close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("VACUUM")  # a page that nothing uses may be damaged, and nobody would be the wiser
    whole = content_of(path)
    for start in range(8_192, len(whole), 16_384):
        damaged = whole[:start] + os.urandom(2_048) + whole[start + 2_048 :]
        write(path, damaged)
        await fails_to_open(path, "damaged|malformed")
    write(path, whole)
    await opens(path)


async def test_a_damaged_page_met_later_is_an_error_and_no_crash(store: SqliteStore, path: Path) -> None:
    box = await registered(store, ANN, PHONE)
    await store.apply([append(envelope(BOB, ANN, "x" * 3_000)) for _ in range(50)])
    await store.scrub()
    whole = content_of(path)
    write(path, whole[:4_096] + b"\xff" * (len(whole) - 4_096))
    reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)  # with an empty cache
    store._database.pages.close()
    store._database.pages = reader
    store._database._connections.append(reader)
    with pytest.raises(StoreError, match="malformed"):
        await store.read(box.id, after=0, limit=100)
    write(path, whole)


async def test_a_folder_that_is_a_file_is_refused(path: Path) -> None:
    write(path.parent, b"a file")
    await fails_to_open(path, "cannot be opened")


@pytest.fixture
def unprivileged_folder() -> Iterator[Path]:
    """A folder of a user for whom permissions hold, who runs the test: for the superuser they do not."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    is_superuser = os.geteuid() == 0
    if is_superuser:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if is_superuser:
            os.seteuid(0)
        os.chmod(folder, 0o700)
        shutil.rmtree(folder)


async def test_a_folder_that_cannot_be_written_is_refused(unprivileged_folder: Path) -> None:
    os.chmod(unprivileged_folder, 0o500)
    await fails_to_open(unprivileged_folder / "ironwire.db", "Permission denied")
    os.chmod(unprivileged_folder, 0o700)
    await opens(unprivileged_folder / "ironwire.db")


async def test_a_file_that_cannot_be_written_is_refused(unprivileged_folder: Path) -> None:
    path = unprivileged_folder / "ironwire.db"
    await opens(path)
    os.chmod(path, 0o400)
    await fails_to_open(path, "Permission denied")
    os.chmod(path, 0o600)
    await opens(path)


async def test_nobody_else_may_read_what_is_stored(store: SqliteStore, path: Path) -> None:
    await registered(store, ANN, PHONE)
    assert {file.name for file in path.parent.iterdir()} >= {"ironwire.db", "ironwire.db-wal", "ironwire.db-shm"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in [path.parent, *path.parent.iterdir()])


# --- what is erased is gone ------------------------------------------------------------------------------------------


async def test_what_was_sent_with_a_number_and_acknowledged_takes_no_byte(store: SqliteStore, path: Path) -> None:
    phone, bobs = await registered(store, ANN, PHONE), await registered(store, BOB, PHONE)

    async def send(first: int, last: int) -> int:
        """The bytes of the file that are in use after these were acknowledged."""
        for n in range(first, last + 1):
            await store.apply(
                [numbered(envelope(ANN, BOB, device=PHONE, id=f"id {n}"), phone, n), Acknowledge(bobs.id, n - 1)]
            )
        await store.apply([Acknowledge(bobs.id, last)])
        await store.scrub()
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT count(*) FROM known").fetchone() == (0,)
            pages, free, size = (
                database.execute(f"PRAGMA {each}").fetchone()[0]
                for each in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * size)

    before = await send(1, 100)
    assert await send(101, 2_000) == before


def traces(path: Path) -> list[str]:
    """The files in which the secret can be found, byte for byte."""
    return [file.name for file in path.parent.iterdir() if b"the-erased-text" in file.read_bytes()]


@pytest.fixture(params=[SECRET, LONG_SECRET], ids=["in a page", "in overflow pages"])
async def told(request: pytest.FixtureRequest, store: SqliteStore, path: Path) -> tuple[Mailbox, Mailbox]:
    """A secret in two mailboxes, between other envelopes, in the database file and in the log."""
    phone, laptop = await registered(store, ANN, PHONE), await registered(store, ANN, LAPTOP)
    for number in range(3):
        await store.apply([append(envelope(BOB, ANN, "before", id=f"a{number}", ts=1_000))])
        await store.apply([append(envelope(BOB, ANN, request.param, id=f"b{number}", ts=1_000))])
        await store.apply([append(envelope(BOB, ANN, request.param + str(number), ts=1_000))])
        await store.scrub()  # moves it from the log into the file
        await store.apply([append(envelope(BOB, ANN, "after", ts=1_000))])
    assert "ironwire.db" in traces(path)
    return phone, laptop


async def test_after_the_last_ack_the_text_is_nowhere(
    store: SqliteStore, path: Path, told: tuple[Mailbox, Mailbox]
) -> None:
    phone, laptop = told
    await store.apply([Acknowledge(phone.id, 99)])
    await store.scrub()
    assert traces(path) == ["ironwire.db"]
    await store.apply([Acknowledge(laptop.id, 99)])
    await store.scrub()
    assert traces(path) == []


async def test_after_acks_one_by_one_the_text_is_nowhere(
    store: SqliteStore, path: Path, told: tuple[Mailbox, Mailbox]
) -> None:
    for seq in range(1, 13):
        await store.apply([Acknowledge(told[0].id, seq)])
        await store.apply([append(envelope(BOB, ANN, "in between " * seq))])
        await store.apply([Acknowledge(told[1].id, seq)])
    await store.scrub()
    assert traces(path) == []


async def test_after_the_device_was_removed_the_text_is_nowhere(
    store: SqliteStore, path: Path, told: tuple[Mailbox, Mailbox]
) -> None:
    await store.apply([Remove(ANN, PHONE), Remove(ANN, LAPTOP)])
    await store.scrub()
    assert traces(path) == []


async def test_after_it_expired_the_text_is_nowhere(
    store: SqliteStore, path: Path, told: tuple[Mailbox, Mailbox]
) -> None:
    await store.expire(before_ms=1_001, archived_before_ms=1_001)
    await store.scrub()
    assert traces(path) == []


async def test_after_its_devices_were_not_seen_for_long_the_text_is_nowhere(store: SqliteStore, path: Path) -> None:
    """The envelope is young and its mailboxes are not: the last who is owed it decides."""
    await registered(store, ANN, PHONE, now_ms=1_000)
    await registered(store, ANN, LAPTOP, now_ms=9_000)
    await store.apply([append(envelope(BOB, ANN, SECRET, id="1", ts=9_000))])
    await store.apply([Acknowledge((await store.mailboxes_of(ANN))[1].id, 1)])
    await store.scrub()
    assert traces(path) == ["ironwire.db"]
    await store.expire(before_ms=5_000, archived_before_ms=9_999)
    await store.scrub()
    assert traces(path) == []


async def test_an_archived_text_stays_until_its_history_ends(store: SqliteStore, path: Path) -> None:
    box = await registered(store, ANN, PHONE, now_ms=9_000)
    await store.apply([append(envelope(BOB, ANN, SECRET, id="1", ts=5_000), is_archived=True), Acknowledge(box.id, 1)])
    await store.scrub()
    assert traces(path) == ["ironwire.db"]
    await store.expire(before_ms=0, archived_before_ms=5_001)
    await store.scrub()
    assert traces(path) == []


async def test_a_mailbox_that_is_removed_is_erased_in_parts_and_read_by_nobody(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a full one at once would hold everybody up for a second."""
    monkeypatch.setattr(sqlite_devices, "SWEPT_AT_ONCE", 3)
    phone, laptop = await registered(store, ANN, PHONE), await registered(store, ANN, LAPTOP)
    await store.apply([append(envelope(BOB, ANN, SECRET)) for _ in range(8)])
    await store.apply([Acknowledge(laptop.id, 8)])
    (removed,) = await store.apply([Remove(ANN, PHONE)])
    assert removed == Removed((Sweep(phone.id, 6), Sweep(phone.id, 9)))
    assert await store.read(phone.id, after=0, limit=9) == []
    assert [box.device for box in await store.mailboxes_of(ANN)] == [LAPTOP]
    assert store.statistics().waiting_envelopes == store.statistics().waiting_bytes == 0
    assert isinstance(removed, Removed)
    await store.apply(removed.rest)
    await store.scrub()
    assert traces(path) == []
    assert await store.apply([Sweep(laptop.id, 8), append(envelope(BOB, ANN, "Hello")), Sweep(laptop.id, 9)])
    assert await texts(store, laptop) == [(9, "Hello")]


async def test_a_mailbox_that_was_removed_and_not_swept_goes_with_what_has_expired(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_devices, "SWEPT_AT_ONCE", 3)
    await registered(store, ANN, PHONE)
    laptop = await registered(store, BOB, LAPTOP)
    await store.apply([append(envelope(CAT, ANN, SECRET)) for _ in range(8)])
    await store.apply([Remove(ANN, PHONE), append(envelope(ANN, BOB, "Hello"))])
    await store.expire(before_ms=0, archived_before_ms=0)
    await store.scrub()
    assert traces(path) == []
    assert await texts(store, laptop) == [(1, "Hello")]


async def test_batches_go_between_the_parts_of_a_long_expiry(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Millions of ids may be old at once, and nobody who sends waits for all of them."""
    monkeypatch.setattr(sqlite_expiry, "LET_GO_AT_ONCE", 3)
    box = await registered(store, ANN, PHONE, 9_000)
    old = [append(envelope(BOB, ANN, id=str(number)), is_archived=True) for number in range(10)]
    await store.apply([*old, Acknowledge(box.id, 10)])
    expired = trio.Event()

    async def expire() -> None:
        await store.expire(before_ms=5_000, archived_before_ms=5_000)
        expired.set()

    nursery.start_soon(expire)
    await wait_all_tasks_blocked()
    await store.apply([append(envelope(BOB, ANN, ts=9_000))])
    assert not expired.is_set()
    await expired.wait()
    assert await store.read_history(ANN, BOB, before=None, limit=100) == []
    assert all(isinstance(result, Appended) for result in await store.apply(old)), "their ids are forgotten"


async def test_what_reached_nobody_is_nowhere(store: SqliteStore, path: Path) -> None:
    sent = append(envelope(BOB, ANN, SECRET, device=PHONE, id="1"), is_live=True, is_archived=True)
    await store.apply([sent])
    await store.apply([Forget(sent.envelope)])
    await store.scrub()
    assert traces(path) == []


async def test_what_was_refused_is_nowhere(store: SqliteStore, path: Path) -> None:
    assert await store.apply([append(envelope(BOB, ANN, SECRET))]) == [Undeliverable()]
    assert isinstance((await store.apply([append(envelope(BOB, ANN, SECRET), is_live=True)]))[0], Appended)
    await store.scrub()
    assert traces(path) == []


# --- cost ------------------------------------------------------------------------------------------------------------


async def test_no_hot_statement_reads_a_whole_table(store: SqliteStore) -> None:
    """What every batch and every connection runs: its cost must not grow with what waits."""
    hot = {
        name: statement
        for module in (
            sqlite_writer,
            sqlite_devices,
            sqlite_expiry,
            sqlite_directory,
            sqlite_memtable,
            sqlite_mailboxes,
            sqlite_pages,
        )
        for name, statement in vars(module).items()
        if isinstance(statement, str)
        and name.lstrip("_").startswith(("SELECT", "UPDATE", "DELETE", "FORGET", "RELEASE", "ANY"))
    }
    now_and_then = {"_SELECT_UNSEEN", "_SELECT_UNREACHABLE", "_DELETE_OLD_ENTRIES", "_SELECT_DEPTH"}
    short = {
        "SCAN CONSTANT ROW",
        f"SCAN {sqlite_memtable.ASKED_AT_ONCE} CONSTANT ROWS",
        "SCAN envelope USING INDEX erased_envelope",  # which holds what is to go at once
        "SCAN json_each VIRTUAL TABLE INDEX 1:",  # what is asked for
    }
    assert len(hot) > 15
    for name, statement in hot.items():
        by_name = {"client": "x", "peer": "y", "before": 1, "limit": 1}
        parameters = by_name if ":client" in statement else ("x",) * statement.count("?")
        plan = [row[3] for row in store._database.changes.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        is_scan = any(step.startswith("SCAN") and step not in short and "(subquery" not in step for step in plan)
        assert is_scan == (name in now_and_then), f"{name}: {plan}"
        if name in {"_SELECT_PAGE", "_SELECT_HISTORY"}:
            assert not any("TEMP B-TREE" in step for step in plan), f"{name} sorts what it could read in order: {plan}"


async def test_a_page_of_large_entries_ends_early_and_nothing_is_passed_over(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are in the tables and some are recent: the recent ones do not come before their turn."""
    box = await registered(store, ANN, PHONE)
    said = ["x" * size for size in (10, 200, 10, 10, 300, 10)]
    await store.apply([append(envelope(BOB, ANN, text)) for text in said[:4]])
    await store.checkpoint()
    await store.apply([append(envelope(BOB, ANN, text)) for text in said[4:]])
    monkeypatch.setattr(sqlite_pages, "PAGE_BYTES", 150)
    pages, after = [], 0
    while page := await store.read(box.id, after=after, limit=100):
        pages.append([entry.seq for entry in page])
        after = page[-1].seq
    assert pages[0] == [1, 2]
    assert [seq for page in pages for seq in page] == [1, 2, 3, 4, 5, 6]


async def test_a_page_of_the_history_is_read_as_far_as_it_is_told(store: SqliteStore) -> None:
    await registered(store, ANN, PHONE)
    await store.apply([append(envelope(BOB, ANN, "x" * 60_000), is_archived=True) for _ in range(9)])
    first = await store.read_history(ANN, BOB, before=None, limit=100)
    assert sum(len(archived.envelope.payload) for archived in first[:-1]) < HISTORY_BYTES
    rest = await store.read_history(ANN, BOB, before=first[-1].number, limit=100)
    assert (len(first), len(rest)) == (5, 4)


async def test_the_cache_of_mailboxes_stays_in_bounds(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_mailboxes, "CACHED_CLIENTS", 10)
    await registered(store, ANN, PHONE)
    for number in range(100):
        assert not store.glance.mailbox_count(ClientId(f"{number:064x}"))
        assert len(store._mailboxes.cached) <= 11
    assert store.glance.mailbox_count(ANN)
