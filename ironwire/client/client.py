"""The client: one identity, one server, a session that is opened again whenever it breaks.

    connect()            owns the nursery; what its block raises comes out as it was raised
      └─ _run            one session after the other, with `Backoff` between them
           ├─ _read      replies to those who wait for them, everything else to the event queue
           ├─ _write     frames of unanswered messages, in the order in which they were sent
           └─ keep_alive

A message is sent at least once: one that was unanswered when the connection broke is sent again with the same id, by
which a server that remembers ids knows it (docs/protocol.md, section 4).
"""

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self, TypedDict, Unpack
from uuid import uuid4

import trio
from attrs import define, field, frozen

from ironwire.client.backoff import Backoff
from ironwire.client.dial import Dial, dial_tcp
from ironwire.client.errors import ClientError, ConnectionFailed, ConnectionLost, NotTheProtocol, Refused, SessionEnded
from ironwire.client.events import Connected, Disconnected, Event, EventQueue, Received
from ironwire.client.nursery import plain_nursery
from ironwire.client.session import Session, open_session
from ironwire.client.urls import ServerAddress
from ironwire.crypto.signing import Identity
from ironwire.ids import Address, ClientId, DeviceId, MessageId
from ironwire.wire.codec import encode
from ironwire.wire.messages import Accepted, AuthChallenge, AuthOk, Error, File, FileKind, Text

STEADY_SECONDS = 30.0
"""A session that lasted this long was a good one: the next delay starts from the base again."""

_DEFAULT_BACKOFF = Backoff()


class FileMetadata(TypedDict, total=False):
    """What may be said about a file; the keys, units and bounds of `File`."""

    kind: FileKind
    name: str
    mime: str
    size: int
    sha256: str
    duration_ms: int
    width: int
    height: int
    waveform: list[int]
    caption: str


@define(eq=False)
class _Pending:
    """A message that waits for its reply."""

    frame: str
    reply: Accepted | Error | ClientError | None = None
    replied: trio.Event = field(factory=trio.Event)

    def answer(self, reply: Accepted | Error | ClientError) -> None:
        self.reply = reply
        self.replied.set()


@frozen(eq=False)
class _Target:
    """Whom a client talks to, and how it gets there."""

    address: ServerAddress
    identity: Identity
    device: DeviceId | None
    backoff: Backoff
    dial: Dial


