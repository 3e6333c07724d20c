"""Connections for a stage besides the unbounded ones in memory: one that holds only so many bytes, for a peer that
stops reading, and one with sockets.
"""

from functools import partial

import trio
from attrs import define, field
from trio.testing import memory_stream_pair

from tests.server.in_process import StreamPair


@define(eq=False)
class BoundedPipe(trio.abc.SendStream, trio.abc.ReceiveStream):
    """One direction. A write waits until all of it has found room; closing it wakes both sides."""

    _capacity_bytes: int
    _held: bytearray = field(factory=bytearray, init=False)
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _is_closed: bool = field(default=False, init=False)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        rest = bytes(data)
        while rest:
            if self._is_closed:
                raise trio.BrokenResourceError("the pipe is closed")
            room_bytes = self._capacity_bytes - len(self._held)
            if room_bytes == 0:
                await self._changed.park()
                continue
            self._held += rest[:room_bytes]
            rest = rest[room_bytes:]
            self._changed.unpark_all()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        while len(self._held) == self._capacity_bytes and not self._is_closed:
            await self._changed.park()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._held and not self._is_closed:
            await self._changed.park()
        data = bytes(self._held[:max_bytes])
        del self._held[:max_bytes]
        self._changed.unpark_all()
        return data

    async def aclose(self) -> None:
        self._is_closed = True
        self._changed.unpark_all()
        await trio.lowlevel.checkpoint()


def bounded(capacity_bytes: int) -> StreamPair:
    """For `InProcessServer.open_stream`: what the server writes is bounded, what the client writes is not."""
    return partial(_bounded_stream_pair, capacity_bytes)


def _bounded_stream_pair(capacity_bytes: int) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    client, server = memory_stream_pair()
    to_client = BoundedPipe(capacity_bytes)
    return trio.StapledStream(client.send_stream, to_client), trio.StapledStream(to_client, server.receive_stream)


def socket_stream_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """The two ends of a connection with sockets: what a session at one of them gets, the server's reader reads."""
    one, other = trio.socket.socketpair()
    return trio.SocketStream(one), trio.SocketStream(other)
