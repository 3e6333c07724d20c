"""Request bodies that are streamed with backpressure.

Quart reads a request's body ahead of the handler, into one buffer: a fast sender before a slow disk fills the memory,
with 30 MiB for each upload where `MAX_CONTENT_LENGTH` is set, without a bound where it is not. Here received chunks
wait in a bounded channel until the handler takes them; a full channel fills the socket, and the sender waits.
"""

from collections.abc import Generator
from contextlib import suppress
from typing import Any

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope
from quart import Quart, request
from quart.typing import ResponseTypes
from quart.wrappers import Request
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers.request import TrioBody

from ironwire.server.http.responses import RequestRefused

# A chunk is one read of Hypercorn, whose own queue (`max_app_queue_size`) holds ten more.
_WAITING_CHUNKS = 16
_LARGE_BYTES = 64 * 1024


def asking_peer() -> tuple[str, str]:
    """The address that the current request came from, and its X-Forwarded-For; each "" where there is none."""
    peer, *_ = request.scope.get("client") or ("",)
    return peer, ",".join(request.headers.getlist("X-Forwarded-For"))


async def read_small_body(most_bytes: int, idle_seconds: float) -> bytes:
    """The whole body of the current request.

    Raises:
        RequestRefused: it is larger than `most_bytes`, sends nothing for `idle_seconds`, or ends before its end.
    """
    declared_bytes = request.content_length
    body = bytearray()
    while max(len(body), declared_bytes or 0) <= most_bytes:
        try:
            with trio.fail_after(idle_seconds):
                chunk = await anext(request.body, None)
        except trio.TooSlowError:
            raise RequestRefused(408, "timeout", f"nothing came for {idle_seconds:g} s; send it again") from None
        if chunk is not None:
            body += chunk
        elif declared_bytes in (None, len(body)):
            return bytes(body)
        else:
            raise RequestRefused(400, "invalid", f"the body ended after {len(body)} of {declared_bytes} bytes")
    raise RequestRefused(413, "too_large", f"this may have {most_bytes} bytes at most")


class StreamedBody(TrioBody):
    """A body for the handler to iterate over, once. An item is one large chunk, because joining chunks copies them, or
    all small chunks that wait.
    """

    def __init__(self) -> None:
        super().__init__(expected_content_length=None, max_content_length=None)
        self._to_handler, self._from_peer = trio.open_memory_channel[bytes](_WAITING_CHUNKS)
        self.has_ended = False

    def __await__(self) -> Generator[Any, None, Any]:
        raise TypeError("a streamed body is never held whole: iterate over it with `async for`")

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._from_peer.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        if len(chunk) >= _LARGE_BYTES:
            return chunk
        waiting = self._from_peer.statistics().current_buffer_used
        return b"".join([chunk, *(self._from_peer.receive_nowait() for _ in range(waiting))])

    async def feed(self, chunk: bytes) -> None:
        """Wait until there is room for `chunk`, or the handler takes no more."""
        if chunk:
            with suppress(trio.BrokenResourceError):
                await self._to_handler.send(chunk)

    def end(self) -> None:
        """Mark the body as complete."""
        self._to_handler.close()
        self.has_ended = True

    def abandon(self) -> None:
        """Discard everything that has not been taken, and everything that still arrives."""
        self._from_peer.close()


class StreamedHTTPConnection(TrioASGIHTTPConnection):
    """One HTTP request whose body is a `StreamedBody`."""

    def __init__(self, app: Quart, scope: HTTPScope) -> None:
        super().__init__(app, scope)
        self._body = StreamedBody()

    def _create_request_from_scope(self, send: ASGISendCallable) -> Request:
        request = super()._create_request_from_scope(send)
        request.body = self._body
        return request

    async def handle_messages(  # type: ignore[override]  # quart-trio added the nursery, and has the same exemption
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        while (message := await receive())["type"] == "http.request":
            await self._body.feed(message.get("body", b""))
            if not message.get("more_body", False):
                self._body.end()
        nursery.cancel_scope.cancel()

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes) -> None:
        if self._is_receiving():  # then Hypercorn closes the connection after the response, and so its peer should know
            response.headers["Connection"] = "close"
        self._body.abandon()
        await super()._send_response(send, response)

    def _is_receiving(self) -> bool:
        names = {name for name, _ in self.scope["headers"]}
        return not self._body.has_ended and not names.isdisjoint({b"content-length", b"transfer-encoding"})
