"""The transport over a connection's own stream, once its upgrade has been answered.

The number of steps per message is the cost, so one read yields every complete message in it and one write carries a
whole batch. No layer stands between the kernel and the frame parser. Plain sockets are called directly
(docs/decisions/0006), every other stream through its own methods.
"""

import contextlib
import os
from collections.abc import Sequence
from typing import cast

import trio
from attrs import define, field

from ironwire.errors import TransportClosed
from ironwire.limits import Limits
from ironwire.protocol.bucket import Rate
from ironwire.wire import frames

READ_BYTES = 64 * 1024
"""The size of one read."""

_LINGER_BYTES = 1024 * 1024
_PIECE_BYTES = 16 * 1024

GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
"""Exceptions of a stream that the peer has left, or that this side has closed."""

ODD_FRAMES = Rate(per_second=250, burst=250)
"""Pings, pongs and fragments that a peer may send; the limits of messages do not count them, and ten thousand fit into
one read. A burst takes half a millisecond.
"""
UNAUTHENTICATED_BYTES = 4 * 1024
"""The size of a read before authentication: enough for the proof, too small for ten thousand tiny frames."""


# --- additions to Trio's streams -------------------------------------------------------------------------------------


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


# --- the transports --------------------------------------------------------------------------------------------------


@define(eq=False)
class DirectTransport:
    """The contract over the byte stream of a connection whose upgrade has been answered.

    `leftover` came right behind the upgrade. Pongs and messages share one stream, so every write that waits holds the
    lock. A ping that arrives while the lock is held leaves its pong to its holder, and only the newest pong waits (RFC
    6455 section 5.5.3): a flood of pings costs no memory.
    """

    _stream: trio.abc.Stream
    _leftover: bytes
    _limits: Limits
    last_heard: float = field(factory=trio.current_time, init=False)
    _parser: frames.FrameParser = field(init=False)
    _write_lock: trio.Lock | None = field(default=None, init=False)
    """There while it is held: most connections take everything that they are given at once."""
    _unsent: bytes = field(default=b"", init=False)
    """Bytes that `write` has accepted and the socket has not."""
    _waiting_pong: bytes = field(default=b"", init=False)
    _peer_close: frames.CloseFrame | None = field(default=None, init=False)
    _is_sending_over: bool = field(default=False, init=False)
    _read_bytes: int = field(default=UNAUTHENTICATED_BYTES, init=False)

    @_parser.default
    def _new_parser(self) -> frames.FrameParser:
        parser = frames.FrameParser(self._limits.frame_bytes)
        parser.odd_frames_left = ODD_FRAMES.burst
        return parser

    def authenticated(self) -> None:
        self._read_bytes = READ_BYTES

    @property
    def is_over(self) -> bool:
        return self._peer_close is not None or self._parser.violation is not None

    async def receive(self) -> list[frames.Payload]:
        while True:
            if self._peer_close is not None:
                await self._write_bounded(frames.encode_close(self._peer_close.code, ""), is_last=True)
                raise TransportClosed("the peer closed the connection")
            messages = self._messages_in(await self._read(), trio.current_time())
            if self._waiting_pong and self._write_lock is None:
                await self._write_bounded(b"")
            if messages:
                return messages
            if self._parser.violation is not None:
                raise self._parser.violation

    def write(self, payloads: Sequence[bytes]) -> bool:
        data = frames.encode_batch(payloads)
        if self._write_lock is not None:  # its holder sends the pong too
            self._unsent += data
            return False
        if self._is_sending_over:
            raise TransportClosed("nothing more can be sent on this connection")
        data, self._unsent, self._waiting_pong = self._unsent + self._waiting_pong + data, b"", b""
        try:
            self._unsent = data[write_at_once(self._stream, data) :]
        except OSError as error:
            self._is_sending_over = True
            raise TransportClosed("the connection broke") from error
        return not self._unsent

    async def send_some(self) -> bool:
        lock = await self._acquire()
        try:
            if self._is_sending_over:
                raise TransportClosed("nothing more can be sent on this connection")
            data, self._unsent, self._waiting_pong = self._unsent + self._waiting_pong, b"", b""
            if data:
                self._is_sending_over = True  # and it stays so if this is cancelled or fails: half a frame may be out
                sent_bytes = await write_some(self._stream, memoryview(data))
                self._is_sending_over = False
                self._unsent = data[sent_bytes:] + self._unsent
            return not self._unsent and not self._waiting_pong
        except (*GONE, OSError) as error:
            raise TransportClosed("the connection broke") from error
        finally:
            self._release(lock)

    async def ping(self) -> None:
        await self._write(frames.encode_ping(b""))

    async def close(self, code: int, reason: str) -> None:
        try:
            with contextlib.suppress(TransportClosed):
                await self._write(frames.encode_close(code, reason), is_last=True)
            await linger(self._stream)
        finally:
            await trio.aclose_forcefully(self._stream)

    async def abort(self) -> None:
        await trio.aclose_forcefully(self._stream)

    def _messages_in(self, data: bytes, now: float) -> list[frames.Payload]:
        """Every message that `data` completes."""
        parser = self._parser
        odd_frames_left = parser.odd_frames_left
        if odd_frames_left < ODD_FRAMES.burst:
            gained = (now - self.last_heard) * ODD_FRAMES.per_second
            parser.odd_frames_left = odd_frames_left = min(odd_frames_left + gained, ODD_FRAMES.burst)
        self.last_heard = now
        items = parser.feed(data)
        if parser.odd_frames_left == odd_frames_left:
            return cast("list[frames.Payload]", items)  # whole texts, and nothing else
        messages: list[frames.Payload] = []
        for item in items:
            if isinstance(item, (str, bytes)):
                messages.append(item)
            elif isinstance(item, frames.PingFrame):
                self._waiting_pong = frames.encode_pong(item.data)
            elif isinstance(item, frames.CloseFrame):
                self._peer_close = item
        return messages

    async def _read(self) -> bytes:
        if self._leftover:
            data, self._leftover = self._leftover, b""
            await trio.lowlevel.checkpoint()
            return data
        if self._parser.violation is not None:
            await trio.lowlevel.checkpoint()
            raise self._parser.violation
        try:
            data = await self._read_some()
        except (*GONE, OSError) as error:
            raise TransportClosed("the connection broke") from error
        if not data:
            raise TransportClosed("the peer left without a close frame")
        return data

    async def _read_some(self) -> bytes:
        return bytes(await self._stream.receive_some(self._read_bytes))

    async def _write(self, data: bytes, *, is_last: bool = False) -> None:
        """Send `data` and the waiting pong, if any. Nothing is sent after a last write (`is_last`) or half a frame."""
        lock = await self._acquire()
        try:
            if self._is_sending_over:
                await trio.lowlevel.checkpoint()
                raise TransportClosed("nothing more can be sent on this connection")
            self._is_sending_over = True  # and it stays so if the write is cancelled or fails: half a frame may be out
            while data or self._unsent or self._waiting_pong:
                data, self._unsent, self._waiting_pong = self._unsent + self._waiting_pong + data, b"", b""
                await self._stream.send_all(data)
                data = b""
            self._is_sending_over = is_last
        except GONE as error:
            raise TransportClosed("the connection broke") from error
        finally:
            self._release(lock)

    async def _acquire(self) -> trio.Lock:
        """Wait until nobody else holds the lock. Without a holder this is no checkpoint: the write makes its own."""
        lock = self._write_lock
        if lock is not None:
            await lock.acquire()
            return lock
        self._write_lock = lock = trio.Lock()
        lock.acquire_nowait()
        return lock

    def _release(self, lock: trio.Lock) -> None:
        lock.release()
        if not lock.locked():  # nobody has waited for it
            self._write_lock = None

    async def _write_bounded(self, data: bytes, *, is_last: bool = False) -> None:
        """Write for the reader, bounded in time: a peer that sends pings and reads no pongs is cut."""
        with trio.move_on_after(self._limits.write_seconds):
            await self._write(data, is_last=is_last)
            return
        await self.abort()
        raise TransportClosed("the peer does not read its answers")