@define(eq=False)
class Client:
    """Made by `connect`. Iterate over it for events; send from any task."""

    _target: _Target
    _events: EventQueue = field(factory=EventQueue)
    _pending: dict[MessageId, _Pending] = field(factory=dict)
    _outbox: trio.MemorySendChannel[MessageId] | None = None
    """To the writer of the live session. Unbounded: it holds no more than there are tasks that wait for a reply."""
    _frame_bytes: int | None = None
    _up: trio.Event = field(factory=trio.Event)
    _leaving: trio.Event = field(factory=trio.Event)
    _has_connected: bool = False
    _end: ClientError | None = None

    @property
    def client_id(self) -> ClientId:
        """Who we are."""
        return self._target.identity.client_id

    @property
    def address(self) -> ServerAddress:
        """Where the server is."""
        return self._target.address

    @property
    def connected(self) -> bool:
        """Whether there is a session now."""
        return self._outbox is not None

    async def wait_connected(self) -> None:
        """Return once there is a session.

        Raises:
            ClientError: there will be none any more.
        """
        await self._up.wait()
        if self._end is not None:
            raise self._end

    async def send_text(self, to: Address, text: str) -> Accepted:
        """Send a text, and wait until the server has taken it over. See `send_file` for what it raises."""
        return await self._send(Text(to, text))

    async def send_file(self, to: Address, url: str, **metadata: Unpack[FileMetadata]) -> Accepted:
        """Send an uploaded file; `url` is what the upload answered.

        Waits through reconnections: the caller owns the deadline. If it cancels, the message may be sent or not.

        Raises:
            Refused: the server did not take the message; its `code` says why.
            SessionEnded, AuthenticationRefused, NotTheProtocol: the client has stopped; whether
                the server took the message is not known.
        """
        return await self._send(File(to, url, **metadata))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            SessionEnded, AuthenticationRefused, NotTheProtocol: why the client has stopped, after the last event.
        """
        return await self._events.get()

    async def _send(self, message: Text | File) -> Accepted:
        message_id = MessageId(uuid4().hex)
        frame = encode(message, message_id)
        if self._frame_bytes is not None and len(frame) > self._frame_bytes:
            raise Refused("too_large", f"this message takes {len(frame)} bytes; the server takes {self._frame_bytes}")
        if self._end is not None:
            raise self._end
        pending = self._pending[message_id] = _Pending(frame.decode())
        if self._outbox is not None:
            self._outbox.send_nowait(message_id)
        try:
            await pending.replied.wait()
        finally:
            del self._pending[message_id]
        match pending.reply:
            case Accepted() as accepted:
                return accepted
            case Error(code, detail, user, retry_after_ms):
                raise Refused(code, detail, user, retry_after_ms)
            case ClientError() as ended:
                raise ended
            case None:
                raise RuntimeError("a message was released without a reply")

    async def _open(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._run)
        await self.wait_connected()

    async def _run(self) -> None:
        """Sessions, until one ends for good or the client leaves. The first attempt has to succeed."""
        target = self._target
        attempt = 0
        while True:
            steady_at = math.inf
            try:
                async with open_session(target.address, target.identity, target.device, dial=target.dial) as session:
                    steady_at = trio.current_time() + STEADY_SECONDS
                    unsent = self._come_up(session)
                    await self._live(session, unsent)
                return
            except ClientError as error:
                if self._leaving.is_set():
                    return
                if not (self._has_connected and isinstance(error, ConnectionFailed | ConnectionLost)):
                    self._stop(error)
                    return
                reason = str(error)
                spread_seconds = error.spread_seconds if isinstance(error, ConnectionLost) else None
            if trio.current_time() >= steady_at:
                attempt = 0
            delay_seconds = target.backoff.delay_seconds(attempt, spread_seconds)
            attempt += 1
            self._events.put(Disconnected(reason, delay_seconds))
            await trio.sleep(delay_seconds)

    def _come_up(self, session: Session) -> trio.MemoryReceiveChannel[MessageId]:
        self._outbox, unsent = trio.open_memory_channel[MessageId](math.inf)
        for message_id in self._pending:
            self._outbox.send_nowait(message_id)
        if session.welcome.limits is not None:
            self._frame_bytes = session.welcome.limits.frame_bytes
        self._has_connected = True
        self._events.put(Connected())
        self._up.set()
        return unsent

    async def _live(self, session: Session, unsent: trio.MemoryReceiveChannel[MessageId]) -> None:
        """Returns when the client leaves; raises what ended the session otherwise."""
        try:
            async with plain_nursery() as nursery:
                nursery.start_soon(self._read, session)
                nursery.start_soon(self._write, session, unsent)
                nursery.start_soon(session.keep_alive)
                await self._leaving.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._outbox = None
            self._up = trio.Event()

    async def _read(self, session: Session) -> None:
        while True:
            frame = await session.receive()
            match frame.message:
                case Accepted() | Error() as reply if frame.id in self._pending:
                    self._pending[frame.id].answer(reply)
                case Accepted():
                    pass  # of a send that was cancelled
                case AuthChallenge() | AuthOk() as message:
                    raise NotTheProtocol(f"the server sent `{message.verb}` in the middle of a session")
                case message:
                    self._events.put(Received(message, frame.id, frame.seq))

    async def _write(self, session: Session, unsent: trio.MemoryReceiveChannel[MessageId]) -> None:
        async for message_id in unsent:
            pending = self._pending.get(message_id)
            if pending is not None:
                await session.send(pending.frame)

    def _stop(self, error: ClientError) -> None:
        self._end = self._end or error
        self._events.end(self._end)
        self._up.set()
        for pending in self._pending.values():
            pending.answer(self._end)


@asynccontextmanager
async def connect(
    server: ServerAddress | str,
    identity: Identity,
    *,
    device: DeviceId | None = None,
    backoff: Backoff = _DEFAULT_BACKOFF,
    dial: Dial = dial_tcp,
) -> AsyncGenerator[Client]:
    """A client with a session; from then on it comes back by itself, as often as it takes.

    Args:
        server: as `ServerAddress.parse` takes it.
        device: names this installation; without it the server keeps nothing for us while we are away.
        backoff: how long to wait between attempts.
        dial: how to get a stream to the server.

    Raises:
        InvalidServerAddress: `server` is not an address.
        ConnectionFailed, ConnectionLost, NotTheProtocol, AuthenticationRefused, SessionEnded: the first session could
            not be opened.
    """
    address = server if isinstance(server, ServerAddress) else ServerAddress.parse(server)
    client = Client(_Target(address, identity, device, backoff, dial))
    try:
        async with plain_nursery() as nursery:
            await client._open(nursery)
            yield client
            client._leaving.set()
            if not client.connected:
                nursery.cancel_scope.cancel()
    finally:
        client._stop(SessionEnded(1000, "the client was closed"))
