"""The signals of calls between clients (docs/protocol.md, section 7.4), as a pure machine.

    state     what happens     by                  who is told                                          next
    --------  ---------------  ------------------  ---------------------------------------------------  --------
    -         call_offer       any session         the callee's sessions: call_offer                    Ringing
    Ringing   call_ringing     a ringing session   the caller, the first time                           Ringing
    Ringing   call_candidate   the caller          the ringing sessions                                 Ringing
    Ringing   call_candidate   a ringing session   the caller                                           Ringing
    Ringing   call_answer      a ringing session   the caller; the other ringing sessions: call_end     Answered
    Ringing   arrives          the callee          itself: call_offer, the caller's candidates so far   Ringing
    Ringing   leaves           a ringing session   nobody                                               Ringing
    Ringing   time passes                          everyone in it: call_end timeout                     over
    Answered  call_candidate   either session      the other one                                        Answered
    Answered  leaves           the answering one   the caller: call_end disconnected                    over
    either    leaves           the caller          everyone else in it: call_end disconnected           over
    either    call_end         anyone in it        everyone else in it                                  over

Rule: whoever was told of a call is told of its end, once, and nothing of it is kept after that.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar, assert_never

from attrs import define, field, frozen

from ironwire.ids import CallId, ClientId
from ironwire.protocol.auth import Principal
from ironwire.wire.messages import (
    CallAnswer,
    CallCandidate,
    CallEnd,
    CallOffer,
    CallRinging,
    ErrorCode,
    RelayedAnswer,
    RelayedCandidate,
    RelayedEnd,
    RelayedOffer,
    RelayedRinging,
)
from ironwire.wire.messages.calls import GivenReason

CallSignal = CallRinging | CallAnswer | CallCandidate | CallEnd
"""What is said within a call that was offered."""

RelayedSignal = RelayedOffer | RelayedRinging | RelayedAnswer | RelayedCandidate | RelayedEnd


class Party(Protocol):
    """A live session. Two are the same only if they are the same object."""

    @property
    def principal(self) -> Principal: ...


P = TypeVar("P", bound=Party)


@frozen
class Tell(Generic[P]):
    """Send `message` to each of these sessions."""

    to: tuple[P, ...]
    message: RelayedSignal


@frozen
class Refused:
    """Nothing happened: answer `error`."""

    code: ErrorCode
    detail: str | None = None


_TOO_LARGE = Refused("quota", "the calls of this client that ring have said as much as they may: end one of them")


@define(eq=False)
class _Call(Generic[P]):
    id: CallId
    caller: P
    callee_id: ClientId
    ends_at: float
    is_muffled: bool
    ringing: dict[P, None]
    """The callee's sessions, in the order in which they were rung; none once one of them has answered."""
    answerer: P | None = None
    is_known_to_ring: bool = False
    early: list[RelayedOffer | RelayedCandidate] = field(factory=list)
    """What the caller has said, while it rings: for a session that arrives."""
    early_bytes: int = 0
    candidate_counts: Counter[P] = field(factory=Counter)

    @property
    def caller_id(self) -> ClientId:
        return self.caller.principal.client

    @property
    def at_callee(self) -> tuple[P, ...]:
        return tuple(self.ringing) if self.answerer is None else (self.answerer,)

    def other_client(self, client: ClientId) -> ClientId | None:
        """Who is on the other side from `client`; None if it is on neither."""
        if client == self.caller_id:
            return self.callee_id
        return self.caller_id if client == self.callee_id else None

    def end(self, reason: GivenReason, sessions: Sequence[P], sender: ClientId) -> list[Tell[P]]:
        """What tells `sessions` that the call with `sender` is over."""
        return [Tell(tuple(sessions), RelayedEnd(sender, self.id, reason))] if sessions else []


