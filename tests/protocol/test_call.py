"""Who is told what in a call: docs/protocol.md, section 7.4, rule by rule, and then in any order at all."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ironwire.ids import CallId, ClientId, DeviceId, EndpointId
from ironwire.protocol.call import REMEMBER_SECONDS, CallRefused, Calls, CallSignal, Tell
from ironwire.protocol.call_state import SIGNAL_BYTES, Bounds, RelayedSignal
from ironwire.wire.messages import (
    CallAnswer,
    CallCandidate,
    CallEnd,
    CallOffer,
    CallRinging,
    CallUpdate,
    Candidate,
    RelayedAnswer,
    RelayedCandidate,
    RelayedEnd,
    RelayedOffer,
    RelayedResumed,
    RelayedRinging,
    RelayedUpdate,
)

ANN, BOB, CAT = (ClientId(digits * 32) for digits in ("aa", "bb", "cc"))
FIRST, SECOND, THIRD = (CallId(digit * 32) for digit in "123")
RING_SECONDS, RESUME_SECONDS = 90.0, 15.0
HOST = Candidate("candidate:1 1 udp 1 127.0.0.1 9 typ host")


A1, A2, B1, B2, B3, C1 = (
    EndpointId(client, None, session)
    for client, session in ((ANN, 1), (ANN, 2), (BOB, 1), (BOB, 2), (BOB, 3), (CAT, 1))
)
A_PHONE, B_PHONE, B_DESK = (
    EndpointId(client, DeviceId(device)) for client, device in ((ANN, "phone"), (BOB, "phone"), (BOB, "desk"))
)


def name_of(endpoint: EndpointId) -> str:
    """`a1` or `a.phone`."""
    return endpoint.client[0] + (str(endpoint.session) if endpoint.device is None else f".{endpoint.device}")


def machine(*, calls: int = 8, candidates: int = 64, most_bytes: int = 100_000) -> Calls:
    return Calls(Bounds(RING_SECONDS, RESUME_SECONDS, calls, candidates, most_bytes))


def offer(to: ClientId = BOB, call: CallId = FIRST) -> CallOffer:
    return CallOffer(to, call, "sdp", "audio")


def told(result: list[Tell] | CallRefused) -> list[tuple[str, object]]:
    """Name of the endpoint and message, in order."""
    assert not isinstance(result, CallRefused), result
    return [(name_of(endpoint), tell.message) for tell in result for endpoint in tell.to]


def refused(result: list[Tell] | CallRefused) -> str:
    assert isinstance(result, CallRefused)
    return result.code


def ringing(call: CallId = FIRST) -> Calls:
    """Ann's first session calls Bob, who has two."""
    calls = machine()
    assert told(calls.offer(A1, offer(call=call), [B1, B2], 0)) == [
        ("b1", RelayedOffer(ANN, call, "sdp", "audio")),
        ("b2", RelayedOffer(ANN, call, "sdp", "audio")),
    ]
    return calls


def answered() -> Calls:
    """As `ringing`, and Bob's first session answered."""
    calls = ringing()
    assert told(calls.signal(B1, CallAnswer(ANN, FIRST, "answer"))) == [
        ("a1", RelayedAnswer(BOB, FIRST, "answer")),
        ("b2", RelayedEnd(ANN, FIRST, "answered_elsewhere")),
    ]
    return calls


def test_the_caller_learns_once_that_it_rings() -> None:
    calls = ringing()
    assert told(calls.signal(B1, CallRinging(ANN, FIRST))) == [("a1", RelayedRinging(BOB, FIRST))]
    assert told(calls.signal(B2, CallRinging(ANN, FIRST))) == []


def test_the_first_answer_wins() -> None:
    calls = answered()
    assert refused(calls.signal(B2, CallAnswer(ANN, FIRST, "late"))) == "conflict"
    assert refused(calls.signal(B1, CallAnswer(ANN, FIRST, "again"))) == "conflict"
    assert refused(calls.signal(B1, CallRinging(ANN, FIRST))) == "conflict"
    assert told(calls.signal(B1, CallEnd(ANN, FIRST, "hangup"))) == [("a1", RelayedEnd(BOB, FIRST, "hangup"))]
    assert len(calls) == 0


