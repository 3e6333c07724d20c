"""The durable store: one SQLite file (WAL, synchronous=FULL), one writer that commits in batches.

Statements run on the event loop, where they cost what they cost; only COMMIT, which waits for the disk, runs in a
thread (docs/decisions/0005 has the figures). Three connections keep apart what must not wait for each other: the
writer, look-ups on the event loop, and pages read in threads. The readers see what is committed; what the batch under
way has changed is known to the writer's cache of mailboxes alone.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog
import trio
from attrs import define, field

from ironwire.errors import StoreError
from ironwire.ids import ClientId, DeviceId, MessageId, parse_address
from ironwire.store.base import (
    Ack,
    Acked,
    Append,
    Duplicate,
    Entry,
    Envelope,
    Expired,
    Forget,
    Forgotten,
    IdTaken,
    Mailbox,
    MailboxFull,
    MailboxId,
    NoSuchDevice,
    Operation,
    Placed,
    Quota,
    Register,
    Remove,
    Removed,
    Result,
    Stored,
    StoreStatistics,
    TooManyDevices,
    Undeliverable,
)
from ironwire.store.migrations import load_migrations, migrate

log = structlog.get_logger(__name__)

T = TypeVar("T")

_CACHED_CLIENTS = 20_000
_BUSY_MS = 5_000

_COLUMNS = "id, client, device, acked, tail, waiting, waiting_bytes, is_full, created_ms, seen_ms"
_SELECT_BOXES = f"SELECT {_COLUMNS} FROM mailbox WHERE client = ? ORDER BY id"  # noqa: S608  # a constant
_INSERT_BOX = "INSERT INTO mailbox (client, device, created_ms, seen_ms) VALUES (?, ?, ?, ?)"
_UPDATE_BOX = """
    UPDATE mailbox SET acked = ?, tail = ?, waiting = ?, waiting_bytes = ?, is_full = ?, seen_ms = ? WHERE id = ?"""
_INSERT_ENVELOPE = """
    INSERT INTO envelope (id, verb, sender, device, recipient, message_id, ts, digest, owed, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_ENTRY = "INSERT INTO entry (mailbox, seq, envelope, size, is_own) VALUES (?, ?, ?, ?, ?)"
_SELECT_KNOWN = "SELECT ts, digest FROM envelope WHERE sender = ? AND device = ? AND message_id = ?"
_SELECT_PAGE = """
    SELECT seq, is_own, verb, sender, device, recipient, message_id, ts, payload
    FROM entry JOIN envelope ON envelope.id = entry.envelope
    WHERE mailbox = ? AND seq > ? ORDER BY seq LIMIT ?"""

_FORGET_ID = """
    UPDATE envelope SET message_id = NULL WHERE sender = ? AND device = ? AND message_id = ?"""

# An entry leaves a mailbox: whoever it points at is owed once less; what nobody owes any more is erased.
_MEASURE = "SELECT count(*), coalesce(sum(size), 0) FROM entry WHERE mailbox = ? AND seq <= ?"
_RELEASE = """
    UPDATE envelope SET owed = owed - 1, payload = CASE owed WHEN 1 THEN NULL ELSE payload END
    WHERE id IN (SELECT envelope FROM entry WHERE mailbox = ? AND seq <= ?)"""
_FORGET = """
    DELETE FROM envelope
    WHERE id IN (SELECT envelope FROM entry WHERE mailbox = ? AND seq <= ?) AND owed = 0 AND message_id IS NULL"""
_CLEAR = "DELETE FROM entry WHERE mailbox = ? AND seq <= ?"


@define(eq=False)
class _Box:
    """A mailbox as the writer knows it, the batch under way included."""

    id: MailboxId
    client: ClientId
    device: DeviceId
    acked: int
    tail: int
    waiting: int
    waiting_bytes: int
    is_full: bool = field(converter=bool)
    created_ms: int
    seen_ms: int

    def admits(self, size: int, quota: Quota) -> bool:
        """Whether there is room for `size` bytes more; a mailbox that was full has room again at half (section 5)."""
        if self.is_full:
            self.is_full = self.waiting * 2 > quota.mailbox_envelopes or self.waiting_bytes * 2 > quota.mailbox_bytes
        if self.waiting >= quota.mailbox_envelopes or self.waiting_bytes + size > quota.mailbox_bytes:
            self.is_full = True
        return not self.is_full

    def snapshot(self) -> Mailbox:
        return Mailbox(
            id=self.id,
            client=self.client,
            device=self.device,
            epoch=self.id,
            acked=self.acked,
            tail=self.tail,
            waiting=self.waiting,
            waiting_bytes=self.waiting_bytes,
            created_ms=self.created_ms,
            seen_ms=self.seen_ms,
        )


class SqliteStore:
    """The store in the file at `path`. One process at a time may have it open."""

    _lock: int
    _writer: sqlite3.Connection
    _lookups: sqlite3.Connection
    _pages: sqlite3.Connection
    _last_envelope: int

    def __init__(self, path: Path, quota: Quota) -> None:
        self._path = path
        self._quota = quota
        self._turn = trio.Lock()
        self._page_turn = trio.Lock()
        self._boxes: dict[ClientId, list[_Box]] = {}
        self._box_by_id: dict[MailboxId, _Box] = {}
        self._dirty: set[_Box] = set()
        self._envelopes: list[tuple[Any, ...]] = []
        self._entries: list[tuple[Any, ...]] = []
        self._new_ids: dict[tuple[str, str, str | None], tuple[int, bytes]] = {}
        self._is_failing = False
        self._batches = 0
        self._operations = 0

    async def open(self) -> None:
        try:
            await trio.to_thread.run_sync(self._open)
        except OSError as error:
            raise StoreError(f"{self._path} cannot be opened: {error.strerror}") from error

    async def close(self) -> None:
        async with self._turn, self._page_turn:
            for connection in (self._pages, self._lookups, self._writer):
                connection.close()
            os.close(self._lock)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock_file(self._path)
        try:
            self._path.touch(mode=0o600)
            with _as_store_error(self._path):
                self._connect()
        except BaseException:
            os.close(self._lock)
            raise

    def _connect(self) -> None:
        self._writer = _connection(self._path)
        fault = self._writer.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise StoreError(f"{self._path} is damaged ({fault}): restore it from a backup")
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute("PRAGMA synchronous = FULL")
        self._writer.execute("PRAGMA secure_delete = ON")
        backup = migrate(self._writer, self._path, load_migrations())
        if backup is not None:
            log.info("database upgraded", backup=str(backup))
        self._lookups = _connection(self._path)
        self._pages = _connection(self._path)
        row = self._writer.execute("SELECT coalesce(max(id), 0) FROM envelope").fetchone()
        self._last_envelope: int = row[0]

    # --- changes -----------------------------------------------------------------------------------------------------

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        async with self._turn:
            if len(self._boxes) > _CACHED_CLIENTS:
                self._forget_boxes()
            results: list[Result] = []

            def change() -> None:
                results.extend(self._apply(operation) for operation in batch)
                self._flush()

            await self._transaction(change, in_thread=False)
            self._batches += 1
            self._operations += len(batch)
            return results

    async def expire(self, *, before_ms: int) -> Expired:
        async with self._turn:
            expired = await self._transaction(lambda: self._expire(before_ms), in_thread=True)
            self._forget_boxes()
            return expired

    async def scrub(self) -> None:
        def rewrite_header() -> None:
            number = self._writer.execute("PRAGMA user_version").fetchone()[0]
            self._writer.execute(f"PRAGMA user_version = {number}")

        async with self._turn:
            await self._transaction(rewrite_header, in_thread=False)
            await self._in_thread(lambda: self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())

    async def _transaction(self, change: Callable[[], T], *, in_thread: bool) -> T:
        """All of `change`, on the disk; or nothing of it, and a StoreError."""
        try:
            with _as_store_error(self._path):
                self._writer.execute("BEGIN IMMEDIATE")
                result = await self._in_thread(change) if in_thread else change()
                await self._in_thread(self._writer.commit)
        except BaseException as error:
            self._is_failing = isinstance(error, StoreError)
            self._forget_batch()
            raise
        self._is_failing = False
        return result

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # Not abandoned when cancelled: what the thread does to the connection must be over before anyone else's turn.
        with _as_store_error(self._path):
            return await trio.to_thread.run_sync(work)

    def _forget_batch(self) -> None:
        """After a failure the file decides what is true: the transaction is undone, and what is cached goes with it."""
        self._forget_boxes()
        for left in (self._dirty, self._envelopes, self._entries, self._new_ids):
            left.clear()
        if self._writer.in_transaction:
            self._writer.rollback()
        row = self._lookups.execute("SELECT coalesce(max(id), 0) FROM envelope").fetchone()
        self._last_envelope = row[0]

    def _apply(self, operation: Operation) -> Result:
        match operation:
            case Append():
                return self._append(operation)
            case Ack(mailbox, upto):
                return self._ack(mailbox, upto)
            case Register():
                return self._register(operation)
            case Remove(client, device):
                return self._remove(client, device)
            case Forget(sender, device, message):
                self._flush()
                self._writer.execute(_FORGET_ID, (sender, device or "", message))
                return Forgotten()

    def _append(self, append: Append) -> Stored | Duplicate | IdTaken | MailboxFull | Undeliverable:
        envelope, digest = append.envelope, append.digest
        device = envelope.device or ""
        key = (envelope.sender, device, envelope.id)
        if envelope.id is not None:
            known = self._new_ids.get(key) or self._writer.execute(_SELECT_KNOWN, key).fetchone()
            if known is not None:
                return Duplicate(known[0]) if known[1] == digest else IdTaken()
        owed = [(box, False) for box in self._boxes_of(ClientId(envelope.to))]
        if not owed and not append.is_live:
            return Undeliverable()
        if envelope.sender != envelope.to:
            owed += [(box, True) for box in self._boxes_of(envelope.sender) if box.device != device]
        size = len(envelope.payload)
        admitted = [box.admits(size, self._quota) for box, _ in owed]
        self._dirty.update(box for box, _ in owed)
        if not all(admitted):
            return MailboxFull()
        self._last_envelope += 1
        number = self._last_envelope
        if envelope.id is not None:
            self._new_ids[key] = (envelope.ts, digest)
        self._envelopes.append(
            (
                number,
                envelope.verb,
                envelope.sender,
                device,
                envelope.to,
                envelope.id,
                envelope.ts,
                digest,
                len(owed),
                envelope.payload if owed else None,
            )
        )
        placed = []
        for box, is_own in owed:
            box.tail += 1
            box.waiting += 1
            box.waiting_bytes += size
            self._entries.append((box.id, box.tail, number, size, is_own))
            placed.append(Placed(box.id, box.client, box.device, box.tail, is_own))
        return Stored(tuple(placed))

    def _ack(self, mailbox: MailboxId, upto: int) -> Acked:
        box = self._box(mailbox)
        if box is not None and upto > box.acked:
            self._flush()
            box.acked = min(upto, box.tail)
            self._erase(box)
        return Acked()

    def _register(self, register: Register) -> Mailbox | TooManyDevices:
        boxes = self._boxes_of(register.client)
        for box in boxes:
            if box.device == register.device:
                box.seen_ms = max(box.seen_ms, register.now_ms)
                self._dirty.add(box)
                return box.snapshot()
        if len(boxes) >= self._quota.devices_per_client:
            return TooManyDevices()
        row = (register.client, register.device, register.now_ms, register.now_ms)
        number = MailboxId(self._writer.execute(_INSERT_BOX, row).lastrowid or 0)
        box = _Box(number, register.client, register.device, 0, 0, 0, 0, False, register.now_ms, register.now_ms)
        boxes.append(box)
        self._box_by_id[number] = box
        return box.snapshot()

    def _remove(self, client: ClientId, device: DeviceId) -> Removed | NoSuchDevice:
        boxes = self._boxes_of(client)
        for box in boxes:
            if box.device == device:
                self._flush()
                box.acked = box.tail
                self._erase(box)
                self._writer.execute("DELETE FROM mailbox WHERE id = ?", (box.id,))
                boxes.remove(box)
                del self._box_by_id[box.id]
                self._dirty.discard(box)
                return Removed()
        return NoSuchDevice()

    def _erase(self, box: _Box) -> None:
        """Everything up to `acked` leaves the mailbox."""
        span = (box.id, box.acked)
        count, size = self._writer.execute(_MEASURE, span).fetchone()
        if count:
            for statement in (_RELEASE, _FORGET, _CLEAR):
                self._writer.execute(statement, span)
        box.waiting -= count
        box.waiting_bytes -= size
        self._dirty.add(box)

    def _flush(self) -> None:
        """Bring what was gathered into the transaction."""
        self._writer.executemany(_INSERT_ENVELOPE, self._envelopes)
        self._writer.executemany(_INSERT_ENTRY, self._entries)
        rows = [
            (box.acked, box.tail, box.waiting, box.waiting_bytes, box.is_full, box.seen_ms, box.id)
            for box in self._dirty
        ]
        self._writer.executemany(_UPDATE_BOX, rows)
        for gathered in (self._envelopes, self._entries, self._dirty, self._new_ids):
            gathered.clear()

    def _expire(self, before_ms: int) -> Expired:
        # Ids grow with time, so the old ones are a prefix, and the first that is young enough ends the search.
        row = self._writer.execute("SELECT id FROM envelope WHERE ts >= ? ORDER BY id LIMIT 1", (before_ms,)).fetchone()
        first_kept = self._last_envelope + 1 if row is None else row[0]
        entries = self._writer.execute("DELETE FROM entry WHERE envelope < ?", (first_kept,)).rowcount
        self._writer.execute("DELETE FROM envelope WHERE id < ?", (first_kept,))
        self._writer.execute(
            "DELETE FROM entry WHERE mailbox IN (SELECT id FROM mailbox WHERE seen_ms < ?)", (before_ms,)
        )
        devices = self._writer.execute("DELETE FROM mailbox WHERE seen_ms < ?", (before_ms,)).rowcount
        self._writer.execute(
            """UPDATE mailbox SET (waiting, waiting_bytes) =
                   (SELECT count(*), coalesce(sum(size), 0) FROM entry WHERE entry.mailbox = mailbox.id)
               WHERE waiting > 0"""
        )
        return Expired(entries, devices)

    # --- what the writer knows ---------------------------------------------------------------------------------------

    def _boxes_of(self, client: ClientId) -> list[_Box]:
        """The client's mailboxes. A client that is not cached was not touched by the batch under way, so what is
        committed holds.
        """
        boxes = self._boxes.get(client)
        if boxes is None:
            boxes = self._boxes[client] = _read_boxes(self._lookups, client)
            self._box_by_id.update((box.id, box) for box in boxes)
        return boxes

    def _box(self, mailbox: MailboxId) -> _Box | None:
        if mailbox not in self._box_by_id:
            row = self._lookups.execute("SELECT client FROM mailbox WHERE id = ?", (mailbox,)).fetchone()
            if row is not None:
                self._boxes_of(row[0])
        return self._box_by_id.get(mailbox)

    def _forget_boxes(self) -> None:
        self._boxes.clear()
        self._box_by_id.clear()

    # --- reads -------------------------------------------------------------------------------------------------------

    def has_mailboxes(self, client: ClientId) -> bool:
        boxes = self._boxes.get(client)
        if boxes is None:
            with _as_store_error(self._path):
                boxes = self._boxes_of(client)
        return bool(boxes)

    def mailboxes_of(self, client: ClientId) -> Sequence[Mailbox]:
        with _as_store_error(self._path):
            return [box.snapshot() for box in _read_boxes(self._lookups, client)]

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        def page() -> list[tuple[Any, ...]]:
            return self._pages.execute(_SELECT_PAGE, (mailbox, after, limit)).fetchall()

        async with self._page_turn:
            rows = await self._in_thread(page)
        return [_entry(row) for row in rows]

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(self._batches, self._operations, self._is_failing)


def _connection(path: Path) -> sqlite3.Connection:
    """Transactions are begun by hand, and threads take turns."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return connection


def _read_boxes(connection: sqlite3.Connection, client: ClientId) -> list[_Box]:
    return [_Box(*row) for row in connection.execute(_SELECT_BOXES, (client,))]


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, is_own, verb, sender, device, recipient, message_id, ts, payload = row
    envelope = Envelope(
        verb=verb,
        sender=ClientId(sender),
        device=DeviceId(device) if device else None,
        to=parse_address(recipient),
        id=None if message_id is None else MessageId(message_id),
        ts=ts,
        payload=payload,
    )
    return Entry(seq, envelope, bool(is_own))


def _lock_file(path: Path) -> int:
    """Hold the lock beside the database for as long as the process lives.

    Raises:
        StoreError: another process holds it.
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


@contextmanager
def _as_store_error(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: {error} ({getattr(error, 'sqlite_errorname', 'unknown')})") from error
