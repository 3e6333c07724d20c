"""All sessions together: the keepalive that looks after silent ones, and the drain."""

from typing import cast

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from ironwire.close_codes import CloseCode
from ironwire.delivery.outbox import Ending
from ironwire.limits import Limits
from ironwire.server.session.session import Session
from ironwire.server.session.sessions import Sessions
from tests.playbook import open_stage

LIMITS = Limits(drain_seconds=3, reconnect_spread_ms=700)
FAREWELL = Ending(CloseCode.RESTART, "retry_ms=700")


@define(eq=False)
class Guest:
    """Stands in for a session: leaves so long after it was told to, and notes what it was told."""

    leaves_after_seconds: float = 0
    told: list[Ending] = field(factory=list)
    checked_at: list[float] = field(factory=list)
    _was_told: trio.Event = field(factory=trio.Event)
    received: int = 1
    sent: int = 2
    invalid: int = 3

    @property
    def ending(self) -> Ending | None:
        return self.told[0] if self.told else None

    async def run(self) -> None:
        await self._was_told.wait()
        await trio.sleep(self.leaves_after_seconds)

    def end(self, ending: Ending) -> None:
        self.told.append(ending)
        self._was_told.set()

    def check_life(self, now: float) -> None:
        self.checked_at.append(now)


async def seat(sessions: Sessions, nursery: trio.Nursery, *guests: Guest) -> None:
    for guest in guests:
        nursery.start_soon(sessions.run, cast("Session", guest))
    await trio.testing.wait_all_tasks_blocked()


async def test_a_drain_tells_everyone_and_ends_as_soon_as_they_have_left(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sessions = Sessions(LIMITS)
    guests = [Guest(), Guest(leaves_after_seconds=1), Guest(leaves_after_seconds=2)]
    await seat(sessions, nursery, *guests)
    assert (sessions.statistics().live, sessions.statistics().is_draining) == (3, False)
    await sessions.drain()
    assert trio.current_time() == 2
    assert [guest.told for guest in guests] == [[FAREWELL]] * 3
    statistics = sessions.statistics()
    assert (statistics.live, statistics.opened_total, statistics.is_draining) == (0, 3, True)
    assert (statistics.received_total, statistics.sent_total, statistics.invalid_total) == (3, 6, 9)
    assert statistics.ended_total.counts == {("1012",): 3}


async def test_a_drain_waits_for_nobody_longer_than_drain_seconds(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sessions = Sessions(LIMITS)
    await seat(sessions, nursery, Guest(), Guest(leaves_after_seconds=100))
    await sessions.drain()
    assert trio.current_time() == LIMITS.drain_seconds
    assert sessions.statistics().live == 1


async def test_a_drain_of_nobody_is_over_at_once(autojump_clock: MockClock) -> None:
    await Sessions(LIMITS).drain()
    assert trio.current_time() == 0


async def test_whoever_comes_during_a_drain_is_told_too_and_waited_for(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sessions = Sessions(LIMITS)
    late = Guest(leaves_after_seconds=1)
    await seat(sessions, nursery, Guest(leaves_after_seconds=1))
    async with trio.open_nursery() as draining:
        draining.start_soon(sessions.drain)
        await trio.sleep(0.5)
        nursery.start_soon(sessions.run, cast("Session", late))
    assert late.told == [FAREWELL]
    assert trio.current_time() == 1.5


async def test_the_keepalive_comes_to_everyone_once_a_second_in_the_order_of_their_arrival(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sessions = Sessions(LIMITS)
    order: list[int] = []

    class Counted(Guest):
        def check_life(self, now: float) -> None:
            super().check_life(now)
            order.append(guests.index(self))

    guests: list[Guest] = [Counted() for _ in range(20)]
    for guest in guests:
        await seat(sessions, nursery, guest)
    nursery.start_soon(sessions.keepalive)
    await trio.sleep(2.5)
    assert [guest.checked_at for guest in guests] == [[1, 2]] * 20
    assert order == [*range(20)] * 2
    nursery.cancel_scope.cancel()


class Meddler(trio.abc.Instrument):
    """Does something at one moment: after so many more turns of the event loop."""

    def __init__(self, session: Session, after_turns: int) -> None:
        self._session = session
        self._turns_left = after_turns
        self.error: Exception | None = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._turns_left -= 1
        if self._turns_left == 0:
            try:
                self._session.check_life(now=1e6)
            except Exception as error:  # Trio would log it and go on
                self.error = error


async def test_the_keepalive_may_come_at_any_moment_of_a_sessions_end(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seated: list[Session] = []
    run = Sessions.run

    async def remembered(sessions: Sessions, session: Session) -> None:
        seated.append(session)
        await run(sessions, session)

    monkeypatch.setattr(Sessions, "run", remembered)
    async with open_stage() as stage:
        for turn in range(1, 40):
            await stage.enter("alice")
            meddler = Meddler(seated[-1], turn)
            trio.lowlevel.add_instrument(meddler)
            await stage.actors["alice"].hang_up()
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.remove_instrument(meddler)
            assert meddler.error is None, turn
