"""Unix sockets beside the file that they are about: for one user of the machine, with a path of any length.

Nothing here decides who may listen: a lock does, which the caller holds.
"""

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

_BACKLOG = 16
_PATH_BYTES = 107
"""The longest path in a `sockaddr_un` on Linux, without the terminator."""

_CREDENTIALS = struct.Struct("3i")
"""`struct ucred`: the ids of process, user and group."""


def listen(path: Path) -> trio.SocketListener:
    """Listen at `path` for this user and root, in the place of a socket that a dead process has left.

    Raises:
        OSError: there can be no socket.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    listening = socket.socket(socket.AF_UNIX)
    old_mask = os.umask(0o177)
    try:
        with _short(path) as address:
            listening.bind(address)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(old_mask)
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


async def connect(path: Path) -> trio.SocketStream | None:
    """A stream to whoever listens at `path`; None if nobody does.

    Raises:
        OSError: this user may not.
    """
    try:
        with _short(path) as address:
            return await trio.open_unix_socket(address)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def is_same_user(stream: trio.SocketStream) -> bool:
    """Whether the process at the other end is this user's, or root's. A system that cannot say so is believed."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    found = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(found)
    return user in (0, os.geteuid())


async def read_line(stream: trio.SocketStream, most_bytes: int, line: bytes = b"") -> tuple[bytes, bytes]:
    """One line without its end, and what came after it; `line` is what came before. A line ends with the stream too."""
    while b"\n" not in line and len(line) <= most_bytes:
        chunk = await stream.receive_some()
        if not chunk:
            break
        line += chunk
    first, _, rest = line.partition(b"\n")
    return first[:most_bytes], rest


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A path that fits into an address; a long one leads through a descriptor of the folder.

    Raises:
        OSError: there is no such folder, or the path is too long and the system has no /proc.
    """
    whole = str(path.absolute())
    if len(os.fsencode(whole)) <= _PATH_BYTES:
        yield whole
        return
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)
