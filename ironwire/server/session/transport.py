"""The contract by which a session reads and writes its peer.

`DirectTransport` (`direct.py`) keeps it on a connection's own stream, plain, TLS or in memory.
Deadlines are the caller's; the one exception is an answer to the peer, which nobody asked the transport to write.
"""

from collections.abc import Sequence
from typing import Protocol

from ironwire.wire.frames import Payload


class Transport(Protocol):
    """The frames of one WebSocket.

    One task receives and one task sends; pings may come from a third. A write that was cancelled leaves the transport
    good for nothing but `close` and `abort`.
    """

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

    @property
    def is_over(self) -> bool:
        """Whether it is known that nothing more will come: the next `receive` raises why."""
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
        """Ask the peer for a sign of life.

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
