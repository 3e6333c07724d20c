"""Where a server listens: every address of its host, at one port."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from ironwire.errors import ConfigError
from ironwire.server.listener.sockets import listen

BACKLOG = 5


@contextmanager
def listening(host: str, port: int = 0) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(one) for one in listen(host, port, BACKLOG, "server")]


def answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), 5) as connection:
            return bool(connection.getpeername()[1] == port)
    except OSError:
        return False


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_every_ipv6_address_is_every_ipv4_address_too() -> None:
    with listening("::") as sockets:
        (port,) = {one.getsockname()[1] for one in sockets}
        assert answers("::1", port)
        assert answers("127.0.0.1", port)
        assert {one.family for one in sockets} == {socket.AF_INET, socket.AF_INET6}


def test_a_name_is_all_of_its_addresses() -> None:
    with listening("localhost") as sockets:
        (port,) = {one.getsockname()[1] for one in sockets}
        known = {place[0] for *_, place in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
        assert all(answers(str(address), port) for address in known)


def test_an_address_is_itself_alone() -> None:
    with listening("127.0.0.1") as sockets:
        assert [one.getsockname()[0] for one in sockets] == ["127.0.0.1"]


def test_an_address_that_the_machine_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    with listening("two.example") as sockets:
        assert [one.getsockname()[0] for one in sockets] == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["256.1.1.1", "no-such-host.invalid"])
def test_a_host_that_is_none(host: str) -> None:
    with pytest.raises(ConfigError, match=f"metrics.host = '{host}' is no address of this machine"):
        listen(host, 0, BACKLOG, "metrics")


def test_none_of_its_addresses_is_here() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address"):
        listen("192.0.2.1", 0, BACKLOG, "server")


def test_a_port_that_is_taken_at_one_of_them_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on \[::\]:{port}: Address already in use"):
            listen("::", port, BACKLOG, "server")
