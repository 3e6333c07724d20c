"""Stores whose batches commit one by one, when a test says so."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import trio
from trio.testing import wait_all_tasks_blocked

from ironwire.store.contract.operations import Operation, Result
from ironwire.store.contract.records import Entry, MailboxId, Quota
from ironwire.store.memory.store import MemoryStore
from ironwire.store.sqlite.store import SqliteStore
from tests.house import LIMITS

QUOTA = Quota.of(LIMITS)
READ_TURNS = 10

T = TypeVar("T")


class Commits(Generic[T]):
    """Let batches commit one by one, and note what happened, in order. The first `free` of them need not wait."""

    def __init__(self, free: int) -> None:
        self.happened: list[tuple[Operation, Result] | T] = []
        """Every operation with its result, and what the test adds."""
        self._permits = trio.Semaphore(free)
        self._running = 0
        self._ended = trio.Event()

    @property
    def are_asked_for(self) -> bool:
        return self._permits.statistics().tasks_waiting > 0

    async def apply(
        self, apply: Callable[[Sequence[Operation]], Awaitable[list[Result]]], batch: Sequence[Operation]
    ) -> list[Result]:
        await self._permits.acquire()
        with self.under_way():
            results = await apply(batch)
            self.happened += zip(batch, results, strict=True)
        return results

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Have `let` and `wait` wait for the block, which may run in a thread."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._ended.set()

    async def let(self, count: int = 1) -> None:
        """Let the batch commit that waits, and up to `count - 1` that follow, without a pause in between. Returns when
        everybody was told.
        """
        if self.are_asked_for:
            self.let_freely(count)
            await self.wait()
            while self._permits.value:
                self._permits.acquire_nowait()

    async def wait(self) -> None:
        """Return when nobody has anything left to do, in threads too, but for the batches that need a permit."""
        await wait_all_tasks_blocked()
        while self._running:
            self._ended = trio.Event()
            await self._ended.wait()
            await wait_all_tasks_blocked()

    def let_freely(self, count: int) -> None:
        """So many batches need not wait."""
        for _ in range(count):
            self._permits.release()


class SteppedMemory(MemoryStore):
    def __init__(self, commits: Commits[T]) -> None:
        super().__init__(QUOTA)
        self._noted = commits

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        return await self._noted.apply(super().apply, batch)

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        """Slow, as a disk is: a batch may commit meanwhile."""
        for _ in range(READ_TURNS):
            await trio.lowlevel.checkpoint()
        return await super().read(mailbox, after=after, limit=limit)


class SteppedSqlite(SqliteStore):
    def __init__(self, path: Path, commits: Commits[T]) -> None:
        super().__init__(path, QUOTA)
        self._noted = commits

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        return await self._noted.apply(super().apply, batch)

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        with self._noted.under_way():
            return await super().read(mailbox, after=after, limit=limit)
