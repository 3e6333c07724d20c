"""The cache, whose keys and values are chosen by clients."""

from hypothesis import given
from hypothesis import strategies as st

from ironwire.store.sqlite.cache import Cache

KEYS = st.integers(0, 5)
SIZES = st.integers(0, 12)


@given(st.lists(st.tuples(KEYS, SIZES) | KEYS))
def test_it_holds_what_was_put_there_last_and_never_more_than_it_may(steps: list[tuple[int, int] | int]) -> None:
    cache: Cache[int, str] = Cache(20, len)
    last: dict[int, str] = {}
    for step in steps:
        if isinstance(step, int):
            cache.drop(step)
            last.pop(step, None)
        elif step[0] not in cache.held:
            last[step[0]] = cache.keep(step[0], "x" * step[1])
        assert sum(1 + len(value) for value in cache.held.values()) <= 20
        assert cache.held.items() <= last.items()


def test_dropping_makes_room() -> None:
    cache: Cache[int, str] = Cache(20, len)
    cache.keep(1_000, "kept")
    for number in range(100):
        cache.keep(number, "x" * 10)
        cache.drop(number)
    assert cache.held == {1_000: "kept"}
