"""The frames that wait to be written to one session: a bounded queue that is emptied whole.

The queue is one batch, which is made by its first frame and grows until it is taken. So an idle session has none,
putting a frame is an append, and the writer gets everything that waits in one piece, to be written as one. The bound
counts bytes as well as frames: frames differ in size by a factor of a thousand.

One task empties the outboxes: frames that were queued in one iteration of the event loop leave in the next. To wake a
task for every session that got something costs more than the write itself; the flusher wakes one for all of them. A
memory channel brings it a round at a time: every session that has something to write.

Rules: putting never waits. A peer that does not read fast enough loses its session, and nobody else's time. The flusher
never waits for a peer either: a session whose connection does not take everything at once is left to a writer of its
own until it does (`server/session/session.py`).
"""

from collections.abc import Callable
from typing import Protocol

import structlog
import trio
from attrs import frozen

from ironwire.close_codes import CloseCode
from ironwire.counting import LATENCY_SECONDS, Distribution, Histogram, figure

log = structlog.get_logger(__name__)

TURN_FRAMES = 1_000
CALL_FRAMES = 16
"""The flusher yields to the event loop after so many frames, which take about a millisecond: a text may go to a
thousand sessions, and thousands of frames to one. A write to a socket counts as `CALL_FRAMES`, because it takes as
long.
"""


@frozen
class Ending:
    """The end of a session: the close code and reason that its peer is told (section 6)."""

    code: CloseCode
    reason: str


INTERNAL_ERROR = Ending(CloseCode.INTERNAL_ERROR, "internal error")


@frozen
class OutboxStatistics:
    frames_waiting: int
    bytes_waiting: int
    is_open: bool


class Outbox:
    """One session's way out. Anyone may `put`; only the session itself may `take`.

    `ring` is called when something is to be taken that was not there before: a first frame, or the ending.
    """

    __slots__ = (
        "_batch",
        "_most_bytes",
        "_most_frames",
        "_ring",
        "_waiting_bytes",
        "ending",
        "taken",
    )

    def __init__(self, *, most_frames: int, most_bytes: int, ring: Callable[[], None]) -> None:
        self._most_frames = most_frames
        self._most_bytes = most_bytes
        self._ring = ring
        self._batch: list[bytes] | None = None
        self._waiting_bytes = 0
        self.ending: Ending | None = None
        """Set once, by the first `close`."""
        self.taken = 0
        """Frames that were taken so far."""

    def put(self, frame: bytes) -> bool:
        """Queue one frame. False if the session is ending, which an outbox that is full brings about (4508)."""
        if self.ending is not None:
            return False
        batch = self._batch
        if batch is None:
            self._batch = [frame]
            self._waiting_bytes = len(frame)
            self._ring()
            return True
        if len(batch) >= self._most_frames or self._waiting_bytes + len(frame) > self._most_bytes:
            self.close(Ending(CloseCode.TOO_SLOW, "too slow"))
            return False
        batch.append(frame)
        self._waiting_bytes += len(frame)
        return True

    def put_ephemeral(self, frame: bytes) -> bool:
        """Queue a frame that may be lost. False: it was, because the session is ending, or because its outbox would be
        more than half full: the other half is for what must arrive.
        """
        return self.has_room(len(frame)) and self.put(frame)

    def has_room(self, size: int = 0) -> bool:
        """Whether half of it stays free with one frame more of this size; any fits where nothing waits."""
        return self._batch is None or (
            2 * (len(self._batch) + 1) <= self._most_frames and 2 * (self._waiting_bytes + size) <= self._most_bytes
        )

    def close(self, ending: Ending) -> None:
        """Take nothing more in; what waits can still be taken. The first ending stands."""
        if self.ending is None:
            self.ending = ending
            self._ring()

    def take(self) -> list[bytes]:
        """Every waiting frame, in the order they were put; none if none waits."""
        batch = self._batch
        if batch is None:
            return []
        self.taken += len(batch)
        self._batch = None
        return batch

    def statistics(self) -> OutboxStatistics:
        batch = self._batch or []
        return OutboxStatistics(len(batch), self._waiting_bytes if batch else 0, self.ending is None)


class Flushable(Protocol):
    """A session with frames to be flushed."""

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
        self._send, self._receive = trio.open_memory_channel[list[Flushable]](1)
        self._round: list[Flushable] | None = None
        """The item in the channel, if there is one: it grows until it is taken."""
        self._scheduled_at = 0.0
        """The time at which the first of them was scheduled."""
        self._handed_over = Histogram(LATENCY_SECONDS)

    def schedule(self, caller: Flushable) -> None:
        """Flush `caller` in the next iteration. Call this once, and again only after `flush` was called."""
        if self._round is None:
            self._scheduled_at = trio.current_time()
            self._round = [caller]
            self._send.send_nowait(self._round)
        else:
            self._round.append(caller)

    async def run(self) -> None:
        """Flush scheduled outboxes, for ever. One task runs this."""
        async for callers in self._receive:
            collected, scheduled_at = 0, self._scheduled_at
            self._round = None
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
