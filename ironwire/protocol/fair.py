"""Fair queueing (Demers, Keshav and Shenker, SIGCOMM 1989), as a pure machine.

If all waiting owners were served at the same time, at equal speeds, each item would be done at some moment: its tag.
Items are served one after the other in the order of their tags. So an owner's items stay in order, waiting owners get
equal shares at any cost of their items, and cheap items do not wait for expensive ones.
"""

from collections.abc import Hashable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

from attrs import define, field

Owner = TypeVar("Owner", bound=Hashable)
Item = TypeVar("Item")


@define(eq=False)
class FairQueue(Generic[Owner, Item]):
    """The waiting items of all owners."""

    _heap: list[tuple[float, int, int, Owner, Item]] = field(init=False, factory=list)
    """Tag, number that keeps equal tags in order, cost, owner and item."""
    _last_tags: dict[Owner, float] = field(init=False, factory=dict)
    """The last tag of each owner with waiting items."""
    _moment: float = field(init=False, default=0.0)
    """Virtual time: the service that each owner would have got, had all been served at the same time."""
    _numbers: "count[int]" = field(init=False, factory=count)

    def put(self, owner: Owner, item: Item, cost: int) -> None:
        """Let the item wait for its turn. `cost` is above 0."""
        tag = max(self._moment, self._last_tags.get(owner, 0.0)) + cost
        self._last_tags[owner] = tag
        heappush(self._heap, (tag, next(self._numbers), cost, owner, item))

    def take(self) -> Item:
        """The item whose turn it is.

        Raises:
            IndexError: nothing waits.
        """
        tag, _, cost, owner, item = heappop(self._heap)
        self._moment += cost / len(self._last_tags)
        if self._last_tags[owner] == tag:
            del self._last_tags[owner]
        if not self._heap:
            self._moment = 0.0
        return item
