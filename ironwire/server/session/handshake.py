"""From the upgrade to a principal (docs/protocol.md, section 2).

Each answer is written before the next message is looked at, and each step waits for a scheduling slot. Rule: verifying
a signature is the most expensive request of an unauthenticated peer, so `limits.attempts_per_minute` comes first.
"""

from attrs import define, field

from ironwire.crypto.signing import NONCE_BYTES
from ironwire.delivery.outbox import Ending, Outbox
from ironwire.errors import InvalidMessage, TransportClosed
from ironwire.ids import MessageId
from ironwire.protocol.auth import Admit, Authentication, Challenge, Expected, Refuse
from ironwire.server.listener.connection_limiter import ConnectionSlot
from ironwire.server.session.refusals import ErrorBudget, id_of, invalid, rate_limited
from ironwire.server.session.scheduler import PART_MESSAGES, Work
from ironwire.server.session.services import Services
from ironwire.server.session.transport import Transport
from ironwire.wire.codec import decode_client, encode
from ironwire.wire.messages import Auth, AuthChallenge, Error

ATTEMPT_COST = 400
"""Cost of a refused attempt to authenticate, from the error budget of its session: the third ends it."""


@define(eq=False)
class Handshake:
    """The first exchange on a connection. `run` it once."""

    _transport: Transport
    _slot: ConnectionSlot
    _outbox: Outbox
    _error_budget: ErrorBudget
    _services: Services
    early: list[str | bytes] = field(init=False, factory=list)
    """Messages that came in the same read as the last one of the exchange."""

    id: MessageId | None = field(init=False, default=None)
    """The id of the message with the signature: `auth_ok` answers it."""

    async def run(self, machine: Authentication) -> Admit | None:
        """Authenticate the peer; None once the outbox has an ending instead.

        Raises:
            TransportClosed: the peer is gone.
            FrameViolation: the peer broke the rules of WebSocket.
        """
        while True:
            batch = await self._receive()
            for index, text in enumerate(batch):
                if self._outbox.ending is not None:
                    return None
                if index and index % PART_MESSAGES == 0:
                    await self._services.scheduler.slot(Work.UNAUTHENTICATED)
                admitted = await self._step(machine, text)
                if admitted is not None:
                    self.early = batch[index + 1 :]
                    return admitted

    async def _receive(self) -> list[str | bytes]:
        """One read. A peer that leaves takes a slot as well: a crowd may leave at once, as it may come."""
        batch: list[str | bytes] | TransportClosed
        try:
            batch = await self._transport.receive()
        except TransportClosed as closed:
            batch = closed
        await self._services.scheduler.slot(Work.UNAUTHENTICATED)
        if isinstance(batch, TransportClosed):
            raise batch
        return batch

    async def _step(self, machine: Authentication, text: str | bytes) -> Admit | None:
        """One message of the exchange, and the answer to it."""
        try:
            message, id_, _ = decode_client(text)
        except InvalidMessage as error:
            self._error_budget.invalid += 1
            await self._refuse(encode(invalid(error), id_of(error)))
            return None
        if isinstance(message, Auth) and (wait_seconds := self._slot.attempt()):
            await self._refuse(encode(rate_limited(int(wait_seconds * 1000) + 1), id_), ATTEMPT_COST)
            return None
        match machine.receive(message, self._services.random_bytes(NONCE_BYTES)):
            case Challenge(nonce):
                await self._reply(encode(AuthChallenge(nonce.hex()), id_))
            case Expected(code):
                await self._refuse(encode(Error(code), id_))
            case Refuse(reason, code):
                self._outbox.close(Ending(code, reason))
            case Admit() as admitted:
                self.id = id_
                return admitted
        return None

    async def _refuse(self, answer: bytes, cost: int = 1) -> None:
        await self._reply(answer)
        self._error_budget.lose(cost)

    async def _reply(self, answer: bytes) -> None:
        is_all_out = self._transport.write([answer])
        while not is_all_out:
            is_all_out = await self._transport.send_some()
