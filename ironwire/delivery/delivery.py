"""commit -> accept -> wake: the face of this room to sessions and handlers (docs/protocol.md, sections 4 and 5).

    ask ──> queue ──> run: one batch, one commit ──> the answer to whoever asked
                                                └──> offered to the pumps of live devices

Rules: nothing is told to anyone before the commit. What arrives while a commit runs goes into the next.
"""

from collections.abc import Callable, Sequence
from functools import partial

import structlog

from ironwire.delivery.committer import Committer
from ironwire.delivery.envelopes import Envelopes, cost_of
from ironwire.delivery.hub import Endpoint, Hub, ends_session_on_error
from ironwire.delivery.metrics import DeliveryStatistics
from ironwire.delivery.outbox import Outbox
from ironwire.delivery.pump import Pump, Window
from ironwire.errors import StoreError
from ironwire.ids import ClientId, DeviceId, GroupId, MessageId
from ironwire.limits import Limits
from ironwire.store.contract import operations as op
from ironwire.store.contract.records import Mailbox, MailboxId
from ironwire.store.contract.store import Store
from ironwire.wire.codec import accepted, encode
from ironwire.wire.messages import Accepted, Error

log = structlog.get_logger(__name__)

NO_MAILBOX = MailboxId(0)

SWEEP_COST = 50
"""Cost of erasing a part of a mailbox: it takes as long as so many entries."""

NO_MAILBOX_HERE = Error("invalid", detail="a session without a device has no mailbox")


class Delivery:
    """Serves the requests of sessions and handlers. Envelopes have a home of their own, and share the committer."""

    def __init__(
        self, hub: Hub, store: Store, now_ms: Callable[[], int], limits: Limits, *, keeps_history: bool
    ) -> None:
        self._hub = hub
        self._store = store
        self._now_ms = now_ms
        self._limits = limits
        self._committer = Committer(store, hub.wake_pumps)
        self.envelopes = Envelopes(hub, store, self._committer, now_ms, keeps_history)

    async def resume(self, endpoint: Endpoint, id: MessageId | None) -> None:  # noqa: A002  # the frame's
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

    def ack(self, endpoint: Endpoint, upto: int, id: MessageId | None) -> None:  # noqa: A002  # as above
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

    @ends_session_on_error
    def _settle_ack(self, endpoint: Endpoint, id: MessageId, result: op.Result | StoreError) -> None:  # noqa: A002  # as above
        endpoint.unsettled.settle(1)
        if isinstance(result, StoreError):
            endpoint.outbox.put(encode(Error("internal", detail="the ack could not be stored"), id))
        elif isinstance(result, op.Acked):  # else a newer session has begun, and this one is told so by its close code
            endpoint.outbox.put(accepted(self._now_ms(), id))

    def pump(self, outbox: Outbox) -> Pump:
        """A pump for a session with a device; the result of `register` opens it."""
        return Pump(self._store, outbox)

    def members(self, client: ClientId, group: GroupId) -> int:
        """The number of members that hear the client in the group: 0 if it is not in it. Also 0 where the group cannot
        be read, because then nothing will be stored either.
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
        """Whether the client has a mailbox, at a glance. True where the store cannot be read: then nothing will be
        stored.
        """
        try:
            return self._store.glance.mailbox_count(client) > 0
        except StoreError:
            return True

    async def register(self, endpoint: Endpoint, opened: Callable[[Mailbox], None]) -> op.Result:
        """Make a mailbox for the endpoint's device if it has none, and open the endpoint's pump. Any other result than
        a mailbox says why not.

        Args:
            opened: is called with the mailbox after the commit, and before anything is told that was committed later.

        Raises:
            StoreError: the store cannot work.
        """
        principal, pump = endpoint.principal, endpoint.pump
        client, device = principal.client, principal.device
        if device is None or pump is None:
            raise ValueError("this session has no device")

        def settle(result: op.Result | StoreError) -> None:
            if isinstance(result, Mailbox):
                pump.open(result.id, result.session, self._window(result))
                opened(result)

        key = None if principal.device_key is None else principal.device_key.raw
        return await self._committer.committed(client, op.Register(client, device, self._now_ms(), key), settle)

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
                self._committer.ask(None, op.Touch(other.pump.mailbox, self._now_ms()), lambda _: None)

    async def change(self, client: ClientId, operation: op.Operation) -> op.Result:
        """Have the operation committed, after everything that the client has asked for before.

        Raises:
            StoreError: the store cannot work.
        """
        return await self._committer.committed(client, operation)

    async def remove(
        self, client: ClientId, device: DeviceId, removed: Callable[[], None], session: int | None = None
    ) -> op.Result:
        """Delete the device with its mailbox. The rest of a large mailbox is erased as fast as this client may have
        things done.

        Args:
            removed: is called after the commit, and before anything is told that was committed later. The session that
                the device has then is the one that lost its mailbox.

        Raises:
            StoreError: the store cannot work.
        """

        def settle(result: op.Result | StoreError) -> None:
            if isinstance(result, op.Removed):
                for sweep in result.rest:
                    self._committer.ask(client, sweep, lambda _: None, SWEEP_COST)
                removed()

        return await self._committer.committed(client, op.Remove(client, device, session), settle, SWEEP_COST)

    async def append_to_log(
        self, append: op.AppendToLog, frame: Callable[[], bytes], logged: Callable[[op.Logged], None]
    ) -> op.Result:
        """Put an entry into its client's device log, and tell all the client's devices: whatever becomes of the caller
        meanwhile.

        Args:
            logged: is called after the commit, and before anything is told that was committed later. Sessions that the
                removed devices have then are those that lost their mailboxes.

        Raises:
            StoreError: the store cannot work.
        """
        client = append.envelope.sender

        def settle(result: op.Result | StoreError) -> None:
            if isinstance(result, op.Logged):
                for sweep in result.rest:
                    self._committer.ask(client, sweep, lambda _: None, SWEEP_COST)
                self.envelopes.metrics.stored[append.envelope.verb] += 1
                self._hub.fan_out(result.stored, frame)
                logged(result)

        return await self._committer.committed(client, append, settle, SWEEP_COST)

    async def settled(self, client: ClientId) -> None:
        """Wait until everything that the client has asked for is committed.

        Raises:
            StoreError: the store cannot work.
        """
        await self.change(client, op.Touch(NO_MAILBOX, self._now_ms()))

    async def run(self) -> None:
        """Commit what waits, batch after batch, until cancelled. One task runs this."""
        await self._committer.run()

    def statistics(self) -> DeliveryStatistics:
        outcomes, committer = self.envelopes.metrics, self._committer.statistics()
        return DeliveryStatistics(
            accepted_total=outcomes.accepted(),
            duplicates_total=outcomes.duplicated(),
            undeliverable_total=outcomes.undelivered(),
            refused_total=outcomes.refused(),
            operations_waiting=committer.operations_waiting,
            batch_operations=committer.batch_operations,
            settled_seconds=committer.settled_seconds,
        )
