"""How a session reads and writes its peer: one contract, two ways to keep it.

`DirectTransport` works on the connection's own stream, because what costs is the steps per message: one read yields
every complete message in it, one write carries a whole batch. `PortableTransport` keeps the same promises over any
ASGI server. Deadlines are the caller's; the one exception is an answer to the peer, which nobody asked the transport
to write.
"""

import contextlib
import os
from collections.abc import Sequence
from typing import ClassVar, Protocol, cast

import trio
from attrs import define, field
from quart.wrappers import Websocket

from ironwire.errors import FrameViolation, TransportClosed
from ironwire.limits import Limits
from ironwire.wire.frames import (
    Close,
    FrameParser,
    Payload,
    Ping,
    encode_batch,
    encode_close,
    encode_ping,
    encode_pong,
)

_READ_BYTES = 64 * 1024
_LINGER_BYTES = 1024 * 1024
_PIECE_BYTES = 16 * 1024
_TOO_BIG = 1009

GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a stream raises once the peer has left, or this side has closed it."""


class Transport(Protocol):
    """The frames of one WebSocket.

    One task receives and one task sends; pings may come from a third. A write that was cancelled leaves the transport
    good for nothing but `close` and `abort`.
    """

    name: ClassVar[str]
    """`direct` or `portable`: for logs and metrics."""

    can_ping: ClassVar[bool]
    """Whether `ping` reaches the peer; where it is False, the server underneath keeps its own heartbeat or none."""

    last_heard: float
    """`trio.current_time()` of the last bytes from the peer."""

    async def receive(self) -> list[Payload]:
        """Wait for the next messages and return every complete one that has arrived, in order, at least one.

        Pings are answered on the way. What was complete before the end is returned before the end is raised.

        Raises:
            TransportClosed: the peer closed (its close frame has been answered) or vanished.
            FrameViolation: the peer broke RFC 6455 or `limits.frame_bytes`: `close` with its code and reason.
        """
        ...

    def write(self, payloads: Sequence[bytes]) -> bool:
        """Take over the payloads, each of them UTF-8 and one text message, and send what the connection takes at once.

        False: something is left, for `send_some`.

        Raises:
            TransportClosed: nothing more can be sent.
        """
        ...

    async def send_some(self) -> bool:
        """Wait until the connection has taken a part of what `write` left. True: nothing is left.

        A part, so that a deadline around the call bounds a peer that has stopped, and not one that is slow.

        Raises:
            TransportClosed: nothing more can be sent; some of what was written may have arrived.
        """
        ...

    async def ping(self) -> None:
        """Ask the peer for a sign of life, where `can_ping`.

        Raises:
            TransportClosed: nothing more can be sent.
        """
        ...

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye and wait for the peer to hang up, so that it reads the close frame and not a reset.

        The other methods must have ended. A peer that is gone is no error. Bytes are bounded here, time by the caller;
        the connection is closed however this ends.
        """
        ...

    async def abort(self) -> None:
        """Cut the connection without a word; waits for nothing. What is under way raises `TransportClosed`."""
        ...


