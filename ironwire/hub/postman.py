"""One task that empties the outboxes: what all sessions were given in one turn of the event loop leaves in the next.

To wake a task for every session that got something costs more than the write itself; this wakes one for all of them.
Rule: the postman never waits for a peer. A session whose connection does not take everything at once is left to a
writer of its own until it does (`server/session.py`).
"""

from typing import Protocol

import structlog
import trio

log = structlog.get_logger(__name__)


class Collectable(Protocol):
    """Something that has frames to be collected."""

    def collect(self) -> None:
        """Send what waits, without waiting for anyone."""
        ...


class Postman:
    def __init__(self) -> None:
        self._rang: list[Collectable] = []
        self._bell = trio.lowlevel.ParkingLot()

    def ring(self, caller: Collectable) -> None:
        """Come to `caller` in the next turn. Ring once, and again only after `collect` was called."""
        self._rang.append(caller)
        self._bell.unpark()

    async def run(self) -> None:
        """Collect, for ever. One task runs this."""
        while True:
            for caller in await self._next_round():
                try:
                    caller.collect()
                except Exception:
                    log.exception("a session's mail could not be collected")

    async def _next_round(self) -> list[Collectable]:
        if not self._rang:
            await self._bell.park()
        callers, self._rang = self._rang, []
        return callers
