"""The wall clock. Every other time in the server is `trio.current_time()`, and a test can own both."""

import time


def wall_clock_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000
