"""The wall clock. Every other time in the server is `trio.current_time()`, and a test can own both."""

import time
from collections.abc import Callable

from ironwire.server.operator.config import Settings
from ironwire.store.clock import TrustedClock, tolerance_ms


def wall_clock_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def trusted_clock(settings: Settings, wall_ms: Callable[[], int]) -> TrustedClock:
    """The clock of a server with these settings, not opened."""
    history_days = settings.history.days
    periods = [settings.limits.retention_days, settings.upload.expire_days, *([history_days] if history_days else [])]
    return TrustedClock(settings.data, wall_ms, tolerance_ms(periods))
