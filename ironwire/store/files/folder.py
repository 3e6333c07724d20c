"""The folder of blobs, as the file system has it.

Everything here blocks on the disk: `blobs.py` calls it in threads.
"""

import errno
import os
import stat
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from ironwire.errors import InvalidId, StoreError
from ironwire.ids import BlobName, parse_blob_name

_NAMES_TRIED = 1_000

_PARTIAL_SUFFIX = ".part"


@frozen
class BlobFolder:
    """`random_bytes` gives as many random bytes as it is asked for; the names are made of them."""

    path: Path
    _random_bytes: Callable[[int], bytes]

    def sweep(self) -> tuple[int, int, int]:
        """Remove what crashed uploads left; returns how many leftovers, how many blobs there are, and their bytes."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        leftovers = blobs = stored_bytes = 0
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.endswith(_PARTIAL_SUFFIX):
                    os.unlink(entry.path)
                    leftovers += 1
                elif _is_blob(entry):
                    blobs += 1
                    stored_bytes += entry.stat(follow_symlinks=False).st_size
        return leftovers, blobs, stored_bytes

    def reserve(self) -> tuple[BlobName, int]:
        """A name that is free, held by its partial file until that is renamed or removed; and the open partial file."""
        for _ in range(_NAMES_TRIED):  # a second turn means a randomness that repeats, as a seeded one after a restart
            name = parse_blob_name(f"{uuid.UUID(bytes=self._random_bytes(16), version=4)}.bin")
            partial = self._partial_path(name)
            try:
                file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            if not os.path.lexists(self.path / name):
                return name, file
            os.close(file)
            partial.unlink()
        raise StoreError("no name for the file is free: the source of randomness repeats itself")

    def expire(self, before_ms: int) -> tuple[int, int]:
        """Remove the blobs that were stored before that time; returns how many they were, and their bytes."""
        removed = removed_bytes = 0
        with os.scandir(self.path) as entries:
            for entry in entries:
                if not _is_blob(entry):
                    continue
                status = entry.stat(follow_symlinks=False)
                if status.st_mtime_ns < before_ms * 1_000_000:
                    os.unlink(entry.path)
                    removed += 1
                    removed_bytes += status.st_size
        return removed, removed_bytes

    def keep(self, name: BlobName, stored_ms: int) -> bool:
        """Let the blob count as stored at that time, which may be to come, unless it counts as stored later already.
        False: there is none of that name.
        """
        try:
            file = self.open(name)
        except FileNotFoundError:
            return False
        try:
            if os.fstat(file).st_mtime_ns < stored_ms * 1_000_000:
                os.utime(file, ns=(stored_ms * 1_000_000, stored_ms * 1_000_000))
                os.fsync(file)
        finally:
            os.close(file)
        return True

    def publish(self, name: BlobName, file: int, stored_ms: int) -> None:
        """Give the partial file its public name, once its bytes are on the disk."""
        os.utime(file, ns=(stored_ms * 1_000_000, stored_ms * 1_000_000))
        os.fsync(file)
        os.rename(self._partial_path(name), self.path / name)
        try:
            self._sync_folder()
        except OSError:
            (self.path / name).unlink()
            raise

    def _sync_folder(self) -> None:
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def size_bytes(self, name: BlobName) -> int | None:
        """None where there is no blob of that name."""
        try:
            status = os.lstat(self.path / name)
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def open(self, name: BlobName) -> int:
        # Not blocking, because a pipe that somebody put there would wait for its writer.
        file = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileNotFoundError(errno.ENOENT, "not a regular file", name)
        return file

    def discard(self, name: BlobName) -> None:
        """Remove the partial file. What cannot be removed is left to the next sweep; a commit has renamed it."""
        with suppress(OSError):
            self._partial_path(name).unlink()

    def _partial_path(self, name: BlobName) -> Path:
        return (self.path / name).with_suffix(_PARTIAL_SUFFIX)


def _is_blob(entry: os.DirEntry[str]) -> bool:
    try:
        parse_blob_name(entry.name)
    except InvalidId:
        return False
    return entry.is_file(follow_symlinks=False)
