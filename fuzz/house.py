"""The whole server in this process, with two people in it whose conversation nothing may disturb.

    run(data, story)        one server, one virtual clock, one `story` that misbehaves; then the house is inspected

Everything that could differ between two runs is a function of `data`: the clock is moved by hand, the scheduler and the
server's randomness are seeded. What the inspection demands, whatever the story did:

- nothing was logged as an error, and no connection or handler let an exception out;
- every frame that the server sent is one that a client understands;
- once the story's connections are gone, so are their sessions;
- the two people can still talk.
"""

import sys
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import structlog
import trio
from attrs import define, field
from structlog.typing import EventDict, WrappedLogger
from trio.testing import (
    MockClock,
    active_thread_count,
    lockstep_stream_one_way_pair,
    memory_stream_one_way_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
    wait_all_threads_completed,
)
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from fuzz.failure import first_leaf, name_of
from ironwire.crypto.signing import Identity, auth_text
from ironwire.ids import MessageId, Origin
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, Settings
from ironwire.wire.codec import decode_server, encode
from ironwire.wire.messages import (
    Auth,
    AuthChallenge,
    AuthOk,
    ClientMessage,
    DeliveredText,
    ServerMessage,
    Text,
    Verify,
)
from tests.server.in_process import InProcessServer, serve_in_process
from tests.server.raw_client import upgrade_request
from tests.wire.frame_builder import pong, text

ORIGIN = Origin("https://chat.example")
BLOB_NAME = "00000000-0000-4000-8000-000000000000.bin"
BLOB = bytes(range(256))
"""A stored file for whoever asks for ranges."""

_START_MS = 1_790_000_000_000
_LEAVE_SECONDS = 120
_STEP_SECONDS = 4.0  # shorter than every limit of a session, so that people in the house can answer their pings
_END_OF_HEAD = b"\r\n\r\n"

Story = Callable[["House"], Awaitable[None]]


def run(data: bytes, story: Story) -> None:
    """Tell `story` in a new house, then inspect it.

    Raises:
        AssertionError: the inspection found something, or the story did.
    """
    _seed_the_scheduler(zlib.crc32(data))
    with (
        TemporaryDirectory(prefix="ironwire-fuzz-") as folder,
        structlog.testing.capture_logs(processors=[_name_the_error]) as events,
    ):
        try:
            trio.run(_tell, Path(folder), story, clock=MockClock())
        except ExceptionGroup as group:
            raise first_leaf(group) from group
    for event in events:
        assert event["log_level"] not in {"error", "critical"}, f"logged: {event['event']}: {event.get('error')}"


async def quiet() -> None:
    """Wait until nothing can happen any more unless somebody sends something, or time passes."""
    await wait_all_tasks_blocked()
    while active_thread_count():
        await wait_all_threads_completed()
        await wait_all_tasks_blocked()