def test_candidates_go_to_everyone_it_rings_at_and_then_to_whoever_answered() -> None:
    calls = ringing()
    from_ann, from_bob = RelayedCandidate(ANN, FIRST, HOST), RelayedCandidate(BOB, FIRST, HOST)
    assert told(calls.signal(A1, CallCandidate(BOB, FIRST, HOST))) == [("b1", from_ann), ("b2", from_ann)]
    assert told(calls.signal(B2, CallCandidate(ANN, FIRST, HOST))) == [("a1", from_bob)]
    calls.signal(B1, CallAnswer(ANN, FIRST, "answer"))
    assert told(calls.signal(A1, CallCandidate(BOB, FIRST, HOST))) == [("b1", from_ann)]
    assert told(calls.signal(B1, CallCandidate(ANN, FIRST, HOST))) == [("a1", from_bob)]
    assert refused(calls.signal(B2, CallCandidate(ANN, FIRST, HOST))) == "conflict"


def test_candidates_are_counted_for_each_session() -> None:
    calls = machine(candidates=2)
    calls.offer(A1, offer(), [B1], 0)
    for _ in range(2):
        assert len(told(calls.signal(A1, CallCandidate(BOB, FIRST, HOST)))) == 1
    assert refused(calls.signal(A1, CallCandidate(BOB, FIRST, HOST))) == "quota"
    assert len(told(calls.signal(B1, CallCandidate(ANN, FIRST, HOST)))) == 1


@pytest.mark.parametrize(
    ("said", "is_room"), [("x" * 400, True), ("x" * 401, False), ("é" * 100, True), ("é" * 101, False)]
)
def test_what_rings_keeps_so_many_bytes(said: str, is_room: bool) -> None:
    """Of all calls of one client together: the offers of two calls are in there already."""
    calls = machine(most_bytes=2 * SIGNAL_BYTES + 400)
    for call in (FIRST, SECOND):
        calls.offer(A1, offer(call=call), [B1], 0)
    result = calls.signal(A1, CallCandidate(BOB, SECOND, Candidate(said)))
    if is_room:
        assert len(told(result)) == 1
    else:
        assert refused(result) == "quota"
        assert refused(calls.offer(A2, CallOffer(BOB, THIRD, said, "audio"), [B1], 0)) == "quota"
        assert len(told(calls.signal(B1, CallCandidate(ANN, SECOND, Candidate(said))))) == 1, (
            "the callee's are not kept"
        )
        assert len(told(calls.offer(C1, CallOffer(BOB, THIRD, said, "audio"), [B1], 0))) == 1, "others have their own"


def test_what_was_answered_or_is_over_keeps_nothing() -> None:
    calls = machine(most_bytes=1_000)
    for _ in range(3):
        calls.offer(A1, CallOffer(BOB, FIRST, "x" * 1_000, "audio"), [B1], 0)
        calls.signal(A1, CallEnd(BOB, FIRST, "hangup"))
    calls.offer(A1, CallOffer(BOB, FIRST, "x" * 1_000, "audio"), [B1], 0)
    calls.signal(B1, CallAnswer(ANN, FIRST, "answer"))
    assert len(told(calls.signal(A1, CallCandidate(BOB, FIRST, HOST)))) == 1
    assert len(told(calls.offer(A2, CallOffer(BOB, SECOND, "x" * 1_000, "audio"), [B1], 0))) == 1


def test_a_session_that_comes_is_rung_by_as_many_as_one_may_call() -> None:
    calls = machine(calls=2)
    for caller, call in ((A1, THIRD), (C1, SECOND), (A1, FIRST)):
        calls.offer(caller, offer(call=call), [B1], 0)
    assert told(calls.arrived(B2)) == [
        ("b2", RelayedOffer(ANN, THIRD, "sdp", "audio")),
        ("b2", RelayedOffer(CAT, SECOND, "sdp", "audio")),
    ]
    assert refused(calls.signal(B2, CallAnswer(ANN, FIRST, "never rung"))) == "conflict"


def test_one_session_that_declines_does_so_for_all() -> None:
    assert told(ringing().signal(B2, CallEnd(ANN, FIRST, "declined"))) == [
        ("a1", RelayedEnd(BOB, FIRST, "declined")),
        ("b1", RelayedEnd(ANN, FIRST, "declined")),
    ]


def test_a_caller_may_think_better_of_it() -> None:
    assert told(ringing().signal(A1, CallEnd(BOB, FIRST, "hangup"))) == [
        ("b1", RelayedEnd(ANN, FIRST, "hangup")),
        ("b2", RelayedEnd(ANN, FIRST, "hangup")),
    ]


def test_what_nobody_answers_ends_in_time() -> None:
    calls = ringing()
    assert told(calls.expire(RING_SECONDS - 1)) == []
    assert [(name, getattr(end, "reason", None)) for name, end in told(calls.expire(RING_SECONDS))] == [
        ("a1", "timeout"),
        ("b1", "timeout"),
        ("b2", "timeout"),
    ]
    assert told(answered().expire(RING_SECONDS)) == []


