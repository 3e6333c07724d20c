"""People write the place of a server in many ways; there is one form, and it is the one that is signed."""

import pytest

from ironwire.client import InvalidServerAddress, ServerAddress


@pytest.mark.parametrize(
    ("typed", "origin"),
    [
        ("localhost:8080", "http://localhost:8080"),
        ("localhost", "http://localhost"),
        ("127.0.0.1:9", "http://127.0.0.1:9"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("[2001:db8::1]:8080", "https://[2001:db8::1]:8080"),
        ("chat.example", "https://chat.example"),
        ("chat.example:8443", "https://chat.example:8443"),
        ("http://chat.example", "http://chat.example"),
        ("HTTPS://Chat.Example:443/", "https://chat.example"),
        ("ws://localhost:8080/ws", "http://localhost:8080"),
        ("wss://chat.example/ws", "https://chat.example"),
        ("  localhost:8080\n", "http://localhost:8080"),
    ],
)
def test_what_people_type_becomes_an_origin(typed: str, origin: str) -> None:
    assert ServerAddress.parse(typed).origin == origin


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "://",
        "localhost:port",
        "localhost:0",
        "ftp://localhost",
        "https://user:secret@chat.example",
        "https://chat.example/other",
        "https://chat.example?x",
        "https://chat.example/ws#x",
        "[::1",
        "a b",
    ],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(InvalidServerAddress):
        ServerAddress.parse(typed)


def test_everything_else_follows_from_the_origin() -> None:
    address = ServerAddress.parse("wss://[::1]:8443")
    assert (address.host, address.port, address.is_secure) == ("::1", 8443, True)
    assert address.authority == "[::1]:8443"
    assert address.websocket_url == "wss://[::1]:8443/ws"


@pytest.mark.parametrize(("typed", "port"), [("http://host", 80), ("https://host", 443)])
def test_a_port_that_is_not_written_is_the_schemes_own(typed: str, port: int) -> None:
    address = ServerAddress.parse(typed)
    assert address.port == port
    assert address.authority == "host"
