"""A copy of the SQLite file while it is in use: whole, consistent, and with an empty journal: its tables say all."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from ironwire.store.contract.records import Quota
from ironwire.store.sqlite.writer import Writer


def copy_database(source: Path, target: Path, quota: Quota) -> None:
    """A copy of what is committed when it begins, without what was erased: whole and on the disk, or absent.

    Raises:
        sqlite3.Error, OSError, StoreError: it cannot be made.
    """
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("VACUUM INTO ?", (str(partial),))
        with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            copy.execute("PRAGMA secure_delete = ON")
            writer = Writer(copy, copy, quota)
            copy.execute("BEGIN IMMEDIATE")
            writer.checkpoint()
            copy.execute("COMMIT")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
