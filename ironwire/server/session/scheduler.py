"""Fairness: how much work of each class runs in one iteration of the event loop (docs/decisions/0011, 0015).

In each iteration the reader (`reader.py`) reads one piece of every session that has sent something, and a small read is
handled at once (`intake.py`). Work that could keep the others waiting needs a scheduling slot first. Rule: people never
wait for a slot; they do not write that fast.

The bounds that depend on each other stand here, whoever applies them. Elsewhere stand those of other resources: the
order of commits (`delivery/committer.py`), the lookups of watchers (`handlers/presence.py`), and how much one client
may send in the long run (`Limits`, by `rates.py`) or be refused (`refusals.py`).
"""

from enum import IntEnum, auto
from typing import NamedTuple

import trio


class Work(IntEnum):  # the hash of an `Enum` is computed in Python
    """The classes of work that need a scheduling slot."""

    UNAUTHENTICATED = auto()
    """A step of an unauthenticated peer. Without the bound, a thousand peers that arrive, speak or leave at once would
    be one iteration of a thousand steps.
    """
    HEAVY = auto()
    """A part of a large read, or requests with a large surcharge: a millisecond or more."""
    REQUEST = auto()
    """The start of an HTTP request: answering one takes as long as several authentications."""
    BODY = auto()
    """A piece of a request's body: 64 KiB take a tenth of a millisecond."""


class Share(NamedTuple):
    """At most `slots` pieces of work in `iterations` iterations."""

    slots: int
    iterations: int = 1


SHARES = {
    Work.UNAUTHENTICATED: Share(2),
    Work.HEAVY: Share(1),
    Work.REQUEST: Share(1, iterations=3),
    Work.BODY: Share(2),
}

# The reader's round.
ROUND_SESSIONS = 100
"""Sessions that the reader reads in one iteration; the others come first in the next one."""
ROUND_BYTES = 256 * 1024
"""The reader ends its round after this much."""

# The messages of one read.
PROMPT_MESSAGES = 16
PROMPT_CHARS = 4 * 1024
"""A read up to this size needs no scheduling slot."""
PART_MESSAGES = 100
PART_CHARS = 24 * 1024
"""The part of a larger read that is handled in one slot: a millisecond's work. One message may be larger."""
PART_SURCHARGE = 400
"""Yield after this much accumulated surcharge; the rest of the part takes another slot."""


class Scheduler:
    """The scheduling slots of all connections: first come, first served within each class.

    A semaphore counts the iterations by itself: a slot is granted, its holder runs in the next iteration, and releases
    it there for the next in line. So a class runs as often in an iteration as it has slots, and no task keeps count.
    """

    def __init__(self) -> None:
        self._slots = {work: trio.Semaphore(share.slots) for work, share in SHARES.items()}

    async def slot(self, work: Work) -> None:
        """Wait for a scheduling slot, which is in the next iteration at the earliest."""
        async with self._slots[work]:
            for _ in range(SHARES[work].iterations - 1):
                await trio.lowlevel.checkpoint()
