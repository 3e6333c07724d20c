"""Conversations with the server in this process, written as they would be told.

    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play('''
            alice >> {"type":"text","payload":{"to":"$bob","text":"Hello"}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"Hello"}}
        ''')

A transcript is played line by line:

    alice >> <json>             alice sends a text frame; lines that follow each other directly travel in one packet
    alice >> ping, pong, close <code>, or binary <hex>
    alice << <json>             the next frame that alice gets, byte for byte
    alice << close <code> <reason>
    alice << ping               and pong
    alice << cut                the connection ended without a close frame
    alice << nothing            nothing has arrived, and nothing will before time passes
    ... 9.5 s                   time passes

An actor is a connection, and `alice.phone` is another one of the same client. `$alice` is the client's id, and
`$alice_signs` its signature over `$nonce`. Every challenge has this nonce, unless the stage is given another source of
randomness: so a transcript can be written in full.

A connection begins behind its upgrade, as the guard hands it to the application: bytes in memory, and no Hypercorn.
`stage.server` is the same application behind Hypercorn, for tests of HTTP.
"""

import json
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any, cast

import hypercorn.trio.run
import trio
from attrs import define, field, frozen
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from ironwire.crypto.signing import Identity
from ironwire.limits import Limits
from ironwire.server.app import create_app
from ironwire.server.listener.connection_limiter import ConnectionSlot
from ironwire.server.listener.guard import DirectSockets
from ironwire.server.operator.config import AuthSettings, HistorySettings, Settings, TurnSettings, UploadSettings
from ironwire.store.contract.records import Quota
from ironwire.store.contract.store import Store
from ironwire.store.memory.store import MemoryStore
from tests.server.in_process import InProcessServer, StreamPair, serve_in_process
from tests.server.raw_client import RawClient
from tests.wire import frame_builder

NONCE = bytes(range(32))
NOW_MS = 1_790_000_000_000
ANSWER_SECONDS = 100.0
"""Virtual time after which what a transcript expects will not come any more."""

_LINE = re.compile(r"(?P<actor>[a-z0-9.]+)\s+(?P<way>>>|<<)\s+(?P<what>.+)|\.\.\.\s+(?P<seconds>[0-9.]+) s")


@cache
def identity_of(actor: str) -> Identity:
    """The identity behind an actor: what stands before the dot in its name."""
    return Identity.from_seed(sha256(actor.partition(".")[0].encode()).digest())


