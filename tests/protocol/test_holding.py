"""The table of `holding.py`, and the law that it is there for: whatever is refused and whenever, what is accepted of
one session is in the order in which it was sent.
"""

from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ironwire.ids import ClientId, GroupId
from ironwire.protocol.holding import HELD_DETAIL, Hold
from ironwire.wire.messages import Ack, Devices, Error, GroupLeave, Ping, Receipt, Text, Typing

BOB = ClientId("b0" * 32)
SLOWLY = Error("rate_limited", retry_after_ms=500)
FULL = Error("mailbox_full", user=BOB)


def test_an_open_session_holds_nothing() -> None:
    hold = Hold()
    assert not hold.is_held
    assert not hold.is_broken
    with pytest.raises(RuntimeError):
        hold.answer(0.0)


def test_a_refusal_at_reading_lets_what_waits_be_committed() -> None:
    hold = Hold()
    hold.refused_at_reading(SLOWLY, 10.0)
    assert (hold.is_held, hold.is_broken) == (True, False)
    assert hold.answer(10.2) == Error("rate_limited", HELD_DETAIL, retry_after_ms=300, held=True)
    assert hold.answer(99.0) == Error("rate_limited", HELD_DETAIL, retry_after_ms=0, held=True)
    hold.resume()
    assert (hold.is_held, hold.is_broken) == (False, False)


def test_a_refusal_at_the_commit_refuses_what_waits_as_well() -> None:
    hold = Hold()
    hold.refused_at_commit(FULL)
    assert (hold.is_held, hold.is_broken) == (True, True)
    assert hold.answer(0.0) == Error("mailbox_full", HELD_DETAIL, BOB, held=True)


def test_what_was_refused_first_is_what_is_said() -> None:
    hold = Hold()
    hold.refused_at_reading(SLOWLY, 0.0)
    hold.refused_at_commit(FULL)
    assert hold.is_broken
    assert hold.answer(0.0).msg == "rate_limited"
    hold.refused_at_reading(SLOWLY, 0.0)
    assert hold.is_broken


@pytest.mark.parametrize("code", ["invalid", "user_offline", "conflict", "quota", "too_large"])
def test_what_is_refused_for_good_holds_nothing(code: str) -> None:
    hold = Hold()
    hold.refused_at_reading(Error(code), 0.0)  # type: ignore[arg-type]  # each is a code
    hold.refused_at_commit(Error(code))  # type: ignore[arg-type]  # as above
    assert not hold.is_held


def test_only_what_has_an_order_is_held() -> None:
    group = GroupId("#" + "0" * 32)
    for ordered in (Text(BOB, ""), Receipt(BOB, [], "read"), GroupLeave(group)):
        assert ordered.is_ordered
    for other in (Ack(1), Devices(), Ping(), Typing(BOB, typing=True)):
        assert not other.is_ordered


class Sessions(RuleBasedStateMachine):
    """A client that sends in a pipeline, a reader that refuses, commits that refuse, in any interleaving."""

    def __init__(self) -> None:
        super().__init__()
        self.hold = Hold()
        self.wanted: deque[int] = deque()
        """What the client has still to send, in order."""
        self.next = 0
        self.on_its_way: deque[int | None] = deque()
        """Frames that the server has not read; None is `resume`."""
        self.uncommitted: deque[int] = deque()
        self.accepted: list[int] = []
        self.refused: list[int] = []
        self.is_told = False

    @rule(count=st.integers(1, 4))
    def send(self, count: int) -> None:
        """A client that has learnt of a refusal sends nothing more before it has said `resume`."""
        if not self.is_told:
            self.on_its_way.extend(range(self.next, self.next + count))
            self.next += count

    @precondition(lambda self: self.on_its_way)
    @rule(is_too_much=st.booleans())
    def read(self, is_too_much: bool) -> None:
        frame = self.on_its_way[0]
        if frame is None:
            if self.uncommitted:
                return  # waits
            self.hold.resume()
        elif self.hold.is_held:
            self.hold.answer(0.0)
            self.refused.append(frame)
        elif is_too_much:
            self.hold.refused_at_reading(SLOWLY, 0.0)
            self.refused.append(frame)
        else:
            self.uncommitted.append(frame)
        self.on_its_way.popleft()

    @precondition(lambda self: self.uncommitted)
    @rule(is_full=st.booleans())
    def commit(self, is_full: bool) -> None:
        frame = self.uncommitted.popleft()
        if self.hold.is_broken:
            self.refused.append(frame)
        elif is_full:
            self.hold.refused_at_commit(FULL)
            self.refused.append(frame)
        else:
            self.accepted.append(frame)

    @precondition(lambda self: self.refused)
    @rule()
    def the_client_learns_of_it(self) -> None:
        self.is_told = True

    @precondition(lambda self: self.is_told and not self.on_its_way and not self.uncommitted)
    @rule()
    def go_on(self) -> None:
        """All answers are there: repeat what was refused, in order."""
        self.on_its_way.append(None)
        self.on_its_way.extend(sorted(self.refused))
        self.refused.clear()
        self.is_told = False

    @invariant()
    def what_is_accepted_is_in_order(self) -> None:
        assert self.accepted == sorted(set(self.accepted))


TestSessions = Sessions.TestCase
