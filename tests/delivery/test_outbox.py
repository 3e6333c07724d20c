"""An outbox keeps order and bounds, whatever is put and taken in whatever order."""

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ironwire.close_codes import CloseCode
from ironwire.delivery.outbox import Ending, Outbox

TOO_SLOW = Ending(CloseCode.TOO_SLOW, "too slow")
DRAIN = Ending(CloseCode.RESTART, "retry_ms=5000")

frames = st.binary(min_size=1, max_size=40)


def outbox_of(most_frames: int, most_bytes: int, rung: list[None] | None = None) -> Outbox:
    bell = [] if rung is None else rung
    return Outbox(most_frames=most_frames, most_bytes=most_bytes, ring=lambda: bell.append(None))


class OutboxMachine(RuleBasedStateMachine):
    """Against a list."""

    MOST_FRAMES = 4
    MOST_BYTES = 100

    def __init__(self) -> None:
        super().__init__()
        self.rung: list[None] = []
        self.outbox = outbox_of(self.MOST_FRAMES, self.MOST_BYTES, self.rung)
        self.waiting: list[bytes] = []
        self.ending: Ending | None = None

    @rule(frame=frames)
    def put(self, frame: bytes) -> None:
        waiting = [*self.waiting, frame]
        fits = len(waiting) <= self.MOST_FRAMES and sum(map(len, waiting)) <= self.MOST_BYTES
        is_taken = self.ending is None and fits
        assert self.outbox.put(frame) is is_taken
        if is_taken:
            self.waiting = waiting
        elif self.ending is None:
            self.ending = TOO_SLOW

    @rule(frame=frames)
    def put_ephemeral(self, frame: bytes) -> None:
        """What may be lost gets half of the outbox, or all of one that is empty, and never ends the session."""
        waiting = [*self.waiting, frame]
        fits = len(waiting) <= self.MOST_FRAMES / 2 and sum(map(len, waiting)) <= self.MOST_BYTES / 2
        is_taken = self.ending is None and (fits or not self.waiting)
        assert self.outbox.put_ephemeral(frame) is is_taken
        if is_taken:
            self.waiting = waiting

    @rule()
    def take(self) -> None:
        assert self.outbox.take() == self.waiting
        self.waiting = []
        self.rung.clear()

    @rule()
    def close(self) -> None:
        self.outbox.close(DRAIN)
        self.ending = self.ending or DRAIN

    @invariant()
    def its_statistics_and_its_ending_are_those_of_the_model(self) -> None:
        statistics = self.outbox.statistics()
        assert (statistics.frames_waiting, statistics.bytes_waiting) == (len(self.waiting), sum(map(len, self.waiting)))
        assert statistics.is_open is (self.ending is None)
        assert self.outbox.ending == self.ending

    @invariant()
    def what_waits_was_announced(self) -> None:
        assert self.rung or not self.waiting


TestOutbox = OutboxMachine.TestCase


@given(st.lists(frames, max_size=30))
def test_one_ring_announces_all_that_comes_before_it_is_taken(put: list[bytes]) -> None:
    rung: list[None] = []
    outbox = outbox_of(100, 10_000, rung)
    for frame in put:
        outbox.put(frame)
    assert len(rung) == min(len(put), 1)


def test_an_ending_is_announced_once() -> None:
    rung: list[None] = []
    outbox = outbox_of(4, 100, rung)
    outbox.close(DRAIN)
    outbox.close(TOO_SLOW)
    assert rung == [None]
    assert outbox.ending == DRAIN


def test_a_frame_that_is_larger_than_the_bound_goes_out_if_it_is_alone() -> None:
    outbox = outbox_of(4, 10)
    assert outbox.put(b"x" * 11)
    assert not outbox.put(b"x")
    assert outbox.take() == [b"x" * 11]
