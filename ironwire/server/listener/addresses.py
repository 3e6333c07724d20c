"""The source network of a connection, for counting: behind trusted proxies, and in blocks that one person can own.

Only the address distinguishes unauthenticated peers. Rules: a header counts only as far as trusted proxies wrote it; an
IPv6 host can pick addresses from a whole /64, so the /64 is counted; a loopback
address is not counted.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NewType

from attrs import frozen

from ironwire.errors import ConfigError

SourceNetwork = NewType("SourceNetwork", str)
"""An IPv4 address, or the /64 of an IPv6 address. Limits for each address count these."""

Address = tuple[str, int]
"""A host and a port."""

UNIX = "unix"
"""Stands for the peers of a Unix socket, which have no address."""
_WITHOUT_ADDRESS = SourceNetwork(UNIX)

_WITH_PORT = re.compile(r"([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")

_HOPS = 32
"""Entries of X-Forwarded-For that are read; a longer list is forged."""


@frozen
class TrustedProxies:
    """The networks whose X-Forwarded-For is believed, and whether that of a Unix socket is."""

    _networks: tuple[IPv4Network | IPv6Network, ...]
    _trusts_unix: bool = False

    @classmethod
    def parse(cls, networks: Iterable[str]) -> "TrustedProxies":
        """Raises:
        ConfigError: an entry is neither an address, nor a network, nor `unix`; or no address can be in it.
        """
        parsed = []
        texts = tuple(networks)
        for text in texts:
            if text == UNIX:
                continue
            try:
                network = ip_network(text)
            except ValueError as error:
                known = f"is not an IP address or network such as 10.0.0.0/8, and not {UNIX!r}"
                raise ConfigError(f"{text!r} {known}: {error}") from None
            if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
                raise ConfigError(f"{text!r} is not an address that anybody has: write it as IPv4")
            parsed.append(network)
        return cls(tuple(parsed), UNIX in texts)

    def network(self, peer: str, forwarded_for: str) -> SourceNetwork | None:
        """The network that a connection from `peer` counts towards; None for this machine.

        All peers behind a Unix socket that is not trusted, or that sends no header, count as one.

        Args:
            peer: the address at the other end of the connection, "" for one that has none.
            forwarded_for: the value of X-Forwarded-For, "" without one. Each proxy appends the address of its peer, so
                the list is read from the right, up to the first address that is no trusted proxy. Some append a port.
        """
        address = parse_address(peer)
        hops = [hop.strip() for hop in forwarded_for.split(",")][-_HOPS:] if forwarded_for else []
        while hops and self._trusts(address):
            before = parse_address(_without_port(hops.pop()))
            if before is None:
                break  # this proxy names no address, and entries further left may be forged
            address = before
        if address is None:
            return _WITHOUT_ADDRESS
        return None if address.is_loopback else _network(address)

    def is_proxy(self, peer: str) -> bool:
        """Whether `peer` is a trusted proxy, whose clients only the headers of a request name."""
        return self._trusts(parse_address(peer))

    def _trusts(self, address: IPv4Address | IPv6Address | None) -> bool:
        if address is None:
            return self._trusts_unix
        return any(address in network for network in self._networks)


def _without_port(hop: str) -> str:
    match = _WITH_PORT.fullmatch(hop)
    return hop if match is None else match[1]


@lru_cache(maxsize=1_000)  # a connection asks three times, and many come from the same proxy
def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address; one mapped into IPv6 becomes IPv4. None if `text` is no address."""
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _network(address: IPv4Address | IPv6Address) -> SourceNetwork:
    if isinstance(address, IPv4Address):
        return SourceNetwork(str(address))
    return SourceNetwork(str(IPv6Network((int(address) >> 64 << 64, 64))))
