"""What a histogram says of values is what the values say of themselves."""

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from ironwire.counting import LATENCY_SECONDS, Histogram, Tallied, tallied

values = st.lists(st.sampled_from([0.0, *LATENCY_SECONDS, 0.003, 99.0]) | st.floats(0, 20))


@given(values)
def test_each_bound_has_the_values_that_are_not_above_it(seen: list[float]) -> None:
    histogram = Histogram(LATENCY_SECONDS)
    for value in seen:
        histogram.observe(value)
    found = histogram.statistics()
    assert found.bounds == LATENCY_SECONDS
    assert found.cumulative == (*(sum(value <= bound for value in seen) for bound in found.bounds), len(seen))
    assert found.counts[bisect_left(LATENCY_SECONDS, 0.003)] == sum(0.0025 < value <= 0.005 for value in seen)
    assert abs(found.sum - sum(seen)) < 1e-6


def test_a_tally_is_a_copy() -> None:
    counts = {"text": 1}
    now = tallied("verb", counts)
    counts["text"] += 1
    assert now == Tallied(("verb",), {("text",): 1})
    assert now.total == 1
