"""The lock that keeps two processes from one data folder, be they servers or commands that work on the files."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from ironwire.errors import StoreError


def lock_file(path: Path) -> int:
    """Hold the lock beside the database for as long as the process lives.

    Raises:
        StoreError: another process holds it; the message names the process where this one may know.
        OSError: the folder cannot be written.
    """
    handle = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = holder_of(handle)
        os.close(handle)
        process = "" if holder is None else f" (pid {holder})"
        raise StoreError(
            f"{path} is in use by another IronWire process{process}: run one worker, or give each its own data"
        ) from error
    return handle


def holder_of(handle: int) -> int | None:
    """The process that holds the lock on this open file; None if there is none that can be seen from here.

    From /proc/locks, `1: FLOCK ADVISORY WRITE <pid> <device>:<inode> 0 EOF`; a pid of another namespace is 0.
    """
    inode = os.fstat(handle).st_ino
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, process, place, *_ = line.split()
            if kind == "FLOCK" and place.rpartition(":")[2] == str(inode) and int(process) > 0:
                return int(process)
    return None
