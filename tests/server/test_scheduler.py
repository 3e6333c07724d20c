"""Each class of work has its slots in an iteration of the event loop, and no more."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ironwire.server.session.intake import is_prompt, parts
from ironwire.server.session.scheduler import (
    PART_CHARS,
    PART_MESSAGES,
    PROMPT_CHARS,
    PROMPT_MESSAGES,
    SHARES,
    Scheduler,
    Work,
)


class Turns(trio.abc.Instrument):
    """Counts the iterations of the event loop."""

    count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += 1


@pytest.mark.parametrize("work", Work)
async def test_a_crowd_is_served_a_few_in_an_iteration(work: Work) -> None:
    scheduler, turns, share = Scheduler(), Turns(), SHARES[work]
    served: list[int] = []

    async def come() -> None:
        await scheduler.slot(work)
        served.append(turns.count)

    trio.lowlevel.add_instrument(turns)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(come)
    assert len(served) == 20
    assert max(map(served.count, served)) <= share.slots
    assert max(served) - min(served) == (20 // share.slots - 1) * share.iterations, "no iteration is left out"


async def test_one_class_of_work_does_not_wait_for_another() -> None:
    scheduler = Scheduler()
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(scheduler.slot, Work.UNAUTHENTICATED)
        await scheduler.slot(Work.HEAVY)
        assert nursery.child_tasks
        nursery.cancel_scope.cancel()


async def test_whoever_leaves_the_line_takes_no_turn_with_it() -> None:
    scheduler = Scheduler()
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(scheduler.slot, Work.HEAVY)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    await scheduler.slot(Work.HEAVY)
    assert turns.count <= 2


@given(st.lists(st.integers(0, 2 * PART_CHARS), min_size=1, max_size=3 * PART_MESSAGES))
def test_the_parts_of_a_read_are_all_of_it_and_each_is_a_turns_work(sizes: list[int]) -> None:
    batch: list[str | bytes] = ["x" * size for size in sizes]
    divided = [*parts(batch)]
    assert [text for part in divided for text in part] == batch
    for part in divided:
        assert len(part) == 1 or (len(part) <= PART_MESSAGES and sum(map(len, part)) <= PART_CHARS)


def test_what_people_write_is_prompt() -> None:
    assert is_prompt(["x"] * PROMPT_MESSAGES)
    assert not is_prompt(["x"] * (PROMPT_MESSAGES + 1))
    assert is_prompt(["x" * PROMPT_CHARS])
    assert not is_prompt(["x" * PROMPT_CHARS, "x"])
