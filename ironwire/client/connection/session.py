"""One authenticated connection to a server (docs/protocol.md, sections 2 and 3).

Opening it is bounded as a whole by `OPEN_SECONDS`; after that every write and every sign of life has its own bound, and
a server that stalls is cut. Whatever ends the connection comes out of `receive`, as one of the exceptions of
`ironwire.client.errors`.
"""

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar
from uuid import uuid4

import h11
import trio
from attrs import define, evolve, field
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError

from ironwire.client.connection.closing import error_for_close
from ironwire.client.connection.dial import Dial, dial_tcp
from ironwire.client.connection.nursery import plain_nursery
from ironwire.client.connection.outgoing import AskedAnswer, Reply, checked
from ironwire.client.connection.urls import SOCKET_PATH, ServerAddress
from ironwire.client.errors import AuthenticationRefused, ClientError, ConnectionFailed, KeystoreError, NotTheProtocol
from ironwire.client.store.device_keys import DeviceKeys
from ironwire.client.store.keystore import Account, LinkedDevice
from ironwire.close_codes import CloseCode
from ironwire.crypto.signing import auth_text, certified_auth_text
from ironwire.errors import InvalidMessage, UnknownVerb
from ironwire.ids import DeviceId, MessageId
from ironwire.limits import SERVER_FRAME_BYTES
from ironwire.protocol.devices.log_entry import FIRST_PREV
from ironwire.wire.codec import ServerFrame, decode_server, encode
from ironwire.wire.messages import Auth, AuthChallenge, AuthOk, ClientMessage, Error, Verify

OPEN_SECONDS = 20.0
"""From the first packet to `auth_ok`; the server itself waits 10 s for the authentication."""

WRITE_SECONDS = 10.0
PING_EVERY_SECONDS = 30.0
PONG_SECONDS = 10.0
CLOSE_SECONDS = 2.0

ExpectedMessage = TypeVar("ExpectedMessage", AuthChallenge, AuthOk)

_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
"""HTTP statuses of a server, or of a proxy before it, that is only not ready."""


@define(eq=False)
class ClientSession:
    """One task receives, one sends, one keeps it alive. A `send` that is cancelled breaks the connection."""

    welcome: AuthOk
    _websocket: WebSocketConnection
    _stream: trio.abc.Stream
    _early: deque[ServerFrame] = field(factory=deque, init=False)
    """Frames that came while an answer was waited for."""

    async def ask(self, message: ClientMessage, kind: type[AskedAnswer]) -> AskedAnswer:
        """Ask something before anybody receives. Raises as `receive` does, and:

        Raises:
            Refused: the server answered with an error.
        """
        id_ = MessageId(uuid4().hex)
        await self.send(encode(message, id_).decode())
        while True:
            frame = await _receive(self._websocket, is_authenticated=True)
            if frame.id == id_ and isinstance(frame.message, Reply):
                return checked(message.verb, frame.message, kind)
            self._early.append(frame)

    async def receive(self) -> ServerFrame:
        """The next frame.

        Raises:
            ConnectionLost, SessionEnded, AuthenticationRefused: over; which one says whether to come back.
            NotTheProtocol: the server sent what cannot be understood.
        """
        if self._early:
            await trio.lowlevel.checkpoint()
            return self._early.popleft()
        return await _receive(self._websocket, is_authenticated=True)

    async def send(self, text: str) -> None:
        """Hand one encoded frame to the kernel. On a connection that is over nothing happens: `receive` tells."""
        with trio.move_on_after(WRITE_SECONDS) as writing:
            try:
                await self._websocket.send_message(text)
            except ConnectionClosed:
                return
        if writing.cancelled_caught:
            await trio.aclose_forcefully(self._stream)

    async def keep_alive(self) -> None:
        """Ping until the connection is over, and cut it when no answer comes: a network that vanished tells nobody."""
        while True:
            await trio.sleep(PING_EVERY_SECONDS)
            with trio.move_on_after(PONG_SECONDS) as waiting:
                try:
                    await self._websocket.ping()
                except ConnectionClosed:
                    return
            if waiting.cancelled_caught:
                await trio.aclose_forcefully(self._stream)
                return


@asynccontextmanager
async def open_session(
    address: ServerAddress,
    account: Account,
    device: DeviceId | None = None,
    *,
    invite: str | None = None,
    dial: Dial = dial_tcp,
    keys: DeviceKeys | None = None,
) -> AsyncGenerator[ClientSession]:
    """Reach the server and prove who we are; leaving the block says goodbye.

    Args:
        invite: what a server may want from a client that it does not know; it uses up one of the invite's uses.
        keys: those of the device, which proves by its own key who it is, and not by the identity's. A linked device
            cannot do without.

    Raises:
        ConnectionFailed: nobody answers, or not in time.
        ConnectionLost: the server closed, and may be tried again.
        NotTheProtocol: what answers is not an IronWire server.
        AuthenticationRefused: the server does not let us in.
        SessionEnded: the server says that this client should stop.
        KeystoreError: a linked device has no keys here.
    """
    deadline = trio.current_time() + OPEN_SECONDS
    with _answered_by(deadline, address):
        stream = await dial(address)
    try:
        async with _open_websocket(stream, address, deadline) as websocket:
            with _answered_by(deadline, address):
                welcome = await _authenticate(websocket, address, account, device, invite, keys)
            yield ClientSession(welcome, websocket, stream)
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def _open_websocket(
    stream: trio.abc.Stream, address: ServerAddress, deadline: float
) -> AsyncGenerator[WebSocketConnection]:
    opening = _OpeningStream(stream, address)
    is_leaving = False
    try:
        async with plain_nursery() as nursery:
            with _answered_by(deadline, address):
                websocket = await wrap_client_stream(
                    nursery,
                    opening,  # type: ignore[arg-type]  # annotated for sockets, but only the methods of a Stream are used
                    address.authority,
                    SOCKET_PATH,
                    max_message_size=SERVER_FRAME_BYTES,
                )
            opening.is_open = True
            yield websocket
            is_leaving = True
            with trio.move_on_after(CLOSE_SECONDS):
                await websocket.aclose()
            nursery.cancel_scope.cancel()
    except ConnectionRejected as rejected:
        raise _no_upgrade(rejected.status_code, address) from None
    except (LocalProtocolError, h11.LocalProtocolError):
        # trio-websocket lets these out where it answers although nothing may be sent any more: to an upgrade that
        # failed, and to a ping that crossed our goodbye. After the goodbye the session is over anyway.
        if not opening.is_open:
            raise NotTheProtocol(f"what answers at {address} is not a WebSocket server: check the address") from None
        if not is_leaving:
            raise


