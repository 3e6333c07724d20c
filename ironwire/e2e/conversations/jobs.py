"""Runs pieces of work that stop at questions and pauses, without a loop and without a clock.

    start ──> until the next Inquiry ───> Request out, answer in ──┐
                       or Pause ───> the clock reaches it ────┴──> on

A piece is advanced only by an input of the engine, so between two of its stops nothing else happens. All pieces end
with the session.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, TypeVar

from attrs import define, field

from ironwire.e2e.conversations.effects import Inquiry, Pause, Request, Steps

T = TypeVar("T")
Then = Callable[[Any], None]


@define(eq=False)
class _Job:
    steps: Steps[Any]
    then: Then


@define(eq=False)
class Jobs:
    """The pieces of work of one session."""

    _now_ms: Callable[[], int]
    _request: Callable[[Request], None]
    _asked: dict[int, _Job] = field(factory=dict, init=False)
    _paused: list[tuple[int, int, _Job]] = field(factory=list, init=False)
    _number: int = field(default=0, init=False)

    def start(self, steps: Steps[T], then: Callable[[T], None] = lambda _: None) -> None:
        """Carry it out up to its first stop. `then` gets its result, unless the session ends before."""
        self._go_on(_Job(steps, then), None)

    def answer(self, number: int, reply: object) -> None:
        """The answer to a request; one of an earlier session is ignored."""
        job = self._asked.pop(number, None)
        if job is not None:
            self._go_on(job, reply)

    @property
    def due_at(self) -> int | None:
        """When the next pause ends, in Unix ms."""
        return self._paused[0][0] if self._paused else None

    def tick(self) -> None:
        """Go on with those whose pause is over."""
        while self._paused and self._paused[0][0] <= self._now_ms():
            _, _, job = heappop(self._paused)
            self._go_on(job, None)

    def end(self) -> None:
        """The session is over."""
        jobs = [*self._asked.values(), *(job for _, _, job in self._paused)]
        self._asked.clear()
        self._paused.clear()
        for job in jobs:
            job.steps.close()

    def _go_on(self, job: _Job, reply: object) -> None:
        try:
            stop = job.steps.send(reply)
        except StopIteration as done:
            job.then(done.value)
            return
        self._number += 1
        if isinstance(stop, Pause):
            heappush(self._paused, (self._now_ms() + stop.ms, self._number, job))
        elif isinstance(stop, Inquiry):
            self._asked[self._number] = job
            self._request(Request(self._number, stop))