@define(eq=False)
class DirectTransport:
    """The contract over the byte stream of a connection whose upgrade has been answered.

    `leftover` came right behind the upgrade. Pongs and messages share one stream, so every write holds the lock. A
    ping that arrives while the lock is held leaves its pong to whoever holds it, and only the newest pong waits (RFC
    6455 section 5.5.3): a flood of pings costs no memory.
    """

    name: ClassVar[str] = "direct"
    can_ping: ClassVar[bool] = True

    _stream: trio.abc.Stream
    _leftover: bytes
    _limits: Limits
    last_heard: float = field(factory=trio.current_time, init=False)
    _parser: FrameParser = field(init=False)
    _write_lock: trio.Lock = field(factory=trio.Lock, init=False)
    _unsent: bytes = field(default=b"", init=False)
    """What `write` took over and the connection did not."""
    _waiting_pong: bytes = field(default=b"", init=False)
    _peer_close: Close | None = field(default=None, init=False)
    _is_sending_over: bool = field(default=False, init=False)

    @_parser.default
    def _new_parser(self) -> FrameParser:
        return FrameParser(self._limits.frame_bytes)

    async def receive(self) -> list[Payload]:
        while True:
            if self._peer_close is not None:
                await self._write_bounded(encode_close(self._peer_close.code, ""), is_last=True)
                raise TransportClosed("the peer closed the connection")
            messages: list[Payload] = []
            for item in self._parser.feed(await self._read()):
                if isinstance(item, (str, bytes)):
                    messages.append(item)
                elif isinstance(item, Ping):
                    self._waiting_pong = encode_pong(item.data)
                elif isinstance(item, Close):
                    self._peer_close = item
            if self._waiting_pong and not self._write_lock.locked():
                await self._write_bounded(b"")
            if messages:
                return messages
            if self._parser.violation is not None:
                raise self._parser.violation

    def write(self, payloads: Sequence[bytes]) -> bool:
        data = encode_batch(payloads)
        if self._write_lock.locked():  # who holds it takes this along
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
        async with self._write_lock:
            if self._is_sending_over:
                raise TransportClosed("nothing more can be sent on this connection")
            data, self._unsent, self._waiting_pong = self._unsent + self._waiting_pong, b"", b""
            if data:
                self._is_sending_over = True  # and it stays so if this is cancelled or fails: half a frame may be out
                try:
                    sent_bytes = await write_some(self._stream, memoryview(data))
                except (*GONE, OSError) as error:
                    raise TransportClosed("the connection broke") from error
                self._is_sending_over = False
                self._unsent = data[sent_bytes:] + self._unsent
            return not self._unsent and not self._waiting_pong

    async def ping(self) -> None:
        await self._write(encode_ping(b""))

    async def close(self, code: int, reason: str) -> None:
        try:
            with contextlib.suppress(TransportClosed):
                await self._write(encode_close(code, reason), is_last=True)
            await linger(self._stream)
        finally:
            await trio.aclose_forcefully(self._stream)

    async def abort(self) -> None:
        await trio.aclose_forcefully(self._stream)

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
        self.last_heard = trio.current_time()
        return data

    async def _read_some(self) -> bytes:
        return bytes(await self._stream.receive_some(_READ_BYTES))

    async def _write(self, data: bytes, *, is_last: bool = False) -> None:
        """Send `data` and the pong that waits, if any; nothing goes out after what `is_last`, or after half a frame."""
        try:
            self._write_lock.acquire_nowait()  # spares acquire()'s trip around the scheduler: the write makes its own
        except trio.WouldBlock:
            await self._write_lock.acquire()
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
            self._write_lock.release()

    async def _write_bounded(self, data: bytes, *, is_last: bool = False) -> None:
        """Write on the reader's behalf: a peer that asks for answers and does not read them is cut."""
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
    at one message a read they cost a third of the throughput (docs/decisions/0006).
    """

    _socket: trio.socket.SocketType = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = cast("trio.SocketStream", self._stream).socket

    async def _read_some(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            with contextlib.suppress(BlockingIOError):
                return os.read(self._socket.fileno(), _READ_BYTES)


@define(eq=False)
class PortableTransport:
    """The contract over `websocket.receive()` and `websocket.send()`, for servers that do not offer their stream.

    One call is one message here. The server underneath answers pings and close frames, and Quart cancels the handler
    when the peer leaves, so that `TransportClosed` is seen only after this side has closed.
    """

    name: ClassVar[str] = "portable"
    can_ping: ClassVar[bool] = False

    _websocket: Websocket
    _limits: Limits
    last_heard: float = field(factory=trio.current_time, init=False)
    _unsent: list[bytes] = field(factory=list, init=False)
    _is_closed: bool = field(default=False, init=False)

    async def receive(self) -> list[Payload]:
        self._require_open()
        message: Payload | None = await self._websocket.receive()
        self.last_heard = trio.current_time()
        payload = b"" if message is None else message  # Quart's name for an empty binary message
        size_bytes = len(payload.encode()) if isinstance(payload, str) else len(payload)
        if size_bytes > self._limits.frame_bytes:
            raise FrameViolation(_TOO_BIG, f"message is over {self._limits.frame_bytes} bytes")
        return [payload]

    def write(self, payloads: Sequence[bytes]) -> bool:
        self._require_open()
        self._unsent.extend(payloads)
        return not self._unsent

    async def send_some(self) -> bool:
        await trio.lowlevel.checkpoint()  # a server may drop what it is given without ever yielding
        self._require_open()
        if self._unsent:
            await self._websocket.send(self._unsent.pop(0).decode())
        return not self._unsent

    async def ping(self) -> None:
        raise NotImplementedError("ASGI has no pings: look at can_ping first")

    async def close(self, code: int, reason: str) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._websocket.close(code, reason)

    async def abort(self) -> None:
        # ASGI knows no abort: the server ends the connection when the handler returns.
        self._is_closed = True
        await trio.lowlevel.checkpoint()

    def _require_open(self) -> None:
        if self._is_closed:
            raise TransportClosed("this side closed the connection")


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
            data = await stream.receive_some(_READ_BYTES)
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
