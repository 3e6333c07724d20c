"""commit -> accept -> wake: how an envelope reaches everyone it is owed to (docs/protocol.md, sections 4 and 5).

    submit ── nobody involved has a mailbox ──> the recipient's live sessions, at once; no disk
          └── someone has ──> queue ──> run: one batch, one commit ──> accepted to the sender
                                                                   └──> offered to the pumps of live devices

Rules: nothing is told to anyone before the commit. What arrives while a commit runs goes into the next. Never a
silent drop: whoever sent is told when nobody can get it.
"""

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Concatenate, ParamSpec

import structlog
import trio
from attrs import define, field, frozen

from ironwire.counting import Distribution, Tallied, figure
from ironwire.delivery.accounting import cost_of, entries_between, entries_in, entries_of_all
from ironwire.delivery.committer import Committer
from ironwire.delivery.fan_out import fan_out, hand_over, is_live, wake_pumps
from ironwire.delivery.hub import REPLACED, Endpoint, Hub
from ironwire.delivery.metrics import DeliveryMetrics
from ironwire.delivery.outbox import INTERNAL_ERROR, Outbox
from ironwire.delivery.payloads import Sendable, digest_of, live_frame, stored_payload
from ironwire.delivery.pump import Pump
from ironwire.errors import StoreError
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId, is_group
from ironwire.limits import Limits
from ironwire.protocol.mailbox import Window
from ironwire.store.contract.operations import (
    Acked,
    AlreadySettled,
    Append,
    Appended,
    Audience,
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
    ToClient,
    ToGroup,
    Touch,
    Undeliverable,
)
from ironwire.store.contract.records import (
    Envelope,
    Mailbox,
    MailboxId,
)
from ironwire.store.contract.store import Store
from ironwire.wire.codec import accepted, encode
from ironwire.wire.messages import (
    Accepted,
    Error,
    Receipt,
)

log = structlog.get_logger(__name__)

P = ParamSpec("P")

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


