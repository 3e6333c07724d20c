"""Uploaded files: one folder, one file per blob, each under a random name that nobody chose.

The rule kept here: a public name means a whole file. An upload is written to `<uuid4>.part`, and becomes `<uuid4>.bin`
only after its bytes are on the disk. Whatever ends an upload before that, a crash of the machine included, leaves no
`.bin`. A blob never changes afterwards, so its name identifies its content.
"""

import errno
import hashlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import trio
from attrs import define, field, frozen

from ironwire.counting import figure
from ironwire.errors import StoreError, StoreFull
from ironwire.ids import BlobName
from ironwire.store.files.folder import BlobFolder

CHUNK_BYTES = 256 * 1024
"""Bytes to read with one hop to a thread."""

# A hop costs 50-180 us, and more where the cores are busy. Hashing and writing 30 MiB ran at 810 MiB/s inline in steps
# of 64 KiB, at 240 in a thread per 64 KiB and at 500 per 256 KiB. Inline was not taken: it needs the event loop for all
# of that time, and one write that waits for a busy disk would stop every session.
FLUSH_BYTES = 1024 * 1024
"""Bytes that are hashed and written with one hop to a thread; an upload holds as many in memory."""

# Threads of their own: where the disk is slow, files never take the threads that the mailboxes' commits wait for.
_THREADS = 8

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}

_P = ParamSpec("_P")
_T = TypeVar("_T")


@frozen
class StoredBlob:
    """A committed upload; `sha256_hex` is 64 lowercase digits."""

    name: BlobName
    size_bytes: int
    sha256_hex: str


@frozen
class BlobsStatistics:
    """The contents of the folder, transfers under way, and totals since the start."""

    stored: int = figure("Stored files.")
    stored_bytes: int = figure("Bytes of stored files.")
    uploads_running: int = figure("Uploads under way.")
    uploads_stored_total: int = figure("Uploads that were stored.")
    uploads_given_up_total: int = figure(
        "Uploads that ended without a file: too large, too slow, broken off, or no room."
    )
    downloads_running: int = figure("Downloads under way.")
    downloads_total: int = figure("Downloads that were begun.")
    room_bytes: int = figure("Bytes that the file system has left for this user; 0 where it cannot be asked.")


