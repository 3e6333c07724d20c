"""The one writer of a device's store: whatever comes up while a commit runs goes into the next.

Rule: nobody is told of a change before it is kept. So every change comes with what follows from it, and that is called
after the commit, in the order of the changes.
"""

from collections.abc import Callable

import trio
from attrs import define, field

from ironwire.client.store.records import Change
from ironwire.client.store.store import LocalStore
from ironwire.errors import ClientError

MOST_WAITING = 1_000
"""Changes that wait for the disk; with more, the client reads no further. A server that minds its window (section 5)
never gets here."""

Then = Callable[[ClientError | None], None]
"""Called after the commit: with None once the change is kept, or why that is not known and never will be."""


@define(eq=False)
class WriteQueue:
    """`run` it in one task."""

    store: LocalStore
    _waiting: list[tuple[Change | None, Then]] = field(factory=list, init=False)
    _under_way: list[tuple[Change | None, Then]] = field(factory=list, init=False)
    _work: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _room: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _end: ClientError | None = field(default=None, init=False)

    def put(self, change: Change | None, then: Then) -> None:
        """Keep `change`, then do `then`. Without a change, only wait for those before it."""
        if self._end is not None:
            then(self._end)
            return
        self._waiting.append((change, then))
        self._work.unpark()

    async def commit(self, change: Change | None) -> None:
        """Return once `change` is kept, and everything that was put before.

        Raises:
            ClientError: the write_queue has ended.
        """
        settled = trio.Event()
        outcome: list[ClientError | None] = []

        def then(error: ClientError | None) -> None:
            outcome.append(error)
            settled.set()

        self.put(change, then)
        await settled.wait()
        if outcome[0] is not None:
            raise outcome[0]

    def check(self) -> None:
        """Raises:
        ClientError: it has ended, for that reason.
        """
        if self._end is not None:
            raise self._end

    async def wait_room(self) -> None:
        """Return once few enough changes wait."""
        while len(self._waiting) >= MOST_WAITING:
            await self._room.park()

    async def run(self) -> None:
        """Keep what is put, for ever.

        Raises:
            LocalStoreError: the store cannot be written; nothing of the last batch was kept.
        """
        while True:
            if not self._waiting:
                await self._work.park()
            self._under_way, self._waiting = self._waiting, []
            self._room.unpark_all()
            changes = [change for change, _ in self._under_way if change is not None]
            if changes:
                await self.store.apply(changes)
            else:
                await trio.lowlevel.checkpoint()
            kept, self._under_way = self._under_way, []
            for _, then in kept:
                then(None)

    def end(self, error: ClientError) -> None:
        """Nothing more is kept; whoever waits is told `error`. `run` must have ended, or be about to."""
        self._end = self._end or error
        left, self._under_way, self._waiting = [*self._under_way, *self._waiting], [], []
        for _, then in left:
            then(self._end)
        self._room.unpark_all()
