"""Who is told what in a call: docs/protocol.md, section 7.4, rule by rule, and then in any order at all."""

from collections.abc import Callable, Sequence

import pytest
from attrs import field, frozen
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ironwire.ids import CallId, ClientId
from ironwire.protocol.auth import Principal
from ironwire.protocol.call import Calls, CallSignal, Refused, Tell
from ironwire.wire.messages import (
    CallAnswer,
    CallCandidate,
    CallEnd,
    CallOffer,
    CallRinging,
    Candidate,
    RelayedAnswer,
    RelayedCandidate,
    RelayedEnd,
    RelayedOffer,
    RelayedRinging,
)

ANN, BOB, CAT = (ClientId(digits * 32) for digits in ("aa", "bb", "cc"))
FIRST, SECOND, THIRD = (CallId(digit * 32) for digit in "123")
RING_SECONDS = 90.0
HOST = Candidate("candidate:1 1 udp 1 127.0.0.1 9 typ host")


@frozen(eq=False)
class Seat:
    """A session, as far as a call goes."""

    name: str
    principal: Principal = field(repr=False)


def seat(client: ClientId, name: str) -> Seat:
    return Seat(name, Principal(client, None))


A1, A2, B1, B2, B3, C1 = (
    seat(client, name)
    for client, name in ((ANN, "a1"), (ANN, "a2"), (BOB, "b1"), (BOB, "b2"), (BOB, "b3"), (CAT, "c1"))
)


def machine(*, calls: int = 8, candidates: int = 64, most_bytes: int = 1_000) -> Calls[Seat]:
    return Calls(RING_SECONDS, calls, candidates, most_bytes)


def offer(to: ClientId = BOB, call: CallId = FIRST) -> CallOffer:
    return CallOffer(to, call, "sdp", "audio")


def told(result: list[Tell[Seat]] | Refused) -> list[tuple[str, object]]:
    """Name of the session and message, in order."""
    assert not isinstance(result, Refused), result
    return [(party.name, tell.message) for tell in result for party in tell.to]


def refused(result: list[Tell[Seat]] | Refused) -> str:
    assert isinstance(result, Refused)
    return result.code


def ringing(call: CallId = FIRST) -> Calls[Seat]:
    """Ann's first session calls Bob, who has two."""
    calls = machine()
    assert told(calls.offer(A1, offer(call=call), [B1, B2], 0)) == [
        ("b1", RelayedOffer(ANN, call, "sdp", "audio")),
        ("b2", RelayedOffer(ANN, call, "sdp", "audio")),
    ]
    return calls


def answered() -> Calls[Seat]:
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
    ("said", "is_room"), [("x" * 94, True), ("x" * 95, False), ("é" * 23, True), ("é" * 24, False)]
)
def test_what_rings_keeps_so_many_bytes(said: str, is_room: bool) -> None:
    """Of all calls of one client together: "sdp" of two calls is in there already."""
    calls = machine(most_bytes=100)
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
    calls = machine(most_bytes=100)
    for _ in range(3):
        calls.offer(A1, CallOffer(BOB, FIRST, "x" * 100, "audio"), [B1], 0)
        calls.signal(A1, CallEnd(BOB, FIRST, "hangup"))
    calls.offer(A1, CallOffer(BOB, FIRST, "x" * 100, "audio"), [B1], 0)
    calls.signal(B1, CallAnswer(ANN, FIRST, "answer"))
    assert len(told(calls.signal(A1, CallCandidate(BOB, FIRST, HOST)))) == 1
    assert len(told(calls.offer(A2, CallOffer(BOB, SECOND, "x" * 100, "audio"), [B1], 0))) == 1


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
        assert told(calls.left(session)) == []
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
    start: Callable[[], Calls[Seat]], leaver: Seat, expected: list[tuple[str, object]]
) -> None:
    assert told(start().left(leaver)) == expected


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
def test_offers_that_are_refused(caller: Seat, what: CallOffer, callee: Sequence[Seat], code: str) -> None:
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
def test_signals_that_are_refused(by: Seat, signal: CallSignal, code: str) -> None:
    calls = ringing()
    assert refused(calls.signal(by, signal)) == code
    assert len(told(calls.signal(B1, CallAnswer(ANN, FIRST, "all the same")))) == 2


