"""commit -> accept -> wake: how an envelope reaches everyone it is owed to (docs/protocol.md, sections 4 and 5).

    submit ── nobody involved has a mailbox ──> the recipient's live sessions, at once; no disk
          └── someone has ──> queue ──> run: one batch, one commit ──> accepted to the sender
                                                                   └──> offered to the pumps of live devices

Rules: nothing is told to anyone before the commit. What arrives while a commit runs goes into the next. Never a
silent drop: whoever sent is told when nobody can get it.
"""

from collections.abc import Callable, Sequence
from functools import partial

import structlog
import trio
from attrs import define, evolve, field, frozen

from ironwire.counting import Distribution, Tallied, figure
from ironwire.delivery.accounting import cost_of, entries_between, entries_in, entries_of_all
from ironwire.delivery.committer import Committer
from ironwire.delivery.fan_out import fan_out, wake_pumps
from ironwire.delivery.hub import REPLACED, Endpoint, Hub
from ironwire.delivery.metrics import DeliveryMetrics
from ironwire.delivery.outbox import Outbox
from ironwire.delivery.payloads import Sendable, digest_of, live_frame, stored_payload
from ironwire.delivery.pump import Pump
from ironwire.errors import StoreError
from ironwire.ids import ClientId, DeviceId, GroupId, MessageId
from ironwire.limits import Limits
from ironwire.protocol.mailbox import Window
from ironwire.store.contract.operations import (
    Acked,
    AlreadySettled,
    Append,
    ChangeGroup,
    Duplicate,
    Forget,
    Held,
    IdTaken,
    MailboxFull,
    NotMember,
    NumberRefused,
    Operation,
    OutOfTurn,
    RefuseNumber,
    Register,
    Remove,
    Removed,
    Result,
    SessionOver,
    Stored,
    Touch,
    Undeliverable,
)
from ironwire.store.contract.records import Envelope, Mailbox, MailboxId
from ironwire.store.contract.store import Store
from ironwire.wire.codec import accepted, encode
from ironwire.wire.messages import (
    Accepted,
    Error,
    File,
    Receipt,
    Text,
)

log = structlog.get_logger(__name__)

NO_MAILBOX = MailboxId(0)

SWEEP_COST = 50
"""To erase a part of a mailbox takes as long as so many entries."""

NO_SUCH_GROUP = Error("not_found", detail="no such group")
NO_MAILBOX_HERE = Error("invalid", detail="a session without a device has no mailbox")
ID_TAKEN = Error("invalid", detail="id was used for another message")


@frozen
class DeliveryStatistics:
    accepted_total: Tallied = figure(
        "Accepted envelopes by path: `stored` in a mailbox, or `relayed` to live sessions where nobody involved has "
        "a mailbox."
    )
    duplicates_total: Tallied = figure("Envelopes that were sent again after they had been accepted.")
    undeliverable_total: Tallied = figure("Envelopes without any recipient that could get them; the sender was told.")
    refused_total: Tallied = figure(
        "Envelopes refused for a full mailbox, an id in use or a failing store; the sender was told."
    )
    operations_waiting: int = figure("Operations waiting for a batch.")
    batch_operations: Distribution = figure("Operations per batch, acks included.")
    settled_seconds: Distribution = figure(
        "Time from the first request of a batch until the whole batch is on the disk and its results are told: one "
        "value per batch, an upper bound for each of its operations."
    )


