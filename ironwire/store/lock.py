"""The lock that keeps two processes from one data folder, be they servers or commands that work on the files."""

import fcntl
import os
from pathlib import Path

from ironwire.errors import StoreError


def lock_file(path: Path) -> int:
    """Hold the lock beside the database for as long as the process lives.

    Raises:
        StoreError: another process holds it.
        OSError: the folder cannot be written.
    """
    handle = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise StoreError(
            f"{path} is in use by another IronWire process: run one worker, or give each its own data"
        ) from error
    return handle
