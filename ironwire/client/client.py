"""The client: one identity, one server, a session that is opened again whenever it breaks.

    connect()            owns the nurseries; what its block raises comes out as it was raised
      ├─ _keep           devices only: what comes and goes is kept, in batches
      └─ _run            one session after the other, with `Backoff` between them
           ├─ _read      replies to those who wait for them, everything else to the program or the keeper
           ├─ _write     frames of unanswered messages, in the order in which they were sent, and acks
           └─ keep_alive

A message is sent at least once: one that was unanswered when the connection broke is sent again with the same id, by
which a server that remembers ids knows it (docs/protocol.md, section 4). With a device that holds across the end of the
program: what it sends is stored first, and what comes is stored, then acknowledged, then handed to the program, from
the store and exactly once (`inbox.py`).
"""

import math
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self, TypedDict, TypeVar, Unpack
from uuid import uuid4

import trio
from attrs import define, field, frozen

from ironwire.client.backoff import Backoff
from ironwire.client.dial import Dial, dial_tcp
from ironwire.client.errors import (
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    LocalStoreError,
    NotTheProtocol,
    Refused,
    SessionEnded,
)
from ironwire.client.events import Connected, Disconnected, Event, EventQueue, Received, Settled
from ironwire.client.inbox import Inbox
from ironwire.client.keeper import Keeper
from ironwire.client.local import Arrive, Begin, HistoryEntry, Owner, Queue, Settle, default_store_path
from ironwire.client.localstore import LocalStore
from ironwire.client.nursery import plain_nursery
from ironwire.client.outgoing import Outbox, Pending, Reply, Request
from ironwire.client.session import Session, open_session
from ironwire.client.urls import ServerAddress
from ironwire.crypto.signing import Identity
from ironwire.ids import Address, ClientId, DeviceId, MessageId
from ironwire.wire.codec import ServerFrame, encode
from ironwire.wire.messages import (
    Accepted,
    Ack,
    AuthChallenge,
    AuthOk,
    CaughtUp,
    DeliveredFile,
    DeliveredReceipt,
    DeliveredText,
    Device,
    DeviceList,
    DeviceRemove,
    DeviceRemoved,
    Devices,
    Error,
    File,
    FileKind,
    Gap,
    Receipt,
    ReceiptState,
    Text,
)

STEADY_SECONDS = 30.0
"""A session that lasted this long was a good one: the next delay starts from the base again."""

_DEFAULT_BACKOFF = Backoff()

