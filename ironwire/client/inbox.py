"""Events for the program of a device: deliveries from the store, each once, and in between what happened besides.

Exactly once means: a delivery is finished when the program asks for the next event, or leaves the client's block
without an exception. That is kept before the next event comes out. A program that ends before sees the delivery again
when it returns, as the first one, and never sees one again that it has finished.
"""

from collections import deque

import trio
from attrs import define, field

from ironwire.client.events import Event, EventQueue, Lost, Received
from ironwire.client.store.records import Finish, Kept
from ironwire.client.store.write_queue import WriteQueue
from ironwire.errors import ClientError
from ironwire.ids import GroupId, is_group
from ironwire.wire.messages import Gap

PAGE_ENTRIES = 100


@define(eq=False)
class Inbox:
    """One task at a time asks for events: only so is it clear which delivery is finished."""

    _write_queue: WriteQueue
    _aside: EventQueue = field(factory=EventQueue, init=False)
    _page: deque[Kept] = field(factory=deque, init=False)
    _read_upto: int = field(default=0, init=False)
    """The store has no unfinished entry up to here that was not in a page."""
    _handed_out: int | None = field(default=None, init=False)
    _is_asked: bool = field(default=False, init=False)

    def put(self, event: Event) -> None:
        """Something happened that is not kept; it comes out behind everything that is stored by now."""
        self._aside.put(event, after=self._write_queue.store.last_number)

    def wake(self) -> None:
        """Something was stored."""
        self._aside.wake()

    def end(self, error: ClientError) -> None:
        """Nothing more will come: `get` raises `error` once everything was handed out."""
        self._aside.end(error)

    async def get(self) -> Event:
        """The next event; the one before is finished.

        Raises:
            ClientError: the one that ended it, or the store cannot be used.
            trio.BusyResourceError: another task waits for an event.
        """
        if self._is_asked:
            raise trio.BusyResourceError("another task waits for this client's events")
        self._is_asked = True
        try:
            await trio.lowlevel.checkpoint()
            await self.finish()
            return await self._next()
        finally:
            self._is_asked = False

    async def finish(self) -> None:
        """The program is done with the last event.

        Raises:
            ClientError: it could not be kept.
        """
        if self._handed_out is not None:
            await self._write_queue.commit(Finish(self._handed_out))
            self._handed_out = None

    async def _next(self) -> Event:
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()  # that ends the writer of the file too: it is not why
            self._write_queue.check()
            await self._turn_page()
            # No checkpoint from here to the wait: what is stored in between would not be noticed.
            event = self._aside.take(before=self._page[0].number if self._page else None)
            if event is not None:
                return event
            if self._page:
                kept = self._page.popleft()
                self._handed_out = kept.number
                return _event(kept)
            await self._aside.wait()

    async def _turn_page(self) -> None:
        store = self._write_queue.store
        while not self._page and self._read_upto < (newest := store.last_number):
            self._page.extend(await store.unseen(after=self._read_upto, limit=PAGE_ENTRIES))
            self._read_upto = self._page[-1].number if self._page else newest


def _event(kept: Kept) -> Event:
    message, id_, seq = kept.frame
    if isinstance(message, Gap):
        groups = tuple(GroupId(each) for each in message.groups or () if is_group(each))
        return Lost(message.first, message.last, message.reason, groups, message.more_groups)
    return Received(message, id_, seq, kept.content)
