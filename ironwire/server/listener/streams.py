"""What Trio's streams lack: a write that does not wait, one that reports progress, a close that loses no last words.

Plain sockets go the shortest way to the kernel (docs/decisions/0006), every other stream through its own methods.
"""

import contextlib
import os

import trio

READ_BYTES = 64 * 1024
"""As much as one read takes."""

_LINGER_BYTES = 1024 * 1024
_PIECE_BYTES = 16 * 1024

GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a stream raises once the peer has left, or this side has closed it."""


def write_at_once(stream: trio.abc.Stream, data: bytes | memoryview) -> int:
    """Send what a plain socket takes without waiting; the number of bytes, 0 for any other stream.

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
    """Wait until a part of `data` is sent; the number of bytes, so that a caller can bound the wait for progress.

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
    """Say that no more will be sent, then discard what still comes until the peer hangs up or has sent 1 MiB.

    To close with unread bytes in the socket sends a reset, which may destroy the last words on their way. A stream
    that is gone is no error; time is the caller's to bound.
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
