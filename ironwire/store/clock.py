"""The wall clock, and whether it can be believed: a wrong one must not erase what people are still owed.

The time at which the clock was believed last is kept in the data folder; while the server runs, that time goes on with
the loop's own clock, which nobody sets. Rule: a clock that is further from it than `tolerance_ms`, in either direction,
is not believed until it comes back or the operator confirms it, and until then nothing expires. A clock that is behind
does not date messages either: dated too early, they would expire at once when it is put right.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog
import trio
from attrs import define, field, frozen

from ironwire.counting import figure

log = structlog.get_logger(__name__)

CLOCK = "clock"
"""The file's name in the data folder. It is empty: its time of change is when the clock was believed last."""

DAY_MS = 86_400_000
LEAST_TOLERANCE_MS = DAY_MS
"""A server may be off for a day without a confirmation by the operator."""
_TOLERATED_PART = 10


@frozen
class ClockStatistics:
    leap_seconds: float = figure(
        "Seconds by which the clock is ahead of the expected time, or behind (negative); 0 while it is trusted."
    )


def tolerance_ms(periods_days: Iterable[float]) -> int:
    """The longest leap that passes for the time that the server was off: a day, or a tenth of the shortest period for
    which anything is kept, if that is more. So a wrong clock that is not noticed takes at most that much of any longer
    period.
    """
    return max(LEAST_TOLERANCE_MS, int(min(periods_days) * DAY_MS / _TOLERATED_PART))


def describe_leap(leap_ms: int) -> str:
    """The leap in words, for the operator; `leap_ms` is not 0."""
    return (
        f"the clock is {abs(leap_ms) / DAY_MS:.1f} days {'ahead of' if leap_ms > 0 else 'behind'} what the server knows"
    )


@define(eq=False)
class TrustedClock:
    """The clock of a server, or of a command on its folder. Until `open` it says what the wall clock says.

    Args:
        folder: the data folder.
        wall_ms: Unix milliseconds, right or wrong.
        tolerance_ms: see the function of that name.
    """

    _folder: Path
    _wall_ms: Callable[[], int]
    _tolerance_ms: int
    _believed_ms: int | None = field(init=False, default=None)
    _believed_at: float = field(init=False, default=0.0)
    _least_ms: int = field(init=False, default=0)
    _is_reported: bool = field(init=False, default=False)

    def open(self, newest_ms: int | None) -> None:
        """Find out when the clock was believed last.

        Args:
            newest_ms: the newest time in the store, for a folder that does not say; None if the store is empty.
        """
        with suppress(OSError):
            newest_ms = (self._folder / CLOCK).stat().st_mtime_ns // 1_000_000
        if newest_ms is not None:
            self._believe(newest_ms)

    def now_ms(self) -> int:
        """The time, in Unix milliseconds."""
        now = self._wall_ms()
        return now if now >= self._least_ms else self._expected_ms()

    def leap_ms(self) -> int:
        """Milliseconds by which the clock is ahead, or behind (negative); 0 if it can be trusted."""
        apart = self._wall_ms() - self._expected_ms()
        return apart if abs(apart) > self._tolerance_ms else 0

    def look(self) -> bool:
        """Whether the clock can be trusted; if so, the time is recorded."""
        leap_ms = self.leap_ms()
        if leap_ms:
            if not self._is_reported:
                advice = "set it; or, if it is right, `ironwire admin clock --confirm`"
                log.error(f"{describe_leap(leap_ms)}: nothing expires", now=_shown(self._wall_ms()), advice=advice)
            self._is_reported = True
            return False
        if self._is_reported:
            log.info("the clock can be believed again")
        self.confirm()
        return True

    def confirm(self) -> None:
        """Trust the clock as it is."""
        self._is_reported = False
        now_ms = self._wall_ms()
        self._believe(now_ms)
        with suppress(OSError):  # without it, the next start asks the store
            self._remember(now_ms)

    def statistics(self) -> ClockStatistics:
        return ClockStatistics(self.leap_ms() / 1000)

    def _believe(self, now_ms: int) -> None:
        self._believed_ms, self._believed_at = now_ms, trio.current_time()
        self._least_ms = now_ms - self._tolerance_ms

    def _remember(self, now_ms: int) -> None:
        path, times = self._folder / CLOCK, (now_ms * 1_000_000, now_ms * 1_000_000)
        try:
            path.touch(mode=0o600)
            os.utime(path, ns=times)
        except PermissionError:  # root's: a command that root gave made it
            path.unlink()
            path.touch(mode=0o600)
            os.utime(path, ns=times)

    def _expected_ms(self) -> int:
        if self._believed_ms is None:
            return self._wall_ms()
        return self._believed_ms + int((trio.current_time() - self._believed_at) * 1000)


def _shown(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
