"""The time of day, for what is to go on where Trio's clock is a test's."""

import time

import trio
from attrs import define


@define(eq=False)
class SessionClock:
    """The time in Unix ms, as Trio's clock goes on from where it was set."""

    _offset_ms: int = 0

    def set(self) -> None:
        self._offset_ms = time.time_ns() // 1_000_000 - int(trio.current_time() * 1000)

    def now_ms(self) -> int:
        return self._offset_ms + int(trio.current_time() * 1000)
