"""The window of `delivery/pump.py` against a model that remembers everything and computes nothing ahead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.delivery.pump import AckBeyondDelivery, MissingEntries, Window

MOST_ENVELOPES = 4
MOST_BYTES = 100


class Model:
    """What went out, what was acknowledged, and what the device was told is gone."""

    def __init__(self, acked: int) -> None:
        self.start = self.acked = acked
        self.sizes: dict[int, int] = {}
        self.gone: set[int] = set()

    @property
    def sent(self) -> int:
        return max([self.start, *self.sizes, *self.gone])

    @property
    def room(self) -> int:
        on_the_way = {seq: size for seq, size in self.sizes.items() if seq > self.acked}
        return 0 if sum(on_the_way.values()) >= MOST_BYTES else MOST_ENVELOPES - len(on_the_way)

    def tell(self, gap: MissingEntries | None) -> None:
        if gap is not None:
            assert gap.first <= gap.last
            numbers = set(range(gap.first, gap.last + 1))
            assert not numbers & (self.gone | set(self.sizes))
            self.gone |= numbers


steps = st.one_of(
    st.tuples(st.just("commit"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("deliver"), st.integers(1, 3), st.integers(0, 60)),
    st.tuples(st.just("skip"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("ack"), st.integers(-3, 3), st.just(0)),
)


@given(acked=st.integers(0, 5), behind=st.integers(0, 5), plan=st.lists(steps))
def test_the_window_says_what_the_model_says(acked: int, behind: int, plan: list[tuple[str, int, int]]) -> None:
    window = Window(acked, acked + behind, MOST_ENVELOPES, MOST_BYTES)
    model = Model(acked)
    tail = acked + behind
    for verb, number, size in plan:
        if verb == "commit":
            tail += number
            window.committed(tail)
        elif verb == "deliver" and window.room > 0:
            seq = model.sent + number
            model.tell(window.deliver(seq, size))
            model.sizes[seq] = size
            tail = max(tail, seq)
        elif verb == "skip":
            model.tell(window.skip(model.sent + number))
            tail = max(tail, model.sent)
        elif verb == "ack":
            upto = model.sent + number
            if number > 0:
                with pytest.raises(AckBeyondDelivery):
                    window.ack(upto)
            else:
                assert (window.ack(upto) is not None) == (upto > model.acked)
                model.acked = max(model.acked, upto)
        assert window.sent == model.sent
        assert window.acked == model.acked
        assert window.room == model.room
        assert window.is_behind == (model.sent < tail)
        assert set(range(acked + 1, model.sent + 1)) == set(model.sizes) | model.gone, "a silent hole"


def test_an_envelope_larger_than_the_window_goes_out_alone() -> None:
    window = Window(0, 2, MOST_ENVELOPES, MOST_BYTES)
    assert window.room > 0
    window.deliver(1, 10 * MOST_BYTES)
    assert window.room == 0
    window.ack(1)
    assert window.room == MOST_ENVELOPES


def test_what_was_sent_is_not_sent_again() -> None:
    window = Window(3, 5, MOST_ENVELOPES, MOST_BYTES)
    window.deliver(4, 1)
    for seq in (3, 4):
        with pytest.raises(ValueError, match=f"entry {seq} was sent before"):
            window.deliver(seq, 1)


def test_an_ack_of_what_was_never_sent_names_the_last() -> None:
    window = Window(3, 5, MOST_ENVELOPES, MOST_BYTES)
    with pytest.raises(AckBeyondDelivery, match="ack of 5, and the last delivered is 3"):
        window.ack(5)
    assert window.acked == 3


def test_what_has_expired_at_the_end_is_a_gap_and_can_be_acknowledged() -> None:
    window = Window(3, 7, MOST_ENVELOPES, MOST_BYTES)
    assert window.skip(7) == MissingEntries(4, 7)
    assert window.skip(7) is None
    assert not window.is_behind
    assert window.ack(7) == 0
