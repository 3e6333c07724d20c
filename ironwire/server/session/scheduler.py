"""Whose turn it is: how much of each class of work is done in one round (docs/decisions/0011, 0015).

A round is one turn of the event loop. In each of them the reader (`reader.py`) reads one piece of every session that
has sent something, and what it reads is handled at once if it is little. Everything that could keep the others waiting
asks for a turn first. Rule: people never wait for a turn; they do not write that fast.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

import trio


class Work(Enum):
    """What has to wait for a turn."""

    UNAUTHENTICATED = auto()
    """A step of a peer that has not authenticated. A thousand who come, speak or leave at once would else be one round
    of a thousand steps, for which everybody waits.
    """
    HEAVY = auto()
    """A part of what a client has sent at once, where that is more than a little: it takes a millisecond or more."""
    REQUEST = auto()
    """A request over HTTP: to answer it takes as long as several peers who authenticate, in several steps."""
    BODY = auto()
    """A piece of a request's body: 64 KiB are a tenth of a millisecond."""


class Share(NamedTuple):
    """So many in so many rounds."""

    places: int
    rounds: int = 1


SHARES = {
    Work.UNAUTHENTICATED: Share(2),
    Work.HEAVY: Share(1),
    Work.REQUEST: Share(1, rounds=3),
    Work.BODY: Share(2),
}

ROUND_SESSIONS = 100
"""How many sessions the reader reads in one round; the others are first in the next one."""
ROUND_BYTES = 256 * 1024
"""The reader ends a round when it has read so much."""

PROMPT_MESSAGES = 16
PROMPT_CHARS = 4 * 1024
"""What one read brings waits for no turn if it is no more than this."""
PART_MESSAGES = 100
PART_CHARS = 24 * 1024
"""The part of a larger read that is handled in one turn: a millisecond's work. One message may be larger."""
PART_SURCHARGE = 400
"""As soon as requests have counted for so many messages more (`rates.py`), the rest of a part has another turn."""


class Scheduler:
    """Gives the turns of all connections, first come, first served within each class of work.

    A place is held from when it is given until whoever has got it runs, which is in the next round, and goes to the
    next in line then. So a class has as many turns in a round as it has places, and no task has to count rounds.
    """

    def __init__(self) -> None:
        self._places = {work: trio.Semaphore(share.places) for work, share in SHARES.items()}

    async def turn(self, work: Work) -> None:
        """Wait until the caller may do a piece of such work: for the next round at the earliest."""
        async with self._places[work]:
            for _ in range(SHARES[work].rounds - 1):
                await trio.lowlevel.checkpoint()


def is_prompt(batch: list[str | bytes]) -> bool:
    """Whether one read brought so little that it waits for no turn."""
    return len(batch) <= PROMPT_MESSAGES and sum(map(len, batch)) <= PROMPT_CHARS


def parts(batch: list[str | bytes]) -> Iterator[list[str | bytes]]:
    """The parts of a large read that are a turn each."""
    if len(batch) <= PART_MESSAGES and sum(map(len, batch)) <= PART_CHARS:
        yield batch
        return
    part: list[str | bytes] = []
    chars = 0
    for text in batch:
        if len(part) == PART_MESSAGES or (part and chars + len(text) > PART_CHARS):
            yield part
            part, chars = [], 0
        part.append(text)
        chars += len(text)
    yield part
