"""Whether a message may pass, before anything is done about it: rates, and what holds the session (docs/protocol.md,
sections 4 and 6.1). What may not is answered here.

Rule: a message refused because of an earlier one is not paid for, and takes from the error budget only in large
numbers: a client that sends without waiting had it on its way already.
"""

from functools import partial

from attrs import frozen

from ironwire.delivery.hub import Endpoint
from ironwire.delivery.outbox import Outbox
from ironwire.ids import MessageId
from ironwire.server.listener.connection_limiter import ConnectionSlot
from ironwire.server.session.admission import wait_to_keep_ms
from ironwire.server.session.rates import Allowance
from ironwire.server.session.refusals import ErrorBudget, rate_limited
from ironwire.server.session.services import Services
from ironwire.server.session.transport import Transport
from ironwire.wire.messages import Ack, ClientMessage, Error, Resume


@frozen(eq=False)
class Toll:
    """Of one session."""

    _attachment: Endpoint
    _outbox: Outbox
    _error_budget: ErrorBudget
    _transport: Transport
    _slot: ConnectionSlot
    _services: Services
    _allowance: Allowance

    def can_afford(self, batch: list[str | bytes]) -> bool:
        """Pay for what arrived in one read. False: each message of it has to be looked at, and nothing was paid."""
        hold = self._attachment.hold
        return (hold is None or not hold.is_held) and self._allowance.can_afford(batch, self._transport.last_heard)

    def lets_pass(self, message: ClientMessage, id_: MessageId | None, n: int | None, size: int) -> bool:
        """Whether one message that is not paid for may pass."""
        hold = self._attachment.hold
        is_free = isinstance(message, Ack) or (hold is not None and hold.is_held and isinstance(message, Resume))
        return is_free or self.lets_read(message.verb, id_, n, size, message)

    def lets_read(
        self, verb: str, id_: MessageId | None, n: int | None, size: int, message: ClientMessage | None = None
    ) -> bool:
        """The same of what need not be a message."""
        wait_ms = self._allowance.refusal_ms(verb, 1, size, self._transport.last_heard)
        return not self._has_to_wait(wait_ms, message, id_, n)

    def is_held_back(self, message: ClientMessage, id_: MessageId | None, n: int | None, size: int) -> bool:
        """Whether the message is refused because one before it was."""
        hold = self._attachment.hold
        if hold is None or not hold.is_held or not message.is_ordered:
            return False
        self._refuse(hold.answer(self._transport.last_heard), id_, n)
        self._error_budget.hold_back(size)
        return True

    def surcharge(self, message: ClientMessage) -> int:
        return message.surcharge(partial(self._services.delivery.members, self._attachment.principal.client))

    def is_too_dear(self, message: ClientMessage, surcharge: int, id_: MessageId | None, n: int | None = None) -> bool:
        """Whether there is no allowance for what the message costs beyond others."""
        wait_ms = self._allowance.refusal_ms(message.verb, surcharge, 0, self._transport.last_heard, again=1)
        return self._has_to_wait(wait_ms, message, id_, n)

    def is_too_much_to_keep(self, message: ClientMessage, id_: MessageId | None) -> bool:
        """Whether the address of this session has the server keep as much as it may."""
        client = self._attachment.principal.client
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
        hold = self._attachment.hold
        if hold is not None and message is not None and message.is_ordered:
            hold.refused_at_reading(error, self._transport.last_heard)
        return True

    def _refuse(self, error: Error, id_: MessageId | None, n: int | None) -> None:
        self._services.delivery.envelopes.refuse(self._attachment, error, id_, n)
