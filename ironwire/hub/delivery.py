"""commit -> accept -> wake: how an envelope reaches everyone it is owed to (docs/protocol.md, sections 4 and 5).

    submit ── nobody involved has a mailbox ──> the recipient's live sessions, at once; no disk
          └── someone has ──> queue ──> run: one batch, one commit ──> accepted to the sender
                                                                   └──> offered to the pumps of live devices

Rules: nothing is told to anyone before the commit. What arrives while a commit runs goes into the next. Never a
silent drop: whoever sent is told when nobody can get it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b

import structlog
import trio
from attrs import define, field, frozen

from ironwire.errors import StoreError
from ironwire.hub.hub import Attachment, Hub
from ironwire.hub.outbox import Outbox
from ironwire.hub.pump import Pump
from ironwire.ids import ClientId, DeviceId, MessageId, is_group
from ironwire.limits import Limits
from ironwire.protocol.mailbox import Window
from ironwire.store.base import (
    Ack,
    Append,
    Duplicate,
    Entry,
    Envelope,
    Forget,
    IdTaken,
    Mailbox,
    MailboxFull,
    Operation,
    Register,
    Remove,
    Result,
    Store,
    Stored,
    Touch,
    Undeliverable,
)
from ironwire.wire.codec import archived_text, encode, encode_payload, history_text
from ironwire.wire.messages import (
    Accepted,
    DeliveredFile,
    DeliveredReceipt,
    DeliveredText,
    Error,
    File,
    History,
    Receipt,
    Text,
)

log = structlog.get_logger(__name__)

BATCH_OPERATIONS = 1_000
DIGEST_BYTES = 16
HISTORY_BYTES = 256 * 1024
"""A page of the history ends early when it has this many: it must fit into an outbox, and into what clients take."""

Sendable = Text | File | Receipt
Delivered = DeliveredText | DeliveredFile | DeliveredReceipt
Settle = Callable[[Result | StoreError], None]


@frozen
class DeliveryStatistics:
    accepted_total: int
    """Envelopes that were committed, or handed to a live session where nobody involved has a mailbox."""
    duplicates_total: int
    undeliverable_total: int
    """Envelopes that nobody could get; the sender was told."""
    refused_total: int
    """Envelopes that met a full mailbox, a taken id or a store that failed; the sender was told."""
    operations_waiting: int


@define
class Delivery:
    """The one way into the store. Everything that is to be kept waits here for the next commit."""

    _hub: Hub
    _store: Store
    _now_ms: Callable[[], int]
    _limits: Limits
    keeps_history: bool
    _queue: list[tuple[Operation, Settle]] = field(init=False, factory=list)
    _arrival: trio.lowlevel.ParkingLot = field(init=False, factory=trio.lowlevel.ParkingLot)
    _accepted: int = field(init=False, default=0)
    _duplicates: int = field(init=False, default=0)
    _undeliverable: int = field(init=False, default=0)
    _refused: int = field(init=False, default=0)

    # --- what sessions ask for ---------------------------------------------------------------------------------------

    def submit(self, sender: Attachment, message: Sendable, id: MessageId | None) -> None:  # noqa: A002  # the frame's
        """Take an envelope from a session. Replies go to the session's outbox, now or after the commit."""
        if is_group(message.to):
            sender.outbox.put(encode(Error("not_found", detail="no such group"), id))
            return
        to = ClientId(message.to)
        try:
            needs_commit = self._needs_commit(sender, to)
        except StoreError:
            log.exception("the store cannot be read")
            self._reply_refused(sender, Error("internal", detail="the server cannot store messages now"), id)
            return
        if needs_commit:
            self._submit_to_store(sender, to, message, id)
        elif isinstance(message, Receipt):
            self._reply_offline(sender, to, id)
        else:
            self._settle_live(sender, to, encode(_delivered(message, sender.principal.client)), id)

    def ack(self, attachment: Attachment, upto: int) -> None:
        """The session's device has everything up to `upto`.

        Raises:
            AckBeyondDelivery: it was never sent that much.
        """
        if attachment.pump is not None and attachment.pump.ack(upto):
            self._ask(Ack(attachment.pump.mailbox, upto), lambda _: None)

    def pump(self, mailbox: Mailbox, outbox: Outbox) -> Pump:
        """The link between a mailbox and the session that was opened for it."""
        limits = self._limits
        window = Window(mailbox.acked, mailbox.tail, limits.window_envelopes, limits.window_bytes)
        return Pump(mailbox.id, window, self._store, outbox)

    def mailboxes_of(self, client: ClientId) -> Sequence[Mailbox]:
        """Raises:
        StoreError: the store cannot be read.
        """
        return self._store.mailboxes_of(client)

    async def register(self, client: ClientId, device: DeviceId) -> Mailbox | None:
        """The device's mailbox as it stands now, made and committed if it had none; None: the client has too many
        devices.

        "Now" is when this returns: whoever attaches the session before the next checkpoint misses nothing.

        Raises:
            StoreError: the store cannot work.
        """
        await self._committed(Register(client, device, self._now_ms()))
        return next((box for box in self._store.mailboxes_of(client) if box.device == device), None)

    def touch_devices(self) -> None:
        """Note that every device with a live session has been seen now."""
        for seat in self._hub.everyone():
            if seat.pump is not None:
                self._ask(Touch(seat.pump.mailbox, self._now_ms()), lambda _: None)

    async def remove(self, client: ClientId, device: DeviceId) -> Result:
        """Delete the device with its mailbox. Its session, if it has one, is the caller's to close.

        Raises:
            StoreError: the store cannot work.
        """
        return await self._committed(Remove(client, device))

    async def history(self, client: ClientId, request: History, id: MessageId | None) -> bytes:  # noqa: A002  # as above
        """The frame that answers `history`.

        Raises:
            StoreError: the store cannot be read.
        """
        if not self.keeps_history:
            return encode(Error("forbidden", detail="this server keeps no history"), id)
        if is_group(request.peer):
            return encode(Error("not_found", detail="no such group"), id)
        page = await self._store.read_history(client, request.peer, before=request.before, limit=request.limit)
        envelopes: list[bytes] = []
        room = HISTORY_BYTES
        for archived in page:
            envelope = archived.envelope
            text = archived_text(envelope.verb, envelope.payload, id=envelope.id)
            room -= len(text)
            if room < 0 and envelopes:
                break
            envelopes.append(text)
        is_last = len(envelopes) < request.limit and len(envelopes) == len(page)
        before = None if is_last else page[len(envelopes) - 1].number
        return history_text(request.peer, envelopes, before, id)

    # --- the committer -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit what waits, batch after batch, for ever. One task runs this."""
        while True:
            batch = await self._next_batch()
            results: list[Result] | list[StoreError]
            try:
                results = await self._store.apply([operation for operation, _ in batch])
            except Exception as error:
                log.exception("nothing of this batch was stored", operations=len(batch))
                results = [StoreError(f"the batch failed: {error}")] * len(batch)
            for (_, settle), result in zip(batch, results, strict=True):
                settle(result)

    def statistics(self) -> DeliveryStatistics:
        return DeliveryStatistics(
            accepted_total=self._accepted,
            duplicates_total=self._duplicates,
            undeliverable_total=self._undeliverable,
            refused_total=self._refused,
            operations_waiting=len(self._queue),
        )

    async def _next_batch(self) -> list[tuple[Operation, Settle]]:
        if not self._queue:
            await self._arrival.park()
        await trio.lowlevel.checkpoint()  # who has been read in this turn of the loop comes along
        batch, self._queue = self._queue[:BATCH_OPERATIONS], self._queue[BATCH_OPERATIONS:]
        return batch

    def _ask(self, operation: Operation, settle: Settle) -> None:
        self._queue.append((operation, settle))
        self._arrival.unpark()

    async def _committed(self, operation: Operation) -> Result:
        settled = trio.Event()
        results: list[Result | StoreError] = []

        def settle(result: Result | StoreError) -> None:
            results.append(result)
            settled.set()

        self._ask(operation, settle)
        await settled.wait()
        if isinstance(results[0], StoreError):
            raise results[0]
        return results[0]

    # --- what follows from a result ----------------------------------------------------------------------------------

    def _needs_commit(self, sender: Attachment, to: ClientId) -> bool:
        """Whether a mailbox is involved; or was, in what this sender waits for: order is kept among its envelopes."""
        return (
            sender.principal.device is not None
            or sender.unsettled.count > 0
            or self._store.has_mailboxes(to)
            or self._store.has_mailboxes(sender.principal.client)
        )

    def _submit_to_store(
        self,
        sender: Attachment,
        to: ClientId,
        message: Sendable,
        id: MessageId | None,  # noqa: A002  # the frame's
    ) -> None:
        client, device = sender.principal.client, sender.principal.device
        now = self._now_ms()
        envelope = Envelope(
            verb=message.verb,
            sender=client,
            device=device,
            to=to,
            id=id,
            ts=now,
            payload=encode_payload(_delivered(message, client, now, device)),
        )
        digest = blake2b(encode(message), digest_size=DIGEST_BYTES).digest()
        live_text = None
        if not isinstance(message, Receipt) and any(seat.pump is None for seat in self._hub.sessions_of(to)):
            live_text = encode(_delivered(message, client))
        sender.unsettled.begin()
        settle = partial(self._settle_append, sender, envelope, live_text)
        is_archived = self.keeps_history and not isinstance(message, Receipt)
        self._ask(Append(envelope, digest, live_text is not None, is_archived), settle)

    def _settle_live(self, sender: Attachment, to: ClientId, text: bytes, id: MessageId | None) -> None:  # noqa: A002  # as above
        if not self._hand_over(to, text):
            self._reply_offline(sender, to, id)
            return
        self._accepted += 1
        if id is not None:
            sender.outbox.put(encode(Accepted(ts=self._now_ms()), id))

    def _settle_append(
        self, sender: Attachment, envelope: Envelope, live_text: bytes | None, result: Result | StoreError
    ) -> None:
        sender.unsettled.settle()
        match result:
            case Stored(placed):
                to = ClientId(envelope.to)
                handed_over = live_text is not None and self._hand_over(to, live_text)
                for place in placed:
                    handed_over = handed_over or not place.is_own
                    seat = self._hub.device_session(place.client, place.device)
                    if seat is not None and seat.pump is not None and seat.pump.mailbox == place.mailbox:
                        seat.pump.offer(Entry(place.seq, envelope, place.is_own))
                if not handed_over:
                    self._forget(envelope)
                    self._reply_offline(sender, to, envelope.id)
                    return
                self._accepted += 1
                if envelope.id is not None:
                    sender.outbox.put(encode(Accepted(ts=envelope.ts), envelope.id))
            case Duplicate(ts, _):
                self._duplicates += 1
                sender.outbox.put(encode(Accepted(ts=ts, duplicate=True), envelope.id))
            case IdTaken():
                self._reply_refused(sender, Error("invalid", detail="id was used for another message"), envelope.id)
            case Undeliverable():
                self._reply_offline(sender, ClientId(envelope.to), envelope.id)
            case MailboxFull():
                self._reply_refused(sender, Error("mailbox_full", user=envelope.to), envelope.id)
            case _:
                self._reply_refused(sender, Error("internal", detail="the message could not be stored"), envelope.id)

    def _hand_over(self, to: ClientId, text: bytes) -> bool:
        """To every live session of `to` that has no mailbox; what is written to the socket of a seed session counts
        as delivered.
        """
        handed_over = False
        for seat in self._hub.sessions_of(to):
            if seat.pump is None:
                handed_over = seat.outbox.put(text) or handed_over
        return handed_over

    def _forget(self, envelope: Envelope) -> None:
        """Nobody got it, so its id may come again."""
        if envelope.id is not None:
            self._ask(Forget(envelope.sender, envelope.device, envelope.id), lambda _: None)

    def _reply_offline(self, sender: Attachment, to: ClientId, id: MessageId | None) -> None:  # noqa: A002  # as above
        self._undeliverable += 1
        sender.outbox.put(encode(Error("user_offline", user=to), id))

    def _reply_refused(self, sender: Attachment, error: Error, id: MessageId | None) -> None:  # noqa: A002  # as above
        self._refused += 1
        sender.outbox.put(encode(error, id))


def _delivered(message: Sendable, sender: ClientId, ts: int | None = None, device: DeviceId | None = None) -> Delivered:
    match message:
        case Text():
            return DeliveredText(sender, message.text, ts, device)
        case Receipt():
            return DeliveredReceipt(sender, message.ids, message.state, ts, device)
        case File():
            return DeliveredFile(
                sender=sender,
                url=message.url,
                kind=message.kind,
                name=message.name,
                mime=message.mime,
                size=message.size,
                sha256=message.sha256,
                duration_ms=message.duration_ms,
                width=message.width,
                height=message.height,
                waveform=message.waveform,
                caption=message.caption,
                ts=ts,
                device=device,
            )