@define
class Delivery:
    """What becomes of an envelope, from its session's hands to everyone it is owed to."""

    _hub: Hub
    _store: Store
    _now_ms: Callable[[], int]
    _limits: Limits
    keeps_history: bool
    _committer: Committer = field(init=False)
    _metrics: DeliveryMetrics = field(init=False, factory=DeliveryMetrics)

    def __attrs_post_init__(self) -> None:
        self._committer = Committer(self._store, partial(wake_pumps, self._hub))

    # --- what sessions ask for ---------------------------------------------------------------------------------------

    def submit(self, sender: Endpoint, message: Sendable, id: MessageId | None, n: int | None = None) -> None:  # noqa: A002  # the frame's
        """Take an envelope to a client. Replies go to the session's outbox, now or after the commit."""
        to = ClientId(message.to)
        try:
            entries = entries_between(self._store.glance, sender.principal, to)
            # A mailbox is involved; or was, in what this sender waits for: order is kept among its envelopes.
            is_stored = entries > 0 or sender.principal.device is not None or sender.unsettled.count > 0
            # Where nothing is stored, a glance at the blocks is enough: it and the hand-over are one step. What is
            # stored meets the blocks that stand when it is committed.
            is_blocked = not is_stored and sender.principal.client in self._store.glance.blocks_of(to)
        except StoreError:
            log.exception("the store cannot be read")
            error = Error("internal", detail="the server cannot store messages now")
            self._reply_refused(sender, error, message.verb, id)
            if sender.hold is not None:
                sender.hold.refused_at_reading(error, trio.current_time())
            return
        if is_stored:
            self._submit_to_store(sender, to, message, id, n, entries)
        elif isinstance(message, Receipt):
            self._reply_offline(sender, to, message.verb, id)
        else:
            text = None if is_blocked else live_frame(message, sender.principal.client)
            self._settle_live(sender, to, text, message.verb, id)

    def submit_to_group(
        self,
        sender: Endpoint,
        message: Text | File,
        id: MessageId | None,  # noqa: A002  # as above
        n: int | None = None,
    ) -> None:
        """Take an envelope to a group, as `submit` does."""
        group = GroupId(message.to)
        client, device, now = sender.principal.client, sender.principal.device, self._now_ms()
        payload = stored_payload(message, client, now, device, group)
        envelope = Envelope(message.verb, client, device, group, id, now, payload)
        cost = cost_of(len(envelope.payload), entries_in(self._store.glance, client, group))
        sender.unsettled.begin(cost)
        number = sender.number(n)
        digest = digest_of(message) if number is None else b""
        append = Append(
            envelope, digest, is_live=False, is_archived=self.keeps_history, lane=sender.hold, number=number
        )
        settle = partial(self._settle_group_append, sender, append, message, cost)
        self._committer.ask(client, append, settle, cost)

    def refuse(self, sender: Endpoint, error: Error, id: MessageId | None, n: int | None) -> None:  # noqa: A002  # as above
        """Answer with an error what is not taken to the store. With a number it uses that up, and is told after the
        commit; unless the session is held because the store cannot commit.
        """
        number = sender.number(n)
        if number is None or (sender.hold is not None and sender.hold.code == "internal"):
            sender.outbox.put(encode(error, id))
            return
        sender.unsettled.begin(1)
        settle = partial(self._settle_refusal, sender, error, id)
        self._committer.ask(sender.principal.client, RefuseNumber(number, error.msg, sender.hold), settle)

    async def resume(self, endpoint: Endpoint, id: MessageId | None) -> None:  # noqa: A002  # as above
        """The client goes on after a refusal, once all that it had sent before has its answer."""
        await endpoint.unsettled.wait_below(1)
        client, pump = endpoint.principal.client, endpoint.pump
        try:
            boxes = () if pump is None else await self._store.mailboxes_of(client)
        except StoreError:
            log.exception("the store cannot be read")
            endpoint.outbox.put(encode(Error("internal", detail="the store cannot answer now"), id))
            return
        if endpoint.hold is not None:
            endpoint.hold.resume()
        if id is not None:
            sent = next((box.sent for box in boxes if pump is not None and box.id == pump.mailbox), None)
            endpoint.outbox.put(encode(Accepted(self._now_ms(), sent=sent), id))

    def ack(self, endpoint: Endpoint, upto: int, id: MessageId | None) -> None:  # noqa: A002  # the frame's
        """The session's device has everything up to `upto`; with an id, it is told once that is committed. Of a session
        that was replaced nothing is taken: the newer one delivers what this would erase.

        Raises:
            AckBeyondDelivery: it was never sent that much.
        """
        pump = endpoint.pump
        if pump is None:
            if id is not None:
                endpoint.outbox.put(encode(NO_MAILBOX_HERE, id))
            return
        if self._hub.pump_of(pump.mailbox) is not pump:
            return
        arrived = pump.ack(upto)
        if id is not None:
            endpoint.unsettled.begin(1)
            settle = partial(self._settle_ack, endpoint, id)
            self._committer.ack(pump.mailbox, upto, cost_of(arrived or 0, 1), settle, session=endpoint.session)
        elif arrived is not None:
            self._committer.ack(pump.mailbox, upto, cost_of(arrived, 1), session=endpoint.session)

    def pump(self, mailbox: Mailbox, outbox: Outbox) -> Pump:
        """The link between a mailbox and the session that was opened for it, and is attached next."""
        limits, former = self._limits, self._hub.pump_of(mailbox.id)
        acked = mailbox.acked
        if former is not None and former.acked > acked:
            # The former session acknowledged more after this one was registered, which the store refuses or has not
            # committed yet. It is true of the device, so this session says it again.
            acked = former.acked
            self._committer.ack(mailbox.id, acked, session=mailbox.session)
        # Half of the outbox is for gaps and the rest; a larger window would end the session as often as it begins.
        most_envelopes = min(limits.window_envelopes, limits.outbox_frames // 4)
        most_bytes = min(limits.window_bytes, limits.outbox_bytes // 2)
        window = Window(acked, mailbox.tail, most_envelopes, most_bytes)
        return Pump(mailbox.id, window, self._store, outbox)

    def members(self, client: ClientId, group: GroupId) -> int:
        """How many hear what the client says in the group: none if it is not in it. And none where that cannot be read,
        because then nothing will be stored either.
        """
        try:
            stands = self._store.glance.group(group)
        except StoreError:
            return 0
        return len(stands.roles) if stands is not None and client in stands.roles else 0

    async def mailboxes_of(self, client: ClientId) -> Sequence[Mailbox]:
        """Raises:
        StoreError: the store cannot be read.
        """
        return await self._store.mailboxes_of(client)

    def has_mailbox(self, client: ClientId) -> bool:
        """At a glance. True where the store cannot be read: then nothing will be stored either."""
        try:
            return self._store.glance.mailbox_count(client) > 0
        except StoreError:
            return True

    async def register(self, client: ClientId, device: DeviceId) -> Mailbox | None:
        """The device's mailbox as it stands now, made and committed if it had none; None: the client has too many
        devices.

        "Now" is when this returns: whoever attaches the session before the next checkpoint misses nothing.

        Raises:
            StoreError: the store cannot work.
        """
        for box in await self._store.mailboxes_of(client):
            if box.device == device:  # what its former session acknowledged is in no gap of the new one
                self._committer.hasten_ack(client, box.id, box.session)
        registered = await self.change(client, Register(client, device, self._now_ms()))
        if not isinstance(registered, Mailbox):
            return None
        boxes = (box for box in await self._store.mailboxes_of(client) if box.id == registered.id)
        return next((evolve(box, session=registered.session) for box in boxes), None)

    def touch_devices(self) -> None:
        """Note that every device with a live session has been seen now."""
        for other in self._hub.everyone():
            if other.pump is not None:
                self._committer.ask(None, Touch(other.pump.mailbox, self._now_ms()), lambda _: None)

    async def change(self, client: ClientId, operation: Operation) -> Result:
        """Do something for the client, after all that it has asked for before; returns after the commit.

        Raises:
            StoreError: the store cannot work.
        """
        return await self._committer.committed(client, operation)

    async def remove(self, client: ClientId, device: DeviceId, session: int | None = None) -> Result:
        """Delete the device with its mailbox. Its session, if it has one, is the caller's to close. What is left of a
        large mailbox goes as fast as this client may have things done.

        Raises:
            StoreError: the store cannot work.
        """
        result = await self._committer.committed(client, Remove(client, device, session), cost=SWEEP_COST)
        if isinstance(result, Removed):
            for sweep in result.rest:
                self._committer.ask(client, sweep, lambda _: None, SWEEP_COST)
        return result

    async def settled(self, client: ClientId) -> None:
        """Wait until everything that the client has asked for is committed.

        Raises:
            StoreError: the store cannot work.
        """
        await self.change(client, Touch(NO_MAILBOX, self._now_ms()))

    async def change_group(self, change: ChangeGroup, live_text: Callable[[], bytes]) -> Result:
        """Change a group, and tell everyone of it who was or is a member: whatever becomes of the caller meanwhile.

        Raises:
            StoreError: the store cannot work.
        """

        def tell(result: Result | StoreError) -> None:
            if isinstance(result, Stored):
                self._metrics.stored[change.envelope.verb] += 1
                fan_out(self._hub, result, live_text)

        cost = max(entries_of_all(self._store.glance, change.roles), 1)
        return await self._committer.committed(change.envelope.sender, change, tell, cost)

    async def run(self) -> None:
        """Commit what waits, batch after batch, until cancelled. One task runs this."""
        await self._committer.run()

    def statistics(self) -> DeliveryStatistics:
        outcomes, committer = self._metrics, self._committer.statistics()
        return DeliveryStatistics(
            accepted_total=outcomes.accepted(),
            duplicates_total=outcomes.duplicated(),
            undeliverable_total=outcomes.undelivered(),
            refused_total=outcomes.refused(),
            operations_waiting=committer.operations_waiting,
            batch_operations=committer.batch_operations,
            settled_seconds=committer.settled_seconds,
        )

    # --- what follows from a result ----------------------------------------------------------------------------------

    def _submit_to_store(
        self,
        sender: Endpoint,
        to: ClientId,
        message: Sendable,
        id: MessageId | None,  # noqa: A002  # the frame's
        n: int | None,
        entries: int,
    ) -> None:
        client, device = sender.principal.client, sender.principal.device
        now = self._now_ms()
        payload = stored_payload(message, client, now, device)
        envelope = Envelope(message.verb, client, device, to, id, now, payload)
        is_receipt = isinstance(message, Receipt)
        is_live = not is_receipt and self._is_live(to)
        live_text = live_frame(message, client) if is_live else None
        cost = cost_of(len(envelope.payload), max(entries, 1))
        sender.unsettled.begin(cost)
        is_archived = self.keeps_history and not is_receipt
        number = sender.number(n)
        digest = digest_of(message) if number is None else b""
        append = Append(envelope, digest, is_live, is_archived, sender.hold, number)
        settle = partial(self._settle_append, sender, append, live_text, cost)
        self._committer.ask(client, append, settle, cost)

    def _settle_live(
        self,
        sender: Endpoint,
        to: ClientId,
        text: bytes | None,
        verb: str,
        id: MessageId | None,  # noqa: A002  # as above
    ) -> None:
        if not self._hand_over(to, text):
            self._reply_offline(sender, to, verb, id)
            return
        self._metrics.relayed[verb] += 1
        if id is not None:
            sender.outbox.put(accepted(self._now_ms(), id))

    def _settle_append(
        self,
        sender: Endpoint,
        append: Append,
        live_text: bytes | None,
        cost: int,
        result: Result | StoreError,
    ) -> None:
        sender.unsettled.settle(cost)
        envelope = append.envelope
        match result:
            case Stored(placed):
                # `live_text` is None for a receipt and without a seed session: a mailbox stored it. A recipient that
                # blocks the sender gets nothing. Either way the envelope counts as delivered.
                is_owed_live = live_text is not None and not result.is_blocked
                is_missed = is_owed_live and not self._hand_over(ClientId(envelope.to), live_text)
                if is_missed and all(place.is_own for place in placed):
                    self._forget(append)
                    self._reply_offline(sender, ClientId(envelope.to), envelope.verb, envelope.id)
                    return
                self._metrics.stored[envelope.verb] += 1
                if envelope.id is not None:
                    sender.outbox.put(accepted(envelope.ts, envelope.id))
            case Undeliverable():
                self._reply_offline(sender, ClientId(envelope.to), envelope.verb, envelope.id)
            case MailboxFull():
                self._refuse_at_commit(sender, Error("mailbox_full", user=envelope.to), envelope)
            case _:
                self._settle_known(sender, append, result)

    def _settle_ack(self, endpoint: Endpoint, id: MessageId, result: Result | StoreError) -> None:  # noqa: A002  # as above
        endpoint.unsettled.settle(1)
        if isinstance(result, StoreError):
            endpoint.outbox.put(encode(Error("internal", detail="the ack could not be stored"), id))
        elif isinstance(result, Acked):  # else a newer session has begun, and this one is told so by its close code
            endpoint.outbox.put(accepted(self._now_ms(), id))

    def _settle_refusal(
        self,
        sender: Endpoint,
        error: Error,
        id: MessageId | None,  # noqa: A002  # as above
        result: Result | StoreError,
    ) -> None:
        sender.unsettled.settle(1)
        match result:
            case NumberRefused():
                sender.outbox.put(encode(error, id))
            case Held() if sender.hold is not None:
                sender.outbox.put(encode(sender.hold.answer(trio.current_time()), id))
            case AlreadySettled() | OutOfTurn() | SessionOver():
                self._settle_number(sender, id, result)
            case _:
                self._fail(sender, id)

    def _settle_number(
        self,
        sender: Endpoint,
        id: MessageId | None,  # noqa: A002  # as above
        result: AlreadySettled | OutOfTurn | SessionOver,
    ) -> None:
        """The number was not the next one."""
        match result:
            case AlreadySettled(None):
                answer: Accepted | Error = Accepted(self._now_ms(), duplicate=True)
            case AlreadySettled(code) if code is not None:
                answer = Error(code, detail="this n was refused before")
            case OutOfTurn(due):
                answer = Error("invalid", detail=f"the next n of this device is {due}")
            case _:
                sender.outbox.close(REPLACED)
                return
        if id is not None or isinstance(answer, Error):
            sender.outbox.put(encode(answer, id))

    def _settle_known(self, sender: Endpoint, append: Append, result: Result | StoreError) -> None:
        """What any envelope may result in: it was there before, or the store failed."""
        envelope = append.envelope
        match result:
            case Duplicate(ts, _):
                self._metrics.duplicates[envelope.verb] += 1
                sender.outbox.put(encode(Accepted(ts=ts, duplicate=True), envelope.id))
            case IdTaken():
                self._reply_refused(sender, ID_TAKEN, envelope.verb, envelope.id)
            case Held() if sender.hold is not None:
                answer = sender.hold.answer(trio.current_time())
                self._reply_refused(sender, answer, envelope.verb, envelope.id)
            case AlreadySettled() | OutOfTurn() | SessionOver():
                if result == AlreadySettled(None):
                    self._metrics.duplicates[envelope.verb] += 1
                self._settle_number(sender, envelope.id, result)
            case _:
                self._metrics.refuse(envelope.verb, "internal")
                self._fail(sender, envelope.id)

    def _fail(self, sender: Endpoint, id: MessageId | None) -> None:  # noqa: A002  # as above
        """The store could not commit: nothing was accepted, and no number is used up."""
        error = Error("internal", detail="the message could not be stored")
        sender.outbox.put(encode(error, id))
        if sender.hold is not None:
            sender.hold.refused_at_commit(error)

    def _settle_group_append(
        self, sender: Endpoint, append: Append, message: Text | File, cost: int, result: Result | StoreError
    ) -> None:
        sender.unsettled.settle(cost)
        envelope = append.envelope
        match result:
            case Stored():
                group = GroupId(envelope.to)
                live_text = partial(live_frame, message, envelope.sender, group)
                fan_out(self._hub, result, live_text, but=sender)
                self._metrics.stored[envelope.verb] += 1
                if envelope.id is not None:
                    sender.outbox.put(accepted(envelope.ts, envelope.id))
            case NotMember():
                self._reply_refused(sender, NO_SUCH_GROUP, envelope.verb, envelope.id)
            case _:
                self._settle_known(sender, append, result)

    def _refuse_at_commit(self, sender: Endpoint, error: Error, envelope: Envelope) -> None:
        """Refuse for now what waited for its commit, and what the session sent after it."""
        self._reply_refused(sender, error, envelope.verb, envelope.id)
        if sender.hold is not None:
            sender.hold.refused_at_commit(error)

    def _is_live(self, client: ClientId) -> bool:
        """Whether there is a session that takes an envelope without a mailbox."""
        for other in self._hub.sessions_of(client):  # noqa: SIM110  # `any` takes three times as long
            if other.pump is None:
                return True
        return False

    def _hand_over(self, to: ClientId, text: bytes | None) -> bool:
        """To every live session of `to` that has no mailbox; what is written to the socket of a seed session counts
        as delivered. None is handed to nobody, and the answer is as ever: `to` has blocked who wrote it.
        """
        handed_over = False
        for other in self._hub.sessions_of(to):
            if other.pump is None:
                is_taken = other.outbox.ending is None if text is None else other.outbox.put(text)
                handed_over = is_taken or handed_over
        return handed_over

    def _forget(self, append: Append) -> None:
        """Nobody got it, so its id may come again, and its number was refused."""
        self._committer.ask(append.envelope.sender, Forget(append.envelope, append.number), lambda _: None)

    def _reply_offline(self, sender: Endpoint, to: ClientId, verb: str, id: MessageId | None) -> None:  # noqa: A002  # as above
        self._metrics.undeliverable[verb] += 1
        sender.outbox.put(encode(Error("user_offline", user=to), id))

    def _reply_refused(self, sender: Endpoint, error: Error, verb: str, id: MessageId | None) -> None:  # noqa: A002  # as above
        self._metrics.refuse(verb, error.msg)
        sender.outbox.put(encode(error, id))
