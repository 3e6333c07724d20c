"""What the operator's commands leave in the file, and what they do not."""

import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from ironwire.ids import GroupId
from ironwire.store.sqlite.copy import copy_file
from ironwire.store.sqlite.store import SqliteStore
from ironwire.store.survey import DATABASE, Survey, SurveyedClient, SurveyedDevice, SurveyedGroup, SurveyRow
from tests.contract.builders import (
    ANN,
    BOB,
    CAT,
    LAPTOP,
    PHONE,
    WIDE,
    append,
    apply,
    change,
    envelope,
    registered,
    texts,
)

CLUB = GroupId("#" + "c" * 32)
SECRET = "the body of a message"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / DATABASE, WIDE)
    await opened.open()
    yield opened
    await opened.close()


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_a_ban_outlives_the_process(tmp_path: Path) -> None:
    for expected in (False, True):
        store = SqliteStore(tmp_path / DATABASE, WIDE)
        await store.open()
        assert store.glance.is_banned(ANN) is expected
        await store.ban(ANN, 1_000)
        await store.close()


async def test_nothing_of_the_erased_is_left_in_the_files(store: SqliteStore, tmp_path: Path) -> None:
    await registered(store, ANN, PHONE)
    await registered(store, BOB, PHONE)
    await apply(store, append(envelope(BOB, ANN, SECRET, device=PHONE, id="1"), is_archived=True))
    await apply(store, change(CLUB, 0, {BOB: "admin", ANN: "member"}, by=BOB))
    await apply(store, change(CLUB, 1, {BOB: "admin"}, by=BOB))
    await store.erase(ANN)
    await store.scrub()
    content = everything_in(tmp_path)
    assert SECRET.encode() not in content
    assert ANN.encode() not in content


async def test_a_message_to_a_group_that_waited_for_the_erased_alone_loses_its_body(
    store: SqliteStore, tmp_path: Path
) -> None:
    await registered(store, ANN, PHONE)
    await apply(store, change(CLUB, 0, {BOB: "admin", ANN: "member"}, by=BOB))
    await apply(store, append(envelope(BOB, CLUB, SECRET, id="1")))
    await store.erase(ANN)
    await store.scrub()
    assert SECRET.encode() not in everything_in(tmp_path)


async def test_a_copy_is_of_what_is_committed_and_the_store_works_on_meanwhile(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is held up; batches are committed all the same, and only the scrub waits for its end."""
    phone = await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN, "before")))
    begun, may_end = trio.Event(), trio.Event()

    def slow_copy(source: sqlite3.Connection, target: Path, finish: Callable[[sqlite3.Connection], None]) -> None:
        trio.from_thread.run_sync(begun.set)
        trio.from_thread.run(may_end.wait)
        copy_file(source, target, finish)

    monkeypatch.setattr("ironwire.store.sqlite.store.copy_file", slow_copy)
    order: list[str] = []

    async def scrub() -> None:
        await store.scrub()
        order.append("scrubbed")

    async def copy() -> None:
        await store.copy_to(tmp_path / "copy")
        order.append("copied")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(copy)
        await begun.wait()
        nursery.start_soon(scrub)
        with trio.fail_after(5):
            await apply(store, append(envelope(BOB, ANN, "meanwhile")))
        may_end.set()
    assert order == ["copied", "scrubbed"]
    assert len(await texts(store, phone)) == 2
    copied = SqliteStore(tmp_path / "copy", WIDE)
    await copied.open()
    assert (await texts(copied, phone))[0] == (1, "before")
    await copied.close()


async def test_the_survey_says_who_and_how_much(store: SqliteStore, tmp_path: Path) -> None:
    survey = Survey(tmp_path)
    await registered(store, ANN, PHONE, now_ms=5_000)
    await registered(store, ANN, LAPTOP, now_ms=6_000)
    await registered(store, BOB, PHONE, now_ms=7_000)
    await apply(store, change(CLUB, 0, {ANN: "admin", CAT: "member"}, name="friends", device=PHONE))
    await apply(store, append(envelope(CAT, BOB, "x" * 1_000, ts=8_000)))
    await store.ban(CAT, 9_000)
    await store.checkpoint()

    clients = await survey.clients(is_banned=False, limit=10, offset=0)
    assert clients.total == 3
    ann, bob, cat = (row for row in clients.rows if isinstance(row, SurveyedClient))
    assert (ann.client, ann.devices, ann.groups, ann.waiting, ann.seen_ms) == (ANN, 2, 1, 2, 6_000)
    assert (bob.client, bob.waiting, bob.is_banned) == (BOB, 1, False)
    assert (cat.client, cat.devices, cat.groups, cat.seen_ms, cat.is_banned) == (CAT, 0, 1, None, True)
    assert (await survey.clients(is_banned=True, limit=10, offset=0)).rows == [cat]

    deepest = (await survey.mailboxes(limit=1, offset=0)).rows[0]
    assert isinstance(deepest, SurveyedDevice)
    assert (deepest.client, deepest.waiting, deepest.oldest_ms, deepest.is_full) == (BOB, 1, 8_000, False)

    page = await survey.devices(ANN, limit=1, offset=1)
    assert page.total == 2
    assert [row.device for row in page.rows if isinstance(row, SurveyedDevice)] == [LAPTOP]

    groups = await survey.groups(limit=10, offset=0)
    assert groups.rows == [SurveyedGroup(CLUB, "friends", 1, members=2, admins=1)]


async def test_blobs_are_counted_and_the_newest_come_first(tmp_path: Path) -> None:
    assert (await Survey(tmp_path).blobs(limit=5)).total == 0
    media = tmp_path / "media"
    media.mkdir()
    for number in range(4):
        path = media / f"0b7e5d4e-1111-4222-8333-12345678900{number}.bin"
        path.write_bytes(b"x" * number)
        os.utime(path, ns=(number * 10**9, number * 10**9))
    (media / "0b7e5d4e-1111-4222-8333-123456789009.part").touch()
    page = await Survey(tmp_path).blobs(limit=2)
    assert (page.total, page.total_bytes) == (4, 6)
    assert [row.stored_ms for row in page.rows if not isinstance(row, SurveyRow)] == [3_000, 2_000]
