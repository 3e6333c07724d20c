"""All sessions of this server: the one pulse that looks after silent ones, and the drain that ends them.

One task wakes once a second for everybody. A deadline object for every read of every session would say the same at
many times the cost (docs/decisions/0004).
"""

import trio
from attrs import frozen

from ironwire.hub.outbox import Ending
from ironwire.limits import Limits
from ironwire.server.session import Session

PULSE_SECONDS = 1.0


@frozen
class SessionsStatistics:
    live: int
    """Connections that are or want to become sessions."""
    opened_total: int
    is_draining: bool


class Sessions:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._live: dict[Session, None] = {}  # in the order of their arrival, and so the same in every run of a test
        self._total = 0
        self._farewell: Ending | None = None
        self._all_left = trio.Event()

    async def run(self, session: Session) -> None:
        """Serve one session to its end. During a drain it is told at once to come back later."""
        self._live[session] = None
        self._total += 1
        if self._farewell is not None:
            session.end(self._farewell)
        try:
            await session.run()
        finally:
            self._live.pop(session)
            if not self._live:
                self._all_left.set()

    async def pulse(self) -> None:
        """Look after silent peers, for ever."""
        while True:
            await trio.sleep(PULSE_SECONDS)
            now = trio.current_time()
            for session in self._live:
                session.check_life(now)

    async def drain(self) -> None:
        """Tell every session to reconnect elsewhere or later (1012), and wait `drain_seconds` at the most until they
        have left.
        """
        self._farewell = Ending(1012, f"retry_ms={self._limits.reconnect_spread_ms}")
        for session in self._live:
            session.end(self._farewell)
        with trio.move_on_after(self._limits.drain_seconds):
            while self._live:
                self._all_left = trio.Event()
                await self._all_left.wait()

    def statistics(self) -> SessionsStatistics:
        return SessionsStatistics(
            live=len(self._live), opened_total=self._total, is_draining=self._farewell is not None
        )
