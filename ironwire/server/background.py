"""Tasks that live as long as the server. None of them can end it, and none can vanish: one that fails is logged and
begins anew.
"""

from collections.abc import Awaitable, Callable, Iterable

import structlog
import trio
from attrs import frozen

from ironwire.counting import Tallied, figure, tallied

log = structlog.get_logger(__name__)

RESTART_SECONDS = 1.0


@frozen
class BackgroundStatistics:
    restarts_total: Tallied = figure("Restarts of background tasks that had failed, by task.")


class Background:
    def __init__(self, tasks: Iterable[Callable[[], Awaitable[None]]]) -> None:
        self._tasks = tuple(tasks)
        self._restarts = {task.__qualname__: 0 for task in self._tasks}
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                for task in self._tasks:
                    nursery.start_soon(self._supervise, task)
        self._ended.set()

    async def stop(self) -> None:
        """End all of them and wait until they have ended."""
        self._scope.cancel()
        await self._ended.wait()

    def statistics(self) -> BackgroundStatistics:
        return BackgroundStatistics(tallied("task", self._restarts))

    async def _supervise(self, task: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await task()
            except Exception:
                log.exception("background task failed", task=task.__qualname__)
                self._restarts[task.__qualname__] += 1
            await trio.sleep(RESTART_SECONDS)
