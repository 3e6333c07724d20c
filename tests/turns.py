"""How much is done in each turn of the event loop: what one task does in a turn, everybody else waits for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio
from attrs import define, field


@define(eq=False)
class _Noting(trio.abc.Instrument):
    _count: Callable[[], int]
    _before: int = field(init=False)
    by_turn: list[int] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._before = self._count()

    def before_io_wait(self, timeout: float) -> None:
        now = self._count()
        self.by_turn.append(now - self._before)
        self._before = now


@contextmanager
def counted_by_turn(count: Callable[[], int]) -> Iterator[list[int]]:
    """By how much `count` grows in each turn of the event loop while the block runs."""
    noting = _Noting(count)
    trio.lowlevel.add_instrument(noting)
    try:
        yield noting.by_turn
    finally:
        trio.lowlevel.remove_instrument(noting)
