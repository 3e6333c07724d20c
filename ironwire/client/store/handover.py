"""One program has a device's file; others of the same user hand over to it what they have for that device.

    keep ──────────> stored, and an answer to each where that is awaited
    ask ───────────> answered: what the server alone can say
    ask_terms ─────> terms: how a file goes to somebody
    ask_code ──────> code: of the epoch of a conversation
    give_history ──> answered, once it is kept that another own device is to have it
    anything may be answered with failed

`device_owner.py` is the way in for those others. Lines of JSON over a Unix socket beside the file, one request a
connection. Who has the file is decided by its lock; whoever holds that listens, in the place of a socket that a dead
program left.

Rules: the socket is for one user. Its folder belongs to that user and nobody else can write there, it is made for its
owner alone, and both ends check the user of the other process. A request is checked as strictly as a frame from the
network. The program that has the device gets an event for everything handed over (`Queued`, `Settled`). A request is
idempotent: the program that hands over chooses the ids of its messages, and repeats them when it asks again, because
the one that had the device may have been killed between its commit and its reply.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

import trio
from attrs import define, field

from ironwire import unix_socket
from ironwire.client.connection.link import Link
from ironwire.client.connection.nursery import plain_nursery
from ironwire.client.connection.outgoing import Reply
from ironwire.client.errors import ClientError, LocalStoreError, NotTheProtocol, Refused
from ironwire.client.groups import OwnGroups, epoch_code
from ironwire.client.own_history import OwnHistory
from ironwire.client.sealed_files import file_terms
from ironwire.client.store import handover_lines as lines
from ironwire.client.store.records import Sendable
from ironwire.e2e.bodies import FileBody
from ironwire.e2e.content import decode_content
from ironwire.errors import InvalidContent, InvalidMessage
from ironwire.ids import MessageId
from ironwire.wire import messages as msg
from ironwire.wire.codec import decode_client, encode

REQUEST_SECONDS = 5.0
MOST_AT_A_TIME = 16
LINE_BYTES = 16 * 1024 * 1024

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
                case lines.GiveHistory(device, since):
                    await OwnHistory(self._link.encryption, self._link.write_queue).give(device, since)
                    await _say(stream, _answered(msg.Accepted(_now_ms())))
                case lines.AskTerms(to):
                    await _say(stream, await file_terms(self._link.requests, to))
                case lines.AskCode(to):
                    await _say(stream, lines.Code(await epoch_code(self._link.requests, to)))
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
                return msg.Accepted(_now_ms(), group=await groups.create(clients, name))
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


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