class AnyOrder(RuleBasedStateMachine):
    """Sessions come, go and say what they like. Here is kept what each of them was told, and nothing else."""

    @initialize()
    def begin(self) -> None:
        self.calls = machine(calls=2, candidates=3)
        self.now = 0.0
        self.present: list[Seat] = []
        self.in_call: dict[Seat, set[CallId]] = {}
        self.made_by: dict[CallId, Seat] = {}
        self.made_to: dict[CallId, ClientId] = {}
        self.muffled: set[CallId] = set()
        self.answered: set[CallId] = set()
        for client in (ANN, ANN, BOB, BOB, CAT):
            self.arrive(client)

    def sessions_of(self, client: ClientId) -> list[Seat]:
        return [session for session in self.present if session.principal.client == client]

    def any_session(self, data: st.DataObject) -> Seat:
        return data.draw(st.sampled_from(self.present))

    def hear(self, tells: list[Tell[Seat]]) -> None:
        for tell in tells:
            assert tell.to
            for session in tell.to:
                assert session in self.present
                call, known = tell.message.call, self.in_call[session]
                if isinstance(tell.message, RelayedOffer):
                    assert call not in known
                    known.add(call)
                    continue
                assert call in known
                if isinstance(tell.message, RelayedEnd):
                    known.discard(call)
        for call in [call for call, caller in self.made_by.items() if call not in self.in_call.get(caller, ())]:
            del self.made_by[call]
            self.answered.discard(call)

    @rule(client=st.sampled_from([ANN, BOB, CAT]))
    def arrive(self, client: ClientId) -> None:
        if len(self.sessions_of(client)) < 3:
            session = seat(client, f"{client[0]}{len(self.present)}")
            self.present.append(session)
            self.in_call[session] = set()
            self.hear(self.calls.arrived(session))

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        in_calls = [session for session in self.present if self.in_call[session]]
        session = data.draw(st.sampled_from(in_calls or self.present))
        self.present.remove(session)
        del self.in_call[session]
        self.hear(self.calls.left(session))

    @precondition(lambda self: self.present)
    @rule(data=st.data(), to=st.sampled_from([ANN, BOB, CAT]), call=st.sampled_from([FIRST, SECOND, THIRD]))
    def call(self, data: st.DataObject, to: ClientId, call: CallId) -> None:
        caller = self.any_session(data)
        is_muffled = data.draw(st.sampled_from([False, False, False, True]))
        result = self.calls.offer(caller, offer(to, call), self.sessions_of(to), self.now, is_muffled=is_muffled)
        if not isinstance(result, Refused):
            assert call not in self.made_by
            self.made_by[call], self.made_to[call] = caller, to
            self.muffled = self.muffled | {call} if is_muffled else self.muffled - {call}
            self.in_call[caller].add(call)
            self.hear(result)

    @precondition(lambda self: any(self.in_call.values()))
    @rule(data=st.data(), kind=st.sampled_from(["ringing", "answer", "answer", "candidate", "end"]))
    def say(self, data: st.DataObject, kind: str) -> None:
        """What somebody in a call might say to the other side of it."""
        by, call = data.draw(st.sampled_from([(each, call) for each in self.present for call in self.in_call[each]]))
        caller = self.made_by[call]
        self.signal(by, kind, self.made_to[call] if by is caller else caller.principal.client, call)

    @precondition(lambda self: self.present)
    @rule(
        data=st.data(),
        kind=st.sampled_from(["ringing", "answer", "candidate", "end"]),
        to=st.sampled_from([ANN, BOB, CAT]),
        call=st.sampled_from([FIRST, SECOND, THIRD]),
    )
    def say_anything(self, data: st.DataObject, kind: str, to: ClientId, call: CallId) -> None:
        self.signal(self.any_session(data), kind, to, call)

    def signal(self, by: Seat, kind: str, to: ClientId, call: CallId) -> None:
        signals: dict[str, CallSignal] = {
            "ringing": CallRinging(to, call),
            "answer": CallAnswer(to, call, "sdp"),
            "candidate": CallCandidate(to, call, HOST),
            "end": CallEnd(to, call, "hangup"),
        }
        result = self.calls.signal(by, signals[kind])
        if isinstance(result, Refused):
            return
        assert call in self.in_call[by]
        if kind == "answer":
            assert call not in self.answered
            self.answered.add(call)
        if kind == "end":
            self.in_call[by].discard(call)
        self.hear(result)

    @rule(seconds=st.sampled_from([1.0, RING_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        answered = {*self.answered}
        self.hear(self.calls.expire(self.now))
        assert self.answered == answered
        if seconds == RING_SECONDS:
            assert set(self.made_by) == answered

    @invariant()
    def whoever_is_in_a_call_shares_it_with_its_caller(self) -> None:
        for session, known in self.in_call.items():
            for call in known:
                assert call in self.made_by, f"{session} waits for the end of a call that is over"
        for call in self.answered:
            others = [each for each in self.present if call in self.in_call[each] and each is not self.made_by[call]]
            assert len(others) == 1
        assert len(self.calls) == len(self.made_by)

    @invariant()
    def calls_that_ring_do_not_cross(self) -> None:
        loud = [call for call in self.made_by if call not in self.muffled | self.answered]
        ways = {(self.made_by[call].principal.client, self.made_to[call]) for call in loud}
        assert not any((to, by) in ways for by, to in ways)

    def teardown(self) -> None:
        for session in [*self.present]:
            self.present.remove(session)
            del self.in_call[session]
            self.hear(self.calls.left(session))
        assert self.calls == machine(calls=2, candidates=3), "something is left of calls that are over"


test_in_any_order = AnyOrder.TestCase
