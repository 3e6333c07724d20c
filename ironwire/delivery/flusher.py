"""One task that empties the outboxes: what all sessions were given in one turn of the event loop leaves in the next.

To wake a task for every session that got something costs more than the write itself; this wakes one for all of them.
Rule: the postman never waits for a peer. A session whose connection does not take everything at once is left to a
writer of its own until it does (`server/session/session.py`).
"""

from typing import Protocol

import structlog
import trio
from attrs import frozen

from ironwire.counting import LATENCY_SECONDS, Distribution, Histogram

log = structlog.get_logger(__name__)

TURN_FRAMES = 1_000
CALL_FRAMES = 16
"""How much is collected before everybody else has a turn, which takes about a millisecond: a text may go to a thousand,
and thousands of frames to one. To write to a socket takes as long as so many frames.
"""


class Collectable(Protocol):
    """Something that has frames to be collected."""

    def collect(self) -> int:
        """Send what waits, without waiting for anyone; returns how many frames that were."""
        ...


@frozen
class PostmanStatistics:
    handed_over_seconds: Distribution
    """From when the first frame of a round was put into an outbox to when all were given to their connections, or to a
    session's own writer: one value a round, and no frame of the round took longer.
    """


class Postman:
    def __init__(self) -> None:
        self._rang: list[Collectable] = []
        self._rang_at = 0.0
        """When the first of them did."""
        self._bell = trio.lowlevel.ParkingLot()
        self._handed_over = Histogram(LATENCY_SECONDS)

    def ring(self, caller: Collectable) -> None:
        """Come to `caller` in the next turn. Ring once, and again only after `collect` was called."""
        if not self._rang:
            self._rang_at = trio.current_time()
            self._bell.unpark()
        self._rang.append(caller)

    async def run(self) -> None:
        """Collect, for ever. One task runs this."""
        while True:
            collected = 0
            callers, rang_at = await self._next_round()
            for caller in callers:
                if collected >= TURN_FRAMES:
                    collected = 0
                    await trio.lowlevel.checkpoint()
                try:
                    collected += CALL_FRAMES + caller.collect()
                except Exception:
                    log.exception("a session's mail could not be collected")
            self._handed_over.observe(trio.current_time() - rang_at)

    def statistics(self) -> PostmanStatistics:
        return PostmanStatistics(self._handed_over.statistics())

    async def _next_round(self) -> tuple[list[Collectable], float]:
        if not self._rang:
            await self._bell.park()
        callers, self._rang = self._rang, []
        return callers, self._rang_at
