"""All sessions of this server: the one keepalive that looks after silent ones, and the drain that ends them.

One task wakes once a second for everybody. A deadline object for every read of every session would say the same at
many times the cost (docs/decisions/0004).
"""

import structlog
import trio
from attrs import frozen

from ironwire.close_codes import CloseCode
from ironwire.counting import Tallied, figure, tallied
from ironwire.delivery.outbox import Ending
from ironwire.limits import Limits
from ironwire.server.session.session import Session

log = structlog.get_logger(__name__)

KEEPALIVE_SECONDS = 1.0
PEER_LEFT = "none"
"""Stands for the close code of a session that its peer ended."""


@frozen
class SessionsStatistics:
    live: int = figure("Connections that are sessions or are authenticating.")
    opened_total: int = figure("Connections that began to authenticate.")
    ended_total: Tallied = figure("Ended sessions by close code; `none` where the peer left first.")
    received_total: int = figure("Frames received from clients.")
    sent_total: int = figure("Frames handed to connections.")
    invalid_total: int = figure("Frames that held no valid message.")
    is_draining: bool = figure("1 while the server is stopping and sends sessions away.")


class Sessions:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._live: dict[Session, None] = {}  # in the order of their arrival, and so the same in every run of a test
        self._total = 0
        self._ended: dict[str, int] = {}
        self._received = self._sent = self._invalid = 0
        """Frames of sessions that are over."""
        self._farewell: Ending | None = None
        self._all_left = trio.Event()

    async def run(self, session: Session) -> None:
        """Serve one session to its end. During a drain it is told at once to come back later."""
        self._live[session] = None
        self._total += 1
        began = trio.current_time()
        if self._farewell is not None:
            session.end(self._farewell)
        try:
            await session.run()
        finally:
            self._live.pop(session)
            self._note_end(session, trio.current_time() - began)
            if not self._live:
                self._all_left.set()

    async def keepalive(self) -> None:
        """Look after silent peers, for ever."""
        while True:
            await trio.sleep(KEEPALIVE_SECONDS)
            now = trio.current_time()
            for session in self._live:
                session.check_life(now)

    async def drain(self) -> None:
        """Tell every session to reconnect elsewhere or later (1012), and wait `drain_seconds` at the most until they
        have left.
        """
        self._farewell = Ending(CloseCode.RESTART, f"retry_ms={self._limits.reconnect_spread_ms}")
        for session in self._live:
            session.end(self._farewell)
        with trio.move_on_after(self._limits.drain_seconds):
            while self._live:
                self._all_left = trio.Event()
                await self._all_left.wait()

    def statistics(self) -> SessionsStatistics:
        live = self._live
        return SessionsStatistics(
            live=len(live),
            opened_total=self._total,
            ended_total=tallied("code", self._ended),
            received_total=self._received + sum(session.received for session in live),
            sent_total=self._sent + sum(session.sent for session in live),
            invalid_total=self._invalid + sum(session.invalid for session in live),
            is_draining=self._farewell is not None,
        )

    def _note_end(self, session: Session, seconds: float) -> None:
        code = PEER_LEFT if session.ending is None else str(session.ending.code)
        self._ended[code] = self._ended.get(code, 0) + 1
        self._received += session.received
        self._sent += session.sent
        self._invalid += session.invalid
        log.info("session ended", code=code, seconds=round(seconds, 3), received=session.received, sent=session.sent)
