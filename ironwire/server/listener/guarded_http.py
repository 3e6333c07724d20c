"""HTTP/1.1 and WebSocket of one connection, in place of Hypercorn's protocol and streams.

Requests that are premature, too large or not in ASCII are answered here; the application sees none of them.
"""

from typing import Any, cast

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import events as protocol_events
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.typing import AppWrapper, ASGISendEvent, H11SendableEvent, WebsocketAcceptEvent
from structlog.contextvars import get_contextvars
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage

from ironwire.close_codes import CloseCode
from ironwire.server.http.responses import JSON_TYPE, SECURITY_HEADERS, error_body
from ironwire.server.listener.connection_limiter import RETRY_AFTER_SECONDS
from ironwire.server.listener.guard import CONNECTION_KEY, GuardedConnection
from ironwire.server.listener.upgrade import has_too_many_lines, is_host
from ironwire.server.session.scheduler import Work

_log = structlog.get_logger(__name__)

_FIRST_ERROR = 400
_IS_EMPTY = (b"content-length", b"0")
_HTTP_VERSIONS = frozenset({b"1.0", b"1.1"})
SECURITY_FIELDS = tuple((name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items())
"""`SECURITY_HEADERS` as h11 has them."""

_COME_BACK_LATER = frozenset({429, 503})
_RETRY_AFTER = (b"retry-after", b"%d" % RETRY_AFTER_SECONDS)


class _RefusalError(Exception):
    """A request that is answered without the application."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Http1Protocol(H11Protocol):
    """HTTP/1.1 and nothing else: no HTTP/2 by prior knowledge, no h2c."""

    _is_head = False

    async def handle(self, event: Event) -> None:
        try:
            if isinstance(event, RawData) and self.connection.their_state is not h11.IDLE:
                await _connection(self.connection_state).guard.scheduler.slot(Work.BODY)
            elif isinstance(event, RawData):
                await _connection(self.connection_state).guard.scheduler.slot(Work.UNAUTHENTICATED)
                if has_too_many_lines(event.data):
                    raise _RefusalError(431)
            await super().handle(event)
        except _RefusalError as refused:
            _connection(self.connection_state).guard.requests_refused += 1
            await self._send_error_response(refused.status)
            await self.send(Closed())

    async def handle_end_of_input(self) -> None:
        """Handle the end of input. An incomplete request is refused."""
        if isinstance(self.connection, h11.Connection) and self.connection.their_state in (h11.IDLE, h11.SEND_BODY):
            self.connection.receive_data(b"")
            await self._handle_events()

    async def _check_protocol(self, event: h11.Request) -> None:
        self._is_head = event.method == b"HEAD"
        if event.http_version not in _HTTP_VERSIONS:
            raise _RefusalError(505)
        await _connection(self.connection_state).guard.scheduler.slot(Work.REQUEST)  # pipelined ones too
        if not all(is_host(value) for name, value in event.headers if name == b"host"):
            raise _RefusalError(400)  # RFC 9112, section 3.2; Quart would fail before it could answer
        names = {name for name, _ in event.headers}
        if {b"content-length", b"transfer-encoding"} <= names:
            raise _RefusalError(400)  # a proxy may have read another body than h11 would (RFC 9112, section 6.1)
        if any(name.startswith(b"sec-websocket-") and not value.isascii() for name, value in event.headers):
            raise _RefusalError(400)
        if any(name == b"upgrade" and value.lower() == b"websocket" for name, value in event.headers):
            self._ask_for_socket(event)

    def _ask_for_socket(self, event: h11.Request) -> None:
        forwarded_for = b",".join(value for name, value in event.headers if name == b"x-forwarded-for")
        origins = [value for name, value in event.headers if name == b"origin"]
        origin = b" ".join(origins).decode("latin-1") if origins else None
        slot = _connection(self.connection_state).slot
        refusal = slot.ask_for_socket(forwarded_for.decode("latin-1"), origin, self.server)
        if refusal is not None:
            raise _RefusalError(refusal)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        # Refusals of Hypercorn's own, which the application never sees, are empty: they get the headers that all
        # responses have and the body that all errors have. An error names the lines of the log that may explain it.
        body = b""
        if isinstance(event, h11.Response):
            present = {name for name, _ in event.headers}
            expected = (*SECURITY_FIELDS, _RETRY_AFTER) if event.status_code in _COME_BACK_LATER else SECURITY_FIELDS
            missing = [(name, value) for name, value in expected if name not in present]
            if event.status_code >= _FIRST_ERROR:
                missing.append((b"x-request-id", get_contextvars()["connection"].encode()))
                _log.debug("answered with an error", status=event.status_code)
            headers = list(event.headers)
            if event.status_code >= _FIRST_ERROR and _IS_EMPTY in headers:
                body = error_body(event.status_code)
                headers.remove(_IS_EMPTY)
                missing += [(b"content-length", b"%d" % len(body)), (b"content-type", JSON_TYPE.encode())]
            event = h11.Response(status_code=event.status_code, headers=[*headers, *missing])
        await super()._send_h11_event(event)
        if isinstance(event, h11.EndOfMessage):
            self._is_head = False  # the following bytes may be no request
        elif body and not self._is_head:
            await super()._send_h11_event(h11.Data(data=body))


class GuardedHTTPStream(HTTPStream):
    """One request and its response."""

    async def app_send(self, message: ASGISendEvent | None) -> None:
        # Quart cancels its own last send, because that send brings the disconnect which Quart ends at; but the same
        # call has yet to close the connection or to make it ready for the next request.
        is_last = (
            message is not None and message["type"] == "http.response.body" and not message.get("more_body", False)
        )
        with trio.CancelScope(shield=is_last):
            await super().app_send(message)


class ByteCountingBuffer(WebsocketBuffer):
    """Counts a text in bytes, where Hypercorn counts characters."""

    def extend(self, event: Message[Any]) -> None:
        if isinstance(event, TextMessage):
            self.length += len(event.data.encode()) - len(event.data)
        super().extend(event)


class GuardedWSStream(WSStream):
    """One WebSocket.

    The connection's reading task stays inside `handle(Request)` until the application has answered the upgrade, so
    that frames which come early wait their turn; and where the application takes the stream, until the application has
    ended.
    """

    def __init__(self, app: AppWrapper, config: Config, *args: Any) -> None:
        super().__init__(app, config, *args)
        self.buffer = ByteCountingBuffer(config.websocket_max_message_size)
        self._connection: GuardedConnection
        self._is_answered = trio.Event()
        self._is_ended = trio.Event()

    async def handle(self, event: protocol_events.Event) -> None:
        if not isinstance(event, protocol_events.Request):
            await super().handle(event)
            return
        self._connection = _connection(event.state)
        await super().handle(event)
        if self.app_put is None:
            # Refused. Hypercorn has stopped its idle timer by now, and would keep the connection for ever.
            await self.send(protocol_events.StreamClosed(stream_id=self.stream_id))
            return
        with trio.move_on_after(self._connection.guard.limits.auth_seconds) as answering:
            await self._is_answered.wait()
        if answering.cancelled_caught:
            await self.send(protocol_events.StreamClosed(stream_id=self.stream_id))
        elif self._connection.is_reserved:
            await self._is_ended.wait()

    async def app_send(self, message: ASGISendEvent | None) -> None:
        if message is not None:
            await trio.lowlevel.checkpoint()  # a handler that goes on sending after the end must not freeze the worker
            await super().app_send(message)
            return
        try:
            if self._connection.is_taken:
                await self.send(protocol_events.StreamClosed(stream_id=self.stream_id))
            else:
                await super().app_send(None)
        finally:
            self._is_answered.set()
            self._is_ended.set()

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        self.handshake.extensions = None  # no permessage-deflate: 97 KB of it can hold 278 MB
        await super()._accept(message)
        self._is_answered.set()

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            match event:
                case TextMessage() | BytesMessage():
                    try:
                        self.buffer.extend(event)
                    except FrameTooLargeError:
                        await self._finish(CloseConnection(code=CloseCode.TOO_BIG))
                        return
                    if event.message_finished:
                        await self._put(self.buffer.to_message())
                        self.buffer.clear()
                case Ping():
                    await self._send_wsproto_event(event.response())
                case CloseConnection():
                    # In REMOTE_CLOSING the peer said it; else wsproto did, of a peer that broke the protocol.
                    has_peer_closed = self.connection.state is ConnectionState.REMOTE_CLOSING
                    await self._finish(event.response() if has_peer_closed else event)
                    return
                case _:
                    pass  # a pong; nothing waits for one

    async def _put(self, message: dict[str, Any]) -> None:
        if self.app_put is not None:
            await self.app_put(message)

    async def _finish(self, farewell: CloseConnection) -> None:
        await self._send_wsproto_event(farewell)
        await self.send(protocol_events.StreamClosed(stream_id=self.stream_id))


def _connection(state: dict[str, Any]) -> GuardedConnection:
    return cast("GuardedConnection", state[CONNECTION_KEY])
