"""A device's store for async callers: every call runs in a thread, as a whole, and one at a time.

COMMIT waits for the disk, and any other statement may have to wait for a COMMIT; a second way for those that are quick
most of the time would save a tenth of a millisecond and could stall the program. What is to be committed comes in
batches anyway (`write_queue.py`).
"""

import sqlite3
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import trio
from attrs import define, field

from ironwire.client.errors import LocalStoreError
from ironwire.client.store.file import LocalFile, as_local_store_error
from ironwire.client.store.records import Change, Conversation, HistoryEntry, Kept, Numbered, Owner, QueuedMessage
from ironwire.client.store.sealed import StoreKey
from ironwire.client.store.secrets import KeptSecrets
from ironwire.e2e.conversations.effects import Recalled
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId
from ironwire.wire.messages import Accepted, Error

T = TypeVar("T")


class InThread(Protocol):
    """Does `work`, which blocks, and waits for it even when cancelled."""

    async def __call__(self, work: Callable[[], T], /) -> T: ...


async def in_thread(work: Callable[[], T], /) -> T:
    return await trio.to_thread.run_sync(work)


@define(eq=False)
class LocalStore:
    """The store in the file at `path`, to be opened by the one client that uses it.

    `in_thread` is how to wait for the disk: a simulation, whose clock knows no threads, has its own way.
    """

    path: Path
    _in_thread: InThread = in_thread
    _turn: trio.Lock = field(factory=trio.Lock, init=False)
    _file: LocalFile | None = field(default=None, init=False)

    @asynccontextmanager
    async def opened(self, owner: Owner, key: StoreKey) -> AsyncGenerator[None]:
        """Have the file until the end of the block.

        Raises:
            LocalStoreError: another program has it, it belongs to another device, or it cannot be read or written.
        """
        try:
            await self._run(lambda: self._open(owner, key))
            yield
        finally:
            with trio.CancelScope(shield=True):
                await self._run(self._close)

    @property
    def last_number(self) -> int:
        """The newest entry there has been."""
        return self._opened.last_number

    async def apply(self, changes: Sequence[Change]) -> None:
        """Make the changes in their order: all of them or none.

        Raises:
            LocalStoreError: the disk is full, or fails.
        """
        await self._run(lambda: self._opened.apply(changes))

    async def unseen(self, *, after: int, limit: int) -> list[Kept]:
        """The deliveries behind entry `after` that the program has not finished, in the order of arrival.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.unseen(after, limit))

    async def queued(self, *, limit: int, skipped: Collection[Address] = (), after: int = 0) -> list[QueuedMessage]:
        """The first messages behind entry `after` that have to be sent, in the order in which they were queued, without
        those to `skipped`.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.queued(limit, [*skipped], after))

    async def sent(self, ids: Collection[MessageId]) -> dict[MessageId, Accepted | Error | None]:
        """Those of `ids` under which this device has sent or queued a message, with the server's reply if there is one.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.sent(ids))

    async def numbered(self) -> Numbered:
        """The messages that may have been sent when the device ended, by their numbers.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.numbered())

    async def position(self) -> int:
        """The last number of the mailbox that this device has dealt with.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.position())

    async def mark(self) -> int:
        """How often the file was opened and closed by a device that encrypts.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.mark())

    async def secrets(self) -> KeptSecrets:
        """What the engine of encrypted conversations is restored from.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.secrets())

    async def was_opened(self, sender: ClientId, device: DeviceId, message_id: MessageId) -> bool:
        """Whether an encrypted message with this id has come before, of this client and device.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.was_opened(sender, device, message_id))

    async def recall(self, to: Address, ids: Collection[MessageId]) -> list[Recalled]:
        """Those of `ids` under which this device has sent encrypted messages to `to`.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.recall(to, ids))

    async def count_queued(self) -> int:
        """How many messages have to be sent.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.count_queued())

    async def history(self, peer: Address, limit: int, before: int | None = None) -> list[HistoryEntry]:
        """The last `limit` entries of the conversation with `peer`, of those before entry `before`; oldest first.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.history(peer, limit, before))

    async def conversations(self) -> list[Conversation]:
        """Every conversation, the one that changed last first.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.conversations())

    async def group_names(self) -> dict[GroupId, str]:
        """The own name of each group, as far as the changes that are kept tell it.

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: self._opened.group_names())

    async def look_up(self, query: Callable[[sqlite3.Connection, Owner], T]) -> T:
        """What `query` finds in the file, which changes nothing (`history_parts.py` has some).

        Raises:
            LocalStoreError: the file cannot be read.
        """
        return await self._run(lambda: query(*self._opened.content))

    @property
    def _opened(self) -> LocalFile:
        if self._file is None:
            raise LocalStoreError(f"{self.path} is not open: its client has left")
        return self._file

    async def _run(self, work: Callable[[], T]) -> T:
        async with self._turn:
            with as_local_store_error(self.path):
                return await self._in_thread(work)

    def _open(self, owner: Owner, key: StoreKey) -> None:
        self._file = LocalFile.open(self.path, owner, key)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