R = TypeVar("R", Accepted, DeviceList, DeviceRemoved)


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
    _keeper: Keeper | None
    _events: EventQueue | Inbox
    _pending: dict[MessageId, Pending] = field(factory=dict)
    _outbox: Outbox | None = None
    """Of the live session."""
    _frame_bytes: int | None = None
    _up: trio.Event = field(factory=trio.Event)
    _leaving: trio.Event = field(factory=trio.Event)
    _running: trio.CancelScope = field(factory=trio.CancelScope)
    _has_connected: bool = False
    _end: ClientError | None = None

    @property
    def client_id(self) -> ClientId:
        """Who we are."""
        return self._target.identity.client_id

    @property
    def device(self) -> DeviceId | None:
        """Which of our devices this is."""
        return self._target.device

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

    # --- sending ---------------------------------------------------------------------------------------------------

    async def send_text(self, to: Address, text: str) -> Accepted:
        """Send a text, and wait until the server has taken it over. See `send_file` for what it raises."""
        return await self._ask(Text(to, text), Accepted)

    async def send_file(self, to: Address, url: str, **metadata: Unpack[FileMetadata]) -> Accepted:
        """Send an uploaded file; `url` is what the upload answered.

        Waits through reconnections: the caller owns the deadline. If it cancels, the message may be sent or not. With a
        device it will be, now or after the next start of the program, and the answer comes as an event: `Settled`.

        Raises:
            Refused: the server did not take the message; its `code` says why.
            SessionEnded, AuthenticationRefused, NotTheProtocol: the client has stopped; whether
                the server took the message is not known.
            LocalStoreError: the client has stopped; whether the message was stored is not known.
        """
        return await self._ask(File(to, url, **metadata), Accepted)

    async def send_receipt(self, to: ClientId, ids: list[MessageId], state: ReceiptState) -> Accepted:
        """Tell the devices of `to` what became of up to 100 of its messages. See `send_file` for what it raises."""
        return await self._ask(Receipt(to, ids, state), Accepted)

    # --- devices ---------------------------------------------------------------------------------------------------

    async def devices(self) -> list[Device]:
        """This client's devices, oldest first. See `send_file` for what it raises."""
        return (await self._ask(Devices(), DeviceList)).devices

    async def remove_device(self, device: DeviceId) -> None:
        """Delete a device with all that waits for it; its session ends, also if it is this one.

        Raises:
            Refused: `not_found`, there is no such device (any more).
            SessionEnded: 4403, it was this one.
        """
        await self._ask(DeviceRemove(device), DeviceRemoved)

    async def history(self, peer: Address, limit: int) -> list[HistoryEntry]:
        """The last `limit` entries of the conversation with `peer` that this device knows of, oldest first.

        Raises:
            LocalStoreError: the device's store cannot be read, or there is none because the client named no device.
        """
        if self._keeper is None:
            raise LocalStoreError("a client without a device keeps no history")
        return await self._keeper.store.history(peer, limit)

    # --- events ----------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. With a device this finishes the one before: `inbox.py` says what that means.

        Raises:
            SessionEnded, AuthenticationRefused, NotTheProtocol: why the client has stopped, after the last event.
            LocalStoreError: the device's store cannot be used.
            trio.BusyResourceError: with a device, only one task at a time may ask.
        """
        return await self._events.get()

    async def _ask(self, message: Request, kind: type[R]) -> R:
        keeper = self._keeper if isinstance(message, Text | File | Receipt) else None
        pending = Pending(MessageId(uuid4().hex), message, is_kept=keeper is not None)
        self._check_size(pending)
        if self._end is not None:
            raise self._end
        if keeper is not None and isinstance(message, Text | File | Receipt):
            keeper.put(Queue(pending.id, message, time.time_ns() // 1_000_000), partial(self._launch, pending))
        else:
            self._launch(pending, None)
        try:
            await pending.replied.wait()
        finally:
            pending.is_awaited = False
            if not pending.is_kept:
                self._pending.pop(pending.id, None)
        reply = pending.reply
        match reply:
            case Error(code, detail, user, retry_after_ms):
                raise Refused(code, detail, user, retry_after_ms)
            case ClientError() as ended:
                raise ended
        if not isinstance(reply, kind):
            raise NotTheProtocol(f"the server answered `{message.verb}` with `{reply and reply.verb}`")
        return reply

    def _check_size(self, pending: Pending) -> None:
        size, most = pending.frame_bytes, self._frame_bytes
        if most is not None and size > most:
            raise Refused("too_large", f"this message takes {size} bytes; the server takes {most}")

    def _launch(self, pending: Pending, error: ClientError | None) -> None:
        ended = error or self._end
        if ended is not None:
            pending.answer(ended)
            return
        self._pending[pending.id] = pending
        if self._outbox is not None:
            self._outbox.send(pending.id)

    def _settle(self, pending: Pending, reply: Reply) -> None:
        """There is a reply; a message that is kept is told of it once that is kept too."""
        if self._keeper is None or not pending.is_kept:
            pending.answer(reply)
            return
        ts = reply.ts if isinstance(reply, Accepted) else None
        self._keeper.put(Settle(pending.id, ts), partial(self._settled, pending, reply))

    def _settled(self, pending: Pending, reply: Reply, error: ClientError | None) -> None:
        if pending.is_awaited or error is not None:
            pending.answer(error or reply)
        elif isinstance(pending.message, Text | File | Receipt) and isinstance(reply, Accepted | Error):
            self._events.put(Settled(pending.id, pending.message, reply))

    # --- sessions --------------------------------------------------------------------------------------------------

    async def _open(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._run)
        await self.wait_connected()

    async def _restore(self) -> None:
        """Take up what an earlier run left unanswered."""
        if self._keeper is not None:
            for message_id, message in await self._keeper.store.queued():
                self._pending[message_id] = Pending(message_id, message, is_kept=True, is_awaited=False)

    async def _keep(self) -> None:
        if self._keeper is not None:
            try:
                await self._keeper.run()
            except LocalStoreError as error:
                self._stop(error)
                self._keeper.end(error)
                self._running.cancel()

    async def _run(self) -> None:
        """Sessions, until one ends for good or the client leaves. The first attempt has to succeed."""
        with self._running:
            await self._run_sessions()

    async def _run_sessions(self) -> None:
        target = self._target
        attempt = 0
        while True:
            steady_at = math.inf
            try:
                async with open_session(target.address, target.identity, target.device, dial=target.dial) as session:
                    steady_at = trio.current_time() + STEADY_SECONDS
                    await self._live(session, self._come_up(session))
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

    def _come_up(self, session: Session) -> Outbox:
        welcome = session.welcome
        if self._keeper is not None:
            if welcome.epoch is None or welcome.seq is None:
                raise NotTheProtocol("the server keeps no mailbox for this device: connect without one")
            self._keeper.put(Begin(welcome.epoch, welcome.seq), lambda _: None)
        if welcome.limits is not None:
            self._frame_bytes = welcome.limits.frame_bytes
        outbox = Outbox()
        for pending in [*self._pending.values()]:
            try:
                self._check_size(pending)
                outbox.send(pending.id)
            except Refused as refused:
                # The server would close the session for it, each time.
                del self._pending[pending.id]
                self._settle(pending, Error(refused.code, refused.detail))
        self._outbox = outbox
        self._has_connected = True
        self._events.put(Connected())
        self._up.set()
        return outbox

    async def _live(self, session: Session, outbox: Outbox) -> None:
        """Returns when the client leaves; raises what ended the session otherwise."""
        try:
            async with plain_nursery() as nursery:
                nursery.start_soon(self._read, session, outbox)
                nursery.start_soon(self._write, session, outbox)
                nursery.start_soon(session.keep_alive)
                await self._leaving.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._outbox = None
            self._up = trio.Event()

    async def _read(self, session: Session, outbox: Outbox) -> None:
        while True:
            frame = await session.receive()
            match frame.message:
                case Accepted() | Error() | DeviceList() | DeviceRemoved() as reply if frame.id in self._pending:
                    self._settle(self._pending.pop(frame.id), reply)
                case Accepted() | DeviceList() | DeviceRemoved():
                    pass  # nobody waits for it any more
                case AuthChallenge() | AuthOk() as message:
                    raise NotTheProtocol(f"the server sent `{message.verb}` in the middle of a session")
                case _ if self._keeper is not None:
                    self._keep_push(self._keeper, frame, outbox)
                    await self._keeper.wait_room()
                case message:
                    self._events.put(Received(message, frame.id, frame.seq))

    def _keep_push(self, keeper: Keeper, frame: ServerFrame, outbox: Outbox) -> None:
        match frame.message:
            case DeliveredText() | DeliveredFile() | DeliveredReceipt() as delivery:
                if frame.seq is None:
                    raise NotTheProtocol("the server sent this device a delivery without a number")
                keeper.put(Arrive(delivery, frame.id, frame.seq), partial(self._arrived, outbox, frame.seq))
            case Gap() as gap:
                keeper.put(Arrive(gap, None, gap.last), partial(self._arrived, outbox, gap.last))
            case CaughtUp():
                # Behind everything that it is about.
                keeper.put(None, lambda _: self._events.put(Received(frame.message)))
            case message:
                self._events.put(Received(message, frame.id))

    def _arrived(self, outbox: Outbox, seq: int, error: ClientError | None) -> None:
        """Through the outbox of the session in which it came: in a later one the server has not yet delivered so much."""
        if error is None:
            outbox.ack(seq)
            self._events.wake()

    async def _write(self, session: Session, outbox: Outbox) -> None:
        while True:
            match await outbox.next():
                case Ack() as ack:
                    await session.send(encode(ack).decode())
                case message_id:
                    pending = self._pending.get(message_id)
                    if pending is not None:
                        await session.send(pending.frame)

    # --- leaving ---------------------------------------------------------------------------------------------------

    async def _leave(self) -> None:
        """The program is done."""
        if isinstance(self._events, Inbox):
            # Where it cannot be kept that the last event is finished, it comes again; that is all there is to say.
            with suppress(ClientError):
                await self._events.finish()
        self._leaving.set()
        if not self.connected:
            self._running.cancel()

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
    store: LocalStore | Path | None = None,
    backoff: Backoff = _DEFAULT_BACKOFF,
    dial: Dial = dial_tcp,
) -> AsyncGenerator[Client]:
    """A client with a session; from then on it comes back by itself, as often as it takes.

    Args:
        server: as `ServerAddress.parse` takes it.
        device: names this installation, for which the server then keeps what comes while we are away, and for which
            this client keeps what comes and goes; without it nothing is kept on either side.
        store: where the device keeps it; `default_store_path` unless given.
        backoff: how long to wait between attempts.
        dial: how to get a stream to the server.

    Raises:
        InvalidServerAddress: `server` is not an address.
        LocalStoreError: the device's store cannot be used; another program may have it.
        ConnectionFailed, ConnectionLost, NotTheProtocol, AuthenticationRefused, SessionEnded: the first session could
            not be opened.
    """
    address = server if isinstance(server, ServerAddress) else ServerAddress.parse(server)
    target = _Target(address, identity, device, backoff, dial)
    async with AsyncExitStack() as stack:
        keeper = None
        if device is not None:
            owner = Owner(identity.client_id, device, address.origin)
            kept = store if isinstance(store, LocalStore) else LocalStore(store or default_store_path(owner))
            await stack.enter_async_context(kept.opened(owner))
            keeper = Keeper(kept)
        client = Client(target, keeper, EventQueue() if keeper is None else Inbox(keeper))
        await client._restore()
        try:
            async with plain_nursery() as keeping:
                keeping.start_soon(client._keep)
                async with plain_nursery() as nursery:
                    await client._open(nursery)
                    yield client
                    await client._leave()
                keeping.cancel_scope.cancel()
        finally:
            ended = SessionEnded(1000, "the client was closed")
            client._stop(ended)
            if keeper is not None:
                keeper.end(ended)
