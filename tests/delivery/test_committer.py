"""What waits is one batch, and an ack asks for no commit of its own: on a virtual clock."""

from collections.abc import Sequence

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.delivery.committer import BATCH_COST, BUNCH_COST, LIGHT_COST, QUIET_SECONDS, TURN_COST, Committer, Settle
from ironwire.errors import StoreError
from ironwire.protocol.holding import Hold
from ironwire.store.contract.operations import Acked, Acknowledge, Operation, RefuseNumber, Result, Touch, Touched
from ironwire.store.contract.records import MailboxId, Number
from ironwire.store.memory.store import MemoryStore
from ironwire.wire.messages import Error
from tests.contract.builders import WIDE
from tests.house import ALICE, BOB, CAROL
from tests.turns import counted_by_turn

ONE, TWO = MailboxId(1), MailboxId(2)


class NotingStore(MemoryStore):
    """Notes each batch and its virtual second; commits while `release` is set, or fails if told to."""

    def __init__(self) -> None:
        super().__init__(WIDE)
        self.batches: list[tuple[float, list[Operation]]] = []
        self.release = trio.Event()
        self.release.set()
        self.fails = False

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        self.batches.append((trio.current_time(), list(batch)))
        await self.release.wait()
        if self.fails:
            raise StoreError("the disk is gone")
        return await super().apply(batch)


@pytest.fixture
def store() -> NotingStore:
    return NotingStore()


@pytest.fixture
async def committer(store: NotingStore, nursery: trio.Nursery) -> Committer:
    made = Committer(store, lambda *_: None)
    nursery.start_soon(made.run)
    await wait_all_tasks_blocked()
    return made


def touch(committer: Committer) -> Touch:
    """Ask for the smallest change, and for no answer."""
    operation = Touch(ONE, 1)
    committer.ask(None, operation, lambda _: None)
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
    assert store.batches == [(QUIET_SECONDS, [Acknowledge(ONE, 3), Acknowledge(TWO, 5)])]
    mock_clock.jump(60)
    await wait_all_tasks_blocked()
    assert len(store.batches) == 1
    assert committer.waiting == 0


async def test_a_watcher_hears_of_each_operation_before_the_one_who_asked_for_it(
    store: NotingStore, nursery: trio.Nursery
) -> None:
    heard: list[object] = []
    committer = Committer(store, lambda operation, result: heard.append((operation, type(result))))
    nursery.start_soon(committer.run)
    committer.ask(None, Touch(ONE, 1), lambda _: heard.append("told"))
    committer.ask(None, Touch(TWO, 2), lambda _: heard.append("told"))
    await wait_all_tasks_blocked()
    assert heard == [(Touch(ONE, 1), Touched), "told", (Touch(TWO, 2), Touched), "told"]


async def test_a_session_takes_over_the_ack_of_the_former_one_that_waits(
    mock_clock: MockClock, store: NotingStore, committer: Committer
) -> None:
    """Of the former one the store would refuse it."""
    committer.ack(ONE, 3, session=1)
    assert (committer.take_over_ack(ONE, 2), committer.take_over_ack(TWO, 2)) == (3, 0)
    await wait_all_tasks_blocked()
    mock_clock.jump(QUIET_SECONDS)
    await wait_all_tasks_blocked()
    assert [batch for _, batch in store.batches] == [[Acknowledge(ONE, 3, 2)]]


async def test_whoever_asks_for_an_answer_to_an_ack_gets_it_after_its_commit(
    mock_clock: MockClock, store: NotingStore, committer: Committer
) -> None:
    answers: list[tuple[str, object]] = []
    store.release = trio.Event()
    committer.ack(ONE, 3, 1, lambda result: answers.append(("first", result)))
    committer.ack(ONE, 2, 1, lambda result: answers.append(("repeated", result)))
    mock_clock.jump(QUIET_SECONDS)
    await wait_all_tasks_blocked()
    committer.ack(ONE, 4, 1, lambda result: answers.append(("second", result)))
    assert ([batch for _, batch in store.batches], answers) == ([[Acknowledge(ONE, 3)]], [])
    store.release.set()
    await wait_all_tasks_blocked()
    assert answers == [("first", Acked()), ("repeated", Acked())]
    store.fails = True
    mock_clock.jump(QUIET_SECONDS)
    with structlog.testing.capture_logs():
        await wait_all_tasks_blocked()
    assert [(name, type(result)) for name, result in answers[2:]] == [("second", StoreError)]


