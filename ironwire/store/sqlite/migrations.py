"""Bring a database file to the newest schema: numbered SQL files, each applied once, in one transaction.

Rule: a file of an older schema is copied before it is changed, and one of a newer schema is not touched. The number
of the last SQL file that was applied is kept in the database itself (`PRAGMA user_version`).
"""

import re
import sqlite3
from importlib.resources import files
from pathlib import Path

from ironwire.errors import StoreError
from ironwire.store.contract.faults import FaultPoint, reach
from ironwire.store.sqlite.copy import copy_file
from ironwire.store.sqlite.memtable import message_key

_NUMBERED = re.compile(r"(\d{4})_\w+\.sql")


def load_migrations(package: str = "ironwire.store.sqlite") -> dict[int, str]:
    """SQL by schema number, from the package's folder `schema/`, in order."""
    found = {
        int(match[1]): resource.read_text(encoding="utf-8")
        for resource in files(package).joinpath("schema").iterdir()
        if (match := _NUMBERED.fullmatch(resource.name))
    }
    return dict(sorted(found.items()))


def version_of(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(database: sqlite3.Connection, path: Path, migrations: dict[int, str]) -> Path | None:
    """Apply what is missing, and return where the copy of the old file is, if one had to be made.

    Raises:
        StoreError: the file was written by a newer version of IronWire.
        sqlite3.Error: a migration failed. The database is as it was before that migration.
    """
    current, newest = version_of(database), max(migrations)
    if current > newest:
        raise StoreError(
            f"{path} has schema {current}, and this version of IronWire knows {newest}: install the newer one"
        )
    backup = None
    if 0 < current < newest:
        backup = path.with_name(f"{path.name}.schema-{current}.backup")
        reach(FaultPoint.BEFORE_OLD_FILE_COPIED)
        copy_file(database, backup)
        reach(FaultPoint.AFTER_OLD_FILE_COPIED)
    upgrade(database, migrations)
    return backup


def upgrade(database: sqlite3.Connection, migrations: dict[int, str]) -> None:
    """Apply what is missing, to a file of which there is another copy.

    Raises:
        sqlite3.Error: a migration failed. The database is as it was before that migration.
    """
    current = version_of(database)
    database.create_function("message_key", 3, message_key, deterministic=True)
    for number, sql in migrations.items():
        if number > current:
            _apply(database, number, sql)


def _apply(database: sqlite3.Connection, number: int, sql: str) -> None:
    """Another program may do it at the same moment: one that reads the history of a device that starts, for example."""

    def need_older(version: int) -> None:
        if version >= number:
            raise ValueError(f"the file has schema {version} already")

    database.create_function("need_older", 1, need_older)
    first = "BEGIN IMMEDIATE;\nSELECT need_older(user_version) FROM pragma_user_version;"
    database.set_trace_callback(lambda _: reach(FaultPoint.MIGRATING))
    try:
        database.executescript(f"{first}\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")
    except Exception:
        database.rollback()  # the version that this one has set is not that of the file
        if version_of(database) < number:
            raise
    finally:
        database.set_trace_callback(None)
        database.rollback()  # of what was interrupted; where there is nothing to undo, this does nothing
