"""Every store, behind one fixture: a new store joins the suite by one line here."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from ironwire.store.contract.records import Quota
from ironwire.store.contract.store import Store
from ironwire.store.memory.store import MemoryStore
from ironwire.store.sqlite.store import SqliteStore
from tests.contract.builders import WIDE

MAKERS: dict[str, Callable[[Path, Quota], Store]] = {
    "memory": lambda folder, quota: MemoryStore(quota),
    "sqlite": lambda folder, quota: SqliteStore(folder / "ironwire.db", quota),
}

OpenStore = Callable[[Quota], AbstractAsyncContextManager[Store]]


@pytest.fixture(params=MAKERS)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """`async with open_store(quota) as store`."""

    @asynccontextmanager
    async def opened(quota: Quota) -> AsyncIterator[Store]:
        store = MAKERS[request.param](tmp_path, quota)
        await store.open()
        yield store
        await store.close()

    return opened


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    """An open store with room for everything."""
    async with open_store(WIDE) as opened:
        yield opened
