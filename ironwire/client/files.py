"""Files that appear under their name whole or not at all, and in the place of another only where that is meant.

The key store and downloads write through this one door. Everything here blocks on the disk: async callers use a
thread.
"""

import os
import secrets
from pathlib import Path
from typing import Self

from attrs import define


@define
class NewFile:
    """A file that is written next to `path` under a hidden name until `keep`. Leaving its block tidies up."""

    path: Path
    _temporary: Path
    _descriptor: int

    @classmethod
    def create(cls, path: Path, mode: int) -> Self:
        """Begin. `mode` are the permissions of the file from its first moment.

        Raises:
            FileExistsError: there is something at `path`.
            OSError: the folder cannot be written.
        """
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists already")
        temporary = path.with_name(f".{secrets.token_hex(8)}.part")
        return cls(path, temporary, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))

    def write(self, data: bytes) -> None:
        """Append."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def keep(self) -> None:
        """On disk under its own name once this returns.

        Raises:
            FileExistsError: something has come to be at `path` meanwhile; it is untouched.
        """
        os.fsync(self._descriptor)
        _rename_to_nothing(self._temporary, self.path)
        sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove whatever `keep` has not made to stay."""
        os.close(self._descriptor)
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


def _rename_to_nothing(source: Path, target: Path) -> None:
    """Rename, but never over something: a hard link fails where there is a file, `rename` would replace it."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # exFAT and some network shares have no hard links; there the check and the rename are two steps
        if os.path.lexists(target):
            raise FileExistsError(f"{target} exists already") from None
        source.rename(target)


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Put a file in the place of another, or of none: on disk once this returns, and whole at any time.

    Raises:
        OSError: the folder cannot be written.
    """
    with NewFile.create(path.with_name(f".{secrets.token_hex(8)}.new"), mode) as file:
        file.write(data)
        file.keep()
        file.path.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
