"""Token buckets: never more than the burst and the rate allow, and never less for one who waits as told."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.protocol.bucket import Bucket, Buckets, Rate

RATES = st.builds(Rate, per_second=st.integers(1, 1000), burst=st.integers(1, 1000))
STEPS = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 50)), max_size=60)


@given(RATES, STEPS)
def test_nobody_gets_more_than_the_burst_and_what_time_brings(rate: Rate, steps: list[tuple[float, int]]) -> None:
    bucket = Bucket(rate, 0.0)
    now = taken = debt = 0.0
    for pause, count in steps:
        now += pause
        if bucket.take(count, rate, now) == 0.0:
            taken += count
            debt = max(debt, count - rate.burst)
        assert taken <= (rate.burst + max(debt, 0) + now * rate.per_second) * (1 + 1e-9)


@given(RATES, STEPS)
def test_whoever_waits_as_told_is_let_through(rate: Rate, steps: list[tuple[float, int]]) -> None:
    bucket = Bucket(rate, 0.0)
    now = 0.0
    for pause, count in steps:
        now += pause
        wait = bucket.take(count, rate, now)
        if wait > 0:
            now += wait + 1e-6
            assert bucket.take(count, rate, now) == 0.0


@given(RATES, st.integers(1, 2000))
def test_what_is_refused_takes_nothing(rate: Rate, count: int) -> None:
    bucket = Bucket(rate, 0.0)
    bucket.take(rate.burst, rate, 0.0)
    waits = [bucket.take(count, rate, 0.0) for _ in range(5)]
    assert all(one == another > 0 for one, another in pairwise(waits))


def test_more_than_the_burst_is_had_from_a_full_bucket_and_paid_for_later() -> None:
    rate = Rate(per_second=10, burst=20)
    bucket = Bucket(rate, 0.0)
    assert bucket.take(50, rate, 0.0) == 0.0
    assert bucket.take(1, rate, 0.0) == pytest.approx(3.1)


def test_keys_do_not_share() -> None:
    buckets = Buckets[str](Rate(per_second=1, burst=1), most_keys=10)
    assert buckets.take("a", 1, 0.0) == 0.0
    assert buckets.take("a", 1, 0.0) == pytest.approx(1.0)
    assert buckets.take("b", 1, 0.0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 2)), max_size=200))
def test_unknown_keys_cannot_grow_the_table(visits: list[tuple[int, float]]) -> None:
    buckets = Buckets[int](Rate(per_second=1, burst=3), most_keys=10)
    now = 0.0
    for key, pause in visits:
        now += pause
        buckets.take(key, 1, now)
        assert len(buckets) <= 10


def test_who_has_been_quiet_is_forgotten_and_who_is_limited_is_not() -> None:
    buckets = Buckets[str](Rate(per_second=1, burst=5), most_keys=100)
    for _ in range(5):
        buckets.take("busy", 1, 0.0)
    buckets.take("quiet", 1, 0.0)
    assert buckets.take("busy", 1, 0.0) > 0
    buckets.take("new", 1, 1.0)
    assert len(buckets) == 2
    assert buckets.take("busy", 2, 1.0) == pytest.approx(1.0)