def test_a_session_that_comes_while_it_rings_can_answer() -> None:
    calls = ringing()
    calls.signal(A1, CallCandidate(BOB, FIRST, HOST))
    for session in (B1, B2):
        assert told(calls.left(session, 0)) == []
    assert told(calls.arrived(B3)) == [
        ("b3", RelayedOffer(ANN, FIRST, "sdp", "audio")),
        ("b3", RelayedCandidate(ANN, FIRST, HOST)),
    ]
    assert told(calls.arrived(A2)) == []
    assert told(calls.signal(B3, CallAnswer(ANN, FIRST, "answer"))) == [("a1", RelayedAnswer(BOB, FIRST, "answer"))]
    assert told(calls.arrived(B1)) == []


@pytest.mark.parametrize(
    ("start", "leaver", "expected"),
    [
        (ringing, A1, [("b1", RelayedEnd(ANN, FIRST, "disconnected")), ("b2", RelayedEnd(ANN, FIRST, "disconnected"))]),
        (answered, A1, [("b1", RelayedEnd(ANN, FIRST, "disconnected"))]),
        (answered, B1, [("a1", RelayedEnd(BOB, FIRST, "disconnected"))]),
        (answered, B2, []),
        (answered, A2, []),
        (answered, C1, []),
    ],
)
def test_a_session_that_leaves_takes_its_call_along(
    start: Callable[[], Calls], leaver: EndpointId, expected: list[tuple[str, object]]
) -> None:
    assert told(start().left(leaver, 0)) == expected


@pytest.mark.parametrize(("theirs", "ours"), [(FIRST, SECOND), (SECOND, FIRST)])
def test_of_two_calls_that_cross_the_smaller_one_wins(theirs: CallId, ours: CallId) -> None:
    calls = ringing(call=theirs)
    result = told(calls.offer(B1, offer(ANN, ours), [A1, A2], 0))
    if ours < theirs:
        assert result == [
            ("a1", RelayedEnd(BOB, theirs, "glare")),
            ("b1", RelayedEnd(ANN, theirs, "glare")),
            ("b2", RelayedEnd(ANN, theirs, "glare")),
            ("a1", RelayedOffer(BOB, ours, "sdp", "audio")),
            ("a2", RelayedOffer(BOB, ours, "sdp", "audio")),
        ]
    else:
        assert result == [("b1", RelayedEnd(ANN, ours, "glare"))]
    assert len(calls) == 1


def test_a_call_that_was_answered_crosses_nothing() -> None:
    calls = answered()
    assert told(calls.offer(B2, offer(ANN, SECOND), [A2], 0)) == [("a2", RelayedOffer(BOB, SECOND, "sdp", "audio"))]
    assert len(calls) == 2


def test_a_muffled_call_is_one_that_nobody_answers() -> None:
    calls = machine()
    assert told(calls.offer(A1, offer(), [B1], 0, is_muffled=True)) == []
    assert told(calls.arrived(B2)) == []
    assert told(calls.signal(A1, CallCandidate(BOB, FIRST, HOST))) == []
    assert refused(calls.signal(B1, CallAnswer(ANN, FIRST, "guessed"))) == "conflict"
    # Nor does it get in the way of a call back.
    assert told(calls.offer(B1, offer(ANN, SECOND), [A1], 0)) == [("a1", RelayedOffer(BOB, SECOND, "sdp", "audio"))]
    assert told(calls.expire(RING_SECONDS))[0] == ("a1", RelayedEnd(BOB, FIRST, "timeout"))


@pytest.mark.parametrize(
    ("caller", "what", "callee", "code"),
    [
        (A1, offer(ANN, SECOND), [A2], "invalid"),
        (C1, offer(BOB, FIRST), [B1], "conflict"),
        (C1, offer(BOB, SECOND), [], "user_offline"),
    ],
)
def test_offers_that_are_refused(caller: EndpointId, what: CallOffer, callee: Sequence[EndpointId], code: str) -> None:
    assert refused(ringing().offer(caller, what, callee, 0)) == code


def test_only_calls_that_a_client_made_itself_are_counted() -> None:
    calls = machine(calls=1)
    calls.offer(A1, offer(BOB, FIRST), [B1], 0)
    assert refused(calls.offer(A2, offer(CAT, SECOND), [C1], 0)) == "quota"
    assert told(calls.offer(B1, offer(CAT, SECOND), [C1], 0)) != []
    calls.signal(A1, CallEnd(BOB, FIRST, "hangup"))
    assert told(calls.offer(A1, offer(CAT, THIRD), [C1], 0)) != []


