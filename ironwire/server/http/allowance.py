"""How often one address may ask for something over HTTP."""

from math import ceil

import trio
from attrs import define, field

from ironwire.protocol.bucket import Buckets, Rate
from ironwire.server.http.body import asking_peer
from ironwire.server.http.responses import RequestRefused
from ironwire.server.listener.addresses import SourceNetwork, TrustedProxies
from ironwire.server.listener.connection_limiter import MOST_ADDRESSES


@define(eq=False)
class RequestAllowance:
    """One kind of request, counted by source network. This machine is not counted."""

    _rate: Rate
    _proxies: TrustedProxies
    refused_total: int = field(default=0, init=False)
    _buckets: Buckets[SourceNetwork] = field(init=False)

    @_buckets.default
    def _all_full(self) -> Buckets[SourceNetwork]:
        return Buckets(self._rate, MOST_ADDRESSES)

    def take(self) -> None:
        """Count the current request.

        Raises:
            RequestRefused: its address has asked too often.
        """
        network = self._proxies.network(*asking_peer())
        wait = 0.0 if network is None else self._buckets.take(network, 1, trio.current_time())
        if wait:
            self.refused_total += 1
            raise too_often(ceil(wait))


def too_often(retry_after_seconds: int) -> RequestRefused:
    detail = f"too many requests of this kind: try again in {retry_after_seconds} s"
    return RequestRefused(429, "rate_limited", detail, {"Retry-After": str(retry_after_seconds)})
