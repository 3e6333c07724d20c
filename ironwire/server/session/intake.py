"""The messages of an authenticated session: decode, authorise, hand over. One function handles them for every feed.

Replies and deliveries wait in outboxes, to be written together. Nothing here awaits anything, and nothing here waits
for a recipient; whatever has to be awaited is yielded to the session's feed (`reader.py`).
"""

from collections.abc import Iterator
from functools import partial

from attrs import define, field

from ironwire.delivery.hub import Endpoint
from ironwire.delivery.outbox import Outbox
from ironwire.errors import InvalidMessage
from ironwire.ids import is_group
from ironwire.server.session.reader import Wait
from ironwire.server.session.refusals import ErrorBudget, id_of, invalid
from ironwire.server.session.scheduler import PART_SURCHARGE, Work, is_prompt, parts
from ironwire.server.session.services import Services
from ironwire.server.session.toll import Toll
from ironwire.wire.codec import decode_client
from ironwire.wire.messages import Ack, File, Receipt, Resume, Text


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
            yield self._turn
            yield from self._handle(part)

    async def _turn(self) -> None:
        await self._services.scheduler.turn(Work.HEAVY)

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
                case _:
                    surcharge = toll.surcharge(message)
                    if toll.is_too_dear(message, surcharge, id_) or toll.is_too_much_to_keep(message, id_):
                        continue
                    if not services.dispatcher.answer_at_once(endpoint, message, id_):
                        yield partial(services.dispatcher.answer, endpoint, message, id_)
                    spent += surcharge
                    if spent >= PART_SURCHARGE:
                        spent = 0
                        yield self._turn