@pytest.mark.parametrize(
    ("by", "signal", "code"),
    [
        (A1, CallEnd(BOB, SECOND, "hangup"), "not_found"),
        (A1, CallEnd(CAT, FIRST, "hangup"), "not_found"),
        (C1, CallAnswer(ANN, FIRST, "mine"), "not_found"),
        (C1, CallEnd(BOB, FIRST, "hangup"), "not_found"),
        (A2, CallEnd(BOB, FIRST, "hangup"), "conflict"),
        (B3, CallAnswer(ANN, FIRST, "never rung"), "conflict"),
        (A1, CallAnswer(BOB, FIRST, "own call"), "conflict"),
        (A1, CallRinging(BOB, FIRST), "conflict"),
    ],
)
def test_signals_that_are_refused(by: EndpointId, signal: CallSignal, code: str) -> None:
    calls = ringing()
    assert refused(calls.signal(by, signal)) == code
    assert len(told(calls.signal(B1, CallAnswer(ANN, FIRST, "all the same")))) == 2


def with_devices() -> Calls:
    """Ann's phone has called Bob, whose phone answered; his desktop was rung too."""
    calls = machine()
    calls.offer(A_PHONE, offer(), [B_PHONE, B_DESK], 0)
    calls.signal(B_PHONE, CallAnswer(ANN, FIRST, "answer"))
    return calls


ENDED_FOR_ANN, ENDED_FOR_BOB = (RelayedEnd(client, FIRST, "disconnected") for client in (BOB, ANN))


def test_a_device_that_comes_back_in_time_has_its_call_again() -> None:
    calls = with_devices()
    assert told(calls.left(A_PHONE, 0)) == []
    assert told(calls.expire(RESUME_SECONDS - 1)) == []
    assert told(calls.arrived(A_PHONE)) == [
        ("a.phone", RelayedResumed(BOB, FIRST)),
        ("b.phone", RelayedResumed(ANN, FIRST)),
    ]
    assert told(calls.expire(RESUME_SECONDS)) == []
    assert told(calls.signal(A_PHONE, CallEnd(BOB, FIRST, "hangup"))) == [("b.phone", RelayedEnd(ANN, FIRST, "hangup"))]


def test_a_device_that_stays_away_loses_its_call() -> None:
    calls = with_devices()
    calls.left(B_PHONE, 0)
    assert told(calls.left(B_PHONE, RESUME_SECONDS - 1)) == [], "an attempt to come back that failed gains no time"
    assert told(calls.expire(RESUME_SECONDS)) == [("a.phone", ENDED_FOR_ANN)]
    assert told(calls.expire(RESUME_SECONDS + 1)) == []
    assert told(calls.arrived(B_PHONE)) == [("b.phone", ENDED_FOR_BOB)]
    assert told(calls.arrived(B_PHONE)) == []
    assert calls == machine()


def test_what_is_said_to_a_device_that_is_away_comes_in_order() -> None:
    calls = with_devices()
    calls.left(B_PHONE, 0)
    signals: list[CallSignal] = [CallUpdate(BOB, FIRST, "offer", "new"), CallCandidate(BOB, FIRST, HOST)]
    for signal in signals:
        assert told(calls.signal(A_PHONE, signal)) == []
    assert told(calls.arrived(B_PHONE)) == [
        ("b.phone", RelayedResumed(ANN, FIRST)),
        ("b.phone", RelayedUpdate(ANN, FIRST, "offer", "new")),
        ("b.phone", RelayedCandidate(ANN, FIRST, HOST)),
        ("a.phone", RelayedResumed(BOB, FIRST)),
    ]


def test_of_a_call_that_ended_meanwhile_only_the_end_comes() -> None:
    calls = with_devices()
    calls.left(B_PHONE, 0)
    calls.signal(A_PHONE, CallUpdate(BOB, FIRST, "offer", "new"))
    assert told(calls.signal(A_PHONE, CallEnd(BOB, FIRST, "hangup"))) == []
    assert told(calls.arrived(B_PHONE)) == [("b.phone", RelayedEnd(ANN, FIRST, "hangup"))]


def test_a_caller_that_is_away_while_it_rings_gets_the_answer() -> None:
    calls = machine()
    calls.offer(A_PHONE, offer(), [B1], 0)
    assert told(calls.left(A_PHONE, 0)) == []
    signals: list[CallSignal] = [
        CallRinging(ANN, FIRST),
        CallCandidate(ANN, FIRST, HOST),
        CallAnswer(ANN, FIRST, "answer"),
    ]
    for signal in signals:
        assert told(calls.signal(B1, signal)) == []
    assert told(calls.arrived(A_PHONE)) == [
        ("a.phone", RelayedResumed(BOB, FIRST)),
        ("a.phone", RelayedRinging(BOB, FIRST)),
        ("a.phone", RelayedCandidate(BOB, FIRST, HOST)),
        ("a.phone", RelayedAnswer(BOB, FIRST, "answer")),
        ("b1", RelayedResumed(ANN, FIRST)),
    ]


