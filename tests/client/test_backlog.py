"""What a device has queued, where somebody's mailbox is full: nobody else waits, and nothing overtakes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import trio
from attrs import define, field

from ironwire.client.connection.outgoing import Pending
from ironwire.client.events import EventQueue
from ironwire.client.store.backlog import Backlog
from ironwire.client.store.sealed import StoreKey
from ironwire.client.store.store import LocalStore
from ironwire.client.store.write_queue import WriteQueue
from ironwire.ids import Address
from ironwire.wire.messages import Text
from tests.client.test_offline import BOB, CAROL, OWNER

T = TypeVar("T")


@define(eq=False)
class Desk:
    """A backlog on a real file, whose disk can be made to wait; and what it had sent."""

    path: Path
    resting: set[Address] = field(factory=lambda: {BOB})
    launched: list[str] = field(factory=list)
    disk: trio.Event = field(factory=trio.Event)
    backlog: Backlog = field(init=False)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        self.disk.set()
        store = LocalStore(self.path, self._in_thread)
        async with store.opened(OWNER, StoreKey(b"k" * 32)), trio.open_nursery() as nursery:
            write_queue = WriteQueue(store)
            self.backlog = Backlog(write_queue, EventQueue(), self._launch, lambda _: None)
            nursery.start_soon(write_queue.run)
            nursery.start_soon(self.backlog.run, self.resting)
            await self.settle()
            yield
            nursery.cancel_scope.cancel()

    async def queue(self, to: Address, text: str) -> None:
        await self.backlog.queue([Text(to, text)])
        await self.settle()

    def wake(self) -> None:
        """Those that rest rest no longer."""
        self.resting.clear()
        self.backlog.note_moved()

    async def settle(self) -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)

    def _launch(self, pending: Pending) -> None:
        assert isinstance(pending.message, Text)
        self.launched.append(pending.message.text)

    async def _in_thread(self, work: Callable[[], T], /) -> T:
        with trio.CancelScope(shield=True):
            result = work()
            await self.disk.wait()
        return result


async def test_what_rests_in_the_file_holds_up_nobody_else(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "phone.db")
    async with desk.opened():
        await desk.queue(BOB, "to him")
        await desk.queue(CAROL, "to her")
        assert desk.launched == ["to her"]
        desk.wake()
        await desk.settle()
        assert desk.launched == ["to her", "to him"]


async def test_what_rested_while_the_file_was_read_is_looked_for_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "phone.db")
    async with desk.opened():
        await desk.queue(BOB, "1")
        desk.disk = trio.Event()
        desk.backlog.note_moved()
        await desk.settle()
        desk.wake()
        desk.disk.set()
        await desk.settle()
        await desk.queue(BOB, "2")
        assert desk.launched == ["1", "2"]
