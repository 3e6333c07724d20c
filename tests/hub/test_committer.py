"""What waits is one batch, and an ack asks for no commit of its own: on a virtual clock."""

from collections.abc import Sequence

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.errors import StoreError
from ironwire.hub.committer import BATCH_COST, QUIET_SECONDS, Committer
from ironwire.store.memory import MemoryStore
from ironwire.store.operations import (
    Ack,
    Operation,
    Result,
    Touch,
)
from ironwire.store.records import MailboxId
from tests.contract.builders import WIDE

ONE, TWO = MailboxId(1), MailboxId(2)


class NotingStore(MemoryStore):
    """Notes each batch and its virtual second; commits when the gate is open, or fails if told to."""

    def __init__(self) -> None:
        super().__init__(WIDE)
        self.batches: list[tuple[float, list[Operation]]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.fails = False

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        self.batches.append((trio.current_time(), list(batch)))
        await self.gate.wait()
        if self.fails:
            raise StoreError("the disk is gone")
        return await super().apply(batch)


@pytest.fixture
def store() -> NotingStore:
    return NotingStore()


@pytest.fixture
async def committer(store: NotingStore, nursery: trio.Nursery) -> Committer:
    made = Committer(store)
    nursery.start_soon(made.run)
    await wait_all_tasks_blocked()
    return made


def touch(committer: Committer) -> Touch:
    """Ask for the smallest change, and for no answer."""
    operation = Touch(ONE, 1)
    committer.ask(operation, lambda _: None)
    return operation


async def test_acks_alone_wait_for_a_short_quiet_and_go_together(
    mock_clock: MockClock, store: NotingStore, committer: Committer
) -> None:
    committer.ack(ONE, 1)
    mock_clock.jump(QUIET_SECONDS * 0.9)
    committer.ack(TWO, 5)
    committer.ack(ONE, 3)
    await wait_all_tasks_blocked()
    assert store.batches == []
    assert committer.waiting == 2
    mock_clock.jump(QUIET_SECONDS * 0.1)
    await wait_all_tasks_blocked()
    assert store.batches == [(QUIET_SECONDS, [Ack(ONE, 3), Ack(TWO, 5)])]
    mock_clock.jump(60)
    await wait_all_tasks_blocked()
    assert len(store.batches) == 1
    assert committer.waiting == 0


async def test_acks_ride_with_the_next_batch_and_go_before_it(
    mock_clock: MockClock, store: NotingStore, committer: Committer
) -> None:
    committer.ack(ONE, 1)
    asked = touch(committer)
    committer.ack(TWO, 2)
    await wait_all_tasks_blocked()
    mock_clock.jump(60)
    await wait_all_tasks_blocked()
    assert store.batches == [(0.0, [Ack(ONE, 1), Ack(TWO, 2), asked])]


async def test_an_ack_that_comes_during_a_commit_waits_for_its_quiet_too(
    mock_clock: MockClock, store: NotingStore, committer: Committer
) -> None:
    store.gate = trio.Event()
    asked = touch(committer)
    await wait_all_tasks_blocked()
    committer.ack(ONE, 1)
    store.gate.set()
    await wait_all_tasks_blocked()
    assert [batch for _, batch in store.batches] == [[asked]]
    mock_clock.jump(QUIET_SECONDS)
    await wait_all_tasks_blocked()
    assert [batch for _, batch in store.batches] == [[asked], [Ack(ONE, 1)]]


@pytest.mark.parametrize("is_committing", [False, True])
async def test_acks_that_wait_at_the_end_are_committed(store: NotingStore, is_committing: bool) -> None:
    committer = Committer(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        await wait_all_tasks_blocked()
        if is_committing:
            store.gate = trio.Event()
            touch(committer)
            await wait_all_tasks_blocked()
        committer.ack(ONE, 7)
        nursery.cancel_scope.cancel()
        store.gate.set()
    assert store.batches[-1][1] == [Ack(ONE, 7)]


async def test_acks_of_a_commit_that_is_cancelled_are_committed(store: NotingStore) -> None:
    committer = Committer(store)
    store.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        committer.ack(ONE, 7)
        committer.ack(TWO, 8)
        touch(committer)
        await wait_all_tasks_blocked()
        committer.ack(ONE, 9)
        nursery.cancel_scope.cancel()
        store.gate.set()
    assert store.batches[-1][1] == [Ack(ONE, 9), Ack(TWO, 8)]


async def test_a_batch_has_a_bound_and_the_rest_follows(store: NotingStore, committer: Committer) -> None:
    for _ in range(BATCH_COST + 1):
        touch(committer)
    await wait_all_tasks_blocked()
    assert [len(batch) for _, batch in store.batches] == [BATCH_COST, 1]


async def test_whoever_asks_is_told_after_the_commit_or_of_its_failure(
    store: NotingStore, committer: Committer
) -> None:
    assert await committer.committed(Touch(ONE, 1)) is not None
    store.fails = True
    with structlog.testing.capture_logs() as logs, pytest.raises(StoreError, match="the disk is gone"):
        await committer.committed(Touch(ONE, 1))
    assert [entry["event"] for entry in logs] == ["nothing of this batch was stored"]
    store.fails = False
    assert await committer.committed(Touch(ONE, 1)) is not None


async def test_a_batch_is_bounded_by_what_it_costs(store: NotingStore, committer: Committer) -> None:
    for _ in range(3):
        committer.ask(Touch(ONE, 1), lambda _: None, cost=BATCH_COST * 2 // 3)
    await wait_all_tasks_blocked()
    assert [len(batch) for _, batch in store.batches] == [2, 1]
