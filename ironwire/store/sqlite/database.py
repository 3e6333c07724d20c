"""The SQLite file as its store uses it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ironwire.errors import StoreError, StoreFull


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Raises:
    StoreError: instead of what SQLite raises, and with the name that SQLite has for it.
    """
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "unknown")
        kind = StoreFull if name == "SQLITE_FULL" else StoreError
        raise kind(f"{path}: {error} ({name})") from error
