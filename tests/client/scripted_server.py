"""The server's side of a client test: real authentication, then whatever the test says, over memory streams.

>> peer = await server.accept()          the next client that has authenticated
>> frame = await peer.receive()          what it sent
<< await peer.send(message, id)          what the server says
<< await peer.deliver(message, seq)      what it has in the device's mailbox
"""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from ironwire.client import ServerAddress
from ironwire.client.store.records import Delivery, Sendable
from ironwire.ids import MessageId, Origin
from ironwire.limits import UNANSWERED_ENVELOPES, Limits
from ironwire.protocol.auth import Admit, Authentication, AuthPolicy, Challenge, Principal, Refuse
from ironwire.server.session.admission import announced
from ironwire.wire.codec import decode_client, encode, encode_payload, frame_text
from ironwire.wire.messages import (
    Accepted,
    AuthChallenge,
    AuthOk,
    ClientMessage,
    Error,
    ErrorCode,
    RefusedNumbers,
    Resume,
    ServerMessage,
)

ADDRESS = ServerAddress.parse("ws://server.test:8080")
FRAME_BYTES = 4096
UNREAD_MESSAGES = 10
"""As many may be unread when a client says goodbye: behind more than that it waits for an answer until it gives up."""
NONCE = bytes(range(32))


@define
class Ledger:
    """The numbers of a device in one epoch of its mailbox, and their answers (section 4.1). A hole is an error."""

    sent: int = 0
    refused: list[RefusedNumbers] = field(factory=list)
    _last: int = field(default=0, init=False)
    _numbers: dict[MessageId, int] = field(factory=dict, init=False)
    _answers: dict[int, ErrorCode | None] = field(factory=dict, init=False)

    def begin(self) -> None:
        """Whatever is not settled by now comes again."""
        self._last = self.sent
        self._numbers.clear()
        self._answers.clear()

    def came(self, message_id: MessageId, n: int) -> None:
        assert n == self._last + 1, f"n is {n} after {self._last}"
        self._last = n
        self._numbers[message_id] = n

    def answered(self, message_id: MessageId, code: ErrorCode | None) -> None:
        n = self._numbers.get(message_id)
        if n is None or code == "internal":
            return
        self._answers[n] = code
        while self.sent + 1 in self._answers:
            self.sent += 1
            refusal = self._answers[self.sent]
            if refusal is not None:
                self.refused.append(RefusedNumbers(self.sent, self.sent, refusal))
        self.refused = [span for span in self.refused if span.last > self.sent - UNANSWERED_ENVELOPES]


@define(eq=False)
class Peer:
    """One authenticated session, seen from the server."""

    principal: Principal
    websocket: WebSocketConnection
    stream: trio.abc.Stream
    ledger: Ledger
    _resumes: set[MessageId] = field(factory=set, init=False)

    async def receive(self) -> tuple[ClientMessage, MessageId | None]:
        message, message_id, n = decode_client(await self.websocket.get_message())
        if isinstance(message, Sendable) and self.principal.device is not None:
            assert n is not None, f"a device sent {message} without a number"
            assert message_id is not None
            self.ledger.came(message_id, n)
        elif isinstance(message, Resume) and message_id is not None:
            self._resumes.add(message_id)
        return message, message_id

    async def send(self, message: ServerMessage, message_id: MessageId | None = None) -> None:
        if message_id in self._resumes and isinstance(message, Accepted) and self.principal.device is not None:
            self.ledger.begin()
            message = evolve(message, sent=self.ledger.sent)
        elif message_id is not None:
            self.ledger.answered(message_id, message.msg if isinstance(message, Error) else None)
        await self.websocket.send_message(encode(message, message_id).decode())

    async def deliver(self, message: Delivery, seq: int, message_id: MessageId | None = None) -> None:
        text = frame_text(message.verb, encode_payload(message), id=message_id, seq=seq)
        await self.websocket.send_message(text.decode())

    async def close(self, code: int, reason: str = "") -> None:
        await self.websocket.aclose(code, reason or None)

    async def cut(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def close_code(self) -> int:
        """Wait until the client is gone; how it said goodbye."""
        with pytest.raises(ConnectionClosed) as caught:
            await self.receive()
        assert caught.value.reason is not None
        return caught.value.reason.code


@define(eq=False)
class Valve(trio.abc.Stream):
    """A client's stream in which either direction can be stopped, as by a network that vanished."""

    _stream: trio.abc.Stream
    _inward: trio.Event = field(factory=trio.Event)
    _outward: trio.Event = field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.release()

    def hold_inward(self) -> None:
        self._inward = trio.Event()

    def hold_outward(self) -> None:
        self._outward = trio.Event()

    def release(self) -> None:
        self._inward.set()
        self._outward.set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._outward.wait()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._outward.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        await self._inward.wait()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


@define(eq=False)
class ScriptedServer:
    """Pass `dial` to the client."""

    _nursery: trio.Nursery
    origins: frozenset[Origin] = frozenset({ADDRESS.origin})
    epoch: int | None = 1
    tail: int = 1_000_000
    """Of the mailbox of whichever device comes."""
    frame_bytes: int = FRAME_BYTES
    dials: list[float] = field(factory=list)
    """When each attempt was made."""
    streams: list[Valve] = field(factory=list)
    """The client's end of each connection."""
    ledgers: dict[int | None, Ledger] = field(factory=lambda: defaultdict(Ledger))
    """By epoch."""
    _peers: tuple[trio.MemorySendChannel[Peer], trio.MemoryReceiveChannel[Peer]] = field(
        factory=lambda: trio.open_memory_channel[Peer](10)
    )

    async def dial(self, address: ServerAddress) -> trio.abc.Stream:
        assert address == ADDRESS
        self.dials.append(trio.current_time())
        client, server = memory_stream_pair()
        self._nursery.start_soon(self._serve, server)
        self.streams.append(Valve(client))
        return self.streams[-1]

    async def accept(self) -> Peer:
        return await self._peers[1].receive()

    async def _serve(self, stream: trio.abc.Stream) -> None:
        request = await wrap_server_stream(self._nursery, stream, message_queue_size=UNREAD_MESSAGES)
        websocket = await request.accept()
        try:
            principal = await self._authenticate(websocket)
        except ConnectionClosed:
            return
        if principal is not None:
            await self._peers[0].send(Peer(principal, websocket, stream, self.ledgers[self.epoch]))

    async def _authenticate(self, websocket: WebSocketConnection) -> Principal | None:
        machine = Authentication(AuthPolicy(self.origins, require_origin=True))
        while True:
            match machine.receive(decode_client(await websocket.get_message())[0], NONCE):
                case Challenge(nonce):
                    await websocket.send_message(encode(AuthChallenge(nonce.hex())).decode())
                case Admit(principal):
                    limits = announced(Limits(frame_bytes=self.frame_bytes))
                    welcome = AuthOk(principal.client, limits=limits)
                    if principal.device is not None:
                        ledger = self.ledgers[self.epoch]
                        ledger.begin()
                        told = (self.epoch, self.tail, ledger.sent, ledger.refused or None)
                        welcome = AuthOk(principal.client, principal.device, *told, limits=limits)
                    await websocket.send_message(encode(welcome).decode())
                    return principal
                case Refuse(reason):
                    await websocket.aclose(1008, reason)
                    return None
                case other:
                    raise AssertionError(f"unexpected {other}")


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    async with trio.open_nursery() as nursery:
        yield ScriptedServer(nursery)
        nursery.cancel_scope.cancel()
