"""A WebSocket client that sends the bytes it is told to, right or wrong, and reads the answers with wsproto."""

from typing import Any

import trio
from attrs import define, field
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, TextMessage

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455 section 1.3


def upgrade_request(path: str = "/ws", *extra_headers: bytes, key: bytes = KEY) -> bytes:
    """Return a request to upgrade; `extra_headers` are whole lines."""
    lines = [
        b"GET %s HTTP/1.1" % path.encode(),
        b"Host: localhost",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + key,
        *extra_headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@define(eq=False)
class RawClient:
    stream: trio.abc.Stream
    response_head: bytes = field(default=b"", init=False)
    _connection: Connection = field(factory=lambda: Connection(ConnectionType.CLIENT), init=False)
    _events: list[Event] = field(factory=list, init=False)
    _partial: list[Any] = field(factory=list, init=False)

    async def upgrade(self, path: str = "/ws", *extra_headers: bytes, trailing: bytes = b"") -> None:
        """Send the request, and `trailing` in the same packet; wait for 101."""
        await self.stream.send_all(upgrade_request(path, *extra_headers) + trailing)
        received = b""
        while b"\r\n\r\n" not in received:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError(f"no whole response, only {received!r}")
            received += data
        self.response_head, _, rest = received.partition(b"\r\n\r\n")
        if not self.response_head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionRefusedError(self.response_head.decode("latin-1"))
        if rest:
            self._connection.receive_data(rest)

    async def send(self, *frames: bytes) -> None:
        """Send all frames in one packet."""
        await self.stream.send_all(b"".join(frames))

    async def event(self) -> Event | None:
        """Return the next whole message, ping, pong or close frame; None at the end of the stream."""
        while True:
            self._events += (whole for event in self._connection.events() if (whole := self._whole(event)))
            if self._events:
                return self._events.pop(0)
            data = await self.stream.receive_some()
            if not data:
                return None
            self._connection.receive_data(bytes(data))

    def _whole(self, event: Event) -> Event | None:
        """Join the pieces in which wsproto hands out a message."""
        if not isinstance(event, (TextMessage, BytesMessage)):
            return event
        self._partial.append(event.data)
        if not event.message_finished:
            return None
        pieces, self._partial = self._partial, []
        if isinstance(event, TextMessage):
            return TextMessage("".join(pieces))
        return BytesMessage(b"".join(pieces))

    async def message(self) -> str | bytes:
        """Return the next message, which must be the next event."""
        event = await self.event()
        if not isinstance(event, (TextMessage, BytesMessage)):
            raise AssertionError(f"expected a message, got {event!r}")
        return event.data if isinstance(event, TextMessage) else bytes(event.data)

    async def closing(self) -> tuple[int, str]:
        """Skip messages up to the close frame; return its code and reason."""
        while True:
            event = await self.event()
            if event is None:
                raise AssertionError("the stream ended without a close frame")
            if isinstance(event, CloseConnection):
                return int(event.code), event.reason or ""
