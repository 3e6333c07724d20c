"""Group commit: all that waits is one batch with one commit, what comes meanwhile is the next (docs/decisions/0005).

Rules: nobody is told of anything before its commit. What is more than one batch goes in a fair order
(`protocol/fair.py`): nobody waits for what others have piled up. An ack asks for no commit of its own, answered or not:
it rides with the next batch, or goes after a short quiet.
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
"""A batch ends with the bunch that reaches it: all of it is written before anybody else has a turn."""
BUNCH_COST = 100
"""Maximum cost scheduled as one unit per owner. Adjacent operations share socket writes."""
LIGHT_COST = 20
"""What one owner asks for at a time is light below this. A batch that has something light ends with the first bunch
that is not: people who write wait for the commit of one bunch of what others pile up, not for two.
"""
TURN_COST = 200
"""After so much of a batch has been told, everybody else has a turn: who is told writes to whom it concerns."""
QUIET_SECONDS = 0.05
"""How long acks wait for a batch to ride with. A commit for them alone would stand in the way of the next envelope."""
LAST_SECONDS = 5.0
"""How long the acks that wait at the end may take."""

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
"""The bounds of the histogram of batches."""

Settle = Callable[[Result | StoreError], None]
Watcher = Callable[[Operation, Result | StoreError], None]
"""Hears of each operation after its commit, in the order of the commits, or after the failure of its batch."""
_Asked = tuple[ClientId | None, Operation, Settle, int]
"""By whom, and with what it costs."""


@define
class _WaitingAck:
    """Of which session, up to which number, what it costs to erase that, and who wants to know of it."""

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
    """The one way into the store. After a commit, `watcher` hears of each operation first, and then whoever asked for
    it, by the `settle` that came with it. So what wakes up at a change does not depend on who asked for the change.
    """

    def __init__(self, store: Store, watcher: Watcher) -> None:
        self._store = store
        self._watcher = watcher
        self._arrived: list[_Asked] = []
        """What came since the last batch was put together."""
        self._backlog: FairQueue[ClientId | None, list[_Asked]] = FairQueue()
        """What that batch and those before it left behind."""
        self._backlog_size = 0
        """Operations in it."""
        self._acks: _Acks = {}
        self._arrival = trio.lowlevel.ParkingLot()
        self._quiet = trio.CancelScope()
        self._asked_at = 0.0
        """When the first of what waits was asked for, or what a full batch left behind, or earlier."""
        self._sizes = Histogram(SIZES)
        self._settled = Histogram(LATENCY_SECONDS)

    @property
    def waiting(self) -> int:
        """Operations that are in no batch yet."""
        return len(self._arrived) + self._backlog_size + len(self._acks)

    def ask(self, owner: ClientId | None, operation: Operation, settle: Settle, cost: int = 1) -> None:
        """`owner` is who asks, None the server itself: what one owner asks for is done in that order. `cost` is how
        many entries in mailboxes it takes, or what takes as long.
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
        """Let an ack of a former session that waits count as one of `session`, which begins. Returns up to which number
        it goes; 0 without one.
        """
        ack = self._acks.get(mailbox)
        if ack is None:
            return 0
        ack.session = session
        return ack.upto

    async def committed(
        self, owner: ClientId | None, operation: Operation, first: Settle = lambda _: None, cost: int = 1
    ) -> Result:
        """The result, after the commit and after `first` was called with it, whatever becomes of the caller meanwhile.
        An error of `first` is the caller's.

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
            await trio.lowlevel.checkpoint()  # who has been read in this turn of the loop comes along

    def _next_batch(self) -> list[_Asked]:
        """What waits; or the first of it in a fair order, as much as may keep the event loop from everybody else."""
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
        """The oldest of those that wait, as much as costs what a batch does; what they erase is overwritten."""
        acks: _Acks = {}
        cost = 0
        while self._acks and cost < BATCH_COST:
            oldest = next(iter(self._acks))
            acks[oldest] = self._acks.pop(oldest)
            cost += acks[oldest].cost
        return acks

    def _take_back(self, acks: _Acks) -> None:
        """These wait again, before those that came meanwhile."""
        came, self._acks = self._acks, acks
        for mailbox, ack in came.items():
            acks.setdefault(mailbox, _WaitingAck()).add(ack.session, ack.upto, ack.cost, ack.settles)

    async def _commit(self, batch: list[_Asked]) -> None:
        """These, after the acks that wait: what they make room for is seen."""
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
            _tell(settle, result)
            told += cost
            if told >= TURN_COST:
                told = 0
                await trio.lowlevel.checkpoint()


def _without_held(batch: list[_Asked]) -> list[_Asked]:
    """What is still to be done: what a session had sent after something that was refused is refused as well. Its
    numbers are used up, unless it was refused because the store fails.
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
    """Tell one asker. An error of it must not keep the rest of the batch from being told."""
    try:
        settle(result)
    except Exception:
        log.exception("a result could not be told", result=type(result).__name__)


def _settle_held(settle: Settle, result: Result | StoreError) -> None:
    settle(result if isinstance(result, StoreError) else held_if_refused(result))


def _bunches(arrived: list[_Asked]) -> Iterator[tuple[ClientId | None, list[_Asked]]]:
    """What each owner asks for, in order, and no more of it together than is one bunch."""
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
