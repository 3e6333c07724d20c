"""What stands in the journal is as good as what stands in the tables, and most of it never gets there."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ironwire.errors import StoreError
from ironwire.ids import DeviceId, MessageId
from ironwire.store.contract.operations import Acknowledge, Appended, Duplicate, Operation, Remove, Touch
from ironwire.store.sqlite import journal as sqlite_journal
from ironwire.store.sqlite import mailboxes as sqlite_mailboxes
from ironwire.store.sqlite.store import SqliteStore
from tests.contract.builders import (
    ANN,
    BOB,
    LAPTOP,
    PHONE,
    WIDE,
    append,
    apply,
    envelope,
    mailbox_of,
    registered,
    texts,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ironwire.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(path, WIDE)
    await opened.open()
    yield opened
    await opened.close()


def counts(path: Path) -> tuple[int, int, int, int]:
    """Rows of the journal, ids, envelopes and entries in the file."""
    with closing(sqlite3.connect(path)) as database:
        journal, known, envelopes, entries = (
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # constants
            for table in ("journal", "known", "envelope", "entry")
        )
        return journal, known, envelopes, entries


def crashed(path: Path) -> Path:
    """The files as they are now, in another folder: what a crash would leave."""
    copy = path.parent.with_name("crashed")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path.parent, copy, ignore=shutil.ignore_patterns("*-shm", "*.lock"))
    return copy / path.name


async def test_what_is_acknowledged_soon_leaves_nothing_but_its_id(store: SqliteStore, path: Path) -> None:
    box = await registered(store, ANN, PHONE)
    for number in range(1, 6):
        await apply(store, append(envelope(BOB, ANN, id=str(number))))
        await apply(store, Acknowledge(box.id, number))
    assert counts(path)[1:] == (0, 0, 0)
    await store.checkpoint()
    assert counts(path) == (0, 5, 0, 0)
    assert await apply(store, append(envelope(BOB, ANN, id="3"))) == Duplicate(1_000)


async def test_what_waits_longer_goes_into_the_tables_bit_by_bit(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_mailboxes, "HIGH_WATERMARK", 12)
    monkeypatch.setattr(sqlite_mailboxes, "LOW_WATERMARK", 8)
    box = await registered(store, ANN, PHONE)
    in_tables = []
    for number in range(20):
        await apply(store, append(envelope(BOB, ANN, str(number), id=str(number))))
        journal, known, envelopes, entries = counts(path)
        assert known == envelopes == entries == number + 1 - journal
        in_tables.append(entries)
    assert in_tables[-1] >= 14
    assert max(after - before for before, after in pairwise(in_tables)) <= 3
    assert await texts(store, box) == [(number + 1, str(number)) for number in range(20)]


async def test_the_journal_stays_in_bounds_without_envelopes(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_mailboxes, "HIGH_WATERMARK", 12)
    monkeypatch.setattr(sqlite_mailboxes, "LOW_WATERMARK", 8)
    boxes = [await registered(store, ANN, device) for device in (PHONE, LAPTOP, DeviceId("tablet"))]
    for number in range(40):
        await store.apply([Touch(box.id, 2_000 + number) for box in boxes])
        assert counts(path)[0] <= 4
    assert [box.seen_ms for box in await store.mailboxes_of(ANN)] == [2_039] * 3


async def test_a_clean_end_leaves_the_journal_empty(path: Path) -> None:
    store = SqliteStore(path, WIDE)
    await store.open()
    await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN, id="1")))
    assert counts(path) == (1, 0, 0, 0)
    await store.close()
    assert counts(path) == (0, 1, 1, 1)


async def test_after_a_crash_everything_is_there_and_the_numbers_go_on(store: SqliteStore, path: Path) -> None:
    box = await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN, "gone", id="1")))
    await store.checkpoint()
    await apply(store, append(envelope(BOB, ANN, "there", id="2")))
    await apply(store, Acknowledge(box.id, 1))
    await apply(store, append(envelope(BOB, ANN, "Ünï \0 \udcff".encode("utf-8", "replace").decode(), id="3")))
    await apply(store, Touch(box.id, 9_000))

    again = SqliteStore(crashed(path), WIDE)
    await again.open()
    assert await mailbox_of(again, ANN, PHONE) == await mailbox_of(store, ANN, PHONE)
    assert await texts(again, box) == await texts(store, box)
    assert await again.recall(BOB, None, MessageId("2"), append(envelope(BOB, ANN, "there", id="2")).digest) is not None
    assert await apply(again, append(envelope(BOB, ANN, "there", id="2"))) == Duplicate(1_000)
    stored = await apply(again, append(envelope(BOB, ANN, "new")))
    assert isinstance(stored, Appended)
    assert stored.placed[0].seq == 4
    await again.close()


async def test_a_device_that_goes_takes_what_the_journal_has_for_it(store: SqliteStore, path: Path) -> None:
    for device in (PHONE, LAPTOP):
        await registered(store, ANN, device)
    await apply(store, append(envelope(BOB, ANN, "to both")))
    await apply(store, Remove(ANN, PHONE))
    again = SqliteStore(crashed(path), WIDE)
    await again.open()
    assert [box.device for box in await again.mailboxes_of(ANN)] == [LAPTOP]
    assert await texts(again, await mailbox_of(again, ANN, LAPTOP)) == [(1, "to both")]
    await again.close()


async def test_a_batch_under_way_is_seen_by_nobody(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN, "before")))
    may_commit = trio.Event()
    commit = store._database._commit

    async def slow_commit() -> None:
        await may_commit.wait()
        await commit()

    monkeypatch.setattr(store._database, "_commit", slow_commit)
    monkeypatch.setattr(sqlite_mailboxes, "HIGH_WATERMARK", 1)  # so that it settles as well
    sent = append(envelope(BOB, ANN, "meanwhile", id="1"))
    batch: list[Operation] = [sent, append(envelope(BOB, ANN, "and more")), Acknowledge(box.id, 0)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.apply, batch)
        await wait_all_tasks_blocked()
        assert await texts(store, box) == [(1, "before")]
        assert (await mailbox_of(store, ANN, PHONE)).tail == 1
        assert await store.recall(BOB, None, MessageId("1"), sent.digest) is None
        may_commit.set()
    assert await texts(store, box) == [(1, "before"), (2, "meanwhile"), (3, "and more")]


async def test_a_batch_that_failed_leaves_what_the_journal_has(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN, "before", id="1")))

    def fail(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(store._mailboxes.batch_log, "write", fail)
        with pytest.raises(StoreError):
            await store.apply([Acknowledge(box.id, 1), append(envelope(BOB, ANN, "lost", id="2"))])
    assert await texts(store, box) == [(1, "before")]
    depth = store.statistics()
    assert (depth.mailboxes, depth.waiting_envelopes) == (1, 1)
    assert isinstance(await apply(store, append(envelope(BOB, ANN, "after", id="2"))), Appended)
    assert await texts(store, box) == [(1, "before"), (2, "after")]


async def test_where_the_journal_cannot_be_read_again_nothing_is_answered_until_it_can(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN, "before")))

    def fail(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(store._mailboxes.batch_log, "write", fail)
        broken.setattr(sqlite_journal, "read_journal", fail)
        with pytest.raises(StoreError):
            await apply(store, append(envelope(BOB, ANN, "lost")))
        with pytest.raises(StoreError):
            store.glance.mailbox_count(ANN)
        with pytest.raises(StoreError):
            await store.mailboxes_of(ANN)
        with pytest.raises(StoreError):
            await store.read(box.id, after=0, limit=9)
        with pytest.raises(StoreError):
            await store.recall(BOB, None, MessageId("1"), b"")
        for change in (
            partial(apply, store, Acknowledge(box.id, 1)),
            store.checkpoint,
            store.scrub,
            partial(store.erase, BOB),
        ):
            with pytest.raises(StoreError):
                await change()
    assert await texts(store, box) == [(1, "before")]
    assert isinstance(await apply(store, append(envelope(BOB, ANN, "after"))), Appended)


@pytest.mark.parametrize("effects", [b"[[1,2,3]]", b"not json", b'[[1,"text"]', b"7"])
async def test_a_damaged_journal_is_refused(store: SqliteStore, path: Path, effects: bytes) -> None:
    with closing(sqlite3.connect(copy := crashed(path))) as database:
        database.execute("INSERT INTO journal (effects) VALUES (?)", (effects,))
        database.commit()
    with pytest.raises(StoreError, match="row 1 of the journal is damaged"):
        await SqliteStore(copy, WIDE).open()


async def test_a_copy_has_everything_in_its_tables(store: SqliteStore, path: Path) -> None:
    await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN, "hello", id="1")))
    await store.copy_to(path.with_name("copy"))
    assert counts(path) == (1, 0, 0, 0)
    assert counts(path.with_name("copy")) == (0, 1, 1, 1)


async def test_the_history_has_what_the_journal_has(store: SqliteStore) -> None:
    await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN, "hello"), is_archived=True))
    (archived,) = await store.read_history(ANN, BOB, before=None, limit=9)
    assert archived.envelope == envelope(BOB, ANN, "hello")
