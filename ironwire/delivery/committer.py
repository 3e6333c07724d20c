"""Group commit: all waiting operations are one batch with one commit; those that come meanwhile are the next
(docs/decisions/0005).

Rules: nobody is told of anything before its commit. Operations for more than one batch go in a fair order
(`protocol/fair.py`): no owner waits for the backlog of another. An ack asks for no commit of its own, answered or not:
it joins the next batch, or is committed after a short quiet.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import inf

import structlog
import trio
from attrs import define, frozen

from ironwire.counting import LATENCY_SECONDS, Distribution, Histogram
from ironwire.errors import StoreError
from ironwire.ids import ClientId
from ironwire.protocol.fair import FairQueue
from ironwire.protocol.holding import Hold
from ironwire.store.contract.faults import FaultPoint, reach
from ironwire.store.contract.operations import Acknowledge, Held, Operation, Result
from ironwire.store.contract.order import held, held_if_refused, lane_of
from ironwire.store.contract.records import MailboxId
from ironwire.store.contract.store import Store

log = structlog.get_logger(__name__)

BATCH_COST = 200
"""A batch ends with the bunch that reaches this cost: all of it is written before any other task runs."""
BUNCH_COST = 100
"""Maximum cost scheduled as one unit per owner. Adjacent operations share socket writes."""
LIGHT_COST = 20
"""A bunch below this cost is light. A batch with a light bunch ends with the first one that is not light, so people who
write wait for the commit of one bunch of a flood, not of two.
"""
TURN_COST = 200
"""Yield to the event loop after results of this cost were told: each of them writes to the sessions it concerns."""
QUIET_SECONDS = 0.05
"""How long acks wait for a batch to join. A commit of their own would delay the next envelope."""
LAST_SECONDS = 5.0
"""How long the acks that wait at the end may take."""

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
"""The bounds of the histogram of batches."""

Settle = Callable[[Result | StoreError], None]
Watcher = Callable[[Operation, Result | StoreError], None]
"""Hears of each operation after its commit, in the order of the commits, or after the failure of its batch."""
_Asked = tuple[ClientId | None, Operation, Settle, int]
"""The owner, the operation, the callback for its result, and its cost."""


@define
class _WaitingAck:
    """An ack of `session` up to a number: the cost of erasing that, and the callbacks that want the result."""

    session: int | None = None
    upto: int = 0
    cost: int = 0
    settles: tuple[Settle, ...] = ()

    def add(self, session: int | None, upto: int, cost: int, settles: tuple[Settle, ...]) -> None:
        self.session = session
        self.upto = max(self.upto, upto)
        self.cost += cost
        self.settles += settles


_Acks = dict[MailboxId, _WaitingAck]


@frozen
class CommitterStatistics:
    """A part of `DeliveryStatistics`, which explains them."""

    operations_waiting: int
    batch_operations: Distribution
    settled_seconds: Distribution


class Committer:
    """The one way into the store. After a commit, each result goes to `watcher` first, and then to the `settle`
    that came with its operation. So the parts that wake up at a change do not depend on who asked for the change.
    """

    def __init__(self, store: Store, watcher: Watcher) -> None:
        self._store = store
        self._watcher = watcher
        self.watchers: dict[type[object], Watcher] = {}
        """Others that hear of some kinds of operations, behind `watcher`."""
        self._arrived: list[_Asked] = []
        """Operations that came since the last batch was put together."""
        self._backlog: FairQueue[ClientId | None, list[_Asked]] = FairQueue()
        """Operations that did not fit into that batch and those before it."""
        self._backlog_size = 0
        """Operations in the backlog."""
        self._acks: _Acks = {}
        self._arrival = trio.lowlevel.ParkingLot()
        self._quiet = trio.CancelScope()
        self._asked_at = 0.0
        """The time at which the oldest waiting operation was asked for, or earlier."""
        self._sizes = Histogram(SIZES)
        self._settled = Histogram(LATENCY_SECONDS)

    @property
    def waiting(self) -> int:
        """Operations that are in no batch yet."""
        return len(self._arrived) + self._backlog_size + len(self._acks)

    def ask(self, owner: ClientId | None, operation: Operation, settle: Settle, cost: int = 1) -> None:
        """Queue an operation for the next batch. The operations of one `owner` are done in the order in which they were
        asked for; None is the server itself. `cost` is in mailbox entries, or in work that takes as long.
        """
        if not self._arrived and not self._backlog_size:
            self._asked_at = trio.current_time()
            self._arrival.unpark()
        self._arrived.append((owner, operation, settle, cost))

    def ack(
        self,
        mailbox: MailboxId,
        upto: int,
        cost: int = 1,
        settle: Settle | None = None,
        *,
        session: int | None = None,
    ) -> None:
        """Queue the erasure of everything up to `upto`, which the device has; a later ack joins one that waits."""
        if not self._acks:
            self._quiet.deadline = trio.current_time() + QUIET_SECONDS
        settles = () if settle is None else (settle,)
        self._acks.setdefault(mailbox, _WaitingAck()).add(session, upto, cost, settles)

    def take_over_ack(self, mailbox: MailboxId, session: int) -> int:
        """Let an ack of a former session that waits count as one of `session`, which begins. Returns the number
        up to which it goes; 0 without one.
        """
        ack = self._acks.get(mailbox)
        if ack is None:
            return 0
        ack.session = session
        return ack.upto

    async def committed(
        self, owner: ClientId | None, operation: Operation, first: Settle = lambda _: None, cost: int = 1
    ) -> Result:
        """The result, after the commit and after `first` was called with it, even if the caller is
        cancelled meanwhile. An error of `first` is raised here.

        Raises:
            StoreError: the store cannot work.
        """
        settled = trio.Event()
        results: list[Result | Exception] = []

        def settle(result: Result | StoreError) -> None:
            try:
                first(result)
                results.append(result)
            except Exception as error:
                results.append(error)
            settled.set()

        self.ask(owner, operation, settle, cost)
        await settled.wait()
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]

    async def run(self) -> None:
        """Commit what waits, batch after batch, until cancelled; acks that wait then are committed still. One task runs
        this.
        """
        try:
            while True:
                reach(FaultPoint.AFTER_REPLIES)
                await self._wait()
                batch = self._next_batch()
                asked_at = self._asked_at
                await self._commit(batch)
                if batch:
                    self._settled.observe(trio.current_time() - asked_at)
        finally:
            with trio.move_on_after(LAST_SECONDS, shield=True):
                while self._acks:
                    await self._commit([])

    def statistics(self) -> CommitterStatistics:
        return CommitterStatistics(self.waiting, self._sizes.statistics(), self._settled.statistics())

    async def _wait(self) -> None:
        if not self._arrived and not self._backlog_size:
            self._quiet = trio.CancelScope(deadline=trio.current_time() + QUIET_SECONDS if self._acks else inf)
            with self._quiet:
                await self._arrival.park()
            await trio.lowlevel.checkpoint()  # sessions that are read in this iteration of the loop join the batch

    def _next_batch(self) -> list[_Asked]:
        """Everything that waits, if it costs no more than a batch may; else the first of it in the fair order."""
        arrived, self._arrived = self._arrived, []
        if not self._backlog_size and _cost(arrived) <= BATCH_COST:
            return arrived
        self._backlog_size += len(arrived)
        for owner, bunch in _bunches(arrived):
            self._backlog.put(owner, bunch, _cost(bunch))
        batch: list[_Asked] = []
        batch_cost, has_light = 0, False
        while self._backlog_size and batch_cost < BATCH_COST:
            bunch = self._backlog.take()
            self._backlog_size -= len(bunch)
            batch += bunch
            cost = _cost(bunch)
            batch_cost += cost
            if cost < LIGHT_COST:
                has_light = True
            elif has_light:
                break
        return batch

    def _next_acks(self) -> _Acks:
        """The oldest waiting acks, up to the cost of a batch: the entries that they erase are overwritten."""
        acks: _Acks = {}
        cost = 0
        while self._acks and cost < BATCH_COST:
            oldest = next(iter(self._acks))
            acks[oldest] = self._acks.pop(oldest)
            cost += acks[oldest].cost
        return acks

    def _take_back(self, acks: _Acks) -> None:
        """Put acks back, ahead of those that came meanwhile."""
        came, self._acks = self._acks, acks
        for mailbox, ack in came.items():
            acks.setdefault(mailbox, _WaitingAck()).add(ack.session, ack.upto, ack.cost, ack.settles)

    async def _commit(self, batch: list[_Asked]) -> None:
        """Commit the batch after the acks that wait, so that it sees the room that they make."""
        batch = _without_held(batch)
        acks = self._next_acks()
        operations: list[Operation] = [Acknowledge(mailbox, ack.upto, ack.session) for mailbox, ack in acks.items()]
        operations += [operation for _, operation, _, _ in batch]
        if not operations:
            return
        self._sizes.observe(len(operations))
        results: list[Result] | list[StoreError]
        try:
            results = await self._store.apply(operations)
        except trio.Cancelled:
            self._take_back(acks)
            raise
        except Exception as error:
            log.exception("nothing of this batch was stored", operations=len(operations))
            results = [StoreError(f"the batch failed: {error}")] * len(operations)
        for ack, result in zip(acks.values(), results, strict=False):
            for settle in ack.settles:
                _tell(settle, result)
        told = 0
        for (_, operation, settle, cost), result in zip(batch, results[len(acks) :], strict=True):
            try:
                self._watcher(operation, result)
            except Exception:
                log.exception("a result could not be told to the watcher", operation=type(operation).__name__)
            watcher = self.watchers.get(type(operation))
            if watcher is not None:
                _tell(partial(watcher, operation), result)
            _tell(settle, result)
            told += cost
            if told >= TURN_COST:
                told = 0
                await trio.lowlevel.checkpoint()


def _without_held(batch: list[_Asked]) -> list[_Asked]:
    """The batch without held operations: an operation that its session sent after a refused one is refused as well. Its
    number is used up, unless the reason was a store that fails.
    """
    kept: list[_Asked] = []
    for asked in batch:
        owner, operation, settle, cost = asked
        lane = lane_of(operation)
        if not isinstance(lane, Hold) or not lane.is_broken:
            kept.append(asked)
            continue
        refusal = None if lane.code is None or lane.code == "internal" else held(operation, lane.code)
        if refusal is None:
            _tell(settle, Held())
        else:
            kept.append((owner, refusal, partial(_settle_held, settle), cost))
    return kept


def _tell(settle: Settle, result: Result | StoreError) -> None:
    """Call one callback. Its error must not keep the rest of the batch from being told."""
    try:
        settle(result)
    except Exception:
        log.exception("a result could not be told", result=type(result).__name__)


def _settle_held(settle: Settle, result: Result | StoreError) -> None:
    settle(result if isinstance(result, StoreError) else held_if_refused(result))


def _bunches(arrived: list[_Asked]) -> Iterator[tuple[ClientId | None, list[_Asked]]]:
    """The operations of each owner, in order, in bunches of at most `BUNCH_COST`."""
    bunches: dict[ClientId | None, list[_Asked]] = {}
    costs: dict[ClientId | None, int] = {}
    for asked in arrived:
        owner, _, _, cost = asked
        costs[owner] = costs.get(owner, 0) + cost
        if owner in bunches and costs[owner] > BUNCH_COST:
            yield owner, bunches.pop(owner)
            costs[owner] = cost
        bunches.setdefault(owner, []).append(asked)
    yield from bunches.items()


def _cost(asked: list[_Asked]) -> int:
    return sum(cost for _, _, _, cost in asked)
