"""The blob store: a public name means a whole file, whatever goes wrong on the way."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from ironwire.errors import StoreError, StoreFull
from ironwire.ids import BlobName, parse_blob_name
from ironwire.store.files.blobs import CHUNK_BYTES, FLUSH_BYTES, Blobs, StoredBlob

NAME = parse_blob_name("0f1e2d3c-4b5a-4697-8877-665544332211.bin")


@pytest.fixture
async def blobs(tmp_path: Path) -> Blobs:
    store = Blobs(tmp_path / "media")
    await store.sweep()
    return store


async def store(blobs: Blobs, *chunks: bytes) -> StoredBlob:
    async with blobs.writer() as writer:
        for chunk in chunks:
            await writer.write(chunk)
        return await writer.commit()


async def load(blobs: Blobs, name: BlobName, piece_bytes: int = CHUNK_BYTES) -> bytes:
    content = b""
    with closing(await blobs.open(name)) as reader:
        while piece := await reader.read(len(content), piece_bytes):
            content += piece
    return content


def names_in(blobs: Blobs) -> list[str]:
    return sorted(os.listdir(blobs.folder))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=200) | st.integers(1, 2 * FLUSH_BYTES).map(bytes), max_size=6))
async def test_what_is_written_is_what_is_read(chunks: list[bytes]) -> None:
    content = b"".join(chunks)
    with tempfile.TemporaryDirectory() as folder:
        blobs = Blobs(Path(folder))
        blob = await store(blobs, *chunks)
        assert blob == StoredBlob(blob.name, len(content), hashlib.sha256(content).hexdigest())
        assert parse_blob_name(blob.name) == blob.name
        assert await blobs.size_bytes(blob.name) == len(content)
        assert await load(blobs, blob.name) == content
        assert names_in(blobs) == [blob.name]


async def test_a_blob_is_read_from_any_place(blobs: Blobs) -> None:
    blob = await store(blobs, b"0123456789")
    with closing(await blobs.open(blob.name)) as reader:
        assert await reader.read(3, 4) == b"3456"
        assert await reader.read(8, 4) == b"89"
        assert await reader.read(10, 4) == b""


async def test_no_public_name_before_the_commit(blobs: Blobs) -> None:
    async with blobs.writer() as writer:
        await writer.write(bytes(FLUSH_BYTES))
        assert [Path(name).suffix for name in names_in(blobs)] == [".part"]


async def test_an_upload_that_is_not_committed_leaves_nothing(blobs: Blobs) -> None:
    async with blobs.writer() as writer:
        await writer.write(bytes(FLUSH_BYTES))
    assert names_in(blobs) == []


async def test_an_upload_that_fails_leaves_nothing(blobs: Blobs) -> None:
    async def fail() -> None:
        async with blobs.writer() as writer:
            await writer.write(bytes(FLUSH_BYTES))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert names_in(blobs) == []


async def test_an_upload_that_is_cancelled_leaves_nothing(blobs: Blobs) -> None:
    async with trio.open_nursery() as nursery, blobs.writer() as writer:
        await writer.write(bytes(FLUSH_BYTES))
        nursery.cancel_scope.cancel()
        await writer.commit()
    assert nursery.cancel_scope.cancelled_caught
    assert names_in(blobs) == []
    assert now(blobs) == (0, 0, 0, 0)


@pytest.mark.parametrize("size", [10, FLUSH_BYTES])
async def test_a_write_that_was_cancelled_is_not_a_hole(blobs: Blobs, size: int) -> None:
    async with blobs.writer() as writer:
        with trio.CancelScope() as scope:
            scope.cancel()
            await writer.write(b"x" * size)
        blob = await writer.commit()
    assert await load(blobs, blob.name) == b"x" * size


def failing(function: Callable[..., Any], code: int, on_call: int = 1) -> Callable[..., Any]:
    """`function`, but the call of that number fails with `code`."""
    calls = 0

    def fail_once(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == on_call:
            raise OSError(code, os.strerror(code))
        return function(*args, **kwargs)

    return fail_once


@pytest.mark.parametrize(
    ("function", "on_call"),
    [("open", 1), ("pwrite", 1), ("pwrite", 2), ("fsync", 1), ("rename", 1), ("fsync", 2)],
    ids=["create", "first write", "last write", "sync file", "rename", "sync folder"],
)
@pytest.mark.parametrize(
    ("code", "expected"), [(errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EIO, StoreError)]
)
async def test_a_disk_that_fails_leaves_nothing(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch, function: str, on_call: int, code: int, expected: type[StoreError]
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(os, function, failing(getattr(os, function), code, on_call))
        with pytest.raises(StoreError) as caught:
            await store(blobs, bytes(FLUSH_BYTES), b"the rest")
    assert type(caught.value) is expected
    assert names_in(blobs) == []
    assert now(blobs) == (0, 0, 0, 0)
    await store(blobs, b"it works again")


async def test_a_write_that_failed_may_be_repeated(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(FLUSH_BYTES)
    async with blobs.writer() as writer:
        with monkeypatch.context() as broken:
            broken.setattr(os, "pwrite", failing(os.pwrite, errno.EIO))
            with pytest.raises(StoreError):
                await writer.write(content)
        blob = await writer.commit()
    assert blob == StoredBlob(blob.name, len(content), hashlib.sha256(content).hexdigest())
    assert await load(blobs, blob.name) == content


async def test_a_disk_that_writes_less_than_asked_is_asked_again(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(5_000)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:999], offset))
    blob = await store(blobs, content)
    assert await load(blobs, blob.name) == content


async def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_commit_returns(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    pwrite, fsync, rename = os.pwrite, os.fsync, os.rename

    def recorded(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            steps.append(step)
            return function(*args)

        return call

    monkeypatch.setattr(os, "pwrite", recorded("write", pwrite))
    monkeypatch.setattr(os, "fsync", recorded("sync", fsync))
    monkeypatch.setattr(os, "rename", recorded("rename", rename))
    await store(blobs, b"kept")
    assert steps == ["write", "sync", "rename", "sync"]


async def test_the_disk_is_told_to_begin_before_everything_is_there(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    advised: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, offset, size, _advice: advised.append((offset, size)))
    async with blobs.writer() as writer:
        await writer.write(bytes(FLUSH_BYTES))
        assert advised == [(0, FLUSH_BYTES)]
        await writer.write(bytes(10))
        await writer.commit()
    assert advised == [(0, FLUSH_BYTES), (FLUSH_BYTES, 10)]


async def test_a_system_that_takes_no_advice_stores_as_well(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    blob = await store(blobs, b"kept")
    assert await load(blobs, blob.name) == b"kept"


async def test_a_sweep_removes_what_a_crash_left_and_counts_the_rest(blobs: Blobs, tmp_path: Path) -> None:
    await store(blobs, b"12345")
    async with blobs.writer() as writer:  # not left before the process ends: as good as a crash
        await writer.write(bytes(FLUSH_BYTES))
        (blobs.folder / "notes.txt").write_text("somebody else's")
        (tmp_path / "target").write_text("a long story")
        (blobs.folder / NAME).symlink_to(tmp_path / "target")

        after_the_crash = Blobs(blobs.folder)
        assert await after_the_crash.sweep() == 1
        assert now(after_the_crash) == (1, 5, 0, 0)
        assert not [name for name in names_in(blobs) if name.endswith(".part")]
        assert await after_the_crash.sweep() == 0


async def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        await Blobs(tmp_path / "file" / "media").sweep()


async def test_a_name_that_is_taken_is_not_used_again(tmp_path: Path) -> None:
    def repeating() -> Callable[[int], bytes]:
        draws = iter([b"a" * 16, b"b" * 16, b"c" * 16])
        return lambda count: next(draws)

    first = await store(Blobs(tmp_path, repeating()), b"first")
    again = Blobs(tmp_path, repeating())
    async with again.writer() as second, Blobs(tmp_path, repeating()).writer() as third:
        await second.write(b"second")
        await third.write(b"third")
        stored = [first, await second.commit(), await third.commit()]
    assert [await load(again, blob.name) for blob in stored] == [b"first", b"second", b"third"]


async def test_a_randomness_that_is_none_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, lambda count: b"a" * count)
    await store(blobs, b"first")
    with pytest.raises(StoreError, match="randomness"):
        await store(blobs, b"second")


async def test_what_is_not_stored_has_no_size(blobs: Blobs) -> None:
    assert await blobs.size_bytes(NAME) is None
    with pytest.raises(StoreError):
        await blobs.open(NAME)


def _link(path: Path) -> None:
    target = path.parent.parent / "secret"
    target.write_text("secret")
    path.symlink_to(target)


@pytest.mark.parametrize("make", [_link, os.mkdir, os.mkfifo], ids=["symlink", "folder", "pipe"])
async def test_only_a_regular_file_is_a_blob(blobs: Blobs, make: Callable[[Path], None]) -> None:
    make(blobs.folder / NAME)
    assert await blobs.size_bytes(NAME) is None
    with pytest.raises(StoreError), trio.fail_after(5):
        await blobs.open(NAME)
    assert blobs.statistics().downloads_running == 0


async def test_statistics_follow_what_goes_on(blobs: Blobs) -> None:
    async with blobs.writer() as writer:
        assert now(blobs) == (0, 0, 1, 0)
        await writer.write(b"123")
        blob = await writer.commit()
    assert now(blobs) == (1, 3, 0, 0)
    with closing(await blobs.open(blob.name)):
        assert now(blobs) == (1, 3, 0, 1)
    assert now(blobs) == (1, 3, 0, 0)
    async with blobs.writer() as writer:
        await writer.write(b"123")
    seen = blobs.statistics()
    assert (seen.uploads_stored_total, seen.uploads_given_up_total, seen.downloads_total) == (1, 1, 1)
    assert seen.room_bytes > 0


def now(blobs: Blobs) -> tuple[int, int, int, int]:
    """What is stored, in files and bytes, and how many come and go."""
    seen = blobs.statistics()
    return seen.stored, seen.stored_bytes, seen.uploads_running, seen.downloads_running
