"""The messages of an authenticated session: decode, authorise, hand over. One function handles them for every feed.

Replies and deliveries wait in outboxes, to be written together. Nothing here awaits anything, and nothing here waits
for a recipient; whatever has to be awaited is yielded to the session's feed (`reader.py`).
"""

from collections.abc import Iterator
from functools import partial

from attrs import define, field, frozen

from ironwire.delivery.hub import Endpoint
from ironwire.delivery.outbox import Outbox
from ironwire.errors import InvalidMessage
from ironwire.ids import MessageId, is_group
from ironwire.server.listener.connection_limiter import ConnectionSlot
from ironwire.server.session import scheduler
from ironwire.server.session.admission import wait_to_keep_ms
from ironwire.server.session.rates import Allowance
from ironwire.server.session.reader import Wait
from ironwire.server.session.refusals import ErrorBudget, id_of, invalid, rate_limited
from ironwire.server.session.services import Services
from ironwire.server.session.transport import Transport
from ironwire.wire.codec import decode_client
from ironwire.wire.messages import Ack, ClientMessage, Error, File, MlsSend, Receipt, Resume, Text


def is_prompt(batch: list[str | bytes]) -> bool:
    """Whether a read is small enough to need no scheduling slot."""
    return len(batch) <= scheduler.PROMPT_MESSAGES and sum(map(len, batch)) <= scheduler.PROMPT_CHARS


def parts(batch: list[str | bytes]) -> Iterator[list[str | bytes]]:
    """The parts of a large read, one scheduling slot each."""
    if len(batch) <= scheduler.PART_MESSAGES and sum(map(len, batch)) <= scheduler.PART_CHARS:
        yield batch
        return
    part: list[str | bytes] = []
    chars = 0
    for text in batch:
        if len(part) == scheduler.PART_MESSAGES or (part and chars + len(text) > scheduler.PART_CHARS):
            yield part
            part, chars = [], 0
        part.append(text)
        chars += len(text)
    yield part


@frozen(eq=False)
class Toll:
    """Whether a message of one session may pass, before anything is done about it: rates, and what holds the session
    (docs/protocol.md, sections 4 and 6.1). A message that may not is answered here.

    Rule: a message refused because of an earlier one is not paid for, and takes from the error budget only in large
    numbers: a client that sends without waiting had it on its way already.
    """

    _endpoint: Endpoint
    _error_budget: ErrorBudget
    _transport: Transport
    _slot: ConnectionSlot
    _services: Services
    _allowance: Allowance

    def can_afford(self, batch: list[str | bytes]) -> bool:
        """Pay for all messages of one read. False: nothing was paid, and each message has to be checked."""
        hold = self._endpoint.hold
        return (hold is None or not hold.is_held) and self._allowance.can_afford(batch, self._transport.last_heard)

    def lets_pass(self, message: ClientMessage, id_: MessageId | None, n: int | None, size: int) -> bool:
        """Whether one message that is not paid for may pass."""
        hold = self._endpoint.hold
        is_free = isinstance(message, Ack) or (hold is not None and hold.is_held and isinstance(message, Resume))
        return is_free or self.lets_read(message.verb, id_, n, size, message)

    def lets_read(
        self, verb: str, id_: MessageId | None, n: int | None, size: int, message: ClientMessage | None = None
    ) -> bool:
        """As `lets_pass`, for a frame that may be no message."""
        wait_ms = self._allowance.refusal_ms(verb, 1, size, self._transport.last_heard)
        return not self._has_to_wait(wait_ms, message, id_, n)

    def is_held_back(self, message: ClientMessage, id_: MessageId | None, n: int | None, size: int) -> bool:
        """Whether the message is refused because one before it was."""
        hold = self._endpoint.hold
        if hold is None or not hold.is_held or not message.is_ordered:
            return False
        self._refuse(hold.answer(self._transport.last_heard), id_, n)
        self._error_budget.hold_back(size)
        return True

    def surcharge(self, message: ClientMessage) -> int:
        return message.surcharge(partial(self._services.delivery.members, self._endpoint.principal.client))

    def is_too_dear(self, message: ClientMessage, surcharge: int, id_: MessageId | None, n: int | None = None) -> bool:
        """Whether the allowance is too small for the surcharge of the message."""
        wait_ms = self._allowance.refusal_ms(message.verb, surcharge, 0, self._transport.last_heard, again=1)
        return self._has_to_wait(wait_ms, message, id_, n)

    def is_too_much_to_keep(self, message: ClientMessage, id_: MessageId | None) -> bool:
        """Whether this address has used up its allowance for data that the server keeps for good."""
        client = self._endpoint.principal.client
        return self._has_to_wait(wait_to_keep_ms(message, client, self._slot, self._services), message, id_)

    def _has_to_wait(
        self, wait_ms: int, message: ClientMessage | None, id_: MessageId | None, n: int | None = None
    ) -> bool:
        """Whether a message comes too early, by so many milliseconds."""
        if not wait_ms:
            return False
        error = rate_limited(wait_ms)
        self._refuse(error, id_, n)
        self._error_budget.lose()
        hold = self._endpoint.hold
        if hold is not None and message is not None and message.is_ordered:
            hold.refused_at_reading(error, self._transport.last_heard)
        return True

    def _refuse(self, error: Error, id_: MessageId | None, n: int | None) -> None:
        self._services.delivery.envelopes.refuse(self._endpoint, error, id_, n)


