"""The signals of calls between clients (docs/protocol.md, section 7.4), as a pure machine.

Theory of operation. A call leads from one endpoint of the caller to the client that is called. It rings at the
endpoints of the callee that are there; one of them answers, and from then on the call is between two endpoints.
`arrived` and `left` say when an endpoint has a session. One without a device does not come back after it has left. A
device that leaves while it has a part in a call is away: nobody is told, and what is said to it is kept. When it
arrives it gets that, after `call_resumed` for each call that it made or answered. Away for too long, it loses these
calls.

    state     what happens     by                    who is told                                          next
    --------  ---------------  --------------------  ---------------------------------------------------  --------
    -         call_offer       any endpoint          the callee's endpoints: call_offer                   Ringing
    Ringing   call_ringing     a ringing endpoint    the caller, the first time                           Ringing
    Ringing   call_candidate   the caller            the ringing endpoints                                Ringing
    Ringing   call_candidate   a ringing endpoint    the caller                                           Ringing
    Ringing   call_answer      a ringing endpoint    the caller; the others that were rung: call_end      Answered
    Ringing   arrives          the callee            itself: call_offer, the caller's candidates so far   Ringing
    Ringing   leaves           a ringing endpoint    nobody                                               Ringing
    Ringing   time passes                            everyone in it: call_end timeout                     over
    Answered  call_candidate   either endpoint       the other one                                        Answered
    Answered  call_update      either endpoint       the other one                                        Answered
    either    leaves           a party with device   nobody; it is away                                   same
    either    leaves           a party without       everyone else in it: call_end disconnected           over
    either    arrives          a party               itself: call_resumed, and what was kept for it;      same
                                                     the other party: call_resumed
    either    time passes      a party that is away  everyone in it: call_end disconnected                over
    either    call_end         anyone in it          everyone else in it                                  over

The parties are the caller and the endpoint that answered. A device that is replaced by a newer session of itself only
arrives.

An offer or an answer that comes again, because its sender has not heard whether it got through, changes nothing.

Rule: an endpoint that was told of a call is told of its end, once, and nothing of the call is kept after that. A device
that is away is told when it arrives.
"""

from collections.abc import Iterable, Sequence
from typing import assert_never

from attrs import define, field, frozen

from ironwire.ids import CallId, ClientId, EndpointId
from ironwire.protocol.call_state import Absence, Bounds, Call, RelayedSignal, bytes_of
from ironwire.wire import messages as msg
from ironwire.wire.messages.calls import GivenReason

CallSignal = msg.CallRinging | msg.CallAnswer | msg.CallCandidate | msg.CallUpdate | msg.CallEnd
"""Signals within a call that was offered."""

REMEMBER_SECONDS = 300.0
"""How long the end of a call is kept for a device that is away, after its calls could have been resumed."""


@frozen
class Tell:
    """Send `message` to each of these endpoints, which are there."""

    to: tuple[EndpointId, ...]
    message: RelayedSignal


@frozen
class CallRefused:
    """Nothing happened: answer `error`."""

    code: msg.ErrorCode
    detail: str | None = None


_TOO_LARGE = CallRefused("quota", "no more of what this client says in calls can be kept: end a call, or wait")


