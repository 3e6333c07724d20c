"""One program has a device's file; others of the same user hand over to it what they have for that device.

    keep ──> stored, and an answer to each where that is awaited
    ask ───> answered: what the server alone can say
    ask_terms > terms: how a file goes to somebody
    anything may be answered with failed

Lines of JSON over a Unix socket beside the file, one request a connection. Who has the file is decided by its lock;
whoever holds that listens, in the place of a socket that a dead program left.

Rules: the socket is for one user. Its folder belongs to that user and nobody else can write there, it is made for its
owner alone, and both ends check the user of the other process. A request is checked as strictly as a frame from the
network. The program that has the device gets an event for everything handed over (`Queued`, `Settled`). A request is
idempotent: the program that hands over chooses the ids of its messages, and repeats them when it asks again, because
the one that had the device may have been killed between its commit and its reply.
"""

import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from ironwire import unix_socket
from ironwire.client.connection.link import Link
from ironwire.client.connection.nursery import plain_nursery
from ironwire.client.connection.outgoing import AskedAnswer, Reply, checked
from ironwire.client.connection.urls import ServerAddress
from ironwire.client.errors import ClientError, LocalStoreError, NotTheProtocol, Refused
from ironwire.client.groups import OwnGroups
from ironwire.client.sealed_files import FileTerms, file_terms
from ironwire.client.store import handover_lines as lines
from ironwire.client.store.records import Sendable
from ironwire.e2e.bodies import FileBody
from ironwire.e2e.content import Content, decode_content, encode_content
from ironwire.errors import InvalidContent, InvalidMessage
from ironwire.ids import Address, MessageId
from ironwire.wire import messages as msg
from ironwire.wire.codec import decode_client, decode_server, encode

REQUEST_SECONDS = 5.0
MOST_AT_A_TIME = 16
LINE_BYTES = 16 * 1024 * 1024

Sending = tuple[lines.Stored, Callable[[], Awaitable[msg.Accepted]]]
"""A message that is kept, and a function that waits until the server has taken it over."""

_OPEN_TO_OTHERS = 0o022

_Question = (
    msg.Devices
    | msg.DeviceRemove
    | msg.UploadToken
    | msg.Groups
    | msg.GroupInfo
    | msg.GroupCreate
    | msg.GroupAdd
    | msg.GroupRemove
    | msg.GroupLeave
    | msg.GroupRole
    | msg.GroupRename
    | msg.Blocks
    | msg.Block
    | msg.Unblock
)
"""Questions that may be asked. The rest belongs to the session of the program that has the device."""


def socket_path(store: Path) -> Path:
    """The socket of the program that has the file at `store`."""
    return store.with_name(f"{store.name}.sock")


# --- who has the file ------------------------------------------------------------------------------------------------


