"""Two people who mean the same server must get the same string, because that string is what gets signed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.errors import InvalidId
from ironwire.ids import parse_origin


@pytest.mark.parametrize(
    ("typed", "origin"),
    [
        ("https://chat.example", "https://chat.example"),
        ("HTTPS://Chat.Example:443", "https://chat.example"),
        ("wss://chat.example", "https://chat.example"),
        ("ws://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:80", "http://localhost"),
        ("https://localhost:80", "https://localhost:80"),
        ("http://localhost:08080", "http://localhost:8080"),
        ("http://iron_wire-1", "http://iron_wire-1"),
        ("https://[2001:DB8:0:0::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://[::1]", "http://[::1]"),
    ],
)
def test_an_origin_is_brought_to_its_one_form(typed: str, origin: str) -> None:
    assert parse_origin(typed) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "chat.example",
        "ftp://chat.example",
        "https://",
        "https://chat.example/",
        "https://chat.example/ws",
        "https://user@chat.example",
        "https://chat.example:0",
        "https://chat.example:65536",
        "https://chat.example:",
        "https://chat.example.",
        "https://chat.example\n",
        "https://chät.example",
        "https://chat.example:\u0661",
        "https://\u212aelvin.example",
        "https://[::1",
        "https://[1.2.3.4]",
        "https://[:::]",
        "https://" + "a" * 254,
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(InvalidId, match="must be an origin"):
        parse_origin(text)


@given(
    st.from_regex(r"(?i:https?|wss?)://([A-Za-z0-9]{1,9}|\[::[0-9A-Fa-f]{1,4}\])(:[1-9][0-9]{0,3})?", fullmatch=True)
)
def test_the_one_form_is_its_own_one_form(typed: str) -> None:
    origin = parse_origin(typed)
    assert parse_origin(origin) == origin
    assert origin.startswith(("http://", "https://"))