def test_a_caller_that_stays_away_while_it_rings_ends_the_call() -> None:
    calls = machine()
    calls.offer(A_PHONE, offer(), [B1, B_PHONE], 0)
    calls.left(A_PHONE, 0)
    calls.left(B_PHONE, 0)
    assert told(calls.expire(RESUME_SECONDS)) == [("b1", ENDED_FOR_BOB)]
    assert told(calls.arrived(A_PHONE)) == [("a.phone", ENDED_FOR_ANN)]
    assert told(calls.arrived(B_PHONE)) == [("b.phone", ENDED_FOR_BOB)]


def test_a_device_that_was_rung_and_is_away_learns_who_answered() -> None:
    calls = machine()
    calls.offer(A1, offer(), [B_PHONE, B_DESK], 0)
    calls.left(B_DESK, 0)
    calls.signal(B_PHONE, CallAnswer(ANN, FIRST, "answer"))
    assert told(calls.arrived(B_DESK)) == [("b.desk", RelayedEnd(ANN, FIRST, "answered_elsewhere"))]


def test_both_devices_may_be_away_at_once() -> None:
    calls = with_devices()
    calls.left(A_PHONE, 0)
    calls.left(B_PHONE, 5)
    assert told(calls.arrived(A_PHONE)) == [("a.phone", RelayedResumed(BOB, FIRST))]
    assert told(calls.arrived(B_PHONE))[0] == ("b.phone", RelayedResumed(ANN, FIRST))
    calls.left(A_PHONE, 20)
    calls.left(B_PHONE, 25)
    assert told(calls.expire(20 + RESUME_SECONDS)) == []
    assert told(calls.arrived(A_PHONE)) == [("a.phone", ENDED_FOR_ANN)]
    assert told(calls.arrived(B_PHONE)) == [("b.phone", ENDED_FOR_BOB)]


def test_a_newer_session_of_a_device_takes_the_call_over() -> None:
    calls = with_devices()
    assert told(calls.arrived(B_PHONE)) == [
        ("b.phone", RelayedResumed(ANN, FIRST)),
        ("a.phone", RelayedResumed(BOB, FIRST)),
    ]
    rings = machine()
    rings.offer(A1, offer(), [B_PHONE], 0)
    assert told(rings.arrived(B_PHONE)) == [("b.phone", RelayedOffer(ANN, FIRST, "sdp", "audio"))]
    assert len(told(rings.signal(B_PHONE, CallAnswer(ANN, FIRST, "answer")))) == 1


def test_a_device_that_is_no_longer_rung_is_told_of_the_end() -> None:
    calls = machine(calls=1)
    calls.offer(A1, offer(call=FIRST), [B1], 0)
    calls.offer(C1, offer(call=SECOND), [B1, B_PHONE], 0)
    assert told(calls.arrived(B_PHONE)) == [("b.phone", RelayedOffer(ANN, FIRST, "sdp", "audio"))]
    assert told(calls.signal(B1, CallAnswer(CAT, SECOND, "answer"))) == [
        ("c1", RelayedAnswer(BOB, SECOND, "answer")),
        ("b.phone", RelayedEnd(CAT, SECOND, "answered_elsewhere")),
    ]
    assert told(calls.signal(C1, CallEnd(BOB, SECOND, "hangup"))) == [("b1", RelayedEnd(CAT, SECOND, "hangup"))]


def test_what_is_kept_for_a_device_that_is_away_is_bounded() -> None:
    calls = machine(most_bytes=1_000)
    calls.offer(A_PHONE, offer(), [B_PHONE], 0)
    calls.signal(B_PHONE, CallAnswer(ANN, FIRST, "answer"))
    calls.left(B_PHONE, 0)
    update = CallUpdate(BOB, FIRST, "offer", "x" * 600)
    assert told(calls.signal(A_PHONE, update)) == []
    assert refused(calls.signal(A_PHONE, update)) == "quota"
    assert refused(calls.offer(A2, CallOffer(CAT, SECOND, "x" * 600, "audio"), [C1], 0)) == "quota"
    calls.arrived(B_PHONE)
    assert len(told(calls.signal(A_PHONE, update))) == 1
    calls.left(B_PHONE, 0)
    assert told(calls.signal(A_PHONE, update)) == []
    calls.left(A_PHONE, 0)
    assert told(calls.expire(RESUME_SECONDS + REMEMBER_SECONDS)) == []
    assert calls == machine(most_bytes=1_000), "a device that never comes back is forgotten"


