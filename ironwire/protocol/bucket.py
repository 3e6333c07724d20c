"""Rate limits: a token bucket, and many of them by key, as pure machines.

A bucket holds up to `burst` tokens and gains `per_second` of them while time passes. A request for more than it holds
takes nothing and gets the time to wait. Time is an argument, in seconds of any monotonic clock.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from attrs import define, field, frozen

Key = TypeVar("Key", bound=Hashable)


@frozen
class Rate:
    """`per_second` in the long run, and up to `burst` at once."""

    per_second: float
    burst: float


class Bucket:
    """One peer's allowance. It begins full."""

    __slots__ = ("_tokens", "_updated")

    def __init__(self, rate: Rate, now: float) -> None:
        self._tokens = rate.burst
        self._updated = now

    def take(self, count: float, rate: Rate, now: float) -> float:
        """Take `count` tokens and return 0.0; or take none, and return the seconds until they are there.

        A `count` above the burst passes when the bucket is full, and leaves it in debt: a message larger than the burst
        waits, and is not refused for ever.
        """
        self._refill(rate, now)
        needed = min(count, rate.burst)
        if self._tokens >= needed:
            self._tokens -= count
            return 0.0
        return (needed - self._tokens) / rate.per_second

    def is_full(self, rate: Rate, now: float) -> bool:
        self._refill(rate, now)
        return self._tokens >= rate.burst

    def _refill(self, rate: Rate, now: float) -> None:
        self._tokens = min(rate.burst, self._tokens + (now - self._updated) * rate.per_second)
        self._updated = now


@define
class Buckets(Generic[Key]):
    """A bucket for each key, as many as `most_keys`.

    An unknown key has a full bucket, so a bucket that is full again need not be remembered. Above `most_keys` the key
    unused for longest is forgotten. It gets a full bucket too early: a smaller evil than a table that unauthenticated
    peers can grow.
    """

    rate: Rate
    most_keys: int
    _buckets: OrderedDict[Key, Bucket] = field(init=False, factory=OrderedDict)

    def take(self, key: Key, count: float, now: float) -> float:
        """As `Bucket.take`, from the bucket of `key`."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self.rate, now)
            self._forget_the_quiet(now)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(count, self.rate, now)

    def give_back(self, key: Key, count: float, now: float) -> None:
        """What was taken is not used."""
        self.take(key, -count, now)

    def __len__(self) -> int:
        return len(self._buckets)

    def _forget_the_quiet(self, now: float) -> None:
        """Drop the oldest if it is full again, or if there are too many. At most two at a time: never a long pause."""
        for _ in range(2):
            oldest = next(iter(self._buckets))
            if len(self._buckets) > self.most_keys or (
                len(self._buckets) > 1 and self._buckets[oldest].is_full(self.rate, now)
            ):
                del self._buckets[oldest]
