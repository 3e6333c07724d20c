"""Backups of a data folder: made, judged and put back. Everything here blocks; nothing of it needs the server.

    <backup>/ironwire.db    a consistent copy of the database
    <backup>/media/         every file that was uploaded before that copy was finished, linked or copied
    <backup>/backup.json    what is in it: so one that lost something on its way is told from a whole one

Rules: a backup appears under its name when it is whole and on the disk. Putting one back overwrites nothing, and gives
every mailbox a new epoch with a numbering that begins at 1: numbers that were given out after the backup was made come
again, and must not mean another envelope under the epoch that devices know (docs/protocol.md, section 5). A new epoch
also makes devices ask how their encrypted conversations stand, which are as old as the backup (section 10.7).
"""

import json
import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import attrs
from attrs import frozen

from ironwire.errors import BackupError, InvalidId
from ironwire.ids import parse_blob_name
from ironwire.store.lock import lock_file
from ironwire.store.sqlite.migrations import load_migrations, upgrade
from ironwire.store.survey import DATABASE, MEDIA

MANIFEST = "backup.json"
RESTORING = "ironwire.db.restoring"
"""The database of a restore that is under way, or was interrupted: then it may begin anew."""

_LAST_EPOCH = 2**52
"""A random number up to here is no epoch that was ever used, whatever became of clocks and counters; and two restores
leave room enough inside ±2^53.
"""

_CONTENTS = """
    SELECT (SELECT count(*) FROM mailbox), (SELECT count(*) FROM envelope), (SELECT count(*) FROM entry),
        (SELECT user_version FROM pragma_user_version)"""
_CONTRADICTIONS: Mapping[str, str] = {
    "a mailbox does not hold what it counts": """
        SELECT count(*) FROM mailbox LEFT JOIN (SELECT mailbox AS id, count(*) AS places FROM entry GROUP BY mailbox)
        USING (id) WHERE waiting <> coalesce(places, 0)""",
    "an entry stands in no mailbox": "SELECT count(*) FROM entry WHERE mailbox NOT IN (SELECT id FROM mailbox)",
    "an entry has a number that was not given out": """
        SELECT count(*) FROM entry JOIN mailbox ON mailbox.id = mailbox WHERE seq <= acked OR seq > tail""",
    "an envelope is not owed as often as it waits": """
        SELECT count(*) FROM envelope LEFT JOIN (SELECT envelope AS id, count(*) AS places FROM entry GROUP BY envelope)
        USING (id) WHERE owed <> coalesce(places, 0)""",
    "an envelope that waits has no body": "SELECT count(*) FROM envelope WHERE owed > 0 AND payload IS NULL",
}
"""Contradictions in a database, each with the query that counts the rows that have it."""

_RENUMBER_ENTRIES = """
    UPDATE entry SET (mailbox, seq) =
        (SELECT mailbox.id + :leap, entry.seq - mailbox.acked FROM mailbox WHERE mailbox.id = entry.mailbox)"""
_RENUMBER_LOST_CHANGES = """
    UPDATE lost_change SET (mailbox, first, last) =
        (SELECT mailbox.id + :leap, max(lost_change.first - mailbox.acked, 1), lost_change.last - mailbox.acked
         FROM mailbox WHERE mailbox.id = lost_change.mailbox)"""
_RENUMBER_MAILBOXES = """
    UPDATE mailbox
    SET id = id + :leap, tail = tail - acked, expired = max(expired - acked, 0), acked = 0, sent = 0, refused = '[]'"""
_RENUMBER_LATER = "UPDATE sqlite_sequence SET seq = seq + :leap WHERE name = 'mailbox'"
_COUNT_MAILBOXES_EVER = """
    INSERT INTO sqlite_sequence (name, seq)
    SELECT 'mailbox', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'mailbox')"""
_TAKE_PACKAGES = "UPDATE key_package SET is_taken = 1, data = X'' WHERE is_last_resort = 0 AND is_taken = 0"
"""Key packages may have been handed out since the backup was made: who joins by one a second time cannot."""
_SELECT_LAST = "SELECT seq FROM sqlite_sequence WHERE name = 'mailbox'"


@frozen
class Contents:
    """The contents of a backup. `waiting` counts entries in mailboxes, `envelopes` also those known by id alone."""

    schema: int
    mailboxes: int
    envelopes: int
    waiting: int
    blobs: int
    blob_bytes: int


