"""`wire/base64url.py`: one spelling for each sequence of bytes."""

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.errors import InvalidId
from ironwire.wire.base64url import from_base64url, to_base64url


@given(st.binary())
def test_bytes_are_spelled_without_padding(data: bytes) -> None:
    assert to_base64url(data) == urlsafe_b64encode(data).decode().rstrip("=")
    assert from_base64url(to_base64url(data)) == data


@given(st.text(max_size=6) | st.text("AQgw-_=/+\n ", max_size=6))
def test_no_other_spelling_is_taken(text: str) -> None:
    try:
        data = from_base64url(text)
    except InvalidId:
        return
    assert to_base64url(data) == text


@pytest.mark.parametrize("text", ["A", "AA==", "AB", "AAB", "A+A/", "AA\n", "AAAA ", "ÀA"])
def test_what_decoders_take_and_is_refused_here(text: str) -> None:
    with pytest.raises(InvalidId, match="must be base64url"):
        from_base64url(text)