@define
class Calls(Generic[P]):
    """Every call of this server. Each method returns what has to be said, in order; times are seconds of one clock.

    A muffled call rings nobody and ends like one that nobody answers: whom the callee has blocked learns nothing.
    """

    _ring_seconds: float
    _most_calls: int
    """That one client may have made at a time; calls that come to it do not count, or others could use them up."""
    _most_candidates: int
    """Of one session in one call."""
    _most_bytes: int
    """That the calls of one client may keep while they ring."""
    _live: dict[CallId, _Call[P]] = field(init=False, factory=dict)
    _by_client: dict[ClientId, dict[CallId, _Call[P]]] = field(init=False, factory=dict)

    def __len__(self) -> int:
        """How many are ringing or answered."""
        return len(self._live)

    def offer(
        self, caller: P, offer: CallOffer, callee: Sequence[P], now: float, *, is_muffled: bool = False
    ) -> list[Tell[P]] | Refused:
        """`caller` calls; `callee` are the live sessions of the client `offer.to`."""
        client = caller.principal.client
        if offer.to == client:
            return Refused("invalid", "a client cannot call itself")
        if offer.call in self._live:
            return Refused("conflict", "a call with this id is under way: choose another id")
        if not callee:
            return Refused("user_offline")
        if sum(call.caller_id == client for call in self._calls_of(client)) >= self._most_calls:
            return Refused("quota", f"a client may have {self._most_calls} calls at a time: end one of them")
        relayed = RelayedOffer(client, offer.call, offer.sdp, offer.media)
        size = _bytes_of(relayed.sdp)
        if not self._has_room_for(size, client):
            return _TOO_LARGE
        crossing = [] if is_muffled else self._ringing_calls(offer.to, client)
        if any(call.id < offer.call for call in crossing):
            return [Tell((caller,), RelayedEnd(offer.to, offer.call, "glare"))]
        tells = [tell for call in crossing for tell in self._over(call, "glare")]
        ringing = {} if is_muffled else dict.fromkeys(callee)
        call = _Call(offer.call, caller, offer.to, now + self._ring_seconds, is_muffled, ringing)
        call.early.append(relayed)
        call.early_bytes = size
        self._live[offer.call] = call
        for each in (client, offer.to):
            self._by_client.setdefault(each, {})[offer.call] = call
        if ringing:
            tells.append(Tell(tuple(ringing), relayed))
        return tells

    def signal(self, by: P, signal: CallSignal) -> list[Tell[P]] | Refused:
        """`by` says something within a call."""
        client = by.principal.client
        call = self._live.get(signal.call)
        if call is None or call.other_client(client) != signal.to:
            return Refused("not_found", "there is no such call with this client")
        if by is not call.caller and by not in call.at_callee:
            return Refused("conflict", "another session has this call")
        match signal:
            case CallRinging():
                return self._ring(call, by)
            case CallAnswer():
                return self._answer(call, by, signal)
            case CallCandidate():
                return self._pass_candidate(call, by, signal)
            case CallEnd(reason=reason):
                return self._over(call, reason, by)
            case _:
                assert_never(signal)

    def arrived(self, party: P) -> list[Tell[P]]:
        """A session has begun: what rings at its client rings there too, the oldest calls first, and no more of them
        than a client may make. However many call it, the session has room for what it is told.
        """
        client = party.principal.client
        rings = [
            call
            for call in self._calls_of(client)
            if call.callee_id == client and call.answerer is None and not call.is_muffled
        ][: self._most_calls]
        for call in rings:
            call.ringing[party] = None
        return [Tell((party,), signal) for call in rings for signal in call.early]

    def left(self, party: P) -> list[Tell[P]]:
        """A session is over, and its calls with it. One that only rang is missed by nobody: it may come back."""
        tells: list[Tell[P]] = []
        for call in self._calls_of(party.principal.client):
            if party is call.caller or party is call.answerer:
                tells += self._over(call, "disconnected", party)
            elif party in call.ringing:
                del call.ringing[party]
                del call.candidate_counts[party]
        return tells

    def expire(self, now: float) -> list[Tell[P]]:
        """End what has rung for too long."""
        due = [call for call in self._live.values() if call.answerer is None and call.ends_at <= now]
        return [tell for call in due for tell in self._over(call, "timeout")]

    def _ring(self, call: _Call[P], by: P) -> list[Tell[P]] | Refused:
        if by not in call.ringing:
            return Refused("conflict", "this call does not ring here")
        if call.is_known_to_ring:
            return []
        call.is_known_to_ring = True
        return [Tell((call.caller,), RelayedRinging(call.callee_id, call.id))]

    def _answer(self, call: _Call[P], by: P, answer: CallAnswer) -> list[Tell[P]] | Refused:
        if by not in call.ringing:
            return Refused("conflict", "this call does not ring here")
        others = [party for party in call.ringing if party is not by]
        call.answerer = by
        call.ringing.clear()
        call.early.clear()
        call.early_bytes = 0
        return [
            Tell((call.caller,), RelayedAnswer(call.callee_id, answer.call, answer.sdp)),
            *call.end("answered_elsewhere", others, call.caller_id),
        ]

    def _pass_candidate(self, call: _Call[P], by: P, signal: CallCandidate) -> list[Tell[P]] | Refused:
        if call.candidate_counts[by] >= self._most_candidates:
            return Refused("quota", f"a session may name {self._most_candidates} candidates in a call")
        relayed = RelayedCandidate(by.principal.client, signal.call, signal.candidate)
        is_early = by is call.caller and call.answerer is None
        size = _bytes_of(signal.candidate.candidate) + _bytes_of(signal.candidate.sdp_mid or "")
        if is_early and not self._has_room_for(size, call.caller_id):
            return _TOO_LARGE
        call.candidate_counts[by] += 1
        if by is not call.caller:
            return [Tell((call.caller,), relayed)]
        if is_early:
            call.early.append(relayed)
            call.early_bytes += size
        return [Tell(call.at_callee, relayed)] if call.at_callee else []

    def _over(self, call: _Call[P], reason: GivenReason, by: P | None = None) -> list[Tell[P]]:
        """Forget the call, and tell everyone in it but `by`."""
        del self._live[call.id]
        for client in (call.caller_id, call.callee_id):
            del self._by_client[client][call.id]
            if not self._by_client[client]:
                del self._by_client[client]
        to_caller = [] if by is call.caller else [call.caller]
        to_callee = [party for party in call.at_callee if party is not by]
        return [*call.end(reason, to_caller, call.callee_id), *call.end(reason, to_callee, call.caller_id)]

    def _calls_of(self, client: ClientId) -> list[_Call[P]]:
        return [*self._by_client.get(client, {}).values()]

    def _has_room_for(self, size: int, caller: ClientId) -> bool:
        kept = sum(call.early_bytes for call in self._calls_of(caller) if call.caller_id == caller)
        return kept + size <= self._most_bytes

    def _ringing_calls(self, caller: ClientId, callee: ClientId) -> list[_Call[P]]:
        return [
            call
            for call in self._calls_of(callee)
            if call.caller_id == caller and call.answerer is None and not call.is_muffled
        ]


def _bytes_of(text: str) -> int:
    """What it takes in memory, at the most."""
    return len(text) if text.isascii() else 4 * len(text)
