"""The durable store in one SQLite file, written by one writer in batches."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TypeVar

import structlog
import trio

from ironwire.errors import StoreError
from ironwire.ids import Address, BackupName, ClientId, DeviceId, GroupId, MessageId
from ironwire.store.contract.backups import BackupRefusal
from ironwire.store.contract.device_log import LogPage
from ironwire.store.contract.directory import Group, Membership
from ironwire.store.contract.faults import FaultPoint, reach
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.maintenance import Erased, Expired, StoreStatistics
from ironwire.store.contract.operations import Known, Operation, Result
from ironwire.store.contract.records import Archived, Entry, Mailbox, MailboxId, Quota
from ironwire.store.sqlite.backups import put_backup, read_backup
from ironwire.store.sqlite.copy import copy_file
from ironwire.store.sqlite.database import Database, Threads, Workers
from ironwire.store.sqlite.device_log import read_log
from ironwire.store.sqlite.directory import DirectoryReader, put_ban, read_bans, take_ban
from ironwire.store.sqlite.losses import read_losses
from ironwire.store.sqlite.mailboxes import MailboxCache
from ironwire.store.sqlite.memtable import message_key
from ironwire.store.sqlite.pages import read_archived, read_entries, read_newest_ms
from ironwire.store.sqlite.writer import Writer

log = structlog.get_logger(__name__)

T = TypeVar("T")


class SqliteGlance:
    """The caches of the store, and a look-up on the event loop on a miss. `turn` is held while a batch is under way."""

    _mailboxes: MailboxCache
    _directory: DirectoryReader

    def __init__(self, database: Database, turn: trio.Lock) -> None:
        self._database = database
        self._turn = turn
        self.banned: set[ClientId] = set()
        """Kept up to date by the store."""

    def open(self, mailboxes: MailboxCache, directory: DirectoryReader, banned: set[ClientId]) -> None:
        self._mailboxes, self._directory, self.banned = mailboxes, directory, banned

    def mailbox_count(self, client: ClientId) -> int:
        boxes = self._mailboxes.cached.get(client)
        if boxes is None:
            if not self._turn.locked():
                self._mailboxes.trim()
            with self._database.errors():
                boxes = self._mailboxes.of(client)
        return len(boxes)

    def mailbox_counts(self, clients: Iterable[ClientId]) -> list[int]:
        if not self._turn.locked():
            self._mailboxes.trim()
        with self._database.errors():
            return [*map(len, self._mailboxes.of_all(clients))]

    def group(self, group: GroupId) -> Group | None:
        with self._database.errors():
            return self._directory.group(group)

    def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        blocks = self._directory.blocks.get(client)  # first: to enter the context below costs more than all else here
        if blocks is None:
            with self._database.errors():
                blocks = self._directory.blocks_of(client)
        return blocks

    def is_banned(self, client: ClientId) -> bool:
        return client in self.banned


class SqliteStore:
    """The store in the file at `path`. One process at a time may have it open.

    Args:
        open_workers: makes the threads that wait for the disk; a simulation has none.
    """

    _writer: Writer
    _mailboxes: MailboxCache
    _directory: DirectoryReader

    def __init__(self, path: Path, quota: Quota, open_workers: Callable[[], Workers] = Threads) -> None:
        self._quota = quota
        self._database = Database(path, open_workers)
        self._turn = trio.Lock()
        self._copy_turn = trio.Lock()
        self.glance = SqliteGlance(self._database, self._turn)
        self._is_failing = False
        self._batches = 0
        self._operations = 0

    async def open(self) -> None:
        await self._database.open(self._prepare)

    async def close(self) -> None:
        async with self._turn, self._database.closing():
            try:
                await self._checkpoint()
            except StoreError as error:
                log.warning("the journal stays as it is until the next start", reason=str(error))

    def _prepare(self) -> None:
        database = self._database
        self._writer = Writer(database.changes, database.lookups, self._quota)
        self._mailboxes = self._writer.mailboxes
        self._directory = DirectoryReader(database.lookups)
        self.glance.open(self._mailboxes, self._directory, read_bans(database.lookups))

    # --- changes -----------------------------------------------------------------------------------------------------

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        async with self._prompt_turn():
            self._mailboxes.trim()
            try:
                results = await self._transaction(lambda: self._writer.apply(batch), in_thread=False)
            finally:
                self._directory.forget_changed(batch)
            self._batches += 1
            self._operations += len(batch)
            reach(FaultPoint.BEFORE_REPLIES)
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
        reach(FaultPoint.EXPIRED)
        return expired

    async def erase(self, client: ClientId) -> Erased:
        async with self._turn:
            erased = await self._transaction(lambda: self._writer.erase(client), in_thread=True)
            self._writer.recover()
            self._directory.forget_blocks(client)
            self._batches += 1
            return erased

    async def ban(self, client: ClientId, now_ms: int) -> bool:
        async with self._turn:
            changes = self._database.changes
            is_news = await self._transaction(lambda: put_ban(changes, client, now_ms), in_thread=False)
            self.glance.banned.add(client)
            return is_news

    async def unban(self, client: ClientId) -> bool:
        async with self._turn:
            is_news = await self._transaction(lambda: take_ban(self._database.changes, client), in_thread=False)
            self.glance.banned.discard(client)
            return is_news

    async def keep_backup(self, client: ClientId, name: BackupName, body: bytes, now_ms: int) -> BackupRefusal | None:
        most_bytes = self._quota.backup_bytes
        async with self._turn:
            changes = self._database.changes
            return await self._transaction(
                lambda: put_backup(changes, client, name, body, now_ms, most_bytes), in_thread=True
            )

    async def copy_to(self, path: Path) -> None:
        """Put a consistent copy, as of some moment of this call, at `path`: whole, or not at all. Everything else goes
        on meanwhile; only what was erased stays in the log until the copy is done.

        Raises:
            StoreError: it cannot be made.
        """
        async with self._copy_turn:
            try:
                await self._database.read(lambda: self._copy(path))
            except OSError as error:
                raise StoreError(f"{path} cannot be written: {error.strerror}") from error

    def _copy(self, path: Path) -> None:
        source = f"{self._database.path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(source, uri=True)) as database:
            copy_file(database, path, self._empty_journal)

    def _empty_journal(self, copy: sqlite3.Connection) -> None:
        """Checkpoint everything, so that a copy has all of it in its tables."""
        copy.execute("PRAGMA secure_delete = ON")
        writer = Writer(copy, copy, self._quota)
        copy.execute("BEGIN IMMEDIATE")
        writer.checkpoint()
        copy.execute("COMMIT")

    async def scrub(self) -> None:
        reach(FaultPoint.BEFORE_SCRUB)
        # A copy under way reads the log: to wait for its end while nobody else may write would take too long.
        async with self._copy_turn, self._turn:
            await self._transaction(self._checkpoint_and_mark, in_thread=False)
            is_overwritten = await self._database.overwrite_log()
        if not is_overwritten:
            path = self._database.path
            raise StoreError(f"{path}: another program keeps the log from being overwritten: end it")
        reach(FaultPoint.SCRUBBED)

    async def checkpoint(self) -> None:
        async with self._turn:
            await self._checkpoint()

    async def _checkpoint(self) -> None:
        if not self._mailboxes.is_checkpointed:
            await self._transaction(self._writer.checkpoint, in_thread=False)

    def _checkpoint_and_mark(self) -> None:
        """Checkpoint, and make the smallest change that reaches the disk: there may be nothing to checkpoint."""
        self._writer.checkpoint()
        changes = self._database.changes
        number = changes.execute("PRAGMA user_version").fetchone()[0]
        changes.execute(f"PRAGMA user_version = {number}")

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
        """As `Database.transaction`; the caches follow it, whichever way it ends."""
        try:
            result = await self._database.transaction(change, in_thread=in_thread)
        except BaseException as error:
            if isinstance(error, StoreError):
                self._is_failing = True
            with suppress(sqlite3.Error, StoreError):
                self._writer.recover()
            raise
        self._is_failing = False
        self._mailboxes.commit()
        return result

    # --- exact reads -------------------------------------------------------------------------------------------------
    # Those without a checkpoint find what is committed in a cache, or by a look-up on the event loop.

    async def mailboxes_of(self, client: ClientId) -> Sequence[Mailbox]:
        with self._database.errors():
            return self._mailboxes.committed(client)

    async def recall(self, sender: ClientId, device: DeviceId | None, id: MessageId, digest: bytes) -> Known | None:  # noqa: A002  # the frame's
        with self._database.errors():
            return self._writer.recall(message_key(sender, device, id), digest)

    async def group(self, group: GroupId) -> Group | None:
        return self.glance.group(group)

    async def groups_of(self, client: ClientId) -> Sequence[Membership]:
        with self._database.errors():
            return self._directory.groups_of(client)

    async def device_log(self, client: ClientId, *, first: int, limit: int) -> LogPage | None:
        with self._database.errors():
            return read_log(self._database.lookups, client, first, limit)

    async def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        return self.glance.blocks_of(client)

    async def losses(self, mailbox: MailboxId, first: int, last: int) -> Sequence[Loss]:
        with self._database.errors():
            return read_losses(self._database.lookups, mailbox, first, last)

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        while self._mailboxes.is_in_doubt(mailbox):
            async with self._turn:
                pass
        with self._database.errors():
            recent = self._mailboxes.committed_entries(mailbox, after)  # first: what a checkpoint moves is in both
        entries, is_cut = await self._database.read_page(lambda pages: read_entries(pages, mailbox, after, limit))
        if is_cut:
            return entries
        last = entries[-1].seq if entries else after
        return [*entries, *(entry for entry in recent if entry.seq > last)][:limit]

    async def read_history(self, client: ClientId, peer: Address, *, before: int | None, limit: int) -> list[Archived]:
        if self._mailboxes.memtable.have_archived:
            await self.checkpoint()
        return await self._database.read_page(lambda pages: read_archived(pages, client, peer, before, limit))

    async def backup(self, name: BackupName) -> bytes | None:
        return await self._database.read_page(lambda pages: read_backup(pages, name))

    async def newest_ms(self) -> int | None:
        await self.checkpoint()
        return await self._database.read_page(read_newest_ms)

    def statistics(self) -> StoreStatistics:
        depth = self._mailboxes.depth
        return StoreStatistics(
            self._batches,
            self._operations,
            self._is_failing,
            commit_seconds=self._database.commit_seconds(),
            mailboxes=depth.mailboxes,
            waiting_envelopes=depth.waiting,
            waiting_bytes=depth.waiting_bytes,
            file_bytes=self._database.size_bytes(),
        )
