"""The program that has a device's file, for other programs of the same user (`handover.py` is its side)."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from attrs import define

from ironwire import unix_socket
from ironwire.client.connection.outgoing import AskedAnswer, Reply, checked
from ironwire.client.connection.urls import ServerAddress
from ironwire.client.errors import ClientError, LocalStoreError, NotTheProtocol
from ironwire.client.groups import OwnGroups
from ironwire.client.sealed_files import FileTerms
from ironwire.client.store import handover_lines as lines
from ironwire.client.store.handover import LINE_BYTES, socket_path
from ironwire.client.store.records import Sendable
from ironwire.e2e.bodies import FileBody
from ironwire.e2e.content import Content, encode_content
from ironwire.ids import Address, MessageId
from ironwire.wire import messages as msg
from ironwire.wire.codec import decode_server, encode

Sending = tuple[lines.Stored, Callable[[], Awaitable[msg.Accepted]]]
"""A message that is kept, and a function that waits until the server has taken it over."""


class OwnerGone(ClientError):
    """The program that had the device has ended, or has only begun."""


@define(eq=False)
class DeviceOwner:
    """The program that has the file at `_store`, for another one of the same user.

    Raises, all of it:
        OwnerGone: there is none: the file can be had, or will be in a moment. Messages may have been kept before it
            ended; under the same ids, here or at the device itself, they can be sent again.
        LocalStoreError: the other program is somebody else's, or cannot keep what it gets.
        NotTheProtocol, ConnectionFailed, SessionEnded, AuthenticationRefused: as it was raised there.
    """

    address: ServerAddress
    _store: Path

    async def queue(self, *messages: Sendable, ids: Sequence[MessageId]) -> lines.Stored:
        """As `Client.queue`; and how many messages wait there."""
        frames = [encode(message, message_id).decode() for message, message_id in zip(messages, ids, strict=True)]
        async with self._request(lines.Keep(frames, is_awaited=False)) as hear:
            stored: lines.Stored = _expect(await hear(), lines.Stored)
            return stored

    @asynccontextmanager
    async def sending(
        self, message: Sendable, message_id: MessageId, body: FileBody | None = None
    ) -> AsyncGenerator[Sending]:
        """As `Client.sending`."""
        now_ms = time.time_ns() // 1_000_000
        inside = None if body is None else encode_content(Content(message_id, now_ms, body)).decode()
        frame = encode(message, message_id).decode()
        async with self._request(lines.Keep([frame], is_awaited=True, inside=inside)) as hear:

            async def accepted() -> msg.Accepted:
                return checked(message.verb, _reply(await hear()), msg.Accepted)

            yield _expect(await hear(), lines.Stored), accepted

    @property
    def groups(self) -> OwnGroups:
        """As `Client.groups`."""
        return OwnGroups(self)

    @property
    def encryption(self) -> None:
        """The other program has it."""
        return None

    async def ask(
        self, message: msg.ClientMessage, kind: type[AskedAnswer], message_id: MessageId | None = None
    ) -> AskedAnswer:
        """The server's answer to a question."""
        async with self._request(lines.AskServer(encode(message, message_id).decode())) as hear:
            return checked(message.verb, _reply(await hear()), kind)

    async def file_terms(self, to: Address) -> FileTerms:
        """As `Client.file_terms`."""
        async with self._request(lines.AskTerms(to)) as hear:
            terms: FileTerms = _expect(await hear(), FileTerms)
            return terms

    async def give_history(self, device_key: str, since_ms: int) -> None:
        """As `Client.own_history.give`."""
        async with self._request(lines.GiveHistory(device_key, since_ms)) as hear:
            _reply(await hear())

    async def epoch_code(self, to: Address) -> str | None:
        """As `Client.epoch_code`."""
        async with self._request(lines.AskCode(to)) as hear:
            code: lines.Code = _expect(await hear(), lines.Code)
            return code.digits

    async def upload_token(self) -> str:
        """As `Client.upload_token`."""
        return (await self.ask(msg.UploadToken(), msg.UploadGrant)).token

    @asynccontextmanager
    async def _request(self, request: lines.Line) -> AsyncGenerator[Callable[[], Any]]:
        stream = await self._reach()
        async with stream:
            with _gone_if_broken():
                await stream.send_all(lines.encode_line(request))
            yield partial(_hear, stream, bytearray())

    async def _reach(self) -> trio.SocketStream:
        path = socket_path(self._store)
        try:
            stream = await unix_socket.connect(path)
        except OSError as error:
            raise LocalStoreError(f"{path} cannot be used: {error.strerror}") from error
        if stream is None:
            raise OwnerGone(f"no program listens at {path}")
        if not unix_socket.is_same_user(stream):
            await stream.aclose()
            raise LocalStoreError(f"another user of this computer listens at {path}: remove it")
        return stream


@contextmanager
def _gone_if_broken() -> Iterator[None]:
    try:
        yield
    except trio.BrokenResourceError:
        raise OwnerGone("the program that has the device has ended") from None


async def _hear(stream: trio.SocketStream, rest: bytearray) -> lines.Line:
    with _gone_if_broken():
        line, after = await unix_socket.read_line(stream, LINE_BYTES, bytes(rest))
    rest[:] = after
    if not line:
        raise OwnerGone("the program that has the device has ended before it answered")
    return lines.decode_line(line)


def _expect(line: lines.Line, kind: type[lines.Line]) -> Any:
    if isinstance(line, lines.Failed):
        raise line.error()
    if isinstance(line, lines.Answered) and kind is lines.Stored:
        checked("keep", _reply(line), msg.Accepted)
    if not isinstance(line, kind):
        raise NotTheProtocol("the program that has the device gave another answer than there is")
    return line


def _reply(line: lines.Line) -> Reply:
    message = decode_server(_expect(line, lines.Answered).frame).message
    if not isinstance(message, Reply):
        raise NotTheProtocol(f"`{message.verb}` is no answer")
    return message
