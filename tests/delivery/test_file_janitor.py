"""Files expire, in their time and not before; the quota counts what is there and what is coming."""

from pathlib import Path

import pytest
import trio
from attrs import define
from trio.testing import MockClock

from ironwire.delivery.janitor import DAY_MS, EXPIRE_SECONDS, FileJanitor
from ironwire.errors import StoreFull
from ironwire.ids import BlobName
from ironwire.store.files.blobs import Blobs


@define
class Clock:
    now_ms: int = 1_790_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def blobs(tmp_path: Path, clock: Clock) -> Blobs:
    blobs = Blobs(tmp_path / "media", now_ms=clock, quota_bytes=10)
    await blobs.sweep()
    return blobs


async def store(blobs: Blobs, content: bytes) -> BlobName:
    async with blobs.writer() as writer:
        await writer.write(content)
        return (await writer.commit()).name


async def test_a_file_goes_when_it_has_expired_and_makes_room(blobs: Blobs, clock: Clock) -> None:
    janitor = FileJanitor(blobs, clock, expire_days=2)
    old = await store(blobs, b"123456")
    expires_ms = janitor.expires_ms()
    clock.now_ms += DAY_MS
    young = await store(blobs, b"1234")
    clock.now_ms = expires_ms
    assert await janitor.expire() == 0
    assert not blobs.has_room_for(1)
    clock.now_ms += 1
    assert await janitor.expire() == 1
    assert await blobs.size_bytes(old) is None
    assert await blobs.size_bytes(young) == 4
    assert blobs.has_room_for(6)
    assert (blobs.statistics().stored, blobs.statistics().stored_bytes) == (1, 4)


async def test_a_file_that_is_kept_goes_later_and_no_file_goes_earlier(blobs: Blobs, clock: Clock) -> None:
    janitor = FileJanitor(blobs, clock, expire_days=2)
    kept, other = await store(blobs, b"123"), await store(blobs, b"456")
    until_ms = clock.now_ms + 5 * DAY_MS
    assert await janitor.keep(kept, until_ms)
    assert await janitor.keep(other, clock.now_ms + DAY_MS)
    assert await janitor.keep(kept, until_ms - DAY_MS)
    clock.now_ms += 2 * DAY_MS
    assert await janitor.expire() == 0
    clock.now_ms = until_ms
    assert await janitor.expire() == 1
    assert await blobs.size_bytes(other) is None
    clock.now_ms += 1
    assert await janitor.expire() == 1
    assert not await janitor.keep(kept, until_ms + DAY_MS)
    assert await blobs.size_bytes(kept) is None


async def test_nothing_else_in_the_folder_expires(blobs: Blobs, clock: Clock) -> None:
    (blobs.folder / "notes.txt").write_text("somebody else's")
    async with blobs.writer() as writer:
        await writer.write(b"under way")
        clock.now_ms += 10 * 365 * DAY_MS
        assert await FileJanitor(blobs, clock, expire_days=1).expire() == 0
        assert len(list(blobs.folder.iterdir())) == 2


async def test_it_looks_every_hour(blobs: Blobs, clock: Clock, mock_clock: MockClock, nursery: trio.Nursery) -> None:
    name = await store(blobs, b"123456")
    nursery.start_soon(FileJanitor(blobs, clock, expire_days=1).run)
    await trio.testing.wait_all_tasks_blocked()
    clock.now_ms += 2 * DAY_MS
    mock_clock.jump(EXPIRE_SECONDS)
    while True:
        if await blobs.size_bytes(name) is None:
            break
        await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()


async def test_uploads_under_way_count(blobs: Blobs) -> None:
    async with blobs.writer() as first, blobs.writer() as second:
        await first.write(b"123456")
        assert not blobs.has_room_for(5)
        with pytest.raises(StoreFull, match="quota_bytes"):
            await second.write(b"12345")
        await second.write(b"1234")
    assert blobs.has_room_for(10)