def test_signals_without_text_are_kept_in_no_greater_number() -> None:
    """Each takes memory, and an update lets its sender name candidates again."""
    calls = machine(most_bytes=100 * SIGNAL_BYTES)
    calls.offer(A_PHONE, offer(), [B_PHONE], 0)
    calls.signal(B_PHONE, CallAnswer(ANN, FIRST, "answer"))
    calls.left(B_PHONE, 0)
    kept = 0
    for _ in range(100):
        said: list[CallSignal] = [
            CallUpdate(BOB, FIRST, "offer", "x"),
            *[CallCandidate(BOB, FIRST, Candidate(""))] * 10,
        ]
        kept += sum(calls.signal(A_PHONE, signal) == [] for signal in said)
    assert kept == 100


def test_an_answer_that_cannot_be_kept_can_be_given_later() -> None:
    calls = machine(most_bytes=1_000)
    calls.offer(A_PHONE, offer(), [B1], 0)
    calls.left(A_PHONE, 0)
    answer = CallAnswer(ANN, FIRST, "x" * 1_001)
    assert refused(calls.signal(B1, answer)) == "quota"
    calls.arrived(A_PHONE)
    assert len(told(calls.signal(B1, answer))) == 1


def test_an_offer_and_an_answer_may_be_repeated() -> None:
    calls = with_devices()
    assert told(calls.offer(A_PHONE, offer(), [B_DESK], 0)) == []
    assert told(calls.signal(B_PHONE, CallAnswer(ANN, FIRST, "answer"))) == []
    assert refused(calls.offer(A_PHONE, CallOffer(BOB, FIRST, "another", "audio"), [B_DESK], 0)) == "conflict"
    assert refused(calls.offer(A1, offer(), [B_DESK], 0)) == "conflict"
    assert refused(calls.signal(B_PHONE, CallAnswer(ANN, FIRST, "another"))) == "conflict"


def test_an_update_goes_to_the_other_side_alone() -> None:
    calls = answered()
    assert told(calls.signal(A1, CallUpdate(BOB, FIRST, "offer", "new"))) == [
        ("b1", RelayedUpdate(ANN, FIRST, "offer", "new"))
    ]
    assert told(calls.signal(B1, CallUpdate(ANN, FIRST, "answer", "yes"))) == [
        ("a1", RelayedUpdate(BOB, FIRST, "answer", "yes"))
    ]
    assert refused(calls.signal(A2, CallUpdate(BOB, FIRST, "offer", "mine"))) == "conflict"
    assert refused(calls.signal(B2, CallUpdate(ANN, FIRST, "offer", "mine"))) == "conflict"
    assert refused(calls.signal(C1, CallUpdate(ANN, FIRST, "offer", "mine"))) == "not_found"


@pytest.mark.parametrize(("by", "to"), [(A1, BOB), (B1, ANN)])
def test_an_update_before_the_answer_is_refused(by: EndpointId, to: ClientId) -> None:
    assert refused(ringing().signal(by, CallUpdate(to, FIRST, "offer", "new"))) == "conflict"


def test_an_update_brings_candidates_of_its_own() -> None:
    calls = machine(candidates=1)
    calls.offer(A1, offer(), [B1], 0)
    calls.signal(B1, CallAnswer(ANN, FIRST, "answer"))
    for _ in range(2):
        assert len(told(calls.signal(A1, CallCandidate(BOB, FIRST, HOST)))) == 1
        assert refused(calls.signal(A1, CallCandidate(BOB, FIRST, HOST))) == "quota"
        calls.signal(A1, CallUpdate(BOB, FIRST, "offer", "new"))


