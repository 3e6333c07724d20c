"""Request bodies that are streamed with backpressure.

Quart reads a request's body ahead of the handler into one buffer, which has no upper bound: a fast sender before a slow
disk fills the memory (30 MiB for each upload where `MAX_CONTENT_LENGTH` is set, anything where it is not). Here a chunk
waits until the handler takes it, so that the socket fills and the sender waits. What is held for one request is
Hypercorn's queue (`max_app_queue_size`, 10 reads of at most 64 KiB) and the one chunk that is handed over.
"""

from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import Any, cast

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, HTTPScope
from quart.typing import ResponseTypes
from quart.wrappers import Request
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers.request import TrioBody

# Closing a socket that has unread bytes resets the connection, and a reset may take the response with it before the
# peer has read it. So, as other servers do, what still comes is read for so long, and thrown away.
_LINGER_SECONDS = 2.0


class StreamedBody(TrioBody):
    """A body to be iterated over, once, chunk by chunk, by the handler of the request."""

    def __init__(self) -> None:
        super().__init__(expected_content_length=None, max_content_length=None)
        self._to_handler, self._from_peer = trio.open_memory_channel[bytes](0)
        self._ended = trio.Event()

    def __await__(self) -> Generator[Any, None, Any]:
        raise TypeError("a streamed body is never held whole: iterate over it with `async for`")

    async def __anext__(self) -> bytes:
        try:
            return await self._from_peer.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def feed(self, chunk: bytes) -> None:
        """Wait until the handler takes `chunk`, or has said that it takes no more."""
        if chunk:
            with suppress(trio.BrokenResourceError):
                await self._to_handler.send(chunk)

    def end(self) -> None:
        """The peer has sent everything."""
        self._to_handler.close()
        self._ended.set()

    def abandon(self) -> None:
        """The handler takes no more: what still comes is thrown away."""
        self._from_peer.close()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    async def wait_ended(self) -> None:
        await self._ended.wait()


class StreamedHTTPConnection(TrioASGIHTTPConnection):
    """One HTTP request whose body is a `StreamedBody`.

    A response that overtakes the rest of its request says `Connection: close`, and the connection ends once the peer
    has had the time to read it.
    """

    def __init__(self, app: QuartTrio, scope: HTTPScope) -> None:
        super().__init__(app, scope)
        self._body = StreamedBody()
        self._response_is_sent = False

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
        # Hypercorn reports a finished response as a disconnect too, in the middle of closing or reusing the connection.
        # Cancelled there, it would do neither.
        if not self._response_is_sent:
            nursery.cancel_scope.cancel()

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes) -> None:
        self._body.abandon()

        async def send_and_linger(event: ASGISendEvent) -> None:
            if event["type"] == "http.response.start" and self._overtakes_its_request():
                event["headers"] = [*cast("Iterable[Any]", event["headers"]), (b"connection", b"close")]
            elif event["type"] == "http.response.body" and not event.get("more_body", False):
                with trio.move_on_after(_LINGER_SECONDS):
                    await self._body.wait_ended()
                self._response_is_sent = True
            await send(event)

        await super()._send_response(send_and_linger, response)

    def _overtakes_its_request(self) -> bool:
        """Whether the peer may still be sending, in HTTP/1: in HTTP/2 the stream ends, not the connection."""
        names = {name for name, _ in self.scope["headers"]}
        has_body = not names.isdisjoint({b"content-length", b"transfer-encoding"})
        return has_body and not self._body.has_ended and self.scope["http_version"] < "2"
