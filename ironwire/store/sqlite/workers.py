"""The threads that wait for the disk while the event loop goes on.

Trio's own way into a thread takes a turn of the loop to begin and two more to come back. Where others keep the loop
busy, a turn is milliseconds, and whoever waits to be accepted waits for all of them. So the writer has a thread in
which work begins at once, and the turn that finds it done goes on with it. Reads go into Trio's threads.
"""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import trio

T = TypeVar("T")


class Workers(Protocol):
    """Where a store does what would hold up the event loop. Both methods return, or raise, as `work` does."""

    async def write(self, work: Callable[[], T]) -> T:
        """One piece of work at a time, and none is ever abandoned: a cancellation waits for its end."""
        ...

    async def read(self, work: Callable[[], T]) -> T:
        """Several may be under way at a time, and none is abandoned."""
        ...

    def close(self) -> None:
        """Nothing may be under way."""
        ...


class Threads:
    """One thread for what is written, and Trio's for the rest."""

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(1, "ironwire-writer")
        self._done, self._tell = socket.socketpair()

    async def write(self, work: Callable[[], T]) -> T:
        outcome = self._writer.submit(work)
        outcome.add_done_callback(lambda _: self._tell.send(b"\0"))
        with trio.CancelScope(shield=True):
            await trio.lowlevel.wait_readable(self._done)
        self._done.recv(1)
        return outcome.result()

    async def read(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work)

    def close(self) -> None:
        self._writer.shutdown()
        self._done.close()
        self._tell.close()
