"""The client as a program has it: one identity, one server, a connection that comes back by itself.

A message is sent at least once, and with an id, so that a server that remembers ids takes it once. With a device this
holds across the end of the program, and the program gets what came exactly once (`inbox.py` says what that means).
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Self, Unpack

from attrs import define

from ironwire.client.calls import OwnCalls
from ironwire.client.connection.link import Link
from ironwire.client.connection.outgoing import checked
from ironwire.client.connection.urls import ServerAddress
from ironwire.client.device_log import OwnDeviceLog
from ironwire.client.errors import LocalStoreError
from ironwire.client.events import Connection, Event
from ironwire.client.groups import OwnGroups, epoch_code
from ironwire.client.messages import OwnMessages
from ironwire.client.own_history import OwnHistory
from ironwire.client.presence import OwnPresence
from ironwire.client.sealed_files import FileTerms, as_file_message, file_terms, will_encrypt
from ironwire.client.store.backlog import Backlog
from ironwire.client.store.device_owner import Sending
from ironwire.client.store.handover_lines import Stored
from ironwire.client.store.records import Conversation, HistoryEntry, MarkRead, Sendable
from ironwire.client.store.write_queue import WriteQueue
from ironwire.client.transfer import FileMetadata
from ironwire.e2e.bodies import FileBody
from ironwire.e2e.own_records import Kind as OwnKind
from ironwire.e2e.own_records import OwnRecord
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId
from ironwire.wire import messages as msg


@define(eq=False)
class Client:
    """Made by `connect` or `open_device` (`opening.py`). Iterate over it for events; send from any task."""

    _link: Link

    @property
    def client_id(self) -> ClientId:
        """The id of this client."""
        return self._link.target.account.client_id

    @property
    def device(self) -> DeviceId | None:
        """The device that this is, if it is one."""
        return self._link.target.device

    @property
    def address(self) -> ServerAddress:
        """The address of the server."""
        return self._link.target.address

    @property
    def connected(self) -> bool:
        """Whether there is a session now."""
        return self._link.is_up

    @property
    def connection(self) -> Connection:
        """The state of the connection, and the reason if there is none."""
        return self._link.connection

    def reconnect_now(self) -> None:
        """Try to connect now, and begin the delays anew; also where the server had said to stop."""
        self._link.reconnect_now()

    @property
    def groups(self) -> OwnGroups:
        """The groups of this client."""
        return OwnGroups(self._link.requests, self._link.rosters)

    @property
    def messages(self) -> OwnMessages:
        """What was said in encrypted messages, to be edited, deleted, and reacted to.

        Raises:
            LocalStoreError: there is no device whose store keeps messages.
        """
        return OwnMessages(self._backlog)

    @property
    def own_history(self) -> OwnHistory:
        """The history of this device, as other own devices get it."""
        return OwnHistory(self._link.encryption, self._link.write_queue)

    @property
    def presence(self) -> OwnPresence:
        """The presence of this client, and of others."""
        return OwnPresence(self._link.requests)

    @property
    def device_log(self) -> OwnDeviceLog:
        """The device log of this client, and of others."""
        target = self._link.target
        return OwnDeviceLog(self._link.requests, target.keys or target.log)

    @property
    def calls(self) -> OwnCalls:
        """Calls to other clients, and from them."""
        return OwnCalls(self._link.requests)

    async def wait_connected(self) -> None:
        """Return once there is a session.

        Raises:
            ClientError: there will be none any more, or none before `reconnect_now`.
        """
        await self._link.wait_up()

    async def queue(
        self, *messages: Sendable, ids: Sequence[MessageId] | None = None, body: FileBody | None = None
    ) -> list[MessageId]:
        """Keep `messages`, with or without a server, and return once they are kept; their ids are those of `Settled`.

        Args:
            ids: new ones, unless given. A message whose id this device has sent or queued before is not sent again.
            body: of one message, `as_file_message(to, body)`: goes in its place, encrypted.

        They go out in their order, behind what was queued before, now or in a later run of the program. A server that
        asks for a pause (`rate_limited`) gets it.

        Raises:
            LocalStoreError: there is no device whose store could keep them, or it fails.
        """
        return [pending.id for pending in await self._backlog.queue(messages, ids, body=body)]

    @asynccontextmanager
    async def sending(
        self, message: Sendable, message_id: MessageId, body: FileBody | None = None
    ) -> AsyncGenerator[Sending]:
        """The same for one message, with a function that waits for the answer as `send_text` does."""
        (pending,) = await self._backlog.queue([message], [message_id], is_awaited=True, body=body)

        async def accepted() -> msg.Accepted:
            return checked(message.verb, await pending.reply_or_error(), msg.Accepted)

        yield Stored([pending.id], self.waiting, self.waiting_reason(message.to)), accepted

    @property
    def waiting(self) -> int:
        """The number of messages that the device keeps without an answer of the server."""
        return 0 if self._link.backlog is None else self._link.backlog.waiting

    def waiting_reason(self, to: Address) -> str:
        """Why nothing that is queued for a client or group is sent now: there is no connection, or nothing can be
        encrypted for it yet (`MessagesHeld`). Empty where it is sent.
        """
        return self._link.waiting_reason(to)

    @property
    def is_holding(self) -> bool:
        """Whether messages wait for a recipient for whom nothing can be encrypted yet (`MessagesHeld`)."""
        return self._link.backlog is not None and bool(self._link.backlog.held)

    @property
    def hold_until(self) -> float:
        """When the server takes the next message, on Trio's clock: later than now only where it asks for a pause."""
        return self._link.requests.hold_until

    async def wait_moved(self) -> None:
        """Return when the server has answered another message that the device keeps, or has asked for a pause."""
        await self._backlog.moved()

    async def send(self, message: Sendable, *, message_id: MessageId | None = None) -> msg.Accepted:
        """Send a message that is already made. See `send_file` for arguments and exceptions."""
        return await self._link.requests.ask(message, msg.Accepted, message_id)

    async def send_text(self, to: Address, text: str, *, message_id: MessageId | None = None) -> msg.Accepted:
        """Send a text, and wait until the server has taken it over. See `send_file` for arguments and exceptions."""
        return await self.send(msg.Text(to, text), message_id=message_id)

    async def send_file(
        self, to: Address, url: str, *, message_id: MessageId | None = None, **metadata: Unpack[FileMetadata]
    ) -> msg.Accepted:
        """Send an uploaded file; `url` is what the upload answered.

        Args:
            message_id: what receipts call the message; `new_message_id` makes one, here too unless one is given.

        Waits through reconnections and rate limits: the caller owns the deadline. If it cancels, the message may be
        sent or not. With a device it will be, now or after the next start of the program, and the answer comes as an
        event: `Settled`.

        Raises:
            Refused: the server did not take the message; its `code` says why.
            SessionEnded, AuthenticationRefused, NotTheProtocol: the client has stopped; whether
                the server took the message is not known.
            LocalStoreError: the client has stopped; whether the message will be sent is not known.
        """
        return await self.send(msg.File(to, url, **metadata), message_id=message_id)

    async def send_sealed_file(
        self, to: Address, body: FileBody, *, message_id: MessageId | None = None
    ) -> msg.Accepted:
        """Send a file that `upload_sealed` has encrypted, in an encrypted message. See `send_file` for exceptions, and:

        Raises:
            Refused: `forbidden`: the recipient has no device that reads encrypted messages (`will_encrypt`).
        """
        shown = as_file_message(to, body)
        ids = None if message_id is None else [message_id]
        (pending,) = await self._backlog.queue([shown], ids, is_awaited=True, body=body)
        return checked(shown.verb, await pending.reply_or_error(), msg.Accepted)

    async def will_encrypt(self, to: Address) -> bool:
        """Whether what is sent to a client or group next goes encrypted, as far as can be known without sending it.

        Raises as `send_file` does.
        """
        return await will_encrypt(self._link.requests, to)

    def is_in(self, to: Address) -> bool:
        """Whether this device is in the encrypted conversation with a client or group, and reads what is said there."""
        encryption = self._link.encryption
        member = None if encryption is None else encryption.engine.member_of(to)
        return member is not None and member.standing in ("active", "pending")

    async def epoch_code(self, to: Address) -> str | None:
        """The 30 digits that all devices in an encrypted conversation show as long as they are in one epoch, unless
        somebody has split it; None: this device is not in it, or it is not encrypted.
        """
        return await epoch_code(self._link.requests, to)

    async def file_terms(self, to: Address) -> FileTerms:
        """How a file goes to a client or group. Raises as `send_file` does."""
        return await file_terms(self._link.requests, to)

    async def send_receipt(self, to: ClientId, ids: list[MessageId], state: msg.ReceiptState) -> msg.Accepted:
        """Tell the devices of `to` what became of up to 100 of its messages. See `send_file` for what it raises."""
        return await self.send(msg.Receipt(to, ids, state))

    async def devices(self) -> list[msg.Device]:
        """This client's devices, oldest first. See `send_file` for what it raises."""
        return (await self._link.requests.ask(msg.Devices(), msg.DeviceList)).devices

    async def remove_device(self, device: DeviceId) -> None:
        """Delete a device with all that waits for it; its session ends.

        Raises:
            Refused: `not_found`, there is no such device, or no more.
            SessionEnded: 4403, it was this one.
        """
        await self._link.requests.ask(msg.DeviceRemove(device), msg.DeviceRemoved)

    async def upload_token(self) -> str:
        """Permission to upload one file, for `upload`; a server may demand it, and gives it to authenticated clients
        only.

        Raises as `send_file` does; `Refused` with `quota`: the server has no room left for files.
        """
        return (await self._link.requests.ask(msg.UploadToken(), msg.UploadGrant)).token

    async def block(self, client: ClientId) -> None:
        """Have nothing delivered any more of what `client` addresses to this client; it does not learn of it.

        Raises as `send_file` does; `Refused` with `quota`: so many are blocked already.
        """
        await self._link.requests.ask(msg.Block(client), msg.Accepted)

    async def unblock(self, client: ClientId) -> None:
        """End a block; what was sent meanwhile is gone. Raises as `block` does."""
        await self._link.requests.ask(msg.Unblock(client), msg.Accepted)

    async def blocks(self) -> list[ClientId]:
        """The clients that this one has blocked. Raises as `block` does."""
        return (await self._link.requests.ask(msg.Blocks(), msg.BlockList)).clients

    @property
    def own_records(self) -> list[OwnRecord]:
        """Names and verified people, as the devices of this client know them; none without the keys of a device."""
        encryption = self._link.encryption
        return [] if encryption is None else list(encryption.engine.own_devices.records)

    async def change_own(self, changes: Iterable[tuple[OwnKind, str, str]]) -> None:
        """A person says what all devices of this client are to know: kind, key and value of each. Returns when that is
        kept; the other devices are told when that can be. Raises as `history` does.
        """
        encryption = self._link.encryption
        if encryption is not None:
            encryption.carry_out(encryption.engine.change_own(changes))
            await self._write_queue.commit(None)

    async def conversations(self) -> list[Conversation]:
        """Every conversation that this device keeps, the one that changed last first. Raises as `history` does."""
        return await self._write_queue.store.conversations()

    async def group_names(self) -> dict[GroupId, str]:
        """The own names of groups, as far as the changes that this device keeps tell them. Raises as `history`."""
        return await self._write_queue.store.group_names()

    async def history(self, peer: Address, limit: int, *, before: int | None = None) -> list[HistoryEntry]:
        """The last `limit` entries of the conversation with `peer` that this device keeps, oldest first.

        Args:
            before: only entries with a lower number; so the page before another begins at the number of its first.

        Raises:
            LocalStoreError: the device's store cannot be read, or there is none because the client named no device.
        """
        return await self._write_queue.store.history(peer, limit, before)

    async def mark_read(self, peer: Address, upto: int) -> None:
        """Note that a person has read the conversation with `peer` up to the entry with the number `upto`: for
        `Conversation.unread` alone; nobody else is told. Raises as `history` does.
        """
        await self._write_queue.commit(MarkRead(peer, upto))

    @property
    def _backlog(self) -> Backlog:
        if self._link.backlog is None:
            raise LocalStoreError("a client without a device keeps nothing that is to be sent")
        return self._link.backlog

    @property
    def _write_queue(self) -> WriteQueue:
        if self._link.write_queue is None:
            raise LocalStoreError("a client without a device keeps no history")
        return self._link.write_queue

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. With a device this finishes the one before, and only one task at a time may ask.

        Raises:
            SessionEnded, AuthenticationRefused, NotTheProtocol: why the client has stopped, after the last event.
            LocalStoreError: the device's store cannot be used.
            trio.BusyResourceError: with a device, another task asks already.
        """
        return await self._link.events.get()
