"""The STUN and TURN servers of a call: which URLs are servers, and what a credential is good for."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.errors import InvalidId
from ironwire.handlers.ice import IceHandler, credential, parse_ice_url
from ironwire.wire.messages import IceServer, IceServerList

STUN, TURN, TURNS = map(parse_ice_url, ("stun:a.example", "turn:a.example:3478", "turns:[2001:db8::1]?transport=tcp"))


def handler(*urls: str) -> IceHandler:
    return IceHandler(
        tuple(map(parse_ice_url, urls)), "north", 600, lambda: 1_790_000_000_999, lambda count: b"\xab" * count
    )


def test_only_relays_need_a_credential() -> None:
    assert handler().servers() == IceServerList([])
    assert handler(STUN).servers() == IceServerList([IceServer([STUN])])
    username = "1790000600:" + "ab" * 8
    relays = IceServer([TURN, TURNS], username, credential("north", username))
    assert handler(STUN, TURN, TURNS).servers() == IceServerList([IceServer([STUN]), relays], 1_790_000_600_000)


@given(st.text(), st.text())
def test_a_credential_is_the_hmac_of_its_username(secret: str, username: str) -> None:
    expected = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    assert base64.b64decode(credential(secret, username), validate=True) == expected


def test_the_secret_is_not_shown() -> None:
    assert "north" not in repr(handler(TURN))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "turn",
        "turn:",
        "https://turn.example",
        "turn://turn.example",
        "turn:user@turn.example",
        "turn:turn.example:port",
        "turn:turn.example?transport=sctp",
        "stun:turn.example?transport=udp",
        "turn:turn.example\nturn:other.example",
        "turn:" + "a" * 256,
    ],
)
def test_what_is_not_a_server(text: str) -> None:
    with pytest.raises(InvalidId, match="must be URLs such as"):
        parse_ice_url(text)
