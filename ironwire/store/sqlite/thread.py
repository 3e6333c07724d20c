"""The thread that waits for the disk while the event loop goes on.

Trio's own way into a thread takes a turn of the loop to begin and two more to come back. Where others keep the loop
busy, a turn is milliseconds, and whoever waits to be accepted waits for all of them. Here work begins at once, and the
turn that finds it done goes on with it. Rule: one piece of work at a time, and none is ever abandoned.
"""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import trio

T = TypeVar("T")


class WriterThread:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ironwire-writer")
        self._done, self._tell = socket.socketpair()

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, in the thread. A cancellation waits for its end."""
        outcome = self._thread.submit(work)
        outcome.add_done_callback(lambda _: self._tell.send(b"\0"))
        with trio.CancelScope(shield=True):
            await trio.lowlevel.wait_readable(self._done)
        self._done.recv(1)
        return outcome.result()

    def close(self) -> None:
        """Nothing may be under way."""
        self._thread.shutdown()
        self._done.close()
        self._tell.close()
