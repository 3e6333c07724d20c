"""Additions to Trio's streams: a write that does not wait, one that reports progress, a close that loses no data.

Plain sockets are called directly (docs/decisions/0006), every other stream through its own methods.
"""

import contextlib
import os

import trio

READ_BYTES = 64 * 1024
"""The size of one read."""

_LINGER_BYTES = 1024 * 1024
_PIECE_BYTES = 16 * 1024

GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
"""Exceptions of a stream that the peer has left, or that this side has closed."""


def write_at_once(stream: trio.abc.Stream, data: bytes | memoryview) -> int:
    """Send the bytes that a plain socket takes without waiting; returns their number, 0 for any other stream.

    Raises:
        OSError: the connection broke, or is closed.
    """
    if not isinstance(stream, trio.SocketStream):
        return 0
    try:
        return os.write(stream.socket.fileno(), data)
    except BlockingIOError:
        return 0


async def write_some(stream: trio.abc.Stream, data: memoryview) -> int:
    """Wait until a part of `data` is sent; returns the number of bytes, so that a caller can bound the wait.

    Raises:
        OSError, or one of `GONE`: the connection broke, or is closed.
    """
    if not isinstance(stream, trio.SocketStream):
        piece = data[:_PIECE_BYTES]
        await stream.send_all(piece)
        return len(piece)
    await trio.lowlevel.wait_writable(stream.socket)
    return write_at_once(stream, data)


async def linger(stream: trio.abc.Stream) -> None:
    """Half-close, then discard input until the peer hangs up or has sent 1 MiB.

    Closing with unread bytes in the socket sends a reset, which may destroy the last bytes on their way. A stream that
    is gone is no error; the caller bounds the time.
    """
    with contextlib.suppress(*GONE, trio.BusyResourceError):
        await half_close(stream)
        discarded_bytes = 0
        while discarded_bytes < _LINGER_BYTES:
            data = await stream.receive_some(READ_BYTES)
            if not data:
                break
            discarded_bytes += len(data)


async def half_close(stream: trio.abc.Stream) -> None:
    """Send the end of the stream and keep reading.

    Under TLS the end is that of the TCP stream, without a close_notify: what Hypercorn's https does when it closes.
    """
    raw = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if isinstance(raw, trio.abc.HalfCloseableStream):
        await raw.send_eof()
