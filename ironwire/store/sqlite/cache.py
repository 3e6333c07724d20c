"""What was read of late and is asked for again and again: a cache that is bounded by what is in its values.

Clients decide how many values there are and how large each is. The bound therefore counts the group members and blocked
clients in all values together, not the values.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field

K = TypeVar("K")
V = TypeVar("V")


@define(eq=False)
class Cache(Generic[K, V]):
    """As much as weighs `most` together; what would be more begins anew. A value weighs 1 at least."""

    _most: int
    _weigh: Callable[[V], int]
    held: dict[K, V] = field(init=False, factory=dict)
    """To be read, and changed by the methods alone."""
    _weight: int = field(init=False, default=0)

    def keep(self, key: K, value: V) -> V:
        """Hold a value for a key that has none; returns the value."""
        weight = 1 + self._weigh(value)
        if self._weight + weight > self._most:
            self.clear()
        self.held[key] = value
        self._weight += weight
        return value

    def drop(self, key: K) -> None:
        if key in self.held:
            self._weight -= 1 + self._weigh(self.held.pop(key))

    def clear(self) -> None:
        self.held.clear()
        self._weight = 0