class AnyOrder(RuleBasedStateMachine):
    """Endpoints come, go and say what they like. Here is kept what each was told, and when a call has to end."""

    @initialize()
    def begin(self) -> None:
        self.calls = machine(calls=2, candidates=3)
        self.now = 0.0
        self.sessions = 0
        self.present: list[EndpointId] = []
        self.in_call: dict[EndpointId, set[CallId]] = {}
        """The calls of which each was told, and not of their end. Devices that have left still wait for it."""
        self.left_at: dict[EndpointId, float] = {}
        self.owed: dict[EndpointId, set[CallId]] = {}
        """The ends that are to be told to devices when they arrive."""
        self.made_by: dict[CallId, EndpointId] = {}
        self.made_to: dict[CallId, ClientId] = {}
        self.made_at: dict[CallId, float] = {}
        self.muffled: set[CallId] = set()
        self.answered: dict[CallId, EndpointId] = {}
        for client, device in ((ANN, "phone"), (ANN, None), (BOB, "phone"), (BOB, None), (CAT, None)):
            self.arrive(client, device)

    def endpoints_of(self, client: ClientId) -> list[EndpointId]:
        return [each for each in self.present if each.client == client]

    def any_endpoint(self, data: st.DataObject) -> EndpointId:
        return data.draw(st.sampled_from(self.present))

    def parties(self, call: CallId) -> list[EndpointId]:
        return [self.made_by[call], *([self.answered[call]] if call in self.answered else [])]

    def hear(self, tells: list[Tell], arriving: EndpointId | None = None) -> None:
        for tell in tells:
            assert tell.to
            for endpoint in tell.to:
                assert endpoint in self.present
                self.hear_one(endpoint, tell.message, is_arriving=endpoint == arriving)

    def hear_one(self, endpoint: EndpointId, message: RelayedSignal, *, is_arriving: bool) -> None:
        call, known = message.call, self.in_call[endpoint]
        match message:
            case RelayedEnd() if is_arriving:
                assert call in self.owed[endpoint]
                self.owed[endpoint].discard(call)
            case RelayedEnd():
                assert call in known
                known.discard(call)
            case RelayedOffer():
                assert call not in known or is_arriving, "a device is rung anew when it arrives"
                known.add(call)
            case RelayedResumed():
                assert call in known
                assert endpoint in self.parties(call)
            case _:
                assert call in known

    def over(self, call: CallId) -> None:
        """Everybody who is here has been told; the others will be."""
        self.leave_to(call, [each for each in self.in_call if each not in self.present])
        del self.made_by[call], self.made_to[call], self.made_at[call]
        self.answered.pop(call, None)

    def leave_to(self, call: CallId, absent: list[EndpointId]) -> None:
        for endpoint in absent:
            if call in self.in_call[endpoint]:
                self.in_call[endpoint].discard(call)
                self.owed[endpoint].add(call)

    @rule(client=st.sampled_from([ANN, BOB, CAT]), device=st.sampled_from([None, "phone", "phone", "desk"]))
    def arrive(self, client: ClientId, device: str | None) -> None:
        self.sessions += 1
        endpoint = EndpointId(client, DeviceId(device)) if device else EndpointId(client, None, self.sessions)
        if endpoint not in self.present:
            if len(self.endpoints_of(client)) >= 3:
                return
            self.present.append(endpoint)
            self.left_at.pop(endpoint, None)
        self.in_call.setdefault(endpoint, set())
        self.owed.setdefault(endpoint, set())
        tells = self.calls.arrived(endpoint)
        own = [call for call in self.made_by if endpoint in self.parties(call)]
        resumed = [tell.message.call for tell in tells if endpoint in tell.to][: len(own)]
        assert sorted(resumed) == sorted(own), "its calls come first"
        self.hear(tells, arriving=endpoint)
        assert not self.owed[endpoint]

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        in_calls = [each for each in self.present if self.in_call[each]]
        endpoint = data.draw(st.sampled_from(in_calls or self.present))
        self.present.remove(endpoint)
        tells = self.calls.left(endpoint, self.now)
        if endpoint.device is None:
            lost = [call for call in self.made_by if endpoint in self.parties(call)]
            del self.in_call[endpoint], self.owed[endpoint]
            self.hear(tells)
            for call in lost:
                self.over(call)
        else:
            self.left_at[endpoint] = self.now
            assert tells == [], "nobody is told of a device that may come back"

    @precondition(lambda self: self.left_at)
    @rule(data=st.data())
    def fail_to_come_back(self, data: st.DataObject) -> None:
        """A session that the server did not admit."""
        assert self.calls.left(data.draw(st.sampled_from([*self.left_at])), self.now) == []

    @precondition(lambda self: self.present)
    @rule(data=st.data(), to=st.sampled_from([ANN, BOB, CAT]), call=st.sampled_from([FIRST, SECOND, THIRD]))
    def call(self, data: st.DataObject, to: ClientId, call: CallId) -> None:
        caller = self.any_endpoint(data)
        is_muffled = data.draw(st.sampled_from([False, False, False, True]))
        crossing = [
            each
            for each, made_by in self.made_by.items()
            if made_by.client == to
            and self.made_to[each] == caller.client
            and each not in self.muffled | {*self.answered}
        ]
        result = self.calls.offer(caller, offer(to, call), self.endpoints_of(to), self.now, is_muffled=is_muffled)
        if isinstance(result, CallRefused):
            return
        if call in self.made_by:
            assert (self.made_by[call], self.made_to[call], result) == (caller, to, []), "it is the same offer again"
            return
        self.in_call[caller].add(call)
        self.hear(result)
        if not is_muffled and any(each < call for each in crossing):
            assert call not in self.in_call[caller]
            return
        for each in [] if is_muffled else crossing:
            self.over(each)
        self.made_by[call], self.made_to[call], self.made_at[call] = caller, to, self.now
        self.muffled = self.muffled | {call} if is_muffled else self.muffled - {call}

    @precondition(lambda self: any(self.in_call[each] for each in self.present))
    @rule(data=st.data(), kind=st.sampled_from(["ringing", "answer", "answer", "candidate", "update", "end"]))
    def say(self, data: st.DataObject, kind: str) -> None:
        """What somebody in a call might say to the other side of it."""
        by, call = data.draw(st.sampled_from([(each, call) for each in self.present for call in self.in_call[each]]))
        caller = self.made_by[call]
        self.signal(by, kind, self.made_to[call] if by == caller else caller.client, call)

    @precondition(lambda self: self.present)
    @rule(
        data=st.data(),
        kind=st.sampled_from(["ringing", "answer", "candidate", "update", "end"]),
        to=st.sampled_from([ANN, BOB, CAT]),
        call=st.sampled_from([FIRST, SECOND, THIRD]),
    )
    def say_anything(self, data: st.DataObject, kind: str, to: ClientId, call: CallId) -> None:
        self.signal(self.any_endpoint(data), kind, to, call)

    def signal(self, by: EndpointId, kind: str, to: ClientId, call: CallId) -> None:
        signals: dict[str, CallSignal] = {
            "ringing": CallRinging(to, call),
            "answer": CallAnswer(to, call, "sdp"),
            "candidate": CallCandidate(to, call, HOST),
            "update": CallUpdate(to, call, "offer", "sdp"),
            "end": CallEnd(to, call, "hangup"),
        }
        result = self.calls.signal(by, signals[kind])
        if isinstance(result, CallRefused):
            return
        assert call in self.in_call[by]
        if kind == "update":
            others = [each for each in self.parties(call) if each != by]
            assert call in self.answered
            assert [each for tell in result for each in tell.to] == [each for each in others if each in self.present]
        if kind == "end":
            self.in_call[by].discard(call)
        self.hear(result)
        if kind == "end":
            self.over(call)
        if kind == "answer":
            assert self.answered.get(call, by) == by
            self.answered[call] = by
            self.leave_to(call, [each for each in self.left_at if each != self.made_by[call]])

    @rule(seconds=st.sampled_from([1.0, RESUME_SECONDS, RING_SECONDS, REMEMBER_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        due = [
            call
            for call in self.made_by
            if any(self.now - self.left_at.get(party, self.now) >= RESUME_SECONDS for party in self.parties(call))
            or (call not in self.answered and self.now - self.made_at[call] >= RING_SECONDS)
        ]
        self.hear(self.calls.expire(self.now))
        for call in due:
            self.over(call)
        for endpoint, left_at in self.left_at.items():
            if self.now - left_at >= RESUME_SECONDS + REMEMBER_SECONDS:
                self.owed[endpoint].clear()

    @invariant()
    def whoever_waits_for_an_end_is_in_a_live_call(self) -> None:
        for endpoint, known in self.in_call.items():
            for call in known:
                assert call in self.made_by, f"{endpoint} waits for the end of a call that is over"
        for call in self.made_by:
            assert all(call in self.in_call[party] for party in self.parties(call))
        for call in self.answered:
            assert {each for each in self.in_call if call in self.in_call[each]} == {*self.parties(call)}
        assert len(self.calls) == len(self.made_by)

    @invariant()
    def calls_that_ring_do_not_cross(self) -> None:
        loud = [call for call in self.made_by if call not in self.muffled | {*self.answered}]
        ways = {(self.made_by[call].client, self.made_to[call]) for call in loud}
        assert not any((to, by) in ways for by, to in ways)

    def teardown(self) -> None:
        for endpoint in [*self.present]:
            self.present.remove(endpoint)
            self.hear(self.calls.left(endpoint, self.now))
        assert self.calls.expire(self.now + RESUME_SECONDS) == []
        assert len(self.calls) == 0
        self.calls.expire(self.now + RESUME_SECONDS + REMEMBER_SECONDS)
        assert self.calls == machine(calls=2, candidates=3), "something is left of calls that are over"


test_in_any_order = AnyOrder.TestCase