def _ends_on_error(
    settle: Callable[Concatenate["Delivery", Endpoint, P], None],
) -> Callable[Concatenate["Delivery", Endpoint, P], None]:
    """Through an error here a session may lose an answer, so the error ends it: its client comes back and asks."""

    @wraps(settle)
    def settle_or_end(self: "Delivery", endpoint: Endpoint, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            settle(self, endpoint, *args, **kwargs)
        except Exception:
            endpoint.outbox.close(INTERNAL_ERROR)
            raise

    return settle_or_end


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
        """Take an envelope to a client or to a group. Replies go to the session's outbox, now or after the commit."""
        if is_group(message.to):
            group = GroupId(message.to)
            entries = entries_in(self._store.glance, sender.principal.client, group)
            self._submit_to_store(sender, message, ToGroup(group), id, n, entries)
            return
        to = ClientId(message.to)
        try:
            entries = entries_between(self._store.glance, sender.principal, to)
            # Envelopes of one sender keep their order: what follows one that waits for its commit waits too.
            if not entries and sender.principal.device is None and not sender.unsettled.count:
                self._relay(sender, message, to, id)
                return
        except StoreError:
            entries = 1  # the commit fails as well, and answers
        audience = ToClient(to, not isinstance(message, Receipt) and is_live(self._hub, to))
        self._submit_to_store(sender, message, audience, id, n, entries)

    def refuse(self, sender: Endpoint, error: Error, id: MessageId | None, n: int | None) -> None:  # noqa: A002  # as above
        """Answer a frame that goes no further with an error. Its number is used up, and the answer comes after the
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
            self._committer.ack(pump.mailbox, upto, cost_of(arrived or 0, 1), settle, session=pump.session)
        elif arrived is not None:
            self._committer.ack(pump.mailbox, upto, cost_of(arrived, 1), session=pump.session)

    def pump(self, outbox: Outbox) -> Pump:
        """For a session with a device; the result of `register` opens it."""
        return Pump(self._store, outbox)

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

    async def register(self, endpoint: Endpoint, opened: Callable[[Mailbox], None]) -> bool:
        """Make a mailbox for the endpoint's device if it has none, and open the endpoint's pump. False: the client has
        too many devices.

        Args:
            opened: is called with the mailbox after the commit, and before anything is told that was committed later.

        Raises:
            StoreError: the store cannot work.
        """
        client, device, pump = endpoint.principal.client, endpoint.principal.device, endpoint.pump
        if device is None or pump is None:
            raise ValueError("this session has no device")

        def settle(result: Result | StoreError) -> None:
            if isinstance(result, Mailbox):
                pump.open(result.id, result.session, self._window(result))
                opened(result)

        result = await self._committer.committed(client, Register(client, device, self._now_ms()), settle)
        return isinstance(result, Mailbox)

    def _window(self, mailbox: Mailbox) -> Window:
        """The window of a session that opens now. It begins behind an ack of a former session that waits: once that is
        committed, what it erased would look like a gap. The ack is true of the device, so this session takes it over.
        """
        limits = self._limits
        acked = max(mailbox.acked, self._committer.take_over_ack(mailbox.id, mailbox.session))
        # Half of the outbox is for gaps and the rest; a larger window would end the session as often as it begins.
        most_envelopes = min(limits.window_envelopes, limits.outbox_frames // 4)
        most_bytes = min(limits.window_bytes, limits.outbox_bytes // 2)
        return Window(acked, mailbox.tail, most_envelopes, most_bytes)

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

    async def remove(
        self, client: ClientId, device: DeviceId, removed: Callable[[], None], session: int | None = None
    ) -> Result:
        """Delete the device with its mailbox. The rest of a large mailbox is erased as fast as this client may have
        things done.

        Args:
            removed: is called after the commit, and before anything is told that was committed later. The session that
                the device has then is the one that lost its mailbox.

        Raises:
            StoreError: the store cannot work.
        """

        def settle(result: Result | StoreError) -> None:
            if isinstance(result, Removed):
                for sweep in result.rest:
                    self._committer.ask(client, sweep, lambda _: None, SWEEP_COST)
                removed()

        return await self._committer.committed(client, Remove(client, device, session), settle, SWEEP_COST)

    async def settled(self, client: ClientId) -> None:
        """Wait until everything that the client has asked for is committed.

        Raises:
            StoreError: the store cannot work.
        """
        await self.change(client, Touch(NO_MAILBOX, self._now_ms()))

    async def change_group(self, change: ChangeGroup, live_frame: Callable[[], bytes]) -> Result:
        """Change a group, and tell everyone of it who was or is a member: whatever becomes of the caller meanwhile.

        Raises:
            StoreError: the store cannot work.
        """

        def tell(result: Result | StoreError) -> None:
            if isinstance(result, Appended):
                self._metrics.stored[change.envelope.verb] += 1
                fan_out(self._hub, result, live_frame)

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

    # --- an envelope from its submission to its end ------------------------------------------------------------------

    def _relay(self, sender: Endpoint, message: Sendable, to: ClientId, id: MessageId | None) -> None:  # noqa: A002  # as above
        """Hand an envelope to the recipient's live sessions at once: nobody involved has a mailbox. Nothing comes
        between the look at the blocks and the hand-over.

        Raises:
            StoreError: the blocks cannot be read, and nothing was done.
        """
        client = sender.principal.client
        if isinstance(message, Receipt):
            is_taken = False
        elif client in self._store.glance.blocks_of(to):
            is_taken = is_live(self._hub, to)  # the sender gets the answer that it would get otherwise
        else:
            is_taken = hand_over(self._hub, to, live_frame(message, client))
        if not is_taken:
            self._reply_offline(sender, to, message.verb, id)
            return
        self._metrics.relayed[message.verb] += 1
        if id is not None:
            sender.outbox.put(accepted(self._now_ms(), id))

    def _submit_to_store(
        self,
        sender: Endpoint,
        message: Sendable,
        audience: Audience,
        id: MessageId | None,  # noqa: A002  # as above
        n: int | None,
        entries: int,
    ) -> None:
        client, device, now = sender.principal.client, sender.principal.device, self._now_ms()
        payload = stored_payload(message, client, now, device)
        envelope = Envelope(message.verb, client, device, message.to, id, now, payload)
        is_archived = self.keeps_history and not isinstance(message, Receipt)
        number = sender.number(n)
        digest = digest_of(message) if number is None else b""
        append = Append(envelope, digest, audience, is_archived, sender.hold, number)
        cost = cost_of(len(payload), max(entries, 1))
        sender.unsettled.begin(cost)
        self._committer.ask(client, append, partial(self._settle, sender, message, append, cost), cost)

    @_ends_on_error
    def _settle(
        self, sender: Endpoint, message: Sendable, append: Append, cost: int, result: Result | StoreError
    ) -> None:
        """The store has decided about an envelope: bring it to everybody it is owed to, and tell its sender."""
        sender.unsettled.settle(cost)
        envelope = append.envelope
        verb, id_ = envelope.verb, envelope.id
        match result:
            case Appended():
                if self._reaches_nobody(sender, message, append, result):
                    self._forget(append)
                    self._reply_offline(sender, envelope.to, verb, id_)
                    return
                self._metrics.stored[verb] += 1
                if id_ is not None:
                    sender.outbox.put(accepted(envelope.ts, id_))
            case Duplicate(ts, _):
                self._metrics.duplicates[verb] += 1
                sender.outbox.put(encode(Accepted(ts=ts, duplicate=True), id_))
            case Undeliverable():
                self._reply_offline(sender, envelope.to, verb, id_)
            case NotMember():
                self._reply_refused(sender, NO_SUCH_GROUP, verb, id_)
            case IdTaken():
                self._reply_refused(sender, ID_TAKEN, verb, id_)
            case Held() if sender.hold is not None:
                self._reply_refused(sender, sender.hold.answer(trio.current_time()), verb, id_)
            case MailboxFull():
                self._refuse_at_commit(sender, Error("mailbox_full", user=envelope.to), envelope)
            case AlreadySettled() | OutOfTurn() | SessionOver():
                if result == AlreadySettled(None):
                    self._metrics.duplicates[verb] += 1
                self._settle_number(sender, id_, result)
            case _:
                self._metrics.refuse(verb, "internal")
                self._fail(sender, id_)

    def _reaches_nobody(self, sender: Endpoint, message: Sendable, append: Append, stored: Appended) -> bool:
        """Bring what was stored to everybody it is owed to. True: it was for sessions without a mailbox alone, and they
        have left meanwhile.
        """
        audience = append.audience
        frame = None if isinstance(message, Receipt) else partial(live_frame, message, sender.principal.client)
        but = sender if isinstance(audience, ToGroup) else None
        is_taken = fan_out(self._hub, stored, frame, but)
        if is_taken or not isinstance(audience, ToClient) or not audience.is_live:
            return False
        return bool(stored.owed) and all(place.is_own for place in stored.placed)

    @_ends_on_error
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

    @_ends_on_error
    def _settle_ack(self, endpoint: Endpoint, id: MessageId, result: Result | StoreError) -> None:  # noqa: A002  # as above
        endpoint.unsettled.settle(1)
        if isinstance(result, StoreError):
            endpoint.outbox.put(encode(Error("internal", detail="the ack could not be stored"), id))
        elif isinstance(result, Acked):  # else a newer session has begun, and this one is told so by its close code
            endpoint.outbox.put(accepted(self._now_ms(), id))

    def _forget(self, append: Append) -> None:
        """Nobody got it, so its id may come again, and its number was refused."""
        envelope, number = append.envelope, append.number
        if envelope.id is not None or number is not None:
            self._committer.ask(envelope.sender, Forget(envelope, number), lambda _: None)

    def _fail(self, sender: Endpoint, id: MessageId | None) -> None:  # noqa: A002  # as above
        """The store could not commit: nothing was accepted, and no number is used up."""
        error = Error("internal", detail="the message could not be stored")
        sender.outbox.put(encode(error, id))
        if sender.hold is not None:
            sender.hold.refused_at_commit(error)

    def _reply_offline(self, sender: Endpoint, to: Address, verb: str, id: MessageId | None) -> None:  # noqa: A002  # as above
        self._metrics.undeliverable[verb] += 1
        sender.outbox.put(encode(Error("user_offline", user=to), id))

    def _reply_refused(self, sender: Endpoint, error: Error, verb: str, id: MessageId | None) -> None:  # noqa: A002  # as above
        self._metrics.refuse(verb, error.msg)
        sender.outbox.put(encode(error, id))

    def _refuse_at_commit(self, sender: Endpoint, error: Error, envelope: Envelope) -> None:
        """Refuse for now what waited for its commit, and what the session sent after it."""
        self._reply_refused(sender, error, envelope.verb, envelope.id)
        if sender.hold is not None:
            sender.hold.refused_at_commit(error)