@define(eq=False)
class SocketTransport(DirectTransport):
    """The direct transport over a plain socket, with the fewest steps between the kernel and a message.

    A read waits first, because the socket was emptied by the one before, as a write (`write_at_once`) is tried first,
    because the socket nearly always takes it. Trio's own methods do it the other way round and with more bookkeeping;
    at one message a read they cost a third of the throughput (docs/decisions/0006). Somebody who knows that the socket
    is readable (`reader.py`) need not wait at all.
    """

    _socket: trio.socket.SocketType = field(init=False)
    _has_ended: bool = field(default=False, init=False)
    """Whether the peer sends nothing more, or the connection broke."""

    def __attrs_post_init__(self) -> None:
        self._socket = cast("trio.SocketStream", self._stream).socket

    @property
    def descriptor(self) -> int:
        """The socket's, which is -1 once it is closed."""
        return self._socket.fileno()

    @property
    def is_over(self) -> bool:
        return self._has_ended or self._peer_close is not None or self._parser.violation is not None

    @property
    def owes_pong(self) -> bool:
        """Whether a pong waits for the next write."""
        return bool(self._waiting_pong)

    def receive_nowait(self, now: float) -> tuple[int, list[frames.Payload]]:
        """Read once, without waiting: the number of bytes, and every message that is complete with them. Where the
        connection turns out to be over there are none, and `is_over` says so.
        """
        try:
            data = os.read(self._socket.fileno(), self._read_bytes)
        except BlockingIOError:  # spurious readiness: the kernel has dropped the data
            return 0, []
        except OSError:
            data = b""
        if not data:
            self._has_ended = True
            return 0, []
        return len(data), self._messages_in(data, now)

    async def abort(self) -> None:
        self._socket.close()
        await trio.lowlevel.checkpoint()

    async def _read_some(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return os.read(self._socket.fileno(), self._read_bytes)
            except BlockingIOError:  # spurious readiness: the kernel has dropped the data
                continue
