"""Equal shares for all who wait, whatever they ask for."""

from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.protocol.fair import FairQueue

owners = st.sampled_from("abc")
costs = st.integers(1, 1_000)


def drain(queue: FairQueue[str, tuple[str, int]]) -> list[tuple[str, int]]:
    served = []
    with suppress(IndexError):
        while True:
            served.append(queue.take())
    return served


@given(st.lists(st.tuples(owners, costs)))
def test_everything_is_served_and_each_owner_in_order(asked: list[tuple[str, int]]) -> None:
    queue: FairQueue[str, tuple[str, int]] = FairQueue()
    for number, (owner, cost) in enumerate(asked):
        queue.put(owner, (owner, number), cost)
    served = drain(queue)
    for owner in "abc":
        assert [each for each in served if each[0] == owner] == [
            (endpoint, number) for number, (endpoint, _) in enumerate(asked) if endpoint == owner
        ]
    with pytest.raises(IndexError):
        queue.take()


@given(*[st.lists(st.integers(1, 50), min_size=1, max_size=10)] * 2)
def test_two_who_wait_all_the_time_are_never_further_apart_than_an_item_of_each(
    one: list[int], other: list[int]
) -> None:
    queue: FairQueue[str, tuple[str, int]] = FairQueue()
    waiting = Counter(a=10 * len(one), b=10 * len(other))
    for owner, each in (("a", one), ("b", other)):
        for cost in each * 10:
            queue.put(owner, (owner, cost), cost)
    served: Counter[str] = Counter()
    while min(waiting.values()):
        owner, cost = queue.take()
        waiting[owner] -= 1
        served[owner] += cost
        assert abs(served["a"] - served["b"]) <= max(one) + max(other)


def test_whoever_asks_for_little_does_not_wait_for_what_is_dear() -> None:
    queue: FairQueue[str, tuple[str, int]] = FairQueue()
    for number in range(30):
        for _ in range(5):
            queue.put(f"dear {number}", ("dear", number), 1_000)
    for number in range(50):
        queue.take()
        queue.put("cheap", ("cheap", number), 1)
        assert queue.take() == ("cheap", number)


def test_whoever_comes_later_has_no_claim_to_what_they_did_not_ask_for() -> None:
    queue: FairQueue[str, tuple[str, int]] = FairQueue()
    for number in range(100):
        queue.put("early", ("early", number), 1)
    for _ in range(50):
        queue.take()
    for number in range(20):
        queue.put("late", ("late", number), 1)
    assert Counter(owner for owner, _ in drain(queue)[:10]) == {"early": 5, "late": 5}
