"""A store whose disk takes its time."""

from collections.abc import Callable, Sequence

import trio

from ironwire.store.contract.operations import Append, Operation, Result
from ironwire.store.contract.records import Quota
from ironwire.store.memory.store import MemoryStore


class SlowStore(MemoryStore):
    """Takes a virtual second for a batch, and notes how many envelopes it had."""

    envelopes: list[int]

    async def open(self) -> None:
        self.envelopes = []
        await super().open()

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        self.envelopes.append(sum(isinstance(operation, Append) for operation in batch))
        await trio.sleep(1)
        return await super().apply(batch)


def slow_stores(opened: list[SlowStore] | None = None) -> Callable[[Quota], SlowStore]:
    """The store of a stage; added to `opened` where that is given."""

    def open_store(quota: Quota) -> SlowStore:
        store = SlowStore(quota)
        if opened is not None:
            opened.append(store)
        return store

    return open_store
