"""Which calls a client takes for over, from what it says and hears."""

from ironwire.client.callbook import CallBook
from ironwire.ids import CallId, ClientId
from ironwire.wire.messages import (
    Accepted,
    CallEnd,
    CallOffer,
    CaughtUp,
    DeliveredText,
    Error,
    RelayedCandidate,
    RelayedEnd,
    RelayedOffer,
    RelayedResumed,
)
from ironwire.wire.messages.calls import Candidate

ANN, BOB = (ClientId(digits * 32) for digits in ("aa", "bb"))
FIRST, SECOND = (CallId(digit * 32) for digit in "12")
DONE = Accepted(0)


def in_two_calls() -> CallBook:
    """One to Ann, and one from Bob."""
    book = CallBook()
    book.answered(CallOffer(ANN, FIRST, "sdp", "audio"), DONE)
    assert book.heard(RelayedOffer(BOB, SECOND, "sdp", "audio")) == []
    return book


def test_without_a_device_the_calls_end_with_the_session() -> None:
    book = in_two_calls()
    assert book.lost(is_device=False) == [
        RelayedEnd(ANN, FIRST, "disconnected"),
        RelayedEnd(BOB, SECOND, "disconnected"),
    ]
    assert book.lost(is_device=False) == []


def test_a_call_that_the_server_does_not_name_is_over() -> None:
    book = in_two_calls()
    assert book.lost(is_device=True) == []
    assert book.heard(RelayedResumed(BOB, SECOND)) == []
    assert book.heard(RelayedCandidate(BOB, SECOND, Candidate(""))) == []
    assert book.heard(CaughtUp(0)) == [RelayedEnd(ANN, FIRST, "disconnected")]
    assert book.heard(CaughtUp(0)) == []
    assert book.lost(is_device=True) == []
    assert book.heard(DeliveredText(ANN, "Hello")) == [RelayedEnd(BOB, SECOND, "disconnected")]


def test_a_call_that_ended_meanwhile_ends_once() -> None:
    book = in_two_calls()
    book.lost(is_device=True)
    book.heard(RelayedEnd(ANN, FIRST, "hangup"))
    book.heard(RelayedOffer(BOB, SECOND, "sdp", "audio"))
    assert book.heard(CaughtUp(0)) == []


def test_a_call_that_the_client_has_ended_is_over() -> None:
    book = in_two_calls()
    book.answered(CallEnd(ANN, FIRST, "hangup"), DONE)
    book.answered(CallEnd(BOB, SECOND, "hangup"), Error("not_found"))
    assert book.lost(is_device=False) == []


def test_an_offer_that_was_refused_is_no_call() -> None:
    book = CallBook()
    book.answered(CallOffer(ANN, FIRST, "sdp", "audio"), Error("user_offline"))
    assert book.lost(is_device=False) == []
