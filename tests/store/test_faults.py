"""At every fault point, the files that a crash would leave hold the whole of a batch, or nothing of it."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ironwire.errors import StoreError
from ironwire.ids import DeviceId
from ironwire.store.contract.faults import FaultPoint, watch
from ironwire.store.contract.operations import Acknowledge, Operation, Remove
from ironwire.store.contract.records import Mailbox
from ironwire.store.sqlite.store import SqliteStore
from tests.contract.builders import ANN, BOB, CAT, PHONE, WIDE, append, envelope, registered, texts

OF_A_BATCH = [
    FaultPoint.BEFORE_BEGIN,
    FaultPoint.AFTER_BEGIN,
    FaultPoint.APPLIED,
    FaultPoint.BEFORE_COMMIT,
    FaultPoint.AFTER_COMMIT,
    FaultPoint.BEFORE_REPLIES,
]


@pytest.fixture(autouse=True)
def _nobody_watches_afterwards() -> Iterator[None]:
    former = watch(lambda _: None)
    yield
    watch(former)


async def test_a_crash_leaves_a_batch_whole_or_not_at_all(tmp_path: Path) -> None:
    copies: dict[FaultPoint, Path] = {}

    def copy(point: FaultPoint) -> None:
        copies[point] = tmp_path / point.name
        shutil.copytree(tmp_path / "data", copies[point], ignore=shutil.ignore_patterns("*-shm", "*.lock"))

    store = SqliteStore(tmp_path / "data" / "ironwire.db", WIDE)
    await store.open()
    box = await registered(store, ANN, PHONE)
    await store.apply([append(envelope(BOB, ANN, "before", id="1"))])
    watch(copy)
    batch: list[Operation] = [Acknowledge(box.id, 1), append(envelope(CAT, ANN, "2")), append(envelope(BOB, ANN, "3"))]
    await store.apply(batch)
    watch(lambda _: None)
    await store.close()
    assert list(copies) == OF_A_BATCH
    for point, copied in copies.items():
        left = await _texts_in(copied, box)
        is_committed = OF_A_BATCH.index(point) >= OF_A_BATCH.index(FaultPoint.AFTER_COMMIT)
        assert left == ([(2, "2"), (3, "3")] if is_committed else [(1, "before")]), point


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_mailbox_is_read_once_it_is_known_whether_its_removal_holds(tmp_path: Path, is_committed: bool) -> None:
    under_way, may_end = threading.Event(), threading.Event()

    def hold(point: FaultPoint) -> None:
        if point is FaultPoint.BEFORE_COMMIT:
            under_way.set()
            may_end.wait(60)
            if not is_committed:
                raise sqlite3.OperationalError("the disk is full")

    async def remove() -> None:
        with nullcontext() if is_committed else pytest.raises(StoreError):
            await store.apply([Remove(ANN, PHONE)])

    async def read() -> None:
        seen.append([entry.seq for entry in await store.read(box.id, after=0, limit=9)])

    seen: list[list[int]] = []
    store = SqliteStore(tmp_path / "data" / "ironwire.db", WIDE)
    await store.open()
    box = await registered(store, ANN, PHONE)
    await store.apply([append(envelope(BOB, ANN, "1")), append(envelope(BOB, ANN, "2"))])
    watch(hold)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(remove)
        await trio.to_thread.run_sync(under_way.wait)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert seen == []
        may_end.set()
    assert seen == [[] if is_committed else [1, 2]]
    await store.close()


async def test_a_crash_while_devices_expire_or_the_log_is_overwritten_leaves_what_is_owed(tmp_path: Path) -> None:
    copies: list[Path] = []

    def copy(point: FaultPoint) -> None:
        copies.append(tmp_path / f"{len(copies)}-{point.name}")
        shutil.copytree(tmp_path / "data", copies[-1], ignore=shutil.ignore_patterns("*-shm", "*.lock"))

    store = SqliteStore(tmp_path / "data" / "ironwire.db", WIDE)
    await store.open()
    box = await registered(store, ANN, PHONE, now_ms=9_000)
    await registered(store, ANN, DeviceId("old"))
    await store.apply([append(envelope(BOB, ANN, "old")), append(envelope(BOB, ANN, "new", ts=9_000))])
    watch(copy)
    await store.expire(before_ms=5_000, archived_before_ms=5_000)
    await store.scrub()
    watch(lambda _: None)
    await store.close()
    reached = {path.name.partition("-")[2] for path in copies}
    assert {point.name for point in FaultPoint if "SCRUB" in point.name or "EXPIR" in point.name} <= reached
    left = [await _texts_in(copied, box) for copied in copies]
    assert all(texts_left[-1] == (2, "new") for texts_left in left)
    assert left[0] == [(1, "old"), (2, "new")]
    assert left[-1] == [(2, "new")]
    assert sorted(left, key=len, reverse=True) == left


def test_opening_reaches_its_points_and_nothing_is_told_to_nobody(tmp_path: Path) -> None:
    reached: list[FaultPoint] = []
    watch(reached.append)
    store = SqliteStore(tmp_path / "ironwire.db", WIDE)
    trio.run(partial(_open_and_close, store))
    assert reached[-1] is FaultPoint.OPENED
    assert FaultPoint.MIGRATING in reached


async def _open_and_close(store: SqliteStore) -> None:
    await store.open()
    await store.close()


async def _texts_in(folder: Path, box: Mailbox) -> list[tuple[int, str]]:
    """What a server that starts on these files would deliver."""
    store = SqliteStore(folder / "ironwire.db", WIDE)
    await store.open()
    left = await texts(store, box)
    await store.close()
    return left