def make_backup(data: Path, copied: Path, target: Path) -> Contents:
    """Put a backup of the folder `data` at `target`, which must not exist or be an empty folder.

    Args:
        copied: a consistent copy of the database, made a moment ago. It is moved into the backup.

    Raises:
        BackupError: it cannot be made, or what was copied is not whole.
    """
    with _as_backup_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            shutil.move(copied, partial / DATABASE)
            _sync(partial / DATABASE)
            _take_blobs(data / MEDIA, partial / MEDIA)
            contents = _examine(partial)
            (partial / MANIFEST).touch(mode=0o600)
            (partial / MANIFEST).write_text(json.dumps(attrs.asdict(contents)) + "\n")
            _sync(partial / MANIFEST)
            _sync(partial)
            partial.rename(target)
            _sync(target.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return contents


def check_target(target: Path) -> None:
    """Raises:
    BackupError: something stands there that a backup would replace.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise BackupError(f"{target} is there already: name a folder that is not")


def examine_backup(backup: Path) -> Contents:
    """The contents of a backup, after a check of all of it.

    Raises:
        BackupError: it is none, was damaged, or is not whole.
    """
    with _as_backup_error(backup):
        try:
            promised = Contents(**json.loads((backup / MANIFEST).read_text()))
        except (FileNotFoundError, NotADirectoryError):
            raise BackupError(f"{backup} is no backup: it has no {MANIFEST}") from None
        except (ValueError, TypeError):
            raise BackupError(f"{backup / MANIFEST} was not written by `ironwire backup`") from None
        found = _examine(backup)
    if found != promised:
        raise BackupError(f"{backup} is not whole: it holds {found}, and should hold {promised}")
    return found


def restore_backup(backup: Path, data: Path) -> Contents:
    """Put a backup into `data`, which must hold neither a database nor files. Interrupted, it can be begun again.

    Raises:
        BackupError: the backup is not whole, the folder is not empty, or it cannot be written.
        StoreError: a server has the folder.
    """
    contents = examine_backup(backup)
    migrations = load_migrations()
    newest = max(migrations)
    if contents.schema > newest:
        raise BackupError(
            f"{backup} has schema {contents.schema}, and this version knows {newest}: install the newer one"
        )
    with _as_backup_error(data):
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = lock_file(data / DATABASE)
        try:
            _demand_empty(data)
            restoring = data / RESTORING
            restoring.unlink(missing_ok=True)
            restoring.touch(mode=0o600)
            shutil.copyfile(backup / DATABASE, restoring)
            _take_blobs(backup / MEDIA, data / MEDIA)
            with closing(sqlite3.connect(restoring, isolation_level=None)) as database:
                upgrade(database, migrations)
                _begin_new_epochs(database)
            _sync(restoring)
            _give_to_owner(data)
            restoring.rename(data / DATABASE)
            _sync(data)
        finally:
            os.close(lock)
    return contents


def _examine(folder: Path) -> Contents:
    """The contents of the folder, if it is sound."""
    path = (folder / DATABASE).absolute()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        fault = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise BackupError(f"{path} is damaged: {fault}")
        for contradiction, count in _CONTRADICTIONS.items():
            if database.execute(count).fetchone()[0]:
                raise BackupError(f"{path} contradicts itself: {contradiction}")
        mailboxes, envelopes, waiting, schema = database.execute(_CONTENTS).fetchone()
    sizes = [blob.stat().st_size for blob in _blobs_in(folder / MEDIA)]
    return Contents(schema, mailboxes, envelopes, waiting, len(sizes), sum(sizes))


def _begin_new_epochs(database: sqlite3.Connection) -> None:
    """Another id for every mailbox, because that is its epoch, and for every one that is made later; and the waiting
    envelopes of each numbered from 1.
    """
    run = database.execute
    run("BEGIN IMMEDIATE")
    run(_COUNT_MAILBOXES_EVER)
    (last,) = run(_SELECT_LAST).fetchone()
    (lowest,) = run("SELECT coalesce(min(id), 1) FROM mailbox").fetchone()
    leap = 0
    while abs(leap) <= last - lowest + 1:
        leap = secrets.randbelow(_LAST_EPOCH) + 1 - lowest
    for statement in (_RENUMBER_ENTRIES, _RENUMBER_LOST_CHANGES, _RENUMBER_MAILBOXES, _RENUMBER_LATER):
        run(statement, {"leap": leap})
    run(_TAKE_PACKAGES)
    run("COMMIT")


def _demand_empty(data: Path) -> None:
    if (data / DATABASE).exists():
        raise BackupError(f"{data} has a database already: move it away, or choose another folder with --data")
    if not (data / RESTORING).exists() and any(_blobs_in(data / MEDIA)):
        raise BackupError(f"{data / MEDIA} has files already: move them away, or choose another folder with --data")


def _take_blobs(source: Path, target: Path) -> None:
    """Link or copy every blob; a blob never changes, so a link is as good. What is there already was taken before."""
    target.mkdir(mode=0o700, exist_ok=True)
    for blob in _blobs_in(source):
        taken = target / blob.name
        try:
            os.link(blob, taken)
        except (FileExistsError, FileNotFoundError):
            continue  # taken before the interruption; or expired a moment ago
        except OSError:  # another file system, or one without links
            partial = taken.with_suffix(".part")
            partial.touch(mode=0o600)
            shutil.copyfile(blob, partial)
            times = blob.stat()
            os.utime(partial, ns=(times.st_atime_ns, times.st_mtime_ns))  # by which it expires
            _sync(partial)
            partial.rename(taken)
    _sync(target)


def _blobs_in(media: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError), os.scandir(media) as entries:
        for entry in entries:
            try:
                parse_blob_name(entry.name)
            except InvalidId:
                continue
            yield media / entry.name


def _give_to_owner(data: Path) -> None:
    """Give files that root has restored to the owner of the folder, so that the server can write them."""
    if os.geteuid() != 0:
        return
    owner = data.stat()
    for path in (*data.iterdir(), *(data / MEDIA).iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _as_backup_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"{path}: {error}") from error
