"""The SQLite file (WAL, synchronous=FULL): its lock, its connections, and the transactions of its one writer.

Statements run on the event loop, where they cost what they cost; only COMMIT, which waits for the disk, and what reads
much run in threads (docs/decisions/0005 has the figures). Three connections keep apart what must not wait for each
other: the writer, look-ups on the event loop, and pages read in threads. The readers see what is committed.
"""

import os
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import structlog
import trio

from ironwire.counting import LATENCY_SECONDS, Distribution, Histogram
from ironwire.errors import StoreError, StoreFull
from ironwire.store.contract.faults import FaultPoint, reach
from ironwire.store.lock import lock_file
from ironwire.store.sqlite.migrations import load_migrations, migrate

log = structlog.get_logger(__name__)

T = TypeVar("T")

_BUSY_MS = 5_000
"""The longest that a thread waits for another program's lock on the file. The event loop does not wait."""
_CACHE_KIB = 32 * 1024
"""The page cache: enough for the pages that change again and again, the ends of the indexes."""


class Workers(Protocol):
    """Threads for work that would block the event loop. Both methods return, or raise, as `work` does."""

    async def write(self, work: Callable[[], T]) -> T:
        """One piece of work at a time, and none is ever abandoned: a cancellation waits for its end."""
        ...

    async def read(self, work: Callable[[], T]) -> T:
        """Several may be under way at a time, and none is abandoned."""
        ...

    def close(self) -> None:
        """Nothing may be under way."""
        ...


class Threads:
    """One thread for the writer, and Trio's threads for the rest.

    Trio's own way into a thread takes one iteration of the event loop to begin and two more to come back, and an
    iteration of a busy loop is milliseconds. In a thread of the writer's own, work begins at once, and the iteration
    that finds it done goes on with it (docs/decisions/0011).
    """

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(1, "ironwire-writer")
        self._done, self._tell = socket.socketpair()

    async def write(self, work: Callable[[], T]) -> T:
        outcome = self._writer.submit(work)
        outcome.add_done_callback(lambda _: self._tell.send(b"\0"))
        with trio.CancelScope(shield=True):
            await trio.lowlevel.wait_readable(self._done)
        self._done.recv(1)
        return outcome.result()

    async def read(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work)

    def close(self) -> None:
        self._writer.shutdown()
        self._done.close()
        self._tell.close()


