"""A file to be sent, whatever it is read from.

Rule: the size that is announced is that of what was read. A regular file says its size. A pipe, a device and what the
kernel makes up (everything in /proc has size 0) are read to their end first, into a temporary file.
"""

import os
import stat
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

import trio

from ironwire.client.connection.exchange import PIECE_BYTES
from ironwire.client.errors import TransferFailed

_FLAGS = os.O_RDONLY | os.O_CLOEXEC

MOST_BYTES = 4 * 1024**3
"""A source without a size may also be one without an end."""


@asynccontextmanager
async def regular_file(source: Path | int) -> AsyncGenerator[Path]:
    """A regular file with the content of `source`: itself, or a copy for as long as the block lasts.

    Args:
        source: a path, or the descriptor of a file that is open, which is always copied.

    Raises:
        TransferFailed: it cannot be read, has no end, or is a stream that brought nothing: then whoever should have
            written to it failed.
    """
    if isinstance(source, Path) and await trio.to_thread.run_sync(_has_size, source):
        yield source
        return
    name = "standard input" if source == 0 else str(source)
    with _temporary_file(name) as copy:
        await _read_to_the_end(source, name, copy)
        if not copy.tell():
            raise TransferFailed(f"{name} is empty or closed: there is nothing to send")
        yield Path(copy.name)


def _has_size(path: Path) -> bool:
    """Whether what is at `path` says how much there is to read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return False
        if status.st_size:
            return True
        with path.open("rb") as file:
            return not file.read(1)
    except OSError as error:
        raise TransferFailed(f"cannot read {path}: {error.strerror}") from error


async def _read_to_the_end(source: Path | int, name: str, copy: IO[bytes]) -> None:
    """Up to the end, or to `MOST_BYTES`. Nobody knows when a pipe is opened or written at its other end: a thread that
    waits for it is left behind when its task is cancelled.
    """
    total = 0
    try:
        if isinstance(source, int):
            descriptor = os.dup(source)
        else:
            descriptor = await trio.to_thread.run_sync(os.open, source, _FLAGS, abandon_on_cancel=True)
        try:
            while piece := await trio.to_thread.run_sync(os.read, descriptor, PIECE_BYTES, abandon_on_cancel=True):
                total += len(piece)
                if total > MOST_BYTES:
                    raise TransferFailed(f"{name} does not end within {MOST_BYTES} bytes: nothing is sent")
                await trio.to_thread.run_sync(_append, copy, piece, name)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TransferFailed(f"cannot read {name}: {error.strerror}") from error


@contextmanager
def _temporary_file(name: str) -> Iterator[IO[bytes]]:
    try:
        copy = tempfile.NamedTemporaryFile(prefix="ironwire-", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise _no_room(name, error) from error
    with copy:
        yield copy


def _append(copy: IO[bytes], piece: bytes, name: str) -> None:
    view = memoryview(piece)
    try:
        while view:
            view = view[copy.write(view) :]
    except OSError as error:
        raise _no_room(name, error) from error


def _no_room(name: str, error: OSError) -> TransferFailed:
    return TransferFailed(f"{name} has no size and cannot be copied to {tempfile.gettempdir()}: {error.strerror}")
