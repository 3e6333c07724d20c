"""A clock that leaps is not believed until it comes back or somebody confirms it."""

from pathlib import Path

import pytest
import trio
from attrs import define
from structlog.testing import capture_logs
from trio.testing import MockClock

from ironwire.store.clock import DAY_MS, TrustedClock, tolerance_ms

START_MS = 1_790_000_000_000
TOLERANCE_MS = 3 * DAY_MS


@define
class Wall:
    """A clock that somebody may set; it goes on with the loop's."""

    set_by_ms: int = 0

    def __call__(self) -> int:
        return START_MS + int(trio.current_time() * 1000) + self.set_by_ms


@pytest.fixture
def wall() -> Wall:
    return Wall()


def opened(folder: Path, wall: Wall, newest_ms: int | None = None) -> TrustedClock:
    clock = TrustedClock(folder, wall, TOLERANCE_MS)
    clock.open(newest_ms)
    return clock


@pytest.mark.parametrize("days", [40, -40])
async def test_a_leap_between_two_runs(tmp_path: Path, wall: Wall, mock_clock: MockClock, days: int) -> None:
    assert opened(tmp_path, wall).look()
    wall.set_by_ms = days * DAY_MS
    clock = opened(tmp_path, wall)
    with capture_logs() as events:
        assert not clock.look()
        assert not clock.look()
    (event,) = events
    assert event["log_level"] == "error"
    assert event["event"].startswith("the clock is 40.0 days " + ("ahead" if days > 0 else "behind"))
    assert clock.leap_ms() == days * DAY_MS
    assert clock.statistics().leap_seconds == days * DAY_MS / 1000


@pytest.mark.parametrize("days", [40, -40])
async def test_a_leap_while_the_server_runs(tmp_path: Path, wall: Wall, mock_clock: MockClock, days: int) -> None:
    clock = opened(tmp_path, wall)
    assert clock.look()
    wall.set_by_ms = days * DAY_MS
    mock_clock.jump(60)
    assert not clock.look()
    mock_clock.jump(30 * 86_400)
    assert not clock.look()
    wall.set_by_ms = 0
    with capture_logs() as events:
        assert clock.look()
    assert [event["event"] for event in events] == ["the clock can be believed again"]


async def test_time_that_passes_is_no_leap(tmp_path: Path, wall: Wall, mock_clock: MockClock) -> None:
    clock = opened(tmp_path, wall)
    mock_clock.jump(100 * 86_400)
    assert clock.look()
    wall.set_by_ms = TOLERANCE_MS
    assert clock.look()
    assert opened(tmp_path, wall).look()


async def test_what_is_confirmed_is_believed_after_a_restart_too(
    tmp_path: Path, wall: Wall, mock_clock: MockClock
) -> None:
    opened(tmp_path, wall).look()
    wall.set_by_ms = 40 * DAY_MS
    clock = opened(tmp_path, wall)
    clock.confirm()
    assert clock.leap_ms() == 0
    assert opened(tmp_path, wall).look()
    wall.set_by_ms = 0
    assert not opened(tmp_path, wall).look()


async def test_a_clock_that_is_not_believed_is_not_remembered(
    tmp_path: Path, wall: Wall, mock_clock: MockClock
) -> None:
    opened(tmp_path, wall).look()
    wall.set_by_ms = 40 * DAY_MS
    opened(tmp_path, wall).look()
    wall.set_by_ms = 0
    assert opened(tmp_path, wall).look()


async def test_a_folder_that_does_not_say_has_a_store_that_does(
    tmp_path: Path, wall: Wall, mock_clock: MockClock
) -> None:
    assert not opened(tmp_path / "a", wall, START_MS - 4 * DAY_MS).look()
    assert opened(tmp_path / "b", wall, START_MS - 2 * DAY_MS).look()
    assert opened(tmp_path / "c", wall, None).look()


async def test_nothing_is_dated_by_a_clock_that_is_behind(tmp_path: Path, wall: Wall, mock_clock: MockClock) -> None:
    opened(tmp_path, wall).look()
    wall.set_by_ms = -START_MS  # a machine without a battery
    clock = opened(tmp_path, wall)
    mock_clock.jump(60)
    assert clock.now_ms() == START_MS + 60_000
    wall.set_by_ms = -DAY_MS
    assert clock.now_ms() == wall()
    wall.set_by_ms = 40 * DAY_MS
    assert clock.now_ms() == wall()


@pytest.mark.parametrize(
    ("periods", "days"), [([30, 90], 3), ([30, 90, 1], 1), ([0.5], 1), ([365], 36.5), ([90, 100], 9)]
)
def test_a_day_or_a_tenth_of_the_shortest_period_is_tolerated(periods: list[float], days: float) -> None:
    assert tolerance_ms(periods) == days * DAY_MS
