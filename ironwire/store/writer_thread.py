"""The thread that waits for the disk while the event loop goes on.

Trio's own way into a thread takes a turn of the loop to begin and two more to come back. Where others keep the loop
busy, a turn is milliseconds, and whoever waits to be accepted waits for all of them. Here work begins at once, and the
turn that finds it done goes on with it. Rule: one piece of work at a time, and none is ever abandoned.
"""

import socket
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

import trio

T = TypeVar("T")


class WriterThread:
    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._done, self._tell = socket.socketpair()
        self._thread = Thread(target=self._run, name="ironwire-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, in the thread. A cancellation waits for its end."""
        outcome: Future[T] = Future()

        def keep_outcome() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:  # noqa: ASYNC103  # no task runs here, and whoever waits raises it
                outcome.set_exception(error)

        self._work.put(keep_outcome)
        with trio.CancelScope(shield=True):
            await trio.lowlevel.wait_readable(self._done)
        self._done.recv(1)
        return outcome.result()

    def close(self) -> None:
        """Nothing may be under way."""
        self._work.put(None)
        self._thread.join()
        self._done.close()
        self._tell.close()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            self._tell.send(b"\0")
