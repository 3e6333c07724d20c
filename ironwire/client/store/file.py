"""A device's store in one encrypted SQLite file (`sealed.py`). Everything here blocks; `store.py` is for async callers.

A batch that somebody else will be told of is on the disk when `apply` returns. The rest - a message was answered for, a
delivery is finished - outlives the process at once, and a loss of power with the next such batch: what is lost is
learned again, as an answer marked duplicate or a delivery that is handed out once more.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from attrs import define, field
from sqlcipher3 import dbapi2

from ironwire.client.errors import DeviceInUse, LocalStoreError
from ironwire.client.files import sync_folder
from ironwire.client.store import amendments, history_parts, records, secrets
from ironwire.client.store.arrivals import Arrivals, insert_entry
from ironwire.client.store.conversations import conversations, group_names, history, own_message
from ironwire.client.store.sealed import StoreKey, open_sealed
from ironwire.e2e.bodies import AnyBody
from ironwire.e2e.content import Content, decode_content, encode_content
from ironwire.e2e.conversations.effects import Recalled
from ironwire.errors import StoreError
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId
from ironwire.store.sqlite.migrations import load_migrations, migrate
from ironwire.wire import messages as msg
from ironwire.wire.codec import decode_server, encode

_PROMISES = (
    records.Begin
    | records.Arrive
    | records.Absorb
    | records.Queue
    | records.GiveNumber
    | records.NoteMark
    | records.ForgetSecrets
    | records.KeepGift
)
_PID_BYTES = 20
_FILE_MODE = 0o600
_FOLDER_MODE = 0o700

_BEGIN = "UPDATE mailbox SET epoch = ?, seq = 0 WHERE epoch <> ? OR seq > ?"
_CLEAR_NUMBERS = """
    UPDATE entry SET n = NULL
    WHERE n IS NOT NULL AND state = 'queued' AND EXISTS (SELECT 1 FROM mailbox WHERE epoch <> ? OR highest < ?)"""
_BEGIN_NUMBERS = "UPDATE mailbox SET highest = ? WHERE epoch <> ? OR highest < ?"
_TAKE_NUMBER = "UPDATE entry SET n = NULL WHERE n = ? AND state = 'queued'"
_GIVE_NUMBER = """
    UPDATE entry SET n = ?, encrypted = ? WHERE sender = ? AND message_id = ? AND device = ? AND state = 'queued'"""
_VOID_NUMBER = "UPDATE entry SET n = NULL WHERE sender = ? AND message_id = ? AND device = ? AND state = 'queued'"
_NOTE_HIGHEST = "UPDATE mailbox SET highest = max(highest, ?)"
_NUMBERED = """
    WITH numbered AS (SELECT number, peer FROM entry WHERE n IS NOT NULL AND state = 'queued')
    SELECT number, message_id, frame, content, n, encrypted FROM entry
    WHERE state = 'queued' AND number <= (SELECT max(number) FROM numbered)
        AND (n IS NOT NULL OR peer IN (SELECT peer FROM numbered))
    ORDER BY number"""
_MARK_READ = "UPDATE conversation SET read_upto = max(read_upto, min(?, newest)) WHERE peer = ?"
_UNSEEN = "SELECT number, frame, content FROM entry WHERE state = 'unseen' AND number > ? ORDER BY number LIMIT ?"
_QUEUED = """
    SELECT number, message_id, frame, content FROM entry
    WHERE state = 'queued' AND number > ? AND coalesce(peer, '') NOT IN ({})
    ORDER BY number LIMIT ?"""
_SENT = """
    SELECT message_id, state, ts, reason FROM entry
    WHERE sender = ? AND device = ? AND state IN ('queued', 'accepted', 'refused')
        AND message_id IN (SELECT value FROM json_each(?))"""
_COUNT_QUEUED = "SELECT count(*) FROM entry WHERE state = 'queued'"

# Receipts and gaps belong to no conversation: once they have done their work they are erased.
_SETTLE = """
    UPDATE entry SET state = ?, ts = coalesce(?, ts), reason = ?, encrypted = ?
    WHERE sender = ? AND message_id = ? AND device = ? AND state = 'queued'"""
_CLEAR_SETTLED = """
    DELETE FROM entry
    WHERE sender = ? AND message_id = ? AND device = ? AND state IN ('accepted', 'refused') AND peer IS NULL"""
_FINISH = "UPDATE entry SET state = 'seen' WHERE state = 'unseen' AND number <= ? AND peer IS NOT NULL"
_CLEAR_FINISHED = "DELETE FROM entry WHERE state = 'unseen' AND number <= ? AND peer IS NULL"


@contextmanager
def opened_for_reading(path: Path, owner: records.Owner, key: StoreKey) -> Iterator[sqlite3.Connection]:
    """The file, also while a client has it open.

    Raises:
        LocalStoreError: there is no such file, it belongs to somebody else, or it cannot be read.
    """
    if not path.exists():
        raise LocalStoreError(f"{owner.device} has no history with {owner.origin}: there is no {path}")
    with as_local_store_error(path), closing(open_sealed(path, key)) as database:
        migrate(database, path, load_migrations("ironwire.client.store"))
        _check_owner(database, path, owner)
        yield database


@define(eq=False)
class LocalFile:
    """Open, until `close`. One process at a time may have it; others may read its history."""

    _owner: records.Owner
    _lock: int
    _database: sqlite3.Connection
    last_number: int = 0
    """The newest entry there has been."""
    _is_synced_fully: bool = field(default=True, init=False)
    _arrivals: Arrivals = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._arrivals = Arrivals(self._database, self._owner)

    @classmethod
    def open(cls, path: Path, owner: records.Owner, key: StoreKey) -> Self:
        """Have the file at `path`; with its folders it is made where there is none, for its owner's eyes only.

        Raises:
            LocalStoreError: another process has it, or it belongs to another device, or is of a newer version.
            OSError, sqlcipher3.dbapi2.Error: it cannot be read or written.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
        lock = _locked(path)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE))
            sync_folder(path.parent)
            database = open_sealed(path, key)
            try:
                _prepare(database, path, owner)
                file = cls(owner, lock, database)
                file._note_newest()
                return file
            except BaseException:
                database.close()
                raise
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        self._database.close()
        os.close(self._lock)

    def apply(self, changes: Sequence[records.Change]) -> None:
        """Make the changes in their order, in one transaction."""
        is_promise = any(isinstance(change, _PROMISES) for change in changes)
        self._sync_fully(is_promise)
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                self._make(change)
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.rollback()
            raise
        if is_promise:
            self._note_newest()

    def unseen(self, after: int, limit: int) -> list[records.Kept]:
        rows = self._database.execute(_UNSEEN, (after, limit))
        return [records.Kept(number, decode_server(frame), content_of(inside)) for number, frame, inside in rows]

    def queued(self, limit: int, skipped: Collection[Address] = (), after: int = 0) -> list[records.QueuedMessage]:
        rows = self._database.execute(_QUEUED.format(",".join("?" * len(skipped))), (after, *skipped, limit))
        return [
            records.QueuedMessage(number, MessageId(message_id), own_message(frame), body_of(inside))
            for number, message_id, frame, inside in rows
        ]

    def sent(self, ids: Collection[MessageId]) -> dict[MessageId, msg.Accepted | msg.Error | None]:
        rows = self._database.execute(_SENT, (self._owner.client, self._owner.device, json.dumps([*ids])))
        return {MessageId(message_id): _reply(*fate) for message_id, *fate in rows}

    def numbered(self) -> records.Numbered:
        epoch, highest = self._database.execute("SELECT epoch, highest FROM mailbox").fetchone()
        queued = [
            records.QueuedMessage(
                number, MessageId(message_id), own_message(frame), body_of(inside), n, bool(is_encrypted)
            )
            for number, message_id, frame, inside, n, is_encrypted in self._database.execute(_NUMBERED)
        ]
        return records.Numbered(epoch, highest, queued)

    def position(self) -> int:
        """The last number of the mailbox that is dealt with."""
        position: int = self._database.execute("SELECT seq FROM mailbox").fetchone()[0]
        return position

    def mark(self) -> int:
        mark: int = self._database.execute("SELECT mark FROM mailbox").fetchone()[0]
        return mark

    def secrets(self) -> secrets.KeptSecrets:
        return secrets.load(self._database)

    def was_opened(self, sender: ClientId, device: DeviceId, message_id: MessageId) -> bool:
        return secrets.was_opened(self._database, sender, device, message_id)

    def recall(self, to: Address, ids: Collection[MessageId]) -> list[Recalled]:
        return secrets.recall(self._database, self._owner.client, self._owner.device, to, ids)

    def count_queued(self) -> int:
        return int(self._database.execute(_COUNT_QUEUED).fetchone()[0])

    def history(self, peer: Address, limit: int, before: int | None = None) -> list[records.HistoryEntry]:
        return history(self._database, self._owner, peer, limit, before)

    def conversations(self) -> list[records.Conversation]:
        return conversations(self._database, self._owner)

    def group_names(self) -> dict[GroupId, str]:
        return group_names(self._database)

    @property
    def content(self) -> tuple[sqlite3.Connection, records.Owner]:
        """For what changes nothing (`history_parts.py` has some)."""
        return self._database, self._owner

    def _note_newest(self) -> None:
        newest = self._database.execute("SELECT coalesce(max(number), 0) FROM entry").fetchone()[0]
        self.last_number = max(self.last_number, newest)

    def _sync_fully(self, is_wanted: bool) -> None:
        if self._is_synced_fully != is_wanted:
            self._database.execute(f"PRAGMA synchronous = {'FULL' if is_wanted else 'NORMAL'}")
            self._is_synced_fully = is_wanted

    def _make(self, change: records.Change) -> None:
        owner, execute = self._owner, self._database.execute
        match change:
            case records.Begin(epoch, tail, sent):
                execute(_CLEAR_NUMBERS, (epoch, sent))
                execute(_BEGIN_NUMBERS, (sent, epoch, sent))
                # A tail below what is stored: the server was set back, and gives out numbers that were in use.
                execute(_BEGIN, (epoch, epoch, tail))
            case records.Arrive():
                self._arrivals.arrive(change)
            case records.Absorb(writes):
                self._arrivals.absorb(writes)
            case records.Queue(message_id, message, ts, n, body):
                peer = None if isinstance(message, msg.Receipt) else message.to
                frame = encode(message, message_id).decode()
                inside = None if body is None else encode_content(Content(message_id, ts, body))
                named = (owner.client, owner.device, message_id)
                insert_entry(self._database, "queued", peer, named, ts, frame, inside)
                if n is not None:
                    self._give_number(message_id, n)
            case records.GiveNumber(message_id, n, is_encrypted):
                self._give_number(message_id, n, is_encrypted=is_encrypted)
            case records.VoidNumber(message_id):
                execute(_VOID_NUMBER, (owner.client, message_id, owner.device))
            case records.Settle(message_id, ts, reason, is_encrypted):
                settled = (owner.client, message_id, owner.device)
                execute(_SETTLE, ("accepted" if reason is None else "refused", ts, reason, is_encrypted, *settled))
                amendments.note_accepted(self._database, settled)
                execute(_CLEAR_SETTLED, settled)
            case records.Finish(number):
                execute(_FINISH, (number,))
                execute(_CLEAR_FINISHED, (number,))
            case records.KeepGift() | records.DropGift() | records.TellHistory() | records.FinishPart():
                history_parts.make(self._database, owner, change)
            case records.NoteMark(mark):
                execute("UPDATE mailbox SET mark = ?", (mark,))
            case records.ForgetSecrets():
                secrets.forget(self._database)
            case records.MarkRead(peer, upto):
                execute(_MARK_READ, (upto, peer))

    def _give_number(self, message_id: MessageId, n: int, *, is_encrypted: bool = False) -> None:
        self._database.execute(_TAKE_NUMBER, (n,))
        self._database.execute(_GIVE_NUMBER, (n, is_encrypted, self._owner.client, message_id, self._owner.device))
        self._database.execute(_NOTE_HIGHEST, (n,))