@define(eq=False)
class Actor:
    """A connection of a client. It reads all the time, until it is told to stall."""

    _client: RawClient
    _nursery: trio.Nursery
    _reading: trio.CancelScope = field(init=False)
    _arrived: trio.MemorySendChannel[Event | None] = field(init=False)
    _events: trio.MemoryReceiveChannel[Event | None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._arrived, self._events = trio.open_memory_channel[Event | None](float("inf"))
        self.resume()

    async def send(self, *frames: bytes) -> None:
        """Send all frames in one packet."""
        await self._client.send(*frames)

    async def event(self) -> Event | None:
        """Wait for the next frame; None is the end of the connection."""
        return await self._events.receive()

    def take_events(self) -> list[Event | None]:
        """Everything that has arrived and was not yet looked at."""
        return list(self._waiting())

    def stall(self) -> None:
        """Read no more."""
        self._reading.cancel()

    def resume(self) -> None:
        self._reading = trio.CancelScope()
        self._nursery.start_soon(self._read, self._reading)

    async def hang_up(self) -> None:
        """Cut the connection without a word."""
        self.stall()
        await trio.aclose_forcefully(self._client.stream)

    def _waiting(self) -> Iterator[Event | None]:
        while self._events.statistics().current_buffer_used:
            yield self._events.receive_nowait()

    async def _read(self, scope: trio.CancelScope) -> None:
        with scope:
            while (event := await self._client.event()) is not None:
                self._arrived.send_nowait(event)
            self._arrived.send_nowait(None)


@define(eq=False)
class Stage:
    """A running server and the actors that talk to it."""

    server: InProcessServer
    data: Path
    _sockets: DirectSockets
    _nursery: trio.Nursery
    actors: dict[str, Actor] = field(init=False, factory=dict)
    sockets: list[trio.socket.SocketType] = field(init=False, factory=list)

    async def connect(
        self,
        *actors: str,
        stream_pair: StreamPair = memory_stream_pair,
        headers: Sequence[bytes] = (),
        trailing: bytes = b"",
    ) -> None:
        """Open a WebSocket for each actor. `trailing` comes in the same packet as the upgrade.

        `headers` of the upgrade are whole lines: with them the connection goes through Hypercorn.

        Raises:
            ConnectionRefusedError: the server answered with another status than 101, or not at all.
        """
        for actor in actors:
            if headers:
                client = RawClient(self.server.open_stream(stream_pair))
                await client.upgrade("/ws", *headers, trailing=trailing)
            else:
                client = RawClient(self._open_socket(stream_pair, trailing))
            self.actors[actor] = Actor(client, self._nursery)

    def _open_socket(self, stream_pair: StreamPair, leftover: bytes) -> trio.abc.Stream:
        slot = self.server.guard.limiter.enter("127.0.0.1")
        if slot is None:
            raise ConnectionRefusedError("there is no room for another connection")
        client, server = stream_pair()
        if isinstance(client, trio.SocketStream):
            self.sockets.append(client.socket)
        self._nursery.start_soon(self._serve, server, leftover, slot)
        return cast("trio.abc.Stream", client)

    async def _serve(self, stream: trio.abc.Stream, leftover: bytes, slot: ConnectionSlot) -> None:
        try:
            await self._sockets.serve(stream, leftover, ("127.0.0.1", 80), slot)
        finally:
            slot.leave()
            await trio.aclose_forcefully(stream)

    async def enter(
        self, *actors: str, device: str | None = None, stream_pair: StreamPair = memory_stream_pair
    ) -> None:
        """Connect and authenticate each actor, as a seed client unless a device is named."""
        for actor in actors:
            await self.connect(actor, stream_pair=stream_pair)
            await self.authenticate(actor, device=device)

    async def authenticate(self, actor: str, *, device: str | None = None) -> None:
        """Play the actor's part up to `auth_ok`; with a device, whose mailbox has to be empty, up to `caught_up`."""
        await self.actors[actor].send(auth_frame(actor, device=device))
        challenge = json.loads(await self.next_text(actor))["challenge"]
        await self.actors[actor].send(verify_frame(actor, bytes.fromhex(challenge)))
        for expected in ("auth_ok",) if device is None else ("auth_ok", "caught_up"):
            reply = json.loads(await self.next_text(actor))
            if reply["type"] != expected:
                raise AssertionError(f"{actor} should have got {expected}, but it was {reply}")

    async def next_text(self, actor: str) -> str:
        """The next frame that the actor gets, which must be text."""
        event = await self._next_event(actor, "a text")
        if not isinstance(event, TextMessage):
            raise AssertionError(f"{actor} should have got a text, but it was {told(event)}")
        return str(event.data)

    async def play(self, transcript: str) -> None:
        """Say and expect what the transcript says, line by line.

        Raises:
            AssertionError: something else came, or nothing.
        """
        lines = [_Line.parse(line) for line in transcript.strip().splitlines()]
        for (actor, way), group in groupby(lines, lambda line: (line.actor, line.way)):
            if way == ">>":
                await self.actors[actor].send(*(_frame(line.what) for line in group))
                continue
            for line in group:
                if way == "...":
                    await trio.sleep(float(line.what))
                elif line.what == "nothing":
                    await self._expect_nothing(actor)
                else:
                    await self._expect(actor, line.what)

    async def _expect(self, actor: str, what: str) -> None:
        event = await self._next_event(actor, what)
        if told(event) != what:
            raise AssertionError(f"{actor} should have got\n  {what}\nbut it was\n  {told(event)}")
        if isinstance(event, CloseConnection):
            await self.actors[actor].hang_up()

    async def _expect_nothing(self, actor: str) -> None:
        await wait_all_tasks_blocked()
        if arrived := self.actors[actor].take_events():
            raise AssertionError(f"{actor} should have got nothing, but there was {[told(event) for event in arrived]}")

    async def _next_event(self, actor: str, what: str) -> Event | None:
        with trio.move_on_after(ANSWER_SECONDS):
            return await self.actors[actor].event()
        raise AssertionError(f"{actor} should have got\n  {what}\nbut nothing came within {ANSWER_SECONDS} s")


@frozen
class _Line:
    actor: str
    way: str
    what: str

    @classmethod
    def parse(cls, line: str) -> "_Line":
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"not a line of a transcript: {line!r}")
        if match["seconds"] is not None:
            return cls("", "...", match["seconds"])
        template = Template(match["what"])
        names = {name: _value(name) for name in template.get_identifiers()}
        return cls(match["actor"], match["way"], template.substitute(names))