@define(eq=False)
class Blobs:
    """The blobs in one folder. Call `sweep` once before anything else; one process at a time may own a folder.

    Args:
        folder: made by `sweep` if it is missing.
        random_bytes: gives as many random bytes as it is asked for; the names are made of them.
        now_ms: Unix milliseconds. What the file system says about a blob's age is this clock's word.
        quota_bytes: what all blobs together may take; None is as much as the disk holds.
    """

    folder: Path
    random_bytes: Callable[[int], bytes] = os.urandom
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    quota_bytes: int | None = None
    _files: BlobFolder = field(init=False)
    _threads: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(_THREADS), init=False)
    _aging: trio.Lock = field(factory=trio.Lock, init=False)
    """Nothing becomes younger between the look at its age and its removal."""
    _stored: int = field(default=0, init=False)
    _stored_bytes: int = field(default=0, init=False)
    _arriving_bytes: int = field(default=0, init=False)
    """Bytes of uploads that are under way."""
    _uploads_running: int = field(default=0, init=False)
    _downloads_running: int = field(default=0, init=False)
    _uploads_stored: int = field(default=0, init=False)
    _uploads_given_up: int = field(default=0, init=False)
    _downloads: int = field(default=0, init=False)

    @_files.default
    def _folder_of_files(self) -> BlobFolder:
        return BlobFolder(self.folder, self.random_bytes)

    async def sweep(self) -> int:
        """Remove what crashed uploads left, and count what is stored; the number of leftovers removed.

        Raises:
            StoreError: the folder cannot be made, listed or written.
        """
        leftovers, self._stored, self._stored_bytes = await self._in_thread(self._files.sweep)
        return leftovers

    async def expire(self, before_ms: int) -> int:
        """Remove the blobs that were stored before that time; returns how many. A reader may finish.

        Raises:
            StoreError: the folder cannot be listed or written.
        """
        async with self._aging:
            removed, removed_bytes = await self._in_thread(self._files.expire, before_ms)
        self._stored -= removed
        self._stored_bytes -= removed_bytes
        return removed

    async def keep(self, name: BlobName, stored_ms: int) -> bool:
        """Let the blob expire as if it had been stored at that time, or when it does by itself if that is later. False:
        there is none of that name.

        Raises:
            StoreError: the folder cannot be written.
        """
        async with self._aging:
            return await self._in_thread(self._files.keep, name, stored_ms)

    def has_room_for(self, more_bytes: int) -> bool:
        """Whether the quota has room for so many bytes, besides uploads under way."""
        taken = self._stored_bytes + self._arriving_bytes
        return self.quota_bytes is None or taken + more_bytes <= self.quota_bytes

    @asynccontextmanager
    async def writer(self) -> AsyncIterator["BlobWriter"]:
        """A new blob. Leaving the block without a `commit` that returned removes every trace of it.

        Raises:
            StoreFull: no room left. StoreError: any other failure of the disk.
        """
        name, file = await self._in_thread(self._files.reserve)
        self._uploads_running += 1
        writer = BlobWriter(self, name, file)
        try:
            yield writer
        finally:
            self._uploads_running -= 1
            self._uploads_given_up += not writer.is_stored
            self._arriving_bytes -= writer.size_bytes
            # Inline, as cancelled tasks come here too: microseconds after a commit, milliseconds for what was given up.
            os.close(file)
            self._files.discard(name)

    async def size_bytes(self, name: BlobName) -> int | None:
        """The size of a stored blob; `None` where there is none of that name."""
        return await self._in_thread(self._files.size_bytes, name)

    async def open(self, name: BlobName) -> "BlobReader":
        """A stored blob, to be read, and to be closed by the caller.

        Raises:
            StoreError: it cannot be read, or is not stored: ask `size_bytes` first.
        """
        file = await self._in_thread(self._files.open, name)
        self._downloads_running += 1
        self._downloads += 1
        return BlobReader(self, file)

    def statistics(self) -> BlobsStatistics:
        return BlobsStatistics(
            stored=self._stored,
            stored_bytes=self._stored_bytes,
            uploads_running=self._uploads_running,
            uploads_stored_total=self._uploads_stored,
            uploads_given_up_total=self._uploads_given_up,
            downloads_running=self._downloads_running,
            downloads_total=self._downloads,
            room_bytes=self._room_bytes(),
        )

    def _room_bytes(self) -> int:
        try:
            status = os.statvfs(self.folder)
        except OSError:
            return 0
        return status.f_bavail * status.f_frsize

    async def _in_thread(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a function in a thread. It is never abandoned, so that no result is lost to a cancellation."""
        try:
            return await trio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._threads)
        except OSError as error:
            if error.errno in _FULL_DISK:
                raise StoreFull(f"no room left for files in {self.folder}: free some, or enlarge the disk") from error
            raise StoreError(f"the folder of files failed, see to its disk and permissions: {error}") from error


@define(eq=False)
class BlobWriter:
    """One upload. Made by `Blobs.writer`."""

    _blobs: Blobs
    _name: BlobName
    _file: int
    is_stored: bool = field(default=False, init=False)
    _sha256: "hashlib._Hash" = field(factory=hashlib.sha256, init=False)
    _written_bytes: int = field(default=0, init=False)
    _pending: deque[bytes] = field(factory=deque, init=False)
    _pending_bytes: int = field(default=0, init=False)

    @property
    def size_bytes(self) -> int:
        """Bytes that were given to `write` so far."""
        return self._written_bytes + self._pending_bytes

    async def write(self, chunk: bytes) -> None:
        """Append; small chunks wait in memory until there is enough for one hop to a thread.

        Raises:
            StoreFull, StoreError: as `Blobs.writer` says.
        """
        if not self._blobs.has_room_for(len(chunk)):
            raise StoreFull(f"the files in {self._blobs.folder} have reached upload.quota_bytes")
        self._pending.append(chunk)
        self._pending_bytes += len(chunk)
        self._blobs._arriving_bytes += len(chunk)
        if self._pending_bytes >= FLUSH_BYTES:
            await self._blobs._in_thread(self._flush)
        else:
            await trio.lowlevel.checkpoint()

    async def commit(self) -> StoredBlob:
        """Give the blob its public name. When this returns it outlives a crash of the machine.

        Raises:
            StoreFull, StoreError: as `Blobs.writer` says; there is no blob.
        """
        await self._blobs._in_thread(self._flush_and_publish, self._blobs.now_ms())
        self.is_stored = True
        self._blobs._uploads_stored += 1
        self._blobs._stored += 1
        self._blobs._stored_bytes += self._written_bytes
        return StoredBlob(self._name, self._written_bytes, self._sha256.hexdigest())

    def _flush_and_publish(self, stored_ms: int) -> None:
        self._flush()
        self._blobs._files.publish(self._name, self._file, stored_ms)

    def _flush(self) -> None:
        # At a known position, and counted and hashed once written: a flush that failed leaves nothing wrong behind.
        flushed_from = self._written_bytes
        while self._pending:
            chunk = self._pending[0]
            done = 0
            while done < len(chunk):
                done += os.pwrite(self._file, memoryview(chunk)[done:], self._written_bytes + done)
            self._sha256.update(chunk)
            self._written_bytes += len(chunk)
            self._pending_bytes -= len(chunk)
            self._pending.popleft()
        _start_writing_back(self._file, flushed_from, self._written_bytes - flushed_from)


@define(eq=False)
class BlobReader:
    """A stored blob, open for reading. Made by `Blobs.open`."""

    _blobs: Blobs
    _file: int

    async def read(self, offset_bytes: int, most_bytes: int) -> bytes:
        """Up to `most_bytes` from `offset_bytes`: ask for `CHUNK_BYTES` or more. Empty at the end of the blob.

        Raises:
            StoreError: the disk failed.
        """
        return await self._blobs._in_thread(os.pread, self._file, most_bytes, offset_bytes)

    def close(self) -> None:
        """Call it once."""
        os.close(self._file)
        self._blobs._downloads_running -= 1


def _start_writing_back(file: int, offset_bytes: int, size_bytes: int) -> None:
    """Let the disk begin with what was just written, so that less is left for the fsync at the end, which waits for it.

    Linux starts to write what is dirty when it is told that it will not be needed, and waits for nothing; what is on
    its way to the disk stays in memory for the first who download it. That is advice: correctness is fsync's.
    """
    if hasattr(os, "posix_fadvise"):  # macOS has none
        os.posix_fadvise(file, offset_bytes, size_bytes, os.POSIX_FADV_DONTNEED)
