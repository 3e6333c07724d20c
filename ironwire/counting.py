"""The forms in which the parts hand out what they count: snapshots with an explained field for each figure, counts by
label, histograms.

To count is an integer increment. Everything dearer happens when somebody asks, which is a few times a minute.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

from attrs import AttrsInstance, field, frozen

Statistics = Callable[[], AttrsInstance]
"""A part's `statistics`: a snapshot of what it counts."""

HELP = "help"
"""Where a field's metadata hold its explanation."""

LATENCY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From a disk that lies about its writes to one that has given up."""


def figure(help: str) -> Any:  # noqa: A002  # what Prometheus calls it
    """A figure in a snapshot, and the explanation that the metrics publish with it."""
    return field(metadata={HELP: help})


@frozen
class Tallied:
    """Counts by the values of labels: `counts` has a value for each of `labels` in every key."""

    labels: tuple[str, ...]
    counts: Mapping[tuple[str, ...], int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def tallied(label: str, counts: Mapping[str, int]) -> Tallied:
    """A copy of `counts`, whose keys are the values of `label`."""
    return Tallied((label,), {(value,): count for value, count in counts.items()})


@frozen
class Distribution:
    """A snapshot of a histogram. `counts[i]` are the values up to `bounds[i]` that no lower bound holds; one more count
    is of those above all bounds.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def cumulative(self) -> tuple[int, ...]:
        """How many values are not above each bound; the last is how many there are."""
        return tuple(accumulate(self.counts))


class Histogram:
    """Counts values by size; one takes well under a microsecond."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """`bounds` increase."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def statistics(self) -> Distribution:
        return Distribution(self._bounds, tuple(self._counts), self._sum)