@define(eq=False)
class Reception:
    """Takes requests for the device of `link`, whose file at `_store` this process has the lock of."""

    _link: Link
    _store: Path
    _busy: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(MOST_AT_A_TIME), init=False)

    async def run(self) -> None:
        """Serve, for ever. Where there can be no such socket there is none, and other programs find the file in use."""
        path = socket_path(self._store)
        try:
            if not _is_private(self._store.parent):
                return
            listener = unix_socket.listen(path)
        except OSError:
            return
        try:
            await trio.serve_listeners(self._serve, [listener])
        finally:
            path.unlink(missing_ok=True)

    async def _serve(self, stream: trio.SocketStream) -> None:
        if not unix_socket.is_same_user(stream):
            return
        # What goes wrong between two programs is the other one's to say; this one goes on.
        with suppress(trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
            async with self._busy:
                with trio.fail_after(REQUEST_SECONDS):
                    line, _ = await unix_socket.read_line(stream, LINE_BYTES)
                async with plain_nursery() as nursery:
                    nursery.start_soon(_cancel_at_end, stream, nursery.cancel_scope)
                    await self._answer(stream, line)
                    nursery.cancel_scope.cancel()

    async def _answer(self, stream: trio.SocketStream, line: bytes) -> None:
        try:
            match lines.decode_line(line):
                case lines.Keep(frames, is_awaited, inside):
                    body = None if inside is None else _file_body(inside, frames)
                    await self._keep(stream, dict(map(_sendable, frames)), body, is_awaited=is_awaited)
                case lines.AskTerms(to):
                    await _say(stream, await file_terms(self._link.requests, to))
                case lines.AskServer(frame):
                    question, _, _ = decode_client(frame)
                    if not isinstance(question, _Question):
                        raise NotTheProtocol(f"`{question.verb}` cannot be handed over")
                    await _say(stream, _answered(await self._reply_to(question)))
                case _:
                    raise NotTheProtocol("this is no request")
        except Refused as refused:
            error = msg.Error(refused.code, refused.detail, refused.user, refused.retry_after_ms)
            await _say(stream, _answered(error))
        except ClientError as failure:
            await _say(stream, lines.Failed.of(failure))
        except InvalidMessage as error:
            await _say(stream, lines.Failed("protocol", str(error)))

    async def _reply_to(self, question: msg.ClientMessage) -> Reply:
        """Groups may be encrypted, and then a change of one is a commit of this device."""
        groups = OwnGroups(self._link.requests, self._link.rosters)
        match question:
            case msg.GroupCreate(clients, name):
                return msg.Accepted(time.time_ns() // 1_000_000, group=await groups.create(clients, name))
            case msg.GroupAdd(group, clients, if_epoch):
                return await groups.add(group, clients, if_epoch=if_epoch)
            case msg.GroupRemove(group, clients, if_epoch):
                return await groups.remove(group, clients, if_epoch=if_epoch)
            case msg.GroupRole(group, client, role, if_epoch):
                return await groups.set_role(group, client, role, if_epoch=if_epoch)
            case msg.GroupRename(group, name, if_epoch):
                return await groups.rename(group, name, if_epoch=if_epoch)
            case msg.GroupInfo(group):
                return await groups.info(group)
            case msg.Groups():
                return msg.GroupList(await groups.all())
            case _:
                return await self._link.requests.reply_to(question)

    async def _keep(
        self,
        stream: trio.SocketStream,
        messages: dict[MessageId, Sendable],
        body: FileBody | None,
        *,
        is_awaited: bool,
    ) -> None:
        backlog = self._link.backlog
        if backlog is None:
            raise LocalStoreError("this client has no device")
        # What was kept is said to be so, also while this program ends: the other one would keep it once more.
        with trio.CancelScope(shield=True):
            queued = await backlog.queue([*messages.values()], [*messages], is_awaited=is_awaited, body=body)
            ids = [pending.id for pending in queued]
            reason = next(filter(None, (self._link.waiting_reason(pending.recipient) for pending in queued)), "")
            await _say(stream, lines.Stored(ids, backlog.waiting, reason))
        for pending in queued if is_awaited else ():
            await _say(stream, _answered(await pending.reply_or_error()))


def _is_private(folder: Path) -> bool:
    status = folder.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & _OPEN_TO_OTHERS


async def _cancel_at_end(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """The other program has gone: nobody waits for the answer."""
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass
    scope.cancel()


def _sendable(frame: str) -> tuple[MessageId, Sendable]:
    try:
        message, message_id, _ = decode_client(frame)
    except InvalidMessage as error:
        raise Refused("invalid", error.detail) from None
    if not isinstance(message, Sendable):
        raise NotTheProtocol(f"`{message.verb}` is not kept")
    if message_id is None:
        raise NotTheProtocol("a frame that is to be kept has an id")
    return message_id, message


def _file_body(inside: str, frames: list[str]) -> FileBody:
    try:
        body = decode_content(inside.encode(), None).body
    except InvalidContent as error:
        raise NotTheProtocol(str(error)) from None
    if not isinstance(body, FileBody) or len(frames) != 1:
        raise NotTheProtocol("what is handed over encrypted is one file")
    return body


def _answered(reply: Reply) -> lines.Answered:
    return lines.Answered(encode(reply).decode())


async def _say(stream: trio.SocketStream, line: lines.Line) -> None:
    with trio.fail_after(REQUEST_SECONDS):
        await stream.send_all(lines.encode_line(line))


# --- who hands over --------------------------------------------------------------------------------------------------


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


def _expect(line: lines.Line, kind: type[lines.Stored | lines.Answered | FileTerms]) -> Any:
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
