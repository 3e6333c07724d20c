"""A loop of Trio that stands still between synchronous steps.

A state machine of Hypothesis is synchronous and Trio is not. So the loop runs in a greenlet of its own: each step
switches to it, is carried out there, and switches back. Nothing happens and no time passes that a step did not ask for.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

import greenlet  # type: ignore[import-untyped]  # it comes without stubs
import outcome
import trio
from trio.testing import MockClock

T = TypeVar("T")
R = TypeVar("R")


class SteppedLoop(Generic[T]):
    """A loop on a virtual clock, with what `scene` opens in it. `close` it when done."""

    scene: T

    def __init__(self, scene: AbstractAsyncContextManager[T]) -> None:
        self._opening = scene
        self._loop = greenlet.greenlet(lambda: trio.run(self._main, clock=MockClock()))
        self._loop.switch()

    def do(self, step: Callable[[], Awaitable[R]]) -> R:
        """Carry out a step. Everything else goes on only while the step waits."""
        done: outcome.Outcome[R] = self._loop.switch(step)
        return done.unwrap()

    def close(self) -> None:
        """Leave the scene, and stop the loop."""
        if not self._loop.dead:
            self._loop.switch(None)

    async def _main(self) -> None:
        async with self._opening as self.scene:
            step = self._host().switch()
            while step is not None:
                result: outcome.Outcome[Any] = await outcome.acapture(step)
                step = self._host().switch(result)

    def _host(self) -> greenlet.greenlet:
        host = self._loop.parent
        if host is None:
            raise RuntimeError("the loop has no host to return to")
        return host
