"""Upload tokens: made by the server, bound to what they say, good once and for a time."""

import os

from hypothesis import given
from hypothesis import strategies as st

from ironwire.crypto.tokens import Grant, UploadTokens
from ironwire.ids import ClientId

GRANT = Grant(ClientId("a1" * 32), 1_000)


def test_a_token_stands_for_its_grant_once() -> None:
    tokens = UploadTokens(os.urandom)
    first, second = tokens.mint(GRANT, 100), tokens.mint(GRANT, 100)
    assert tokens.redeem(first, 50) == GRANT
    assert tokens.redeem(first, 50) is None
    assert tokens.redeem(second, 99) == GRANT


def test_tokens_do_not_say_how_many_there_are() -> None:
    """One that was made long before or after another differs from it by chance alone."""
    serials = [bytes([number]) * 8 for number in (9, 3, 7)]
    tokens = UploadTokens(lambda size: serials.pop(0) if size == 8 else b"k" * size)
    made = [bytes.fromhex(tokens.mint(GRANT, 100)) for _ in range(3)]
    assert [token[32:40] for token in made] == [bytes([number]) * 8 for number in (9, 3, 7)]
    assert len({token[:32] + token[40:56] for token in made}) == 1


def test_a_token_ends() -> None:
    tokens = UploadTokens(os.urandom)
    assert tokens.redeem(tokens.mint(GRANT, 100), 100) is None


def test_a_token_ends_with_the_process() -> None:
    assert UploadTokens(os.urandom).redeem(UploadTokens(os.urandom).mint(GRANT, 100), 0) is None


def test_tokens_that_were_used_are_forgotten_once_they_have_expired() -> None:
    tokens = UploadTokens(os.urandom)
    for now_ms in range(1_000):
        assert tokens.redeem(tokens.mint(GRANT, now_ms + 10), now_ms) == GRANT
    assert len(tokens._spent) < 20


def test_several_that_have_expired_are_forgotten_together() -> None:
    tokens = UploadTokens(os.urandom)
    for _ in range(3):
        assert tokens.redeem(tokens.mint(GRANT, 10), 0) == GRANT
    for _ in range(2):
        assert tokens.redeem(tokens.mint(GRANT, 30), 20) == GRANT
    assert list(tokens._spent.values()) == [30, 30]


@given(st.integers(0, 175), st.sampled_from("0123456789abcdef"))
def test_a_token_that_was_changed_is_none(place: int, digit: str) -> None:
    tokens = UploadTokens(os.urandom)
    token = tokens.mint(GRANT, 100)
    changed = token[:place] + digit + token[place + 1 :]
    assert tokens.redeem(changed, 0) == (GRANT if changed == token else None)


@given(st.text() | st.text("0123456789abcdef", max_size=400))
def test_nothing_else_is_a_token(text: str) -> None:
    assert UploadTokens(os.urandom).redeem(text, 0) is None