class Database:
    """The file at `path`. One process at a time may have it open."""

    changes: sqlite3.Connection
    """The connection of the transactions."""
    lookups: sqlite3.Connection
    """The connection of the event loop, which never waits."""
    pages: sqlite3.Connection
    """The connection of threads that read, one at a time."""
    _lock: int
    _workers: Workers

    def __init__(self, path: Path, open_workers: Callable[[], Workers]) -> None:
        self.path = path
        self._open_workers = open_workers
        self._page_turn = trio.Lock()
        self._connections: list[sqlite3.Connection] = []
        self._commits = Histogram(LATENCY_SECONDS)

    # --- from open to close ------------------------------------------------------------------------------------------

    async def open(self, prepare: Callable[[], None]) -> None:
        """Lock the file, make sure that it is sound, bring it to the newest schema, and have `prepare` read from it.

        Raises:
            StoreError: another process has it, or it cannot be read or written.
        """
        self._workers = self._open_workers()
        is_open = False
        try:
            await self._workers.read(lambda: self._open(prepare))
            is_open = True
        except OSError as error:
            raise StoreError(f"{self.path} cannot be opened: {error.strerror}") from error
        finally:
            if not is_open:
                self._workers.close()

    @asynccontextmanager
    async def closing(self) -> AsyncIterator[None]:
        """Close the file after the block, in which no page is read."""
        async with self._page_turn:
            try:
                yield
            finally:
                self._workers.close()
                self._disconnect()

    def _open(self, prepare: Callable[[], None]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = lock_file(self.path)
        try:
            # SQLite would open a file that can only be read, and the first batch would find out.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with self.errors():
                self.changes, self.lookups, self.pages = (self._connect() for _ in range(3))
                self._set_up()
                prepare()
            reach(FaultPoint.OPENED)
        except BaseException:
            self._disconnect()
            raise

    def _set_up(self) -> None:
        run = self.changes.execute
        fault = run("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise StoreError(f"{self.path} is damaged ({fault}): restore it from a backup")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA secure_delete = ON")
        backup = migrate(self.changes, self.path, load_migrations())
        if backup is not None:
            log.info("database upgraded", backup=str(backup))
        for connection in (self.changes, self.lookups):
            connection.execute("PRAGMA busy_timeout = 0")
        run(f"PRAGMA cache_size = -{_CACHE_KIB}")

    def _connect(self) -> sqlite3.Connection:
        # Transactions are begun by hand, and threads take turns.
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=64)
        self._connections.append(connection)
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return connection

    def _disconnect(self) -> None:
        while self._connections:
            self._connections.pop().close()
        os.close(self._lock)

    # --- transactions ------------------------------------------------------------------------------------------------

    async def transaction(self, change: Callable[[], T], *, in_thread: bool) -> T:
        """Make `change` in one transaction: all of it is on the disk when this returns.

        Raises:
            StoreError: nothing of it.
        """
        try:
            with self.errors():
                await self._begin()
                result = await self._workers.write(change) if in_thread else change()
                await self._commit()
        except BaseException:
            self._roll_back()
            raise
        return result

    async def overwrite_log(self) -> bool:
        """Bring the log into the file, and empty it; False: another program reads it, so that it could not be done.

        Raises:
            StoreError: it failed.
        """

        def overwrite() -> bool:
            reach(FaultPoint.SCRUBBING)
            is_busy, *_ = self._patiently("PRAGMA wal_checkpoint(TRUNCATE)")
            return not is_busy

        with self.errors():
            return await self._workers.write(overwrite)

    async def _begin(self) -> None:
        reach(FaultPoint.BEFORE_BEGIN)
        if self.changes.in_transaction:
            self.changes.rollback()  # a transaction whose rollback has failed
        try:
            self.changes.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            await self._workers.write(lambda: self._patiently("BEGIN IMMEDIATE"))
        reach(FaultPoint.AFTER_BEGIN)

    async def _commit(self) -> None:
        began = trio.current_time()
        await self._workers.write(self._write_to_disk)
        self._commits.observe(trio.current_time() - began)

    def _write_to_disk(self) -> None:
        reach(FaultPoint.BEFORE_COMMIT)
        self.changes.commit()
        reach(FaultPoint.AFTER_COMMIT)

    def _roll_back(self) -> None:
        # SQLite may have done it already. Where it cannot, `_begin` tries again before it begins anything.
        if self.changes.in_transaction:
            with suppress(sqlite3.Error):
                self.changes.rollback()

    def _patiently(self, statement: str) -> tuple[int, ...]:
        """Run a statement that may have to wait for another program's lock; in a thread."""
        self.changes.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        try:
            row: tuple[int, ...] = self.changes.execute(statement).fetchone() or ()
        finally:
            self.changes.execute("PRAGMA busy_timeout = 0")
        return row

    # --- reads -------------------------------------------------------------------------------------------------------

    async def read(self, read: Callable[[], T]) -> T:
        """Have a thread read from the file, by a connection that `read` opens for itself.

        Raises:
            StoreError: it cannot be read.
        """
        with self.errors():
            return await self._workers.read(read)

    async def read_page(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Have a thread read from `pages`.

        Raises:
            StoreError: the file cannot be read.
        """
        async with self._page_turn:
            return await self.read(lambda: read(self.pages))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises:
        StoreError: instead of what SQLite raises, with the name that SQLite has for it.
        """
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "unknown")
            kind = StoreFull if name == "SQLITE_FULL" else StoreError
            raise kind(f"{self.path}: {error} ({name})") from error

    def commit_seconds(self) -> Distribution:
        return self._commits.statistics()

    def size_bytes(self) -> int:
        """Its size on the disk, with the write-ahead log."""
        return _size_bytes(self.path) + _size_bytes(self.path.with_name(f"{self.path.name}-wal"))


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # there is no log before the first batch
