"""One HTTP/1.1 request on one connection, streamed both ways: all of HTTP that file transfers need.

It goes over the same `Dial` as sessions do, so that a server is reached, and its certificate judged, in one way. The
answer is listened for while the body is still being sent: a server that refuses early is heard before its connection
breaks.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import h11
import orjson
import trio
from attrs import define, field

from ironwire.client.connection.dial import Dial
from ironwire.client.connection.nursery import plain_nursery
from ironwire.client.connection.urls import ServerAddress
from ironwire.client.errors import ConnectionFailed, TransferFailed

CONNECT_SECONDS = 20.0
STALL_SECONDS = 30.0
"""A transfer in which nothing moves for so long has failed. How long all of it may take is for the caller to say."""

ANSWER_BYTES = 16 * 1024
"""The longest answer to an upload, or explanation of an error, that is taken."""

PIECE_BYTES = 256 * 1024
"""Bytes that are read and written at once: enough to make the hops to the disk's thread cheap."""

NextPiece = Callable[[], Awaitable[bytes]]
"""The next piece of a request's body; an empty one is the end."""


@define(eq=False)
class Exchange:
    """A request that was answered: the head of the answer, and its body piece by piece."""

    _stream: trio.abc.Stream
    _http: h11.Connection = field(factory=lambda: h11.Connection(h11.CLIENT))
    status: int = 0
    headers: Mapping[bytes, bytes] = field(factory=dict)
    """Names are in lower case."""

    async def receive(self) -> bytes:
        """At least `PIECE_BYTES` of the body, or the rest of it; nothing once it is over.

        Raises:
            TransferFailed: the connection broke or stalled, or the body is not as long as was said.
        """
        piece = bytearray()
        # Once the body is over, a connection that is kept alive brings nothing that could be waited for.
        while len(piece) < PIECE_BYTES and self._http.their_state is h11.SEND_BODY:
            with _stalling():
                event = await self._next_event()
            if isinstance(event, h11.Data):
                piece += event.data
        return bytes(piece)

    async def _receive_head(self) -> None:
        event = await self._next_event()
        while isinstance(event, h11.InformationalResponse):
            event = await self._next_event()
        if not isinstance(event, h11.Response):
            raise TransferFailed("the server closed the connection without an answer")
        self.status = event.status_code
        self.headers = dict(event.headers)

    async def _next_event(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(bytes(await self._stream.receive_some(PIECE_BYTES)))
        except h11.RemoteProtocolError as error:
            raise TransferFailed(f"the server broke off, or does not speak HTTP: {error}") from None
        except trio.BrokenResourceError as error:
            raise TransferFailed(f"the connection broke: {error.__cause__ or error}") from error
        return event

    async def _send_request(self, sending: trio.CancelScope, request: h11.Request, next_piece: NextPiece) -> None:
        """`sending` is cancelled as soon as there is an answer; raises if there is none in time."""
        with sending:
            try:
                await self._send(request)
                while piece := await next_piece():
                    await self._send(h11.Data(piece))
                await self._send(h11.EndOfMessage())
            except (trio.BrokenResourceError, h11.LocalProtocolError):
                pass  # the server takes no more of it, or had hung up before any of it; it may still say why
            with _stalling():
                await trio.sleep_forever()

    async def _send(self, event: h11.Event) -> None:
        with _stalling():
            await self._stream.send_all(self._http.send(event) or b"")


@asynccontextmanager
async def exchange(
    dial: Dial, address: ServerAddress, method: str, path: str, headers: Mapping[str, str], next_piece: NextPiece
) -> AsyncGenerator[Exchange]:
    """Send a request and wait for the head of the answer; leaving the block closes the connection.

    Raises:
        ConnectionFailed: the server cannot be reached.
        TransferFailed: the connection broke or stalled, or what came is not HTTP.

    What `next_piece` raises comes out as it is.
    """
    request = h11.Request(
        method=method,
        target=path,
        headers=[("Host", address.authority), ("Accept-Encoding", "identity"), *headers.items()],
    )
    stream = await _connect(dial, address)
    try:
        async with plain_nursery() as nursery:
            exchanged = Exchange(stream)
            sending = trio.CancelScope()
            nursery.start_soon(exchanged._send_request, sending, request, next_piece)
            await exchanged._receive_head()
            sending.cancel()
            yield exchanged
    finally:
        await trio.aclose_forcefully(stream)


async def ask(
    dial: Dial,
    address: ServerAddress,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    *,
    most_bytes: int = ANSWER_BYTES,
) -> tuple[int, bytes]:
    """A request and an answer that are small enough to be held whole: the status, and the body.

    Raises:
        ConnectionFailed, TransferFailed: as `exchange` says; or the answer has more than `most_bytes`.
    """
    pieces = [] if body is None else [body]
    length = {} if body is None else {"Content-Length": str(len(body))}

    async def next_piece() -> bytes:
        return pieces.pop() if pieces else b""

    async with exchange(dial, address, method, path, {**length, **(headers or {})}, next_piece) as answered:
        answer = bytearray()
        while piece := await answered.receive():
            answer += piece
            if len(answer) > most_bytes:
                raise TransferFailed("the server's answer is longer than any should be", answered.status)
        return answered.status, bytes(answer)


def explanation(answer: bytes) -> str:
    """What the server says for people in an error."""
    try:
        detail = orjson.loads(answer)["detail"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        detail = None
    return detail if isinstance(detail, str) else "the server refused"


async def _connect(dial: Dial, address: ServerAddress) -> trio.abc.Stream:
    try:
        with trio.fail_after(CONNECT_SECONDS):
            return await dial(address)
    except trio.TooSlowError:
        raise ConnectionFailed(f"{address} did not answer within {CONNECT_SECONDS:g} s: try again later") from None


@contextmanager
def _stalling() -> Iterator[None]:
    try:
        with trio.fail_after(STALL_SECONDS):
            yield
    except trio.TooSlowError:
        raise TransferFailed(f"nothing moved for {STALL_SECONDS:g} s: try again") from None
