"""Limits on connections, checked before anything else is done: in total and by source network.

One connection of a proxy carries requests of many peers, which only the headers name. So a proxy's connections count
in total alone, and each WebSocket in them towards the network that has asked for it. Peers on this machine count
towards no network. Rule: a refusal costs a few dictionary look-ups, and delays no open connection.
"""

from collections.abc import Callable
from typing import Generic, Literal, TypeVar

import trio
from attrs import define, field, frozen

from ironwire.counting import Tallied, figure, tallied
from ironwire.limits import Limits
from ironwire.protocol.bucket import Buckets, Rate
from ironwire.server.listener.addresses import Address, SourceNetwork, TrustedProxies

RETRY_AFTER_SECONDS = 10
"""The Retry-After of a refusal: about as long as a reconnecting crowd takes to authenticate."""

MOST_ADDRESSES = 100_000
"""Networks whose rates are remembered: at most 20 MB for each kind of rate, because any peer can fill it."""

HttpRefusal = Literal[403, 429]
"""403: a page of another site. 429: the address is over its rate."""

Key = TypeVar("Key")


class Tally(Generic[Key]):
    """A counter for each key. Keys with a count of zero take no memory."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[Key, int] = {}

    def __getitem__(self, key: Key | None) -> int:
        return 0 if key is None else self._counts.get(key, 0)

    def add(self, key: Key | None) -> None:
        """Count one more; None is not counted."""
        if key is not None:
            self._counts[key] = self._counts.get(key, 0) + 1

    def remove(self, key: Key | None) -> None:
        """Count one less; None is not counted."""
        if key is None:
            return
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]

    def __len__(self) -> int:
        return len(self._counts)


@frozen
class ConnectionLimiterStatistics:
    """Open connections, and refusals since the process began."""

    open: int = figure("Open connections.")
    unauthenticated: int = figure("Connections that have not authenticated, those that carry HTTP included.")
    addresses: int = figure(
        "IPv4 addresses and IPv6 networks with an open connection, this machine and proxies not counted."
    )
    refused_total: Tallied = figure(
        "Refusals by what was refused: a `connection`, a page of a foreign `origin`, an `attempt` to authenticate, the "
        "`registration` of a device."
    )


@define(eq=False)
class ConnectionSlot:
    """One connection as the limiter counts it. Made by `ConnectionLimiter.enter`; `leave` comes once, at its end."""

    _limiter: "ConnectionLimiter"
    peer: str
    """The address at the other end, "" if it has none."""
    network: SourceNetwork | None
    """The network it counts towards; None for this machine, or for a proxy whose request has not been read yet."""
    is_of_proxy: bool
    """Whether the peer is a trusted proxy, whose requests name the network."""
    is_unauthenticated: bool = field(default=True, init=False)
    _refusal: HttpRefusal | None = field(default=None, init=False)

    def ask_for_socket(self, forwarded_for: str, origin: str | None, server: Address | None) -> HttpRefusal | None:
        """The status with which the request for a WebSocket is refused; None if it is admitted. Side effect: the
        connection counts towards the network that has asked. A refusal is final: close the connection.

        Args:
            forwarded_for: X-Forwarded-For, several joined with commas; "" without one.
            origin: the Origin of the page, as a browser sends it; None without one.
            server: where the connection arrived.
        """
        if self._refusal is None:
            self._refusal = self._limiter._refusal(self, forwarded_for, origin, server)
        return self._refusal

    def attempt(self) -> float:
        """Count an attempt to authenticate: 0.0, or the seconds until one is allowed."""
        return self._limiter._attempt(self.network)

    def registration(self) -> float:
        """Count a new device: 0.0, or the seconds until one is allowed."""
        return self._limiter._registration(self.network)

    def authenticated(self) -> None:
        """Mark the connection as authenticated."""
        if self.is_unauthenticated:
            self._limiter._unauthenticated.remove(self.network)
            self._limiter._unauthenticated_total -= 1
            self.is_unauthenticated = False

    def leave(self) -> None:
        self.authenticated()
        self._limiter._open.remove(self.network)
        self._limiter._open_total -= 1


@define(eq=False)
class ConnectionLimiter:
    """The counters of all connections."""

    _limits: Limits
    _proxies: TrustedProxies
    _serves_page_of: Callable[[str, Address | None], bool] = lambda origin, server: True
    """Whether a page of this origin may open sockets at this address of the server."""
    _now: Callable[[], float] = trio.current_time
    _open: Tally[SourceNetwork] = field(init=False, factory=Tally)
    _open_total: int = field(init=False, default=0)
    _unauthenticated: Tally[SourceNetwork] = field(init=False, factory=Tally)
    _unauthenticated_total: int = field(init=False, default=0)
    _arrivals: Buckets[SourceNetwork] = field(init=False)
    _attempts: Buckets[SourceNetwork] = field(init=False)
    _registrations: Buckets[SourceNetwork] = field(init=False)
    _refused: dict[str, int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        limits = self._limits
        self._arrivals = Buckets(per_minute(limits.connections_per_minute), MOST_ADDRESSES)
        self._attempts = Buckets(per_minute(limits.attempts_per_minute), MOST_ADDRESSES)
        self._refused = {"connection": 0, "origin": 0, "attempt": 0, "registration": 0}
        self._registrations = Buckets(per_hour(limits.registrations_per_hour), MOST_ADDRESSES)

    def enter(self, peer: str) -> ConnectionSlot | None:
        """Count a connection from the address `peer`. None: it is one too many; close it at once."""
        limits = self._limits
        is_of_proxy = self._proxies.is_proxy(peer)
        network = None if is_of_proxy else self._proxies.network(peer, "")
        if (
            self._open_total >= limits.connections
            or self._unauthenticated_total >= limits.unauthenticated
            or not self._has_room(network)
        ):
            self._refused["connection"] += 1
            return None
        self._open.add(network)
        self._unauthenticated.add(network)
        self._open_total += 1
        self._unauthenticated_total += 1
        return ConnectionSlot(self, peer, network, is_of_proxy)

    def statistics(self) -> ConnectionLimiterStatistics:
        return ConnectionLimiterStatistics(
            open=self._open_total,
            unauthenticated=self._unauthenticated_total,
            addresses=len(self._open),
            refused_total=tallied("what", self._refused),
        )

    def _refusal(
        self, slot: ConnectionSlot, forwarded_for: str, origin: str | None, server: Address | None
    ) -> HttpRefusal | None:
        if origin is not None and not self._serves_page_of(origin, server):
            self._refused["origin"] += 1
            return 403
        if not slot.is_of_proxy:
            return None  # counted since it came
        network = self._proxies.network(slot.peer, forwarded_for)
        if not self._has_room(network):
            self._refused["connection"] += 1
            return 429
        self._open.remove(slot.network)
        self._unauthenticated.remove(slot.network)
        slot.network = network
        self._open.add(network)
        self._unauthenticated.add(network)
        return None

    def _attempt(self, network: SourceNetwork | None) -> float:
        wait = self._take(self._attempts, network)
        self._refused["attempt"] += wait > 0
        return wait

    def _registration(self, network: SourceNetwork | None) -> float:
        wait = self._take(self._registrations, network)
        self._refused["registration"] += wait > 0
        return wait

    def _has_room(self, network: SourceNetwork | None) -> bool:
        return (
            self._open[network] < self._limits.connections_per_address
            and self._unauthenticated[network] < self._limits.unauthenticated_per_address
            and self._take(self._arrivals, network) == 0
        )

    def _take(self, buckets: Buckets[SourceNetwork], network: SourceNetwork | None) -> float:
        return 0.0 if network is None else buckets.take(network, 1, self._now())


def per_minute(count: float) -> Rate:
    """`count` a minute, all of them at once after a pause."""
    return Rate(per_second=count / 60, burst=count)


def per_hour(count: float) -> Rate:
    """`count` an hour, all of them at once after a pause."""
    return Rate(per_second=count / 3600, burst=count)
