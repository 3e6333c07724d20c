"""One task that empties the outboxes: what all sessions were given in one turn of the event loop leaves in the next.

To wake a task for every session that got something costs more than the write itself; this wakes one for all of them.
Rule: the flusher never waits for a peer. A session whose connection does not take everything at once is left to a
writer of its own until it does (`server/session/session.py`).
"""

from typing import Protocol

import structlog
import trio
from attrs import frozen

from ironwire.counting import LATENCY_SECONDS, Distribution, Histogram, figure

log = structlog.get_logger(__name__)

TURN_FRAMES = 1_000
CALL_FRAMES = 16
"""How much is collected before everybody else has a turn, which takes about a millisecond: a text may go to a thousand,
and thousands of frames to one. To write to a socket takes as long as so many frames.
"""


class Flushable(Protocol):
    """Something that has frames to be collected."""

    def flush(self) -> int:
        """Send what waits, without waiting for anyone; returns how many frames that were."""
        ...


@frozen
class OutboxFlusherStatistics:
    handed_over_seconds: Distribution = figure(
        "Time from the first frame of a round entering its outbox until all frames of the round are handed to their "
        "connections or to a session's writer: one value per round, an upper bound for each of its frames."
    )


class OutboxFlusher:
    def __init__(self) -> None:
        self._scheduled: list[Flushable] = []
        self._scheduled_at = 0.0
        """When the first of them did."""
        self._wakeup = trio.lowlevel.ParkingLot()
        self._handed_over = Histogram(LATENCY_SECONDS)

    def schedule(self, caller: Flushable) -> None:
        """Come to `caller` in the next turn. Ring once, and again only after `flush` was called."""
        if not self._scheduled:
            self._scheduled_at = trio.current_time()
            self._wakeup.unpark()
        self._scheduled.append(caller)

    async def run(self) -> None:
        """Collect, for ever. One task runs this."""
        while True:
            collected = 0
            callers, scheduled_at = await self._next_round()
            for caller in callers:
                if collected >= TURN_FRAMES:
                    collected = 0
                    await trio.lowlevel.checkpoint()
                try:
                    collected += CALL_FRAMES + caller.flush()
                except Exception:
                    log.exception("a session's mail could not be collected")
            self._handed_over.observe(trio.current_time() - scheduled_at)

    def statistics(self) -> OutboxFlusherStatistics:
        return OutboxFlusherStatistics(self._handed_over.statistics())

    async def _next_round(self) -> tuple[list[Flushable], float]:
        if not self._scheduled:
            await self._wakeup.park()
        callers, self._scheduled = self._scheduled, []
        return callers, self._scheduled_at