@define(eq=False)
class Peer:
    """The client's end of one connection: it sends what it is told to, right or wrong, and keeps all that comes."""

    _stream: Any
    received: bytearray = field(factory=bytearray, init=False)
    has_ended: bool = field(default=False, init=False)
    is_listening: bool = field(default=False, init=False)
    messages: list[ServerMessage] = field(factory=list, init=False)
    nonce: bytes = field(default=bytes(32), init=False)
    """The last challenge."""
    answers_pings: bool = field(default=False, kw_only=True)
    _read_bytes: int = field(default=0, init=False)
    _is_upgraded: bool = field(default=False, init=False)
    _frames: Connection = field(factory=lambda: Connection(ConnectionType.CLIENT), init=False)
    _partial: str = field(default="", init=False)

    async def send(self, data: bytes) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_all(data)

    async def say(self, message: ClientMessage, message_id: MessageId | None = None) -> None:
        await self.send(text(encode(message, message_id).decode()))

    async def hang_up(self) -> None:
        """Send the end of the stream, and go on reading."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_eof()

    async def vanish(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def listen(self) -> None:
        """Keep what comes until the connection ends."""
        while not self.has_ended:
            self.is_listening = True
            await self.listen_once()

    async def listen_once(self) -> None:
        """Keep what comes next."""
        try:
            data = await self._stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        self.is_listening = False
        self.received += data
        self.has_ended = not data
        await self._understand()

    async def log_in(self, identity: Identity) -> None:
        """Become a seed session of `identity`."""
        await self.send(upgrade_request())
        await self.say(Auth(identity.client_id))
        await quiet()
        await self.say(Verify(identity.sign(self.nonce).hex()))
        await quiet()
        assert any(isinstance(message, AuthOk) for message in self.messages), f"no auth_ok in {self.messages}"

    def signed(self, identity: Identity, auth: Auth | None) -> Verify:
        """The right answer to the last challenge."""
        if auth is None or auth.origin is None:
            return Verify(identity.sign(self.nonce).hex())
        signed = auth_text(
            origin=auth.origin, nonce=self.nonce, public_key=identity.public_key.raw, device=auth.device or ""
        )
        return Verify(identity.sign(signed).hex())

    async def _understand(self) -> None:
        """Read what came as the answer to an upgrade and the frames behind it; anything else is left alone."""
        if not self._is_upgraded:
            head_bytes = self.received.find(_END_OF_HEAD) + len(_END_OF_HEAD)
            if head_bytes < len(_END_OF_HEAD) or not self.received.startswith(b"HTTP/1.1 101 "):
                return
            self._is_upgraded = True
            self._read_bytes = head_bytes
        fresh = bytes(self.received[self._read_bytes :])
        self._read_bytes += len(fresh)
        if not fresh or self._frames.state is ConnectionState.CLOSED:
            return
        self._frames.receive_data(fresh)
        for event in self._frames.events():
            match event:
                case TextMessage(data=data, message_finished=is_whole):
                    self._partial += data
                    if is_whole:
                        self._take(self._partial)
                        self._partial = ""
                case BytesMessage():
                    raise AssertionError("the server sent a binary frame")
                case CloseConnection() if self._frames.state is not ConnectionState.REMOTE_CLOSING:
                    raise AssertionError(f"the server broke RFC 6455: {event.reason}")
                case Ping(payload=payload) if self.answers_pings:
                    await self.send(pong(bytes(payload)))
                case _:
                    pass

    def _take(self, frame: str) -> None:
        message = decode_server(frame).message
        self.messages.append(message)
        if isinstance(message, AuthChallenge):
            self.nonce = bytes.fromhex(message.challenge)


@define(eq=False)
class House:
    """A server, its clock, two people who talk, and whoever else comes."""

    server: InProcessServer
    clock: MockClock
    nursery: trio.Nursery
    people: dict[Identity, Peer] = field(factory=dict, init=False)
    newcomers: list[Peer] = field(factory=list, init=False)

    def connect(self, *, is_slow: bool = False, answers_pings: bool = False) -> Peer:
        """Open a connection; all that comes over it is kept.

        `is_slow` makes a peer that reads only when `listen_once` is called, and until then blocks whoever writes to it.
        """
        peer = Peer(
            self.server.open_stream(_slow_stream_pair if is_slow else memory_stream_pair), answers_pings=answers_pings
        )
        if not is_slow:
            peer.is_listening = True
            self.nursery.start_soon(peer.listen)
        return peer

    def let_read(self, peer: Peer) -> None:
        """Have a slow peer take one write of the server, as soon as there is one."""
        if not peer.is_listening:
            peer.is_listening = True
            self.nursery.start_soon(peer.listen_once)

    async def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass, with everything that they bring."""
        while seconds > 0:
            self.clock.jump(min(seconds, _STEP_SECONDS))
            seconds -= _STEP_SECONDS
            await quiet()

    async def let_people_in(self) -> None:
        for number in (1, 2):
            identity = Identity.from_seed(bytes([number]) * 32)
            peer = self.connect(answers_pings=True)
            await peer.log_in(identity)
            self.people[identity] = peer

    async def inspect(self) -> None:
        """Disconnect the newcomers and check that everything is as it was."""
        for newcomer in self.newcomers:
            await newcomer.vanish()
        await quiet()
        guard, expected = self.server.guard, len(self.people)
        waited_seconds = 0.0
        while guard.connections_open > expected:
            assert waited_seconds < _LEAVE_SECONDS, f"{guard.connections_open - expected} connections are left over"
            await self.pass_time(_STEP_SECONDS)
            waited_seconds += _STEP_SECONDS
        assert guard.exceptions_contained == 0, "an exception would have ended the server"
        assert guard.applications_failed == 0, "a handler let an exception out"
        await self._look_for_sessions(expected)
        for (_, sender), (reader, recipient) in permutations(self.people.items(), 2):
            await self._talk(sender, reader, recipient)

    async def _look_for_sessions(self, expected: int) -> None:
        monitor = self.connect()
        await monitor.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await quiet()
        assert monitor.has_ended, "the metrics were not answered"
        lines = set(monitor.received.decode().splitlines())
        for name in ("ironwire_sessions_live", "ironwire_hub_sessions"):
            assert f"{name} {float(expected)}" in lines, f"{name} is not {expected}: a session is left over or lost"

    async def _talk(self, sender: Peer, reader: Identity, recipient: Peer) -> None:
        words = f"number {len(recipient.messages)}"
        await sender.say(Text(reader.client_id, words))
        await quiet()
        heard = [message.text for message in recipient.messages if isinstance(message, DeliveredText)]
        assert words in heard, "the conversation in the house was disturbed"


def _name_the_error(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the exception's name where the exception was: a log that is kept must not keep what it refers to."""
    error = sys.exc_info()[1] if event.get("exc_info") is True else event.get("exc_info")
    if isinstance(error, BaseException):
        event["error"] = name_of(error)
    return event


async def _tell(folder: Path, story: Story) -> None:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    media = folder / "media"
    media.mkdir()
    (media / BLOB_NAME).write_bytes(BLOB)
    app = create_app(
        Settings(data=folder, auth=AuthSettings(origins=(ORIGIN,))),
        now_ms=lambda: _START_MS + round(trio.current_time() * 1000),
        random_bytes=Random(1).randbytes,
    )
    async with serve_in_process(app) as server, trio.open_nursery() as nursery:
        house = House(server, clock, nursery)
        await house.let_people_in()
        await story(house)
        await house.inspect()
        nursery.cancel_scope.cancel()


def _slow_stream_pair() -> tuple[Any, Any]:
    """A connection whose client sends freely, while the server waits until each write has been read."""
    client_send, server_receive = memory_stream_one_way_pair()
    server_send, client_receive = lockstep_stream_one_way_pair()
    return trio.StapledStream(client_send, client_receive), trio.StapledStream(server_send, server_receive)


def _seed_the_scheduler(seed: int) -> None:
    """Make Trio run its tasks in an order that depends on `seed` alone."""
    # pytest-trio sets it too, for the same purpose; Trio calls it final to keep everybody else away from it.
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # Final to others; Trio's switch for tests
    trio._core._run._r.seed(seed)