def content_of(inside: bytes | None) -> Content | None:
    """The inside of an encrypted message."""
    return None if inside is None else decode_content(inside, None)


def body_of(inside: bytes | None) -> AnyBody | None:
    """What a message says, where it has to be encrypted."""
    return None if inside is None else decode_content(inside, None).body


def _reply(state: str, ts: int, reason: msg.ErrorCode | None) -> msg.Accepted | msg.Error | None:
    match state:
        case "accepted":
            return msg.Accepted(ts, duplicate=True)
        case "refused":
            return msg.Error(reason or "invalid")
        case _:
            return None


def _prepare(database: sqlite3.Connection, path: Path, owner: records.Owner) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA secure_delete = ON")  # keys that were used are overwritten
    migrate(database, path, load_migrations("ironwire.client.store"))
    if database.execute("SELECT count(*) FROM mailbox").fetchone() == (0,):
        row = (owner.client, owner.device, owner.origin)
        database.execute("INSERT INTO mailbox (client, device, origin) VALUES (?, ?, ?)", row)
    _check_owner(database, path, owner)


def _check_owner(database: sqlite3.Connection, path: Path, owner: records.Owner) -> None:
    found = database.execute("SELECT client, device, origin FROM mailbox").fetchone()
    if found != (owner.client, owner.device, owner.origin):
        raise LocalStoreError(f"{path} belongs to another identity, device or server: choose another file")


def _locked(path: Path) -> int:
    """A lock file that names its owner; held until it is closed, at the latest when the process ends."""
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except BlockingIOError as error:
        pid = os.pread(lock, _PID_BYTES, 0)
        os.close(lock)
        raise DeviceInUse(path, int(pid) if pid.isdigit() else None) from error
    except BaseException:
        os.close(lock)
        raise
    return lock


@contextmanager
def as_local_store_error(path: Path) -> Iterator[None]:
    """Raise every error of the file as the one exception that the client library has for it."""
    try:
        yield
    except StoreError as error:
        raise LocalStoreError(str(error)) from error
    except dbapi2.Error as error:
        name = getattr(error, "sqlite_errorname", "unknown")
        if name == "SQLITE_NOTADB":
            raise LocalStoreError(
                f"{path} does not open with the key of this identity: it belongs to another one, was not written"
                " encrypted, or is damaged. Open it with its own key file, or move it away and begin a new one"
            ) from error
        raise LocalStoreError(f"{path}: {error} ({name})") from error
    except OSError as error:
        raise LocalStoreError(f"{path} cannot be used: {error.strerror}") from error
