"""The law of full jitter, and what close codes mean for it (docs/protocol.md, section 6)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.client import AuthenticationRefused, Backoff, ConnectionLost, SessionEnded
from ironwire.client.connection.closing import LONGEST_SPREAD_SECONDS, error_for_close

seconds = st.floats(min_value=0.001, max_value=1e6)


@given(seconds, seconds, st.integers(0, 10**9))
def test_a_delay_is_drawn_from_zero_to_the_capped_power(base: float, cap: float, attempt: int) -> None:
    assert Backoff(base, cap, uniform=min).delay_seconds(attempt) == 0
    assert Backoff(base, cap, uniform=max).delay_seconds(attempt) == (
        cap if attempt > 40 else min(cap, base * 2**attempt)
    )


def test_a_spread_that_the_server_asks_for_replaces_the_power() -> None:
    assert Backoff(1, 2, uniform=lambda _, high: high).delay_seconds(7, spread_seconds=5.0) == 5.0


@given(st.integers(0, 50))
def test_the_default_stays_within_half_a_minute(attempt: int) -> None:
    assert 0 <= Backoff().delay_seconds(attempt) <= 30


@pytest.mark.parametrize("code", [1002, 1007, 1009, 4400, 4403, 4409, 4410, 4499])
def test_codes_that_say_stop(code: int) -> None:
    assert repr(error_for_close(code, "why")) == repr(SessionEnded(code, "why"))


def test_a_client_that_was_too_slow_to_authenticate_comes_back() -> None:
    error = error_for_close(1002, "Authentication timeout", is_authenticated=False)
    assert repr(error) == repr(ConnectionLost(1002, "Authentication timeout"))


def test_a_refused_identity_says_why() -> None:
    assert repr(error_for_close(1008, "Invalid public key")) == repr(AuthenticationRefused("Invalid public key"))


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 4408, 4500, 4508, 4599, 4999])
def test_codes_after_which_one_comes_back(code: int) -> None:
    assert repr(error_for_close(code, "")) == repr(ConnectionLost(code, ""))


@pytest.mark.parametrize(
    ("reason", "spread_seconds"),
    [
        ("retry_ms=5000", 5.0),
        ("the server restarts, retry_ms=250", 0.25),
        ("retry_ms=999999999999", LONGEST_SPREAD_SECONDS),
        ("retry_ms=-1", None),
        ("", None),
    ],
)
def test_a_restart_says_how_far_to_spread(reason: str, spread_seconds: float | None) -> None:
    assert repr(error_for_close(1012, reason)) == repr(ConnectionLost(1012, reason, spread_seconds))
    assert repr(error_for_close(1011, reason)) == repr(ConnectionLost(1011, reason))


def test_an_overloaded_server_is_left_alone_for_longer() -> None:
    error = error_for_close(1013, "")
    assert isinstance(error, ConnectionLost)
    assert error.spread_seconds == 30.0
