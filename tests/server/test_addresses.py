"""Whom a connection is counted to: the last one whom a trusted proxy has really seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.errors import ConfigError
from ironwire.server.listener.addresses import TrustedProxies

NOBODY = TrustedProxies.parse([])
PROXIES = TrustedProxies.parse(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "counted"),
    [
        ("192.0.2.7", "", "192.0.2.7"),
        ("192.0.2.7", "203.0.113.9", "192.0.2.7"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("fd00::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "", "192.0.2.7"),
        ("127.0.0.1", "[2001:db8::1]", "2001:db8::/64"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9:4711", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, [2001:db8::1]:4711", "2001:db8::/64"),
        ("10.1.2.3", "198.51.100.1, unknown", "10.1.2.3"),
        ("10.1.2.3", "127.0.0.1, 203.0.113.9:port", "10.1.2.3"),
    ],
)
def test_the_last_one_whom_a_trusted_proxy_saw(peer: str, forwarded_for: str, counted: str) -> None:
    assert PROXIES.network(peer, forwarded_for) == counted


@pytest.mark.parametrize("forwarded_for", ["", "nonsense", "127.0.0.1", "10.1.1.1, 127.0.0.1"])
def test_this_machine_is_not_counted(forwarded_for: str) -> None:
    expected = "10.1.1.1" if forwarded_for.startswith("10.") else None
    assert PROXIES.network("127.0.0.1", forwarded_for) == expected
    assert NOBODY.network("::1", forwarded_for) is None


@pytest.mark.parametrize("forwarded_for", ["", "nonsense", "203.0.113.9"])
def test_all_who_come_by_a_socket_that_is_not_trusted_are_one(forwarded_for: str) -> None:
    assert NOBODY.network("", forwarded_for) == "unix"
    assert not NOBODY.is_proxy("")


def test_a_proxy_on_a_unix_socket_says_who_comes() -> None:
    proxies = TrustedProxies.parse(["unix"])
    assert proxies.is_proxy("")
    assert proxies.network("", "198.51.100.1, 203.0.113.9") == "203.0.113.9"
    assert proxies.network("", "198.51.100.1, nonsense") == "unix"
    assert proxies.network("", "") == "unix"
    assert proxies.network("127.0.0.1", "203.0.113.9") is None


@given(st.text())
def test_a_peer_cannot_choose_its_source_network(forwarded_for: str) -> None:
    assert PROXIES.network("192.0.2.7", forwarded_for) == "192.0.2.7"


@given(st.text(st.characters(exclude_characters=","), max_size=30))
def test_what_a_client_puts_in_front_changes_nothing(made_up: str) -> None:
    assert PROXIES.network("127.0.0.1", f"{made_up}, 203.0.113.9") == "203.0.113.9"


def test_a_network_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'10\.0\.0\.1/8' is not an IP address or network"):
        TrustedProxies.parse(["10.0.0.1/8"])


def test_a_network_that_nobody_is_ever_in_is_refused() -> None:
    with pytest.raises(ConfigError, match="write it as IPv4"):
        TrustedProxies.parse(["::ffff:10.0.0.0/104"])
