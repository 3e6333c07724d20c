"""Group commit: all that waits is one batch with one commit, what comes meanwhile is the next (docs/decisions/0005).

Rule: nobody is told of anything before its commit. An ack promises nothing to anyone, so it asks for no commit of its
own: it rides with the next batch, or goes after a short quiet.
"""

from collections.abc import Callable
from math import inf

import structlog
import trio
from attrs import frozen

from ironwire.counting import LATENCY_SECONDS, Distribution, Histogram
from ironwire.errors import StoreError
from ironwire.store.base import Store
from ironwire.store.operations import Ack, Operation, Result
from ironwire.store.records import MailboxId

log = structlog.get_logger(__name__)

BATCH_COST = 1_000
"""A batch ends with the operation that reaches it: all of it is written before anybody else has a turn."""
QUIET_SECONDS = 0.05
"""How long acks wait for a batch to ride with. A commit for them alone would stand in the way of the next envelope."""
LAST_SECONDS = 5.0
"""How long the acks that wait at the end may take."""

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, BATCH_COST)
"""The bounds of the histogram of batches."""

Settle = Callable[[Result | StoreError], None]
_Asked = tuple[Operation, Settle, int]
"""With what it costs."""


@frozen
class CommitterStatistics:
    """A part of `DeliveryStatistics`, which explains them."""

    operations_waiting: int
    batch_operations: Distribution
    settled_seconds: Distribution


class Committer:
    """The one way into the store. `settle` is called with the result of what was asked, after its commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: list[_Asked] = []
        self._acks: dict[MailboxId, int] = {}
        self._arrival = trio.lowlevel.ParkingLot()
        self._quiet = trio.CancelScope()
        self._asked_at = 0.0
        """When the first of the queue was asked for, or what a full batch left behind, or earlier."""
        self._sizes = Histogram(SIZES)
        self._settled = Histogram(LATENCY_SECONDS)

    @property
    def waiting(self) -> int:
        """Operations that are in no batch yet."""
        return len(self._queue) + len(self._acks)

    def ask(self, operation: Operation, settle: Settle, cost: int = 1) -> None:
        """`cost` is how many places in mailboxes it takes, or what takes as long."""
        if not self._queue:
            self._asked_at = trio.current_time()
        self._queue.append((operation, settle, cost))
        self._arrival.unpark()

    def ack(self, mailbox: MailboxId, upto: int) -> None:
        """What the device has up to `upto` may be erased; an ack that follows takes the place of one that waits."""
        if not self._acks:
            self._quiet.deadline = trio.current_time() + QUIET_SECONDS
        self._acks[mailbox] = upto

    async def committed(self, operation: Operation, first: Settle = lambda _: None, cost: int = 1) -> Result:
        """The result, after the commit and after `first` was called with it, whatever becomes of the caller meanwhile.

        Raises:
            StoreError: the store cannot work.
        """
        settled = trio.Event()
        results: list[Result | StoreError] = []

        def settle(result: Result | StoreError) -> None:
            first(result)
            results.append(result)
            settled.set()

        self.ask(operation, settle, cost)
        await settled.wait()
        if isinstance(results[0], StoreError):
            raise results[0]
        return results[0]

    async def run(self) -> None:
        """Commit what waits, batch after batch, until cancelled; acks that wait then are committed still. One task runs
        this.
        """
        try:
            while True:
                await self._wait()
                batch = self._next_batch()
                self._queue = self._queue[len(batch) :]
                asked_at = self._asked_at
                await self._commit(batch)
                if batch:
                    self._settled.observe(trio.current_time() - asked_at)
        finally:
            with trio.move_on_after(LAST_SECONDS, shield=True):
                await self._commit([])

    def statistics(self) -> CommitterStatistics:
        return CommitterStatistics(self.waiting, self._sizes.statistics(), self._settled.statistics())

    async def _wait(self) -> None:
        if not self._queue:
            self._quiet = trio.CancelScope(deadline=trio.current_time() + QUIET_SECONDS if self._acks else inf)
            with self._quiet:
                await self._arrival.park()
        await trio.lowlevel.checkpoint()  # who has been read in this turn of the loop comes along

    def _next_batch(self) -> list[_Asked]:
        """The first of the queue, as many as may keep the event loop from everybody else."""
        room = BATCH_COST
        for size, (_, _, cost) in enumerate(self._queue, start=1):
            room -= cost
            if room <= 0:
                return self._queue[:size]
        return self._queue

    async def _commit(self, batch: list[_Asked]) -> None:
        """These, after all acks that wait: what they make room for is seen."""
        acks, self._acks = self._acks, {}
        operations: list[Operation] = [Ack(mailbox, upto) for mailbox, upto in acks.items()]
        operations += [operation for operation, _, _ in batch]
        if not operations:
            return
        self._sizes.observe(len(operations))
        results: list[Result] | list[StoreError]
        try:
            results = (await self._store.apply(operations))[len(acks) :]
        except trio.Cancelled:
            self._acks = acks | self._acks
            raise
        except Exception as error:
            log.exception("nothing of this batch was stored", operations=len(operations))
            results = [StoreError(f"the batch failed: {error}")] * len(batch)
        for (_, settle, _), result in zip(batch, results, strict=True):
            settle(result)
