"""Copies of an SQLite file: whole, consistent, and on the disk when they appear under their name."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path


def copy_file(
    source: sqlite3.Connection, target: Path, finish: Callable[[sqlite3.Connection], None] = lambda _: None
) -> None:
    """Copy what is committed when this begins, without the remains of what was erased. The target is whole or absent.

    Args:
        finish: changes the copy before it appears.

    Raises:
        sqlite3.Error, OSError: it cannot be made.
    """
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    try:
        source.execute("VACUUM INTO ?", (str(partial),))
        with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            finish(copy)
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
