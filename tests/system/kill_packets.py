"""The packets, by name, each of which ends a stock Hypercorn; docs/decisions/0001 lists them by these names."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, StreamEnded
from h2.exceptions import ProtocolError

from tests.server.raw_client import upgrade_request
from tests.wire.frame_builder import text


class Opens(Protocol):
    """A server as far as packets need one."""

    async def open_stream(self) -> trio.SocketStream: ...


Headers = list[tuple[bytes, bytes]]
Probe = Callable[[Opens], Awaitable[None]]

GET: Headers = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", b"/")]


async def send_and_read(server: Opens, data: bytes) -> None:
    """Send `data` and give the server a moment to trip over it."""
    async with await server.open_stream() as stream:
        await stream.send_all(data)
        with trio.move_on_after(0.3):
            while await stream.receive_some():
                pass


def request_probe(data: bytes) -> Probe:
    async def probe(server: Opens) -> None:
        await send_and_read(server, data)

    return probe


class Http2Client:
    """Speaks HTTP/2 by prior knowledge, and lets every malformed header pass; a server may well hang up."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.connection = H2Connection(
            H2Configuration(header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.connection.initiate_connection()

    async def flush(self) -> None:
        await self._stream.send_all(self.connection.data_to_send())

    async def request(self, headers: Headers, *, has_body: bool = False) -> None:
        self.connection.send_headers(1, headers, end_stream=not has_body)
        await self.flush()

    async def wait_for(self, wanted: type[Event]) -> None:
        """Read until the event, or until the server hangs up or answers in another protocol."""
        while data := await self._stream.receive_some():
            try:
                events = self.connection.receive_data(data)
            except ProtocolError:
                return
            await self.flush()
            if any(isinstance(event, wanted) for event in events):
                return


@asynccontextmanager
async def http_2(server: Opens) -> AsyncIterator[Http2Client]:
    async with await server.open_stream() as stream:
        with trio.move_on_after(1):
            try:
                client = Http2Client(stream)
                await client.flush()
                yield client
                await client.wait_for(Event)
                await trio.sleep(0.2)
            except trio.BrokenResourceError:
                pass  # refused, which is the point


def http_2_probe(headers: Headers) -> Probe:
    async def probe(server: Opens) -> None:
        async with http_2(server) as client:
            await client.request(headers)

    return probe


async def http_2_data_after_413(server: Opens) -> None:
    async with http_2(server) as client:
        headers = [*GET, (b"content-length", b"100000000")]
        headers[0], headers[3] = (b":method", b"POST"), (b":path", b"/refuse")
        await client.request(headers, has_body=True)
        await client.wait_for(StreamEnded)
        await trio.sleep(0.1)  # until the server has forgotten the stream
        client.connection.send_data(1, b"x" * 1000)
        await client.flush()


async def http_2_websocket_data_after_close(server: Opens) -> None:
    async with http_2(server) as client:
        headers = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:3], (b":path", b"/brief")]
        await client.request([*headers, (b"sec-websocket-version", b"13")], has_body=True)
        await client.wait_for(DataReceived)
        client.connection.send_data(1, text("too late"))
        await client.flush()
        await trio.sleep(0.2)
        client.connection.send_data(1, text("much too late"))
        await client.flush()


KILL_PACKETS: dict[str, Probe] = {
    "frame in the packet of the upgrade": request_probe(upgrade_request() + text("early")),
    "protocol not ASCII": request_probe(upgrade_request("/ws", b"Sec-WebSocket-Protocol: \xff")),
    "extensions not ASCII": request_probe(upgrade_request("/ws", b"Sec-WebSocket-Extensions: \xff")),
    "HTTP/2 path not ASCII": http_2_probe([*GET[:3], (b":path", b"/\xff")]),
    "HTTP/2 method not ASCII": http_2_probe([(b":method", b"\xff"), *GET[1:]]),
    "HTTP/2 CONNECT without path": http_2_probe([(b":method", b"CONNECT"), GET[2]]),
    "HTTP/2 DATA after an early 413": http_2_data_after_413,
    "HTTP/2 WebSocket DATA after close": http_2_websocket_data_after_close,
}
"""By what they are."""