async def test_acks_that_erase_much_are_not_all_in_one_batch(store: NotingStore, committer: Committer) -> None:
    """What they erase is overwritten, and whoever waits for the batch waits for that."""
    boxes = [MailboxId(number) for number in range(1, 8)]
    for box in boxes:
        committer.ack(box, 1, cost=BATCH_COST // 3)
    committer.ask(None, Touch(ONE, 1), lambda _: None)
    await wait_all_tasks_blocked()
    (_, first), *_ = store.batches
    assert first == [*(Acknowledge(box, 1) for box in boxes[:4]), Touch(ONE, 1)]
    committer.ask(None, Touch(ONE, 2), lambda _: None)
    await wait_all_tasks_blocked()
    assert store.batches[1][1] == [*(Acknowledge(box, 1) for box in boxes[4:]), Touch(ONE, 2)]


async def test_acks_ride_with_the_next_batch_and_go_before_it(
    mock_clock: MockClock, store: NotingStore, committer: Committer
) -> None:
    committer.ack(ONE, 1)
    asked = touch(committer)
    committer.ack(TWO, 2)
    await wait_all_tasks_blocked()
    mock_clock.jump(60)
    await wait_all_tasks_blocked()
    assert store.batches == [(0.0, [Acknowledge(ONE, 1), Acknowledge(TWO, 2), asked])]


async def test_an_ack_that_comes_during_a_commit_waits_for_its_quiet_too(
    mock_clock: MockClock, store: NotingStore, committer: Committer
) -> None:
    store.release = trio.Event()
    asked = touch(committer)
    await wait_all_tasks_blocked()
    committer.ack(ONE, 1)
    store.release.set()
    await wait_all_tasks_blocked()
    assert [batch for _, batch in store.batches] == [[asked]]
    mock_clock.jump(QUIET_SECONDS)
    await wait_all_tasks_blocked()
    assert [batch for _, batch in store.batches] == [[asked], [Acknowledge(ONE, 1)]]


@pytest.mark.parametrize("is_committing", [False, True])
async def test_acks_that_wait_at_the_end_are_committed(store: NotingStore, is_committing: bool) -> None:
    committer = Committer(store, lambda *_: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        await wait_all_tasks_blocked()
        if is_committing:
            store.release = trio.Event()
            touch(committer)
            await wait_all_tasks_blocked()
        committer.ack(ONE, 7)
        nursery.cancel_scope.cancel()
        store.release.set()
    assert store.batches[-1][1] == [Acknowledge(ONE, 7)]


async def test_acks_of_a_commit_that_is_cancelled_are_committed(store: NotingStore) -> None:
    committer = Committer(store, lambda *_: None)
    store.release = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        committer.ack(ONE, 7)
        committer.ack(TWO, 8)
        touch(committer)
        await wait_all_tasks_blocked()
        committer.ack(ONE, 9)
        nursery.cancel_scope.cancel()
        store.release.set()
    assert store.batches[-1][1] == [Acknowledge(ONE, 9), Acknowledge(TWO, 8)]


async def test_a_batch_has_a_bound_and_the_rest_follows(store: NotingStore, committer: Committer) -> None:
    """What one owner asks for stays together, in bunches: the last of them may be more than the bound."""
    for _ in range(2 * BATCH_COST):
        touch(committer)
    await wait_all_tasks_blocked()
    sizes = [len(batch) for _, batch in store.batches]
    assert sum(sizes) == 2 * BATCH_COST
    assert BATCH_COST <= sizes[0] < BATCH_COST + BUNCH_COST


async def test_whoever_asks_is_told_after_the_commit_or_of_its_failure(
    store: NotingStore, committer: Committer
) -> None:
    assert await committer.committed(None, Touch(ONE, 1)) is not None
    store.fails = True
    with structlog.testing.capture_logs() as logs, pytest.raises(StoreError, match="the disk is gone"):
        await committer.committed(None, Touch(ONE, 1))
    assert [entry["event"] for entry in logs] == ["nothing of this batch was stored"]
    store.fails = False
    assert await committer.committed(None, Touch(ONE, 1)) is not None


async def test_what_fails_while_it_is_told_is_an_error_of_the_asker_alone(committer: Committer) -> None:
    def fail(_: Result | StoreError) -> None:
        raise ValueError("a mistake of the asker")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.committed, ALICE, Touch(ONE, 1))
        with pytest.raises(ValueError, match="of the asker"):
            await committer.committed(ALICE, Touch(ONE, 2), fail)
        nursery.start_soon(committer.committed, ALICE, Touch(ONE, 3))


async def test_an_error_in_one_answer_is_logged_and_the_rest_of_the_batch_gets_its_answers(
    store: NotingStore, nursery: trio.Nursery
) -> None:
    """Also one of the watcher, and one in the answer to an operation that is refused before the commit."""
    told: list[str] = []

    def tell(name: str) -> Settle:
        return lambda _: told.append(name)

    def fail(_: object) -> None:
        raise ValueError("a mistake of the asker")

    hold = Hold()
    hold.refused_at_commit(Error("internal"))
    committer = Committer(store, lambda operation, _: fail(operation) if operation == Touch(TWO, 2) else None)
    nursery.start_soon(committer.run)
    for settle in (fail, tell("ack"), fail):
        committer.ack(ONE, 1, 1, settle)
    committer.ack(TWO, 1, 1, tell("other ack"))
    committer.ask(None, Touch(ONE, 1), fail)
    committer.ask(None, RefuseNumber(Number(ONE, 1, 1), "invalid", hold), fail)
    committer.ask(None, Touch(TWO, 2), tell("operation"))
    with structlog.testing.capture_logs() as logs:
        await wait_all_tasks_blocked()
    assert told == ["ack", "other ack", "operation"]
    assert [entry["event"] for entry in logs] == [
        *["a result could not be told"] * 4,
        "a result could not be told to the watcher",
    ]
    with structlog.testing.capture_logs():
        assert await committer.committed(None, Touch(ONE, 3)) == Touched()


async def test_a_batch_is_bounded_by_what_it_costs(store: NotingStore, committer: Committer) -> None:
    for _ in range(3):
        committer.ask(None, Touch(ONE, 1), lambda _: None, cost=BATCH_COST * 2 // 3)
    await wait_all_tasks_blocked()
    assert [len(batch) for _, batch in store.batches] == [2, 1]


async def test_whoever_asks_for_little_is_in_the_next_batch_whatever_others_have_piled_up(
    store: NotingStore, committer: Committer
) -> None:
    store.release = trio.Event()
    asked = touch(committer)
    await wait_all_tasks_blocked()
    for _ in range(10):
        for neighbour in (ALICE, BOB):
            committer.ask(neighbour, Touch(ONE, 2), lambda _: None, cost=BATCH_COST)
    committer.ask(CAROL, Touch(TWO, 3), lambda _: None)
    assert committer.waiting == 21
    store.release.set()
    await wait_all_tasks_blocked()
    batches = [batch for _, batch in store.batches]
    assert batches[:2] == [[asked], [Touch(TWO, 3), Touch(ONE, 2)]]
    assert batches[2:] == [[Touch(ONE, 2)]] * 19
    assert committer.waiting == 0


async def test_a_batch_with_something_light_holds_one_bunch_of_what_others_have_piled_up(
    store: NotingStore, committer: Committer
) -> None:
    store.release = trio.Event()
    asked = touch(committer)
    await wait_all_tasks_blocked()
    piled = [(neighbour, BUNCH_COST // 2) for neighbour in (ALICE, BOB) for _ in range(4)]
    assert 2 * BUNCH_COST < sum(cost for _, cost in piled) <= 2 * BATCH_COST
    for neighbour, cost in piled:
        committer.ask(neighbour, Touch(ONE, 2), lambda _: None, cost=cost)
    committer.ask(CAROL, Touch(TWO, 3), lambda _: None, cost=LIGHT_COST - 1)
    store.release.set()
    await wait_all_tasks_blocked()
    batches = [batch for _, batch in store.batches]
    assert batches[:2] == [[asked], [Touch(TWO, 3), Touch(ONE, 2), Touch(ONE, 2)]]
    assert [len(batch) for batch in batches[2:]] == [4, 2]


async def test_what_one_client_asks_for_is_done_in_that_order_however_much_waits(
    store: NotingStore, committer: Committer
) -> None:
    for number in range(3 * BATCH_COST):
        committer.ask((ALICE, BOB, CAROL)[number % 3], Touch(MailboxId(number % 3), number), lambda _: None)
    await wait_all_tasks_blocked()
    done = [operation for _, batch in store.batches for operation in batch if isinstance(operation, Touch)]
    assert len(store.batches) == 3
    for client in range(3):
        times = [touched.now_ms for touched in done if touched.mailbox == client]
        assert times == sorted(times)


async def test_a_large_batch_is_told_in_several_turns_of_the_loop(store: NotingStore, committer: Committer) -> None:
    told: list[Result | StoreError] = []
    for _ in range(4 * TURN_COST):
        committer.ask(ALICE, Touch(ONE, 1), told.append)
    with counted_by_turn(lambda: len(told)) as told_by_turn:
        await wait_all_tasks_blocked()
    assert len(told) == 4 * TURN_COST
    assert max(told_by_turn) == TURN_COST