@define
class Calls:
    """Every call of this server. Each method returns what has to be said, in order; times are seconds of one clock.

    A muffled call rings nobody and ends like one that nobody answers: whom the callee has blocked learns nothing.
    """

    _bounds: Bounds
    _live: dict[CallId, Call] = field(init=False, factory=dict)
    _by_client: dict[ClientId, dict[CallId, Call]] = field(init=False, factory=dict)
    _away: dict[EndpointId, Absence] = field(init=False, factory=dict)

    def __len__(self) -> int:
        """How many are ringing or answered."""
        return len(self._live)

    def offer(
        self,
        caller: EndpointId,
        offer: msg.CallOffer,
        callee: Sequence[EndpointId],
        now: float,
        *,
        is_muffled: bool = False,
    ) -> list[Tell] | CallRefused:
        """`caller` calls; `callee` is where the client `offer.to` can be rung."""
        client = caller.client
        if offer.to == client:
            return CallRefused("invalid", "a client cannot call itself")
        live = self._live.get(offer.call)
        if live is not None:
            if (live.caller, live.callee_id, live.offer_hash) == (caller, offer.to, hash(offer.sdp)):
                return []
            return CallRefused("conflict", "a call with this id is under way: choose another id")
        if not callee:
            return CallRefused("user_offline")
        if sum(call.caller_id == client for call in self._calls_of(client)) >= self._bounds.calls:
            return CallRefused("quota", f"a client may have {self._bounds.calls} calls at a time: end one of them")
        relayed = msg.RelayedOffer(client, offer.call, offer.sdp, offer.media)
        if not self._has_room_for(relayed):
            return _TOO_LARGE
        crossing = [] if is_muffled else self._ringing_calls(offer.to, client)
        if any(call.id < offer.call for call in crossing):
            return [Tell((caller,), msg.RelayedEnd(offer.to, offer.call, "glare"))]
        tells = [tell for call in crossing for tell in self._over(call, "glare")]
        ringing = {} if is_muffled else dict.fromkeys(callee)
        call = Call(offer.call, caller, offer.to, now + self._bounds.ring_seconds, is_muffled, hash(offer.sdp), ringing)
        call.early.append(relayed)
        call.early_bytes = bytes_of(relayed)
        self._live[offer.call] = call
        for each in (client, offer.to):
            self._by_client.setdefault(each, {})[offer.call] = call
        if ringing:
            tells.append(Tell(tuple(ringing), relayed))
        return tells

    def signal(self, by: EndpointId, signal: CallSignal) -> list[Tell] | CallRefused:
        """`by` says something within a call."""
        call = self._live.get(signal.call)
        if call is None or {by.client, signal.to} != {call.caller_id, call.callee_id}:
            return CallRefused("not_found", "there is no such call with this client")
        if by != call.caller and by not in call.at_callee:
            return CallRefused("conflict", "another session has this call")
        match signal:
            case msg.CallRinging():
                return self._ring(call, by)
            case msg.CallAnswer():
                return self._answer(call, by, signal)
            case msg.CallCandidate():
                return self._pass_candidate(call, by, signal)
            case msg.CallUpdate():
                return self._update(call, by, signal)
            case msg.CallEnd(reason=reason):
                return self._over(call, reason, by)
            case _:
                assert_never(signal)

    def arrived(self, endpoint: EndpointId) -> list[Tell]:
        """An endpoint has a session, a device perhaps another one than before. It has its calls again, and what rings
        at its client rings there too, the oldest calls first, and no more of them than a client may make: however many
        call it, the session has room for what it is told.
        """
        calls = self._calls_of(endpoint.client)
        own = [call for call in calls if call.has_party(endpoint)]
        absence = self._away.pop(endpoint, None)
        for call in own:
            del call.away_bytes[call.other_client(endpoint.client)]
        for call in calls:
            if endpoint in call.ringing:
                call.stop_ringing_at(endpoint)
        rings = [
            call
            for call in calls
            if call.callee_id == endpoint.client and call.answerer is None and not call.is_muffled
        ][: self._bounds.calls]
        for call in rings:
            call.ringing[endpoint] = None
            call.rung_before.pop(endpoint, None)
        to_itself: list[RelayedSignal] = [
            *(msg.RelayedResumed(call.other_client(endpoint.client), call.id) for call in own),
            *(absence.kept if absence is not None else ()),
            *(signal for call in rings for signal in call.early),
        ]
        tells = [Tell((endpoint,), signal) for signal in to_itself]
        for call in own:
            other = call.other_party(endpoint)
            if other is not None and other not in self._away:
                tells.append(Tell((other,), msg.RelayedResumed(endpoint.client, call.id)))
        return tells

    def left(self, endpoint: EndpointId, now: float) -> list[Tell]:
        """An endpoint has no session any more. One that only rang is missed by nobody: it may come back."""
        if endpoint in self._away:
            return []
        tells: list[Tell] = []
        is_expected = False
        for call in self._calls_of(endpoint.client):
            if call.has_party(endpoint) and endpoint.device is None:
                tells += self._over(call, "disconnected", endpoint)
                continue
            if endpoint in call.ringing:
                call.stop_ringing_at(endpoint)
            is_expected = is_expected or call.has_party(endpoint) or endpoint in call.rung_before
        if is_expected:
            self._away[endpoint] = Absence(now)
        return tells

    def expire(self, now: float) -> list[Tell]:
        """End what has rung for too long, and the calls of devices that were away for too long."""
        lost_at = now - self._bounds.resume_seconds
        lost = [
            call
            for endpoint, absence in self._away.items()
            if absence.since <= lost_at
            for call in self._calls_of(endpoint.client)
            if call.has_party(endpoint)
        ]
        tells = [tell for call in lost if call.id in self._live for tell in self._over(call, "disconnected")]
        due = [call for call in self._live.values() if call.answerer is None and call.ends_at <= now]
        tells += [tell for call in due for tell in self._over(call, "timeout")]
        for endpoint in [each for each, gone in self._away.items() if gone.since + REMEMBER_SECONDS <= lost_at]:
            del self._away[endpoint]
        return tells

    def _ring(self, call: Call, by: EndpointId) -> list[Tell] | CallRefused:
        if by not in call.ringing:
            return CallRefused("conflict", "this call does not ring here")
        if call.is_known_to_ring:
            return []
        call.is_known_to_ring = True
        return self._pass(call, call.caller, msg.RelayedRinging(call.callee_id, call.id))

    def _answer(self, call: Call, by: EndpointId, answer: msg.CallAnswer) -> list[Tell] | CallRefused:
        if by == call.answerer and hash(answer.sdp) == call.answer_hash:
            return []
        if by not in call.ringing:
            return CallRefused("conflict", "this call does not ring here")
        told = self._pass(call, call.caller, msg.RelayedAnswer(call.callee_id, answer.call, answer.sdp))
        if isinstance(told, CallRefused):
            return told
        others = [each for each in (*call.ringing, *call.rung_before) if each != by]
        call.answerer, call.answer_hash = by, hash(answer.sdp)
        call.ringing.clear()
        call.rung_before.clear()
        call.early.clear()
        call.early_bytes = 0
        return [*told, *self._tell_end(call, others, call.caller_id, "answered_elsewhere")]

    def _pass_candidate(self, call: Call, by: EndpointId, signal: msg.CallCandidate) -> list[Tell] | CallRefused:
        if call.candidate_counts[by] >= self._bounds.candidates:
            return CallRefused("quota", f"one side may name {self._bounds.candidates} candidates in a call")
        relayed = msg.RelayedCandidate(by.client, signal.call, signal.candidate)
        to = call.other_party(by)
        told: list[Tell] | CallRefused
        if to is not None:
            told = self._pass(call, to, relayed)
        elif not self._has_room_for(relayed):
            told = _TOO_LARGE
        else:
            call.early.append(relayed)
            call.early_bytes += bytes_of(relayed)
            told = [Tell(tuple(call.ringing), relayed)] if call.ringing else []
        call.candidate_counts[by] += not isinstance(told, CallRefused)
        return told

    def _update(self, call: Call, by: EndpointId, signal: msg.CallUpdate) -> list[Tell] | CallRefused:
        to = call.other_party(by)
        if call.answerer is None or to is None:
            return CallRefused("conflict", "this call was not answered yet")
        told = self._pass(call, to, msg.RelayedUpdate(by.client, signal.call, signal.kind, signal.sdp))
        if not isinstance(told, CallRefused):
            del call.candidate_counts[by]
        return told

    def _pass(self, call: Call, to: EndpointId, signal: RelayedSignal) -> list[Tell] | CallRefused:
        """To one party: now, or when it comes back."""
        absence = self._away.get(to)
        if absence is None:
            return [Tell((to,), signal)]
        if not self._has_room_for(signal):
            return _TOO_LARGE
        absence.kept.append(signal)
        call.away_bytes[signal.sender] += bytes_of(signal)
        return []

    def _over(self, call: Call, reason: GivenReason, by: EndpointId | None = None) -> list[Tell]:
        """Forget the call, and tell everyone in it but `by`."""
        del self._live[call.id]
        for client in (call.caller_id, call.callee_id):
            del self._by_client[client][call.id]
            if not self._by_client[client]:
                del self._by_client[client]
        for party in (call.caller, call.answerer):
            absence = self._away.get(party) if party is not None else None
            if absence is not None:
                absence.kept[:] = [signal for signal in absence.kept if signal.call != call.id]
        at_callee = [*call.at_callee, *call.rung_before]
        return [
            *self._tell_end(call, [each for each in (call.caller,) if each != by], call.callee_id, reason),
            *self._tell_end(call, [each for each in at_callee if each != by], call.caller_id, reason),
        ]

    def _tell_end(
        self, call: Call, endpoints: Iterable[EndpointId], sender: ClientId, reason: GivenReason
    ) -> list[Tell]:
        """Tell these endpoints that the call with `sender` is over. Kept for those that are away."""
        end = msg.RelayedEnd(sender, call.id, reason)
        here: list[EndpointId] = []
        for each in endpoints:
            absence = self._away.get(each)
            if absence is None:
                here.append(each)
            else:
                absence.kept.append(end)
        return [Tell(tuple(here), end)] if here else []

    def _calls_of(self, client: ClientId) -> list[Call]:
        return [*self._by_client.get(client, {}).values()]

    def _has_room_for(self, signal: RelayedSignal) -> bool:
        """Whether so much more may be kept of what its sender says."""
        client = signal.sender
        kept = sum(
            call.away_bytes[client] + (call.early_bytes if call.caller_id == client else 0)
            for call in self._calls_of(client)
        )
        return kept + bytes_of(signal) <= self._bounds.kept_bytes

    def _ringing_calls(self, caller: ClientId, callee: ClientId) -> list[Call]:
        return [
            call
            for call in self._calls_of(callee)
            if call.caller_id == caller and call.answerer is None and not call.is_muffled
        ]
