"""How a session reads and writes its peer: one contract, two ways to keep it.

`DirectTransport` (`direct.py`) works on the connection's own stream; `PortableTransport` keeps the same promises over
any ASGI server. Deadlines are the caller's; the one exception is an answer to the peer, which nobody asked the
transport to write.
"""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import trio
from attrs import define, field
from quart.wrappers import Websocket

from ironwire.errors import FrameViolation, TransportClosed
from ironwire.limits import Limits
from ironwire.wire.frames import Payload

_TOO_BIG = 1009


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

    def authenticated(self) -> None:
        """The peer is a client: it may say much at once."""
        ...

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

    def authenticated(self) -> None:
        """Each read is one message, from anybody."""

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
