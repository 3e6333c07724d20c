"""The durable store: one SQLite file (WAL, synchronous=FULL), one writer that commits in batches.

A batch is a row of a journal at first, and what is left of it after a while goes into the tables
(docs/decisions/0010).

Statements run on the event loop, where they cost what they cost; only COMMIT, which waits for the disk, runs in a
thread (docs/decisions/0005 has the figures). Three connections keep apart what must not wait for each other: the
writer, look-ups on the event loop, and pages read in threads. The readers see what is committed; what the batch under
way has changed is known to the writer's cache of mailboxes alone.
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import structlog
import trio

from ironwire.counting import LATENCY_SECONDS, Histogram
from ironwire.errors import StoreError
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId
from ironwire.store.contract.directory import Group, Membership
from ironwire.store.contract.history import Archived
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.maintenance import Erased, Expired, StoreStatistics
from ironwire.store.contract.operations import Known, Operation, Result
from ironwire.store.contract.records import Entry, Mailbox, MailboxId, Quota
from ironwire.store.lock import lock_file
from ironwire.store.sqlite.copy import copy_database
from ironwire.store.sqlite.database import store_errors
from ironwire.store.sqlite.glance import SqliteGlance
from ironwire.store.sqlite.groups import GroupReader
from ironwire.store.sqlite.ids import message_key
from ironwire.store.sqlite.losses import read_losses
from ironwire.store.sqlite.mailboxes import Mailboxes
from ironwire.store.sqlite.migrations import load_migrations, migrate
from ironwire.store.sqlite.operator import put_ban, read_bans, take_ban
from ironwire.store.sqlite.pages import read_archived, read_entries, read_newest_ms
from ironwire.store.sqlite.thread import WriterThread
from ironwire.store.sqlite.writer import Writer

log = structlog.get_logger(__name__)

T = TypeVar("T")

_BUSY_MS = 5_000
"""How long a thread waits for whoever else has the file locked. The event loop does not wait."""
_CACHE_KIB = 32 * 1024
"""Of pages that are changed again and again: the ends of the indexes."""


class SqliteStore:
    """The store in the file at `path`. One process at a time may have it open."""

    _lock: int
    _changes: sqlite3.Connection
    _lookups: sqlite3.Connection
    _pages: sqlite3.Connection
    _writer: Writer
    _mailboxes: Mailboxes
    _groups: GroupReader
    _thread: WriterThread
    glance: SqliteGlance

    def __init__(self, path: Path, quota: Quota) -> None:
        self._path = path
        self._quota = quota
        self._turn = trio.Lock()
        self._page_turn = trio.Lock()
        self._copy_turn = trio.Lock()
        self._banned: set[ClientId] = set()
        self._connections: list[sqlite3.Connection] = []
        self._is_failing = False
        self._batches = 0
        self._operations = 0
        self._commits = Histogram(LATENCY_SECONDS)

    async def open(self) -> None:
        try:
            await trio.to_thread.run_sync(self._open)
            self._thread = WriterThread()
        except OSError as error:
            raise StoreError(f"{self._path} cannot be opened: {error.strerror}") from error

    async def close(self) -> None:
        async with self._turn, self._page_turn:
            try:
                await self._checkpoint()
            except StoreError as error:
                log.warning("the journal stays as it is until the next start", reason=str(error))
            finally:
                self._thread.close()
                self._disconnect()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = lock_file(self._path)
        try:
            # SQLite would open a file that can only be read, and the first batch would find out.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with self._as_store_error():
                self._changes, self._lookups, self._pages = (self._connect() for _ in range(3))
                self._prepare()
        except BaseException:
            self._disconnect()
            raise

    def _prepare(self) -> None:
        run = self._changes.execute
        fault = run("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise StoreError(f"{self._path} is damaged ({fault}): restore it from a backup")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA secure_delete = ON")
        backup = migrate(self._changes, self._path, load_migrations())
        if backup is not None:
            log.info("database upgraded", backup=str(backup))
        for connection in (self._changes, self._lookups):
            connection.execute("PRAGMA busy_timeout = 0")
        run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._writer = Writer(self._changes, self._lookups, self._quota)
        self._mailboxes = self._writer.mailboxes
        self._groups = GroupReader(self._lookups)
        self._banned = read_bans(self._changes)
        self.glance = SqliteGlance(self._path, self._turn, self._mailboxes, self._groups, self._banned)

    def _connect(self) -> sqlite3.Connection:
        # Transactions are begun by hand, and threads take turns.
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=64)
        self._connections.append(connection)
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return connection

    def _disconnect(self) -> None:
        while self._connections:
            self._connections.pop().close()
        os.close(self._lock)

    # --- changes -----------------------------------------------------------------------------------------------------

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        async with self._prompt_turn():
            self._mailboxes.trim()
            try:
                results = await self._transaction(lambda: self._writer.apply(batch), in_thread=False)
            finally:
                self._groups.forget_changed(batch)
            self._batches += 1
            self._operations += len(batch)
            return results

    async def expire(self, *, before_ms: int, archived_before_ms: int) -> Expired:
        async with self._turn:
            expired = await self._transaction(lambda: self._writer.expire(before_ms), in_thread=True)
            self._writer.recover()
            self._batches += 1
        is_more = True
        while is_more:
            async with self._turn:
                is_more = await self._transaction(
                    lambda: self._writer.let_go(before_ms, archived_before_ms), in_thread=True
                )
                self._batches += 1
        return expired

    async def erase(self, client: ClientId) -> Erased:
        async with self._turn:
            erased = await self._transaction(lambda: self._writer.erase(client), in_thread=True)
            self._writer.recover()
            self._groups.forget_blocks(client)
            self._batches += 1
            return erased

    async def ban(self, client: ClientId, now_ms: int) -> bool:
        async with self._turn:
            is_news = await self._transaction(lambda: put_ban(self._changes, client, now_ms), in_thread=False)
            self._banned.add(client)
            return is_news

    async def unban(self, client: ClientId) -> bool:
        async with self._turn:
            is_news = await self._transaction(lambda: take_ban(self._changes, client), in_thread=False)
            self._banned.discard(client)
            return is_news

    async def copy_to(self, path: Path) -> None:
        """Put a consistent copy, as of some moment of this call, at `path`: whole, or not at all. Everything else goes
        on meanwhile; only what was erased stays in the log until the copy is done.

        Raises:
            StoreError: it cannot be made.
        """
        async with self._copy_turn:
            try:
                with self._as_store_error():
                    await trio.to_thread.run_sync(lambda: copy_database(self._path, path, self._quota))
            except OSError as error:
                raise StoreError(f"{path} cannot be written: {error.strerror}") from error

    async def scrub(self) -> None:
        # A copy under way reads the log: to wait for its end while nobody else may write would take too long.
        async with self._copy_turn, self._turn:
            await self._transaction(self._checkpoint_and_mark, in_thread=False)
            is_busy, *_ = await self._in_thread(lambda: self._patiently("PRAGMA wal_checkpoint(TRUNCATE)"))
        if is_busy:
            raise StoreError(f"{self._path}: another program keeps the log from being overwritten: end it")

    def _checkpoint_and_mark(self) -> None:
        """Checkpoint, and make the smallest change that reaches the disk: there may be nothing to checkpoint."""
        self._writer.checkpoint()
        number = self._changes.execute("PRAGMA user_version").fetchone()[0]
        self._changes.execute(f"PRAGMA user_version = {number}")

    @asynccontextmanager
    async def _prompt_turn(self) -> AsyncIterator[None]:
        """As `_turn`, and at once where that is free: Trio gives everybody else a turn of the event loop even then."""
        if self._turn.locked():
            await self._turn.acquire()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._turn.acquire_nowait()
        try:
            yield
        finally:
            self._turn.release()

    async def _transaction(self, change: Callable[[], T], *, in_thread: bool) -> T:
        """All of `change`, on the disk; or nothing of it, and a StoreError."""
        try:
            with self._as_store_error():
                await self._begin()
                result = await self._in_thread(change) if in_thread else change()
                await self._commit()
        except BaseException as error:
            if isinstance(error, StoreError):
                self._is_failing = True
            self._roll_back()
            with suppress(sqlite3.Error, StoreError):
                self._writer.recover()
            raise
        self._is_failing = False
        self._mailboxes.commit()
        return result

    async def checkpoint(self) -> None:
        async with self._turn:
            await self._checkpoint()

    async def newest_ms(self) -> int | None:
        await self.checkpoint()
        return await self._read_page(lambda: read_newest_ms(self._pages))

    async def _checkpoint(self) -> None:
        if not self._mailboxes.is_checkpointed:
            await self._transaction(self._writer.checkpoint, in_thread=False)

    async def _commit(self) -> None:
        began = trio.current_time()
        await self._in_thread(self._changes.commit)
        self._commits.observe(trio.current_time() - began)

    async def _begin(self) -> None:
        if self._changes.in_transaction:
            self._changes.rollback()  # what could not be undone when it failed
        try:
            self._changes.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            await self._in_thread(lambda: self._patiently("BEGIN IMMEDIATE"))

    def _patiently(self, statement: str) -> tuple[int, ...]:
        """Run a statement that may have to wait for another program's lock; in a thread."""
        self._changes.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        try:
            row: tuple[int, ...] = self._changes.execute(statement).fetchone() or ()
        finally:
            self._changes.execute("PRAGMA busy_timeout = 0")
        return row

    def _roll_back(self) -> None:
        # SQLite may have done it already. Where it cannot, `_begin` tries again before it begins anything.
        if self._changes.in_transaction:
            with suppress(sqlite3.Error):
                self._changes.rollback()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        with self._as_store_error():
            return await self._thread.run(work)

    # --- reads -------------------------------------------------------------------------------------------------------

    # Exact, and yet without a checkpoint: what is committed is in the caches and in what `_lookups` sees.

    async def mailboxes_of(self, client: ClientId) -> Sequence[Mailbox]:
        with self._as_store_error():
            return self._mailboxes.committed(client)

    async def recall(self, sender: ClientId, device: DeviceId | None, id: MessageId, digest: bytes) -> Known | None:  # noqa: A002  # the frame's
        with self._as_store_error():
            return self._writer.recall(message_key(sender, device, id), digest)

    async def group(self, group: GroupId) -> Group | None:
        with self._as_store_error():
            return self._groups.group(group)

    async def groups_of(self, client: ClientId) -> Sequence[Membership]:
        with self._as_store_error():
            return self._groups.groups_of(client)

    async def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        with self._as_store_error():
            return self._groups.blocks_of(client)

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        with self._as_store_error():
            recent = self._mailboxes.committed_entries(mailbox, after)  # first: what a checkpoint moves is in both
        entries, is_cut = await self._read_page(lambda: read_entries(self._pages, mailbox, after, limit))
        if is_cut:
            return entries
        last = entries[-1].seq if entries else after
        return [*entries, *(entry for entry in recent if entry.seq > last)][:limit]

    async def losses(self, mailbox: MailboxId, first: int, last: int) -> Sequence[Loss]:
        with self._as_store_error():
            return read_losses(self._lookups, mailbox, first, last)

    async def read_history(self, client: ClientId, peer: Address, *, before: int | None, limit: int) -> list[Archived]:
        if self._mailboxes.memtable.have_archived:
            await self.checkpoint()
        return await self._read_page(lambda: read_archived(self._pages, client, peer, before, limit))

    async def _read_page(self, read: Callable[[], T]) -> T:
        async with self._page_turn:
            with self._as_store_error():
                return await trio.to_thread.run_sync(read)

    def statistics(self) -> StoreStatistics:
        depth = self._mailboxes.depth
        return StoreStatistics(
            self._batches,
            self._operations,
            self._is_failing,
            commit_seconds=self._commits.statistics(),
            mailboxes=depth.mailboxes,
            waiting_envelopes=depth.waiting,
            waiting_bytes=depth.waiting_bytes,
            file_bytes=_size_bytes(self._path) + _size_bytes(self._path.with_name(f"{self._path.name}-wal")),
        )

    def _as_store_error(self) -> AbstractContextManager[None]:
        return store_errors(self._path)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # there is no log before the first batch