@define(eq=False)
class Intake:
    """The intake of one session."""

    _endpoint: Endpoint
    _outbox: Outbox
    _error_budget: ErrorBudget
    _toll: Toll
    _services: Services
    received: int = field(init=False, default=0)
    """Frames since authentication."""

    def take(self, batch: list[str | bytes]) -> Iterator[Wait]:
        """Handle the messages of one read, in order. The caller awaits each thing that this yields, the disk or a
        scheduling slot, before it asks for the next; mostly there is none.

        Raises:
            AckBeyondDelivery: the peer acknowledges a delivery that it was never sent.
        """
        if is_prompt(batch):
            yield from self._handle(batch)
            return
        for part in parts(batch):
            yield self._next_slot
            yield from self._handle(part)

    async def _next_slot(self) -> None:
        await self._services.scheduler.slot(scheduler.Work.HEAVY)

    def _handle(self, batch: list[str | bytes]) -> Iterator[Wait]:
        """Yields for a question to the store, for a `resume`, for backpressure (the uncommitted cost of this session is
        at `limits.unsettled_envelopes`), and for a slot after much surcharge.
        """
        if self._outbox.ending is not None:
            return
        self.received += len(batch)
        toll, endpoint, services = self._toll, self._endpoint, self._services
        is_paid = toll.can_afford(batch)
        hold = endpoint.hold
        delivery, envelopes = services.delivery, services.delivery.envelopes
        unsettled, most = endpoint.unsettled, services.limits.unsettled_envelopes
        spent = 0
        for text in batch:
            if unsettled.count >= most:
                yield partial(unsettled.wait_below, most)
            try:
                message, id_, n = decode_client(text)
                if n is not None and endpoint.pump is None:
                    raise InvalidMessage("n numbers the messages of a device, and this session has no device", id_)
            except InvalidMessage as error:
                if is_paid or toll.lets_read("invalid", id_of(error), error.n, len(text)):
                    self._error_budget.invalid += 1
                    envelopes.refuse(endpoint, invalid(error), id_of(error), error.n)
                continue
            if hold is not None and hold.is_held and toll.is_held_back(message, id_, n, len(text)):
                continue
            if not is_paid and not toll.lets_pass(message, id_, n, len(text)):
                continue
            match message:
                case Text() | File() | Receipt():
                    if not is_group(message.to) or not toll.is_too_dear(message, toll.surcharge(message), id_, n):
                        envelopes.submit(endpoint, message, id_, n)
                case Ack(upto):
                    delivery.ack(endpoint, upto, id_)
                case Resume():
                    yield partial(delivery.resume, endpoint, id_)
                case MlsSend():
                    if not toll.is_too_dear(message, toll.surcharge(message), id_, n):
                        delivery.encrypted.submit(endpoint, message, id_, n)
                case _:
                    surcharge = toll.surcharge(message)
                    if toll.is_too_dear(message, surcharge, id_) or toll.is_too_much_to_keep(message, id_):
                        continue
                    if not services.dispatcher.answer_at_once(endpoint, message, id_):
                        yield partial(services.dispatcher.answer, endpoint, message, id_)
                    spent += surcharge
                    if spent >= scheduler.PART_SURCHARGE:
                        spent = 0
                        yield self._next_slot
