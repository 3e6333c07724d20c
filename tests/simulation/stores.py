"""Both stores without threads: the disk takes as many turns of the loop as chance says, which comes from a seed."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Literal, TypeVar

import trio

from ironwire.store.contract.records import Quota
from ironwire.store.contract.store import Store
from ironwire.store.memory.store import MemoryStore
from ironwire.store.sqlite.store import SqliteStore

T = TypeVar("T")

Kind = Literal["memory", "sqlite"]
KINDS: tuple[Kind, ...] = ("memory", "sqlite")
MOST_TURNS = 8


class VirtualDisk:
    """Workers without a thread. No time passes: a server starts while none may."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    async def write(self, work: Callable[[], T]) -> T:
        with trio.CancelScope(shield=True):
            for _ in range(self._chance.randint(0, MOST_TURNS)):
                await trio.lowlevel.checkpoint()
        return work()

    async def read(self, work: Callable[[], T]) -> T:
        return await self.write(work)

    def close(self) -> None:
        pass


class CrashingStore(SqliteStore):
    """Ends like a store whose process was killed: what it finds in its journal at the next start, it has to recover."""

    async def close(self) -> None:
        async with self._turn, self._database.closing():
            pass


@contextmanager
def stores(kind: Kind, chance: Random) -> Iterator[Callable[[Quota], Store]]:
    """Makes stores of this kind, of which a durable one finds its file where the one before it left it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ironwire.db"
        if kind == "memory":
            yield MemoryStore
        else:
            yield lambda quota: CrashingStore(path, quota, lambda: VirtualDisk(chance))
