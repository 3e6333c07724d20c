"""The flusher comes to everybody who rang, and holds nobody up meanwhile."""

import math

import pytest
import structlog
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.delivery.outbox import CALL_FRAMES, TURN_FRAMES, OutboxFlusher
from tests.turns import counted_by_turn


@define(eq=False)
class Caller:
    """Notes how often it was called on."""

    fails: bool = False
    frames: int = 1
    calls: int = field(default=0, init=False)

    def flush(self) -> int:
        self.calls += 1
        if self.fails:
            raise RuntimeError("nothing can be collected here")
        return self.frames


@pytest.mark.parametrize("frames", [0, 1, 300, 5_000])
async def test_a_round_to_a_thousand_takes_several_turns_of_the_loop(nursery: trio.Nursery, frames: int) -> None:
    flusher, callers = OutboxFlusher(), [Caller(frames=frames) for _ in range(1_000)]
    nursery.start_soon(flusher.run)
    for caller in callers:
        flusher.schedule(caller)
    with counted_by_turn(lambda: sum(caller.calls for caller in callers)) as called_by_turn:
        await wait_all_tasks_blocked()
    assert max(called_by_turn) == math.ceil(TURN_FRAMES / (CALL_FRAMES + frames))
    assert {caller.calls for caller in callers} == {1}


async def test_it_is_told_how_long_a_round_took(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    flusher = OutboxFlusher()
    flusher.schedule(Caller())
    mock_clock.jump(0.2)
    flusher.schedule(Caller())
    nursery.start_soon(flusher.run)
    await wait_all_tasks_blocked()
    flusher.schedule(Caller())
    await wait_all_tasks_blocked()
    handed_over = flusher.statistics().handed_over_seconds
    assert (handed_over.cumulative[-1], round(handed_over.sum, 3)) == (2, 0.2)


async def test_one_whose_mail_cannot_be_collected_keeps_nobody_else_from_theirs(nursery: trio.Nursery) -> None:
    flusher, callers = OutboxFlusher(), [Caller(), Caller(fails=True), Caller()]
    for caller in callers:
        flusher.schedule(caller)
    nursery.start_soon(flusher.run)
    with structlog.testing.capture_logs() as logs:
        await wait_all_tasks_blocked()
    assert [caller.calls for caller in callers] == [1, 1, 1]
    assert [entry["event"] for entry in logs] == ["a session's mail could not be collected"]
