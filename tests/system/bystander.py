"""Two clients of the seed protocol whose conversation has to go on, whatever others do to the server."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import trio
from attrs import define, field
from nacl.signing import SigningKey
from trio_websocket import WebSocketConnection, wrap_client_stream

ANSWER_SECONDS = 5.0


@define(eq=False)
class Conversation:
    _speaker: WebSocketConnection
    _listener: WebSocketConnection
    _listener_id: str
    _numbers: Iterator[int] = field(factory=count, init=False)

    async def go_on(self) -> None:
        """Say something and hear it at the other end.

        Raises:
            trio.TooSlowError, trio_websocket.ConnectionClosed: the conversation did not go on.
        """
        said = f"line {next(self._numbers)}"
        with trio.fail_after(ANSWER_SECONDS):
            await _send(self._speaker, {"type": "text", "payload": {"to": self._listener_id, "text": said}})
            heard = json.loads(await self._listener.get_message())
        if heard["payload"]["text"] != said:
            raise AssertionError(f"said {said!r}, heard {heard!r}")


@asynccontextmanager
async def conversation(port: int) -> AsyncIterator[Conversation]:
    """Two clients on connections of their own, authenticated."""
    async with seed_session(port) as (speaker, _), seed_session(port) as (listener, listener_id):
        yield Conversation(speaker, listener, listener_id)


@asynccontextmanager
async def seed_session(port: int, key: SigningKey | None = None) -> AsyncIterator[tuple[WebSocketConnection, str]]:
    """A client's session and its id, after the handshake of docs/protocol.md, section 2: a new client's unless there is
    a key.
    """
    key = key or SigningKey.generate()
    client_id = key.verify_key.encode().hex()
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
        with trio.fail_after(ANSWER_SECONDS):
            connection = await wrap_client_stream(nursery, stream, "localhost", "/ws")
            await _send(connection, {"type": "auth", "payload": {"token": client_id}})
            challenge = json.loads(await connection.get_message())["challenge"]
            attempt = key.sign(bytes.fromhex(challenge)).signature.hex()
            await _send(connection, {"type": "verify", "payload": {"attempt": attempt}})
            answer = json.loads(await connection.get_message())
        if answer["type"] != "auth_ok":
            raise AssertionError(f"expected auth_ok, got {answer!r}")
        yield connection, client_id
        nursery.cancel_scope.cancel()


async def _send(connection: WebSocketConnection, message: dict[str, Any]) -> None:
    await connection.send_message(json.dumps(message))
