"""Who is at the other end, for counting: behind proxies that are trusted, and in blocks that one person can have.

An address is what the server can tell strangers apart by before they have authenticated. Rules: a header counts only
if a trusted proxy wrote it, and only as far as trusted proxies did; an IPv6 host has a whole /64 to pick addresses
from, so that is what is counted; whoever sits on this machine is not a stranger.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NewType

from attrs import frozen

from ironwire.errors import ConfigError

Neighbourhood = NewType("Neighbourhood", str)
"""An IPv4 address, or the /64 of an IPv6 address: what limits for each address count."""

Address = tuple[str, int]
"""A host and a port."""

_WITH_PORT = re.compile(r"([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")

_HOPS = 32
"""Entries of X-Forwarded-For that are looked at; whoever writes more is a client that made them up."""


@frozen
class TrustedProxies:
    """The networks whose word about their clients is taken."""

    _networks: tuple[IPv4Network | IPv6Network, ...]

    @classmethod
    def parse(cls, networks: Iterable[str]) -> "TrustedProxies":
        """Raises:
        ConfigError: one of them is neither an address nor a network.
        """
        parsed = []
        for text in networks:
            try:
                parsed.append(ip_network(text))
            except ValueError as error:
                raise ConfigError(f"{text!r} is not an IP address or network such as 10.0.0.0/8: {error}") from None
        return cls(tuple(parsed))

    def neighbourhood(self, peer: str, forwarded_for: str) -> Neighbourhood | None:
        """Whom to count a connection from `peer` to; None: somebody on this machine.

        Args:
            peer: the address at the other end of the connection.
            forwarded_for: the value of X-Forwarded-For, "" without one. Each proxy appends whom it was called by, so
                it is read from the right, up to the first whom no trusted proxy has seen. Some append a port.
        """
        address = _address(peer)
        hops = [hop.strip() for hop in forwarded_for.split(",")][-_HOPS:] if forwarded_for else []
        while hops and address is not None and self._trusts(address):
            before = _address(_without_port(hops.pop()))
            if before is None:
                break  # this proxy names nobody, and what stands further left may be made up
            address = before
        return None if address is None or address.is_loopback else _neighbourhood(address)

    def is_proxy(self, peer: str) -> bool:
        """Whether connections from `peer` are those of others, whom only the headers of a request name."""
        address = _address(peer)
        return address is not None and self._trusts(address)

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def _without_port(hop: str) -> str:
    match = _WITH_PORT.fullmatch(hop)
    return hop if match is None else match[1]


@lru_cache(maxsize=1_000)  # a connection asks three times, and many come from the same proxy
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """None: not an address. A Unix socket has none, and is on this machine."""
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _neighbourhood(address: IPv4Address | IPv6Address) -> Neighbourhood:
    if isinstance(address, IPv4Address):
        return Neighbourhood(str(address))
    return Neighbourhood(str(IPv6Network((int(address) >> 64 << 64, 64))))
