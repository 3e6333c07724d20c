"""Calls. `protocol/call.py` decides who is told what; here it meets the live sessions, the blocks and the clock.

Nothing of a call is stored. A caller cannot drive anybody out: a session for which much waits is not rung, misses
candidates, and gets no update, which its sender is told. Everything else is small and has to arrive: it waits in the
outbox like other frames.
"""

from collections.abc import Callable, Iterator

import trio
from attrs import define, field, frozen

from ironwire.counting import figure
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.handlers.ice import IceHandler
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import ClientId, MessageId
from ironwire.limits import Limits
from ironwire.protocol.call import CallRefused, Calls, Tell
from ironwire.protocol.call_state import Bounds
from ironwire.store.contract.store import Store
from ironwire.wire import messages as msg
from ironwire.wire.codec import encode
from ironwire.wire.messages.fields import ErrorCode

CHECK_SECONDS = 1.0
"""The latest that a call ends after its time: one that nobody answers, or that a device has left."""

RETRY_MS = 1_000
"""The wait before a `call_update` is tried again for which the other side had no room."""


@frozen
class CallsStatistics:
    live: int = figure("Calls that ring or are under way.")
    offered_total: int = figure("Calls that were offered and not refused.")


@define(eq=False)
class CallHandler:
    """Answers clients about calls, and passes their signals on."""

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

    @verb_handler
    def offer(self, endpoint: Endpoint, request: msg.CallOffer, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the callee's blocks cannot be read.
        """
        callee = [other.endpoint_id for other in self._hub.sessions_of(request.to) if other.outbox.has_room()]
        is_muffled = endpoint.principal.client in self._store.glance.blocks_of(request.to)
        result = self._calls.offer(endpoint.endpoint_id, request, callee, trio.current_time(), is_muffled=is_muffled)
        if not isinstance(result, CallRefused):
            self._offered_total += 1
        user = request.to if isinstance(result, CallRefused) and result.code == "user_offline" else None
        return self._answer(endpoint, id_, result, user)

    @verb_handler
    def update(self, endpoint: Endpoint, request: msg.CallUpdate, id_: MessageId | None) -> ErrorCode | None:
        """Refused where the other side has no room: an update that was lost would leave the two sides apart."""
        result = self._calls.signal(endpoint.endpoint_id, request)
        if isinstance(result, list) and not self._have_room(result):
            result = CallRefused("rate_limited", "the other side has not read what it was told before: try again")
        return self._answer(endpoint, id_, result)

    @verb_handler
    def signal(
        self,
        endpoint: Endpoint,
        request: msg.CallRinging | msg.CallAnswer | msg.CallCandidate | msg.CallEnd,
        id_: MessageId | None,
    ) -> ErrorCode | None:
        """Pass on a signal for which there is always room, or that may be lost."""
        return self._answer(endpoint, id_, self._calls.signal(endpoint.endpoint_id, request))

    @verb_handler
    def ice_servers(self, endpoint: Endpoint, request: msg.IceServers, id_: MessageId | None) -> ErrorCode | None:
        return reply(endpoint, self._ice.servers(), id_)

    def arrived(self, endpoint: Endpoint) -> None:
        """A session has begun: send it the calls that ring, as many as half an outbox holds, the oldest first."""
        for tell in self._calls.arrived(endpoint.endpoint_id):
            frame = encode(tell.message)
            for other in self._endpoints(tell):
                other.outbox.put_ephemeral(frame)

    def left(self, endpoint: Endpoint) -> None:
        """A session is over. Its calls stay with a newer session of the same device, if there is one."""
        if self._hub.session_at(endpoint.endpoint_id) is None:
            self._deliver(self._calls.left(endpoint.endpoint_id, trio.current_time()))

    def statistics(self) -> CallsStatistics:
        return CallsStatistics(live=len(self._calls), offered_total=self._offered_total)

    def _have_room(self, tells: list[Tell]) -> bool:
        return all(
            other.outbox.has_room(len(encode(tell.message))) for tell in tells for other in self._endpoints(tell)
        )

    def _answer(
        self, endpoint: Endpoint, id_: MessageId | None, result: list[Tell] | CallRefused, user: ClientId | None = None
    ) -> ErrorCode | None:
        if isinstance(result, CallRefused):
            retry_after_ms = RETRY_MS if result.code == "rate_limited" else None
            return reply(endpoint, msg.Error(result.code, result.detail, user, retry_after_ms), id_)
        refusal = reply(endpoint, msg.Accepted(self._now_ms()), id_)
        self._deliver(result)
        return refusal

    def _deliver(self, tells: list[Tell]) -> None:
        for tell in tells:
            frame = encode(tell.message)
            for other in self._endpoints(tell):
                if isinstance(tell.message, msg.RelayedCandidate):
                    other.outbox.put_ephemeral(frame)
                else:
                    other.outbox.put(frame)

    def _endpoints(self, tell: Tell) -> Iterator[Endpoint]:
        """The sessions that `tell` is for."""
        for endpoint_id in tell.to:
            endpoint = self._hub.session_at(endpoint_id)
            if endpoint is not None:
                yield endpoint