@define(eq=False)
class _OpeningStream(trio.abc.Stream):
    """Raises where the stream ends before the upgrade is done; trio-websocket would then wait without end."""

    _stream: trio.abc.Stream
    _address: ServerAddress
    is_open: bool = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            self._check_open()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            self._check_open()
            raise
        if not data:
            self._check_open()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _check_open(self) -> None:
        if not self.is_open:
            hint = "check the port" if self._address.is_secure else "check the port, or try https://"
            raise ConnectionFailed(f"{self._address} closed the connection without an answer: {hint}")


async def _authenticate(
    websocket: WebSocketConnection,
    address: ServerAddress,
    account: Account,
    device: DeviceId | None,
    invite: str | None,
    keys: DeviceKeys | None,
) -> AuthOk:
    auth = Auth(account.client_id, device, address.origin, invite)
    if keys is not None:
        auth = _certified(auth, keys)
    try:
        await websocket.send_message(encode(auth).decode())
        challenge = await _expect(websocket, AuthChallenge)
        signature = _sign(auth, bytes.fromhex(challenge.challenge), account, keys)
        await websocket.send_message(encode(Verify(signature.hex())).decode())
        welcome = await _expect(websocket, AuthOk)
    except ConnectionClosed as closed:
        raise _ending(closed, is_authenticated=False) from None
    if welcome.client not in (None, account.client_id):
        raise NotTheProtocol(f"{address} took us for somebody else")
    return welcome


def _certified(auth: Auth, keys: DeviceKeys) -> Auth:
    head = keys.log.head
    return evolve(
        auth,
        cert=keys.certificate.encode().hex(),
        device_key=keys.key.public_key.raw.hex(),
        log_head=(FIRST_PREV if head is None else head.hash).hex(),
    )


def _sign(auth: Auth, nonce: bytes, account: Account, keys: DeviceKeys | None) -> bytes:
    named = {"origin": auth.origin or "", "device": auth.device or ""}
    client = account.public_key.raw
    if keys is None:
        if isinstance(account, LinkedDevice):
            raise KeystoreError(f"a linked device needs its keys: connect as the device {account.device}, with them")
        return account.sign(auth_text(**named, nonce=nonce, public_key=client))
    text = certified_auth_text(
        **named,
        nonce=nonce,
        public_key=client,
        device_key=keys.key.public_key.raw,
        log_head=bytes.fromhex(auth.log_head or ""),
    )
    return keys.key.sign(text)


async def _expect(websocket: WebSocketConnection, kind: type[ExpectedMessage]) -> ExpectedMessage:
    message = (await _receive(websocket, is_authenticated=False)).message
    if isinstance(message, Error):
        if message.msg == "rate_limited":
            raise ConnectionFailed("too many authenticate from this address at the moment: try again later")
        raise AuthenticationRefused(f"{message.msg}: {message.detail}" if message.detail else message.msg)
    if not isinstance(message, kind):
        raise NotTheProtocol(f"expected `{kind.verb}` from the server, got `{message.verb}`")
    return message


async def _receive(websocket: WebSocketConnection, *, is_authenticated: bool) -> ServerFrame:
    while True:
        try:
            text = await websocket.get_message()
        except ConnectionClosed as closed:
            raise _ending(closed, is_authenticated=is_authenticated) from None
        try:
            return decode_server(text)
        except UnknownVerb:
            continue  # a newer server has more to say
        except InvalidMessage as error:
            raise NotTheProtocol(f"the server sent what this version does not understand: {error}") from None


def _ending(closed: ConnectionClosed, *, is_authenticated: bool) -> ClientError:
    if closed.reason is None:
        return error_for_close(CloseCode.NO_CLOSE_FRAME, "")
    return error_for_close(closed.reason.code, closed.reason.reason or "", is_authenticated=is_authenticated)


def _no_upgrade(status: int, address: ServerAddress) -> ClientError:
    if status in _TRY_AGAIN:
        return ConnectionFailed(f"{address} is not ready (HTTP status {status}): try again later")
    return NotTheProtocol(
        f"{address} has no IronWire socket at {SOCKET_PATH} (HTTP status {status}): check the address"
    )


@contextmanager
def _answered_by(deadline: float, address: ServerAddress) -> Iterator[None]:
    try:
        with trio.fail_at(deadline):
            yield
    except trio.TooSlowError:
        raise ConnectionFailed(f"{address} did not answer within {OPEN_SECONDS:.0f} s: try again later") from None
