"""What an attack has in its hands: connections from addresses of its choice, and a record of what came of them.

An attacker plays many addresses by saying so in X-Forwarded-For, which the server believes of this machine as it would
believe its proxy. Without the header it would count as somebody on this machine, whom no limit by address concerns.
"""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import trio
from attrs import define, field, frozen
from wsproto.utilities import ProtocolError

from bench.crowd import HOST, Identity, identities, text_frame
from tests.server.raw_client import RawClient

ANSWER_SECONDS = 10.0
READ_BYTES = 64 * 1024

_MESSAGE = re.compile(rb'"msg":"([a-z_]+)"|"type":"(accepted)"')
_CLOSE = re.compile(rb"\x88[\x02-\x7d](..)[^\x00]*$", re.DOTALL)
_PAUSE_SECONDS = 0.005
_ATTEMPTS = count()


class Refused(Exception):
    """The server did not let the attacker in; the message says with which status, close code or error."""


@define(eq=False)
class Target:
    """The server at `port`, and what was done to it."""

    port: int
    tries: int = 0
    """Of whatever the attack says it counts."""
    outcomes: Counter[str] = field(factory=Counter)
    """What the server did about it, as an HTTP status, `close 1009`, the code of an `error`, or `cut`."""
    mailboxes: int = 0
    """Devices that the attack has registered."""
    stalled: int = 0
    """Connections that ask for more than they read; each may fill its outbox."""
    breaches: list[str] = field(factory=list)
    """The attacker got something that it must not get."""

    async def open_stream(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(HOST, self.port)

    @asynccontextmanager
    async def socket(self, address: bytes, *headers: bytes, path: str = "/ws") -> AsyncIterator[RawClient]:
        """A WebSocket, upgraded, from `address`.

        Raises:
            Refused: no 101.
        """
        async with await self.open_stream() as stream:
            client = RawClient(stream)
            with trio.fail_after(ANSWER_SECONDS):
                try:
                    await client.upgrade(path, forwarded(address), *headers)
                except ConnectionRefusedError as refusal:
                    raise Refused(str(refusal).split(" ")[1]) from None
            yield client

    @asynccontextmanager
    async def session(self, address: bytes, identity: Identity | None = None) -> AsyncIterator[RawClient]:
        """A session of a client, a new one's unless there is an identity; a device is registered with it.

        Raises:
            Refused: no `auth_ok`.
        """
        identity = identity or new_identity()
        async with self.socket(address) as client:
            with trio.fail_after(ANSWER_SECONDS):
                await authenticate(client, identity)
            yield client

    async def ask(self, request: bytes) -> str:
        """Send bytes of HTTP, and return the status of what comes back; `cut` if nothing does."""
        self.tries += 1
        async with await self.open_stream() as stream:
            with trio.move_on_after(ANSWER_SECONDS):
                with suppress(trio.BrokenResourceError):  # refused before it was read whole; the answer may be here
                    await stream.send_all(request)
                return status_of(await stream.receive_some(READ_BYTES))
        return "no answer"

    async def flood(self, client: RawClient, packet: bytes, frames: int, pause_seconds: float = 0) -> str:
        """Send the packet, of so many frames, over and over, and read whatever comes, until the server has enough."""
        ended = ""

        async def read() -> None:
            nonlocal ended
            ended = await self.drain(client)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            try:
                while True:
                    await client.stream.send_all(packet)
                    self.tries += frames
                    await trio.sleep(pause_seconds)
            except trio.BrokenResourceError:
                pass  # closed; why is still to be read
        return ended

    async def drain(self, client: RawClient) -> str:
        """Read to the end, counting errors by their codes; return how the connection ended."""
        tail = b""
        try:
            while data := await client.stream.receive_some(READ_BYTES):
                for error, accepted in _MESSAGE.findall(data):
                    self.outcomes[(error or accepted).decode()] += 1
                tail = (tail + data)[-150:]
        except trio.BrokenResourceError:
            pass
        close = _CLOSE.search(tail)
        return f"close {int.from_bytes(close[1], 'big')}" if close else "cut"

    async def swarm(self, size: int, once: Callable[[int], Awaitable[str]]) -> None:
        """Do something `size` times at once, and each again as soon as it is over, until cancelled.

        `once` is given a number that it was never given before, and returns what came of it.
        """
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(self._again, once)

    async def _again(self, once: Callable[[int], Awaitable[str]]) -> None:
        while True:
            try:
                outcome = await once(next(_ATTEMPTS))
            except Refused as refusal:
                outcome = str(refusal)
            except trio.TooSlowError:
                outcome = "no answer"
            except (OSError, EOFError, trio.BrokenResourceError, ProtocolError):
                outcome = "cut"
            self.outcomes[outcome] += 1
            await trio.sleep(_PAUSE_SECONDS)


@frozen
class Attack:
    """One attack."""

    name: str
    gain: str
    """What they would have of it if it worked."""
    place: str
    """The rule against it: a section of docs/protocol.md, an RFC, or a limit."""
    counted: str
    """What `Target.tries` counts."""
    run: Callable[[Target], Awaitable[None]]
    """Attacks until cancelled."""
    fixed: str = ""
    """What earlier runs have found, and what was done about it."""


def new_identity(device: str | None = None) -> Identity:
    """A client that nobody has seen."""
    return identities(1, device)[0]


def address(number: int, among: int = 60_000) -> bytes:
    """One of so many addresses, of a network that is for tests (RFC 2544)."""
    return b"198.18.%d.%d" % divmod(number % among, 250)


ONE_ADDRESS = b"203.0.113.7"


def forwarded(address: bytes) -> bytes:
    return b"X-Forwarded-For: " + address


async def authenticate(client: RawClient, identity: Identity) -> None:
    """The handshake of docs/protocol.md, section 2, up to `auth_ok`.

    Raises:
        Refused: the server said something else.
    """
    device = {} if identity.device is None else {"device": identity.device}
    await client.send(text_frame({"type": "auth", "payload": {"token": identity.client, **device}}))
    challenge = (await reply(client))["challenge"]
    await client.send(verify(identity, challenge))
    answer = await reply(client)
    if answer["type"] != "auth_ok":
        raise Refused(_code(answer))


def verify(identity: Identity, challenge: str) -> bytes:
    attempt = identity.key.sign(bytes.fromhex(challenge)).signature.hex()
    return text_frame({"type": "verify", "payload": {"attempt": attempt}})


async def reply(client: RawClient) -> dict[str, Any]:
    """The next message, which must not be an error.

    Raises:
        Refused: an error, or the end.
    """
    event = await client.event()
    if event is None:
        raise Refused("cut")
    code = getattr(event, "code", None)
    if code is not None:
        raise Refused(f"close {int(code)}")
    message: dict[str, Any] = json.loads(getattr(event, "data", "{}"))
    if message.get("type") == "error":
        raise Refused(_code(message))
    return message


async def ending(client: RawClient) -> str:
    """Wait for the end of the connection, and say how it came."""
    with trio.move_on_after(ANSWER_SECONDS):
        while (event := await client.event()) is not None:
            code = getattr(event, "code", None)
            if code is not None:
                return f"close {int(code)}"
        return "cut"
    return "no answer"


def status_of(data: bytes) -> str:
    return data[9:12].decode("latin-1") if data.startswith(b"HTTP/1.1 ") else "cut"


def _code(message: Mapping[str, Any]) -> str:
    payload = message.get("payload")
    return str(payload["msg"]) if isinstance(payload, dict) and "msg" in payload else str(message.get("type"))