@asynccontextmanager
async def open_stage(
    *,
    limits: Limits | None = None,
    auth: AuthSettings | None = None,
    turn: TurnSettings | None = None,
    upload: UploadSettings | None = None,
    data: Path | None = None,
    history_days: float = 0,
    now_ms: Callable[[], int] = lambda: NOW_MS,
    random_bytes: Callable[[int], bytes] = lambda count: NONCE[:count],
    open_store: Callable[[Quota], Store] = MemoryStore,
) -> AsyncIterator[Stage]:
    """Run the server as the command does, over memory streams, on the store that keeps everything in memory.

    The test has a `mock_clock`. From here on time passes when there is nothing else to do.
    """
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, MockClock):
        raise TypeError("a stage needs the mock_clock fixture, or trio.run(..., clock=MockClock())")
    clock.autojump_threshold = float("inf")  # the server starts with threads, during which no time may pass
    limits = limits or Limits()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            data=data or Path(folder),
            limits=limits,
            auth=auth or AuthSettings(),
            turn=turn or TurnSettings(),
            upload=upload or UploadSettings(),
            history=HistorySettings(days=history_days),
        )
        app = create_app(settings, now_ms=now_ms, random_bytes=random_bytes, open_store=open_store)
        async with serve_in_process(app, guard=installed_guard()) as server, trio.open_nursery() as nursery:
            clock.autojump_threshold = 0
            stage = Stage(server, Path(folder), app.direct_sockets, nursery)
            yield stage
            nursery.cancel_scope.cancel()
        for socket in stage.sockets:
            socket.close()


def installed_guard() -> Any:
    """The guard that the newest application put in place: it knows how to drain that application."""
    return hypercorn.trio.run.TCPServer.args[0]  # type: ignore[attr-defined]  # a partial, since `install`


def auth_frame(actor: str, *, origin: str | None = None, device: str | None = None) -> bytes:
    payload = {"token": identity_of(actor).client_id, "device": device, "origin": origin}
    present = {key: value for key, value in payload.items() if value is not None}
    return frame_builder.text(json.dumps({"type": "auth", "payload": present}))


def verify_frame(actor: str, signed: bytes) -> bytes:
    """The frame with the actor's signature over `signed`: the nonce, unless the actor named an origin."""
    attempt = identity_of(actor).sign(signed).hex()
    return frame_builder.text(json.dumps({"type": "verify", "payload": {"attempt": attempt}}))


def told(event: Event | None) -> str:
    """An event as a transcript has it."""
    match event:
        case None:
            return "cut"
        case TextMessage():
            return str(event.data)
        case BytesMessage():
            return f"binary {bytes(event.data).hex()}"
        case CloseConnection():
            return f"close {int(event.code)} {event.reason or ''}".rstrip()
        case Ping():
            return "ping"
        case Pong():
            return "pong"
        case _:
            return repr(event)


def _value(name: str) -> str:
    if name == "nonce":
        return NONCE.hex()
    if name.endswith("_signs"):
        return identity_of(name.removesuffix("_signs")).sign(NONCE).hex()
    return identity_of(name).client_id


def _frame(what: str) -> bytes:
    word, _, rest = what.partition(" ")
    match word:
        case "ping":
            return frame_builder.ping()
        case "pong":
            return frame_builder.pong()
        case "close":
            return frame_builder.close(int(rest))
        case "binary":
            return frame_builder.binary(bytes.fromhex(rest))
        case _:
            return frame_builder.text(what)
