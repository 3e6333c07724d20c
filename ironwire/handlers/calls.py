"""Calls: who is told what decides `protocol/call.py`; here it meets the live sessions, the blocks and the clock.

Nothing of a call is stored. A caller cannot drive anybody out: a session for which much waits is not rung, misses
candidates, and gets no update, which its sender is told. Everything else is small and has to arrive: it waits in the
outbox like other frames.
"""

from collections.abc import Callable, Iterator
from typing import assert_never

import trio
from attrs import define, field, frozen

from ironwire.counting import figure
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.handlers.ice import IceHandler
from ironwire.ids import MessageId
from ironwire.limits import Limits
from ironwire.protocol.call import Calls, Refused, Tell
from ironwire.protocol.call_state import Bounds
from ironwire.store.contract.store import Store
from ironwire.wire.codec import encode
from ironwire.wire.messages import (
    Accepted,
    CallAnswer,
    CallCandidate,
    CallEnd,
    CallOffer,
    CallRinging,
    CallUpdate,
    Error,
    IceServers,
    RelayedCandidate,
)
from ironwire.wire.messages.fields import ErrorCode

CallRequest = CallOffer | CallRinging | CallAnswer | CallCandidate | CallUpdate | CallEnd | IceServers

CHECK_SECONDS = 1.0
"""How late the end of a call may be that nobody answers, or that a device has left."""

RETRY_MS = 1_000
"""After which a `call_update` may be tried again that the other side had no room for."""


@frozen
class CallsStatistics:
    live: int = figure("Calls that ring or are under way.")
    offered_total: int = figure("Calls that were offered and not refused.")


@define(eq=False)
class CallHandler:
    """Answers everything that clients say about calls."""

    _hub: Hub
    _store: Store
    _ice: IceHandler
    _limits: Limits
    _now_ms: Callable[[], int]
    _calls: Calls = field(init=False)
    _offered_total: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        limits = self._limits
        self._calls = Calls(
            Bounds(
                limits.call_ring_seconds,
                limits.call_resume_seconds,
                limits.calls_per_client,
                limits.call_candidates,
                limits.call_bytes,
            )
        )

    async def run(self) -> None:
        """End the calls that nobody answers, and those of devices that stay away, for ever."""
        while True:
            await trio.sleep(CHECK_SECONDS)
            self._deliver(self._calls.expire(trio.current_time()))

    def answer(self, endpoint: Endpoint, request: CallRequest, id: MessageId | None) -> ErrorCode | None:  # noqa: A002  # the frame's
        """Returns the code of the error that was the answer, if it was one.

        Raises:
            StoreError: it cannot be read whom the callee has blocked.
        """
        match request:
            case IceServers():
                endpoint.outbox.put(encode(self._ice.servers(), id))
                return None
            case CallOffer():
                return self._settle(endpoint, request, id, self._offer(endpoint, request))
            case CallUpdate():
                return self._settle(endpoint, request, id, self._update(endpoint, request))
            case CallRinging() | CallAnswer() | CallCandidate() | CallEnd():
                return self._settle(endpoint, request, id, self._calls.signal(endpoint.endpoint_id, request))
            case _:
                assert_never(request)

    def arrived(self, endpoint: Endpoint) -> None:
        """A session has begun. Of calls that say more than half an outbox holds it hears the first."""
        for tell in self._calls.arrived(endpoint.endpoint_id):
            frame = encode(tell.message)
            for other in self._endpoints(tell):
                other.outbox.put_ephemeral(frame)

    def left(self, endpoint: Endpoint) -> None:
        """A session is over. Where a newer one of the same device has taken its place, that one has the calls."""
        if self._hub.session_at(endpoint.endpoint_id) is None:
            self._deliver(self._calls.left(endpoint.endpoint_id, trio.current_time()))

    def statistics(self) -> CallsStatistics:
        return CallsStatistics(live=len(self._calls), offered_total=self._offered_total)

    def _offer(self, endpoint: Endpoint, offer: CallOffer) -> list[Tell] | Refused:
        callee = [other.endpoint_id for other in self._hub.sessions_of(offer.to) if other.outbox.has_room()]
        is_muffled = endpoint.principal.client in self._store.glance.blocks_of(offer.to)
        result = self._calls.offer(endpoint.endpoint_id, offer, callee, trio.current_time(), is_muffled=is_muffled)
        self._offered_total += not isinstance(result, Refused)
        return result

    def _update(self, endpoint: Endpoint, update: CallUpdate) -> list[Tell] | Refused:
        result = self._calls.signal(endpoint.endpoint_id, update)
        if isinstance(result, Refused):
            return result
        if all(other.outbox.has_room(len(encode(tell.message))) for tell in result for other in self._endpoints(tell)):
            return result
        return Refused("rate_limited", "the other side has not read what it was told before: try again")

    def _settle(
        self,
        endpoint: Endpoint,
        request: CallRequest,
        id: MessageId | None,  # noqa: A002  # the frame's
        result: list[Tell] | Refused,
    ) -> ErrorCode | None:
        if isinstance(result, Refused):
            user = request.to if isinstance(request, CallOffer) and result.code == "user_offline" else None
            retry_after_ms = RETRY_MS if result.code == "rate_limited" else None
            endpoint.outbox.put(encode(Error(result.code, result.detail, user, retry_after_ms), id))
            return result.code
        if id is not None:
            endpoint.outbox.put(encode(Accepted(self._now_ms()), id))
        self._deliver(result)
        return None

    def _deliver(self, tells: list[Tell]) -> None:
        for tell in tells:
            frame = encode(tell.message)
            for other in self._endpoints(tell):
                if isinstance(tell.message, RelayedCandidate):
                    other.outbox.put_ephemeral(frame)
                else:
                    other.outbox.put(frame)

    def _endpoints(self, tell: Tell) -> Iterator[Endpoint]:
        """The sessions that `tell` is for."""
        for endpoint_id in tell.to:
            endpoint = self._hub.session_at(endpoint_id)
            if endpoint is not None:
                yield endpoint
