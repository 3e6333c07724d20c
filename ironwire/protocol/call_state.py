"""The records of the machine in `call.py`: a call, a device that is away, and how much of both there may be."""

from collections import Counter

from attrs import define, field, frozen

from ironwire.ids import CallId, ClientId, EndpointId
from ironwire.wire import messages as msg

RelayedSignal = (
    msg.RelayedOffer
    | msg.RelayedRinging
    | msg.RelayedAnswer
    | msg.RelayedCandidate
    | msg.RelayedUpdate
    | msg.RelayedResumed
    | msg.RelayedEnd
)

SIGNAL_BYTES = 128
"""The least that a signal counts, even an empty candidate."""


@frozen
class Bounds:
    """How much may be under way. Times are in seconds."""

    ring_seconds: float
    resume_seconds: float
    calls: int
    """Calls that one client may have made at a time. Incoming calls do not count, or others could use up the bound."""
    candidates: int
    """Candidates of one endpoint in one call, between two of its session descriptions."""
    kept_bytes: int
    """Bytes that may be kept of the signals of one client."""


@define(eq=False)
class Call:
    id: CallId
    caller: EndpointId
    callee_id: ClientId
    ends_at: float
    is_muffled: bool
    offer_hash: int
    """Hash of the caller's description: recognises a repetition of the offer."""
    ringing: dict[EndpointId, None]
    """Endpoints that can answer, in the order in which they were rung; empty after the answer."""
    rung_before: dict[EndpointId, None] = field(factory=dict)
    """Devices that know of the call, cannot answer it now, and wait for its end."""
    answerer: EndpointId | None = None
    answer_hash: int | None = None
    is_known_to_ring: bool = False
    early: list[msg.RelayedOffer | msg.RelayedCandidate] = field(factory=list)
    """The caller's signals while the call rings, for an endpoint that arrives."""
    early_bytes: int = 0
    away_bytes: Counter[ClientId] = field(factory=Counter)
    """Bytes kept for a party that is away, by sender."""
    candidate_counts: Counter[EndpointId] = field(factory=Counter)

    @property
    def caller_id(self) -> ClientId:
        return self.caller.client

    @property
    def at_callee(self) -> tuple[EndpointId, ...]:
        """The endpoints that may speak for the callee."""
        return tuple(self.ringing) if self.answerer is None else (self.answerer,)

    def has_party(self, endpoint: EndpointId) -> bool:
        """Whether the call ends if this endpoint stays away."""
        return endpoint in (self.caller, self.answerer)

    def other_party(self, endpoint: EndpointId) -> EndpointId | None:
        """The recipient of signals from `endpoint`; None for a caller until there is an answer."""
        return self.answerer if endpoint == self.caller else self.caller

    def other_client(self, client: ClientId) -> ClientId:
        """The other one of the two clients of this call."""
        return self.callee_id if client == self.caller_id else self.caller_id

    def stop_ringing_at(self, endpoint: EndpointId) -> None:
        """`endpoint` can no longer answer. A device may come back, and is told of the end in any case."""
        del self.ringing[endpoint]
        del self.candidate_counts[endpoint]
        if endpoint.device is not None:
            self.rung_before[endpoint] = None


@frozen
class Absence:
    """The absence of a device that had a part in a call when it left."""

    since: float
    kept: list[RelayedSignal] = field(factory=list)


def bytes_of(signal: RelayedSignal) -> int:
    """The signal's size in memory: an upper bound of its text, and at least `SIGNAL_BYTES`."""
    match signal:
        case msg.RelayedOffer() | msg.RelayedAnswer() | msg.RelayedUpdate():
            texts = [signal.sdp]
        case msg.RelayedCandidate(candidate=candidate):
            texts = [candidate.candidate, candidate.sdp_mid or ""]
        case _:
            texts = []
    return max(SIGNAL_BYTES, sum(len(text) if text.isascii() else 4 * len(text) for text in texts))
