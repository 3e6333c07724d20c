"""Upload permissions and rates: tokens, uploads at a time, uploads a minute, bytes an hour.

The headers are checked before the body is read, and the body is counted while it arrives. An upload counts towards its
source network, and with a token towards its client as well.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

import trio
from attrs import define, field, frozen

from ironwire.counting import figure
from ironwire.crypto.tokens import Grant, UploadTokens
from ironwire.ids import ClientId
from ironwire.limits import Limits
from ironwire.protocol.bucket import Buckets
from ironwire.server.http.responses import RequestRefused
from ironwire.server.listener.addresses import SourceNetwork, TrustedProxies
from ironwire.server.listener.connection_limiter import MOST_ADDRESSES, RETRY_AFTER_SECONDS, Tally, per_hour, per_minute

SCHEME = "IronWire"
"""The authentication scheme of the token in the header Authorization."""


@frozen
class UploadRulesStatistics:
    refused_total: int = figure("Uploads answered with 401 or 429.")


@frozen(eq=False)
class Upload:
    """One upload that is admitted. `most_bytes` bounds its body."""

    most_bytes: int
    _rules: "UploadRules"
    _payers: tuple[SourceNetwork | ClientId | None, ...]

    def pay(self, size_bytes: int) -> None:
        """Charge `size_bytes` that have arrived or are declared.

        Raises:
            RequestRefused: the hour's allowance is used up.
        """
        for payer in self._payers:
            self._rules._take(self._rules._bytes, payer, size_bytes)


@define(eq=False)
class UploadRules:
    """The counters of all uploads."""

    _limits: Limits
    _tokens: UploadTokens
    _proxies: TrustedProxies
    _requires_token: bool
    _now_ms: Callable[[], int]
    _uploads: Buckets[SourceNetwork | ClientId] = field(init=False)
    _bytes: Buckets[SourceNetwork | ClientId] = field(init=False)
    _running: Tally[SourceNetwork] = field(init=False, factory=Tally)
    _running_total: int = field(init=False, default=0)
    _refused_total: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._uploads = Buckets(per_minute(self._limits.uploads_per_minute), MOST_ADDRESSES)
        self._bytes = Buckets(per_hour(self._limits.upload_bytes_per_hour), MOST_ADDRESSES)

    @contextmanager
    def upload(self, peer: str, forwarded_for: str, authorization: str | None) -> Iterator[Upload]:
        """Admit one upload, which counts as running until the block ends.

        Args:
            peer: the address that the request came from, "" if it has none.
            forwarded_for: its X-Forwarded-For, "" without one.
            authorization: its Authorization, if it has one.

        Raises:
            RequestRefused: too many uploads, or no valid token.
        """
        network = self._proxies.network(peer, forwarded_for)
        limits = self._limits
        if (
            self._running_total >= limits.uploads_at_a_time
            or self._running[network] >= limits.uploads_at_a_time_per_address
        ):
            raise self._too_many(RETRY_AFTER_SECONDS)
        self._take(self._uploads, network, 1)
        is_open = authorization is None and not self._requires_token
        grant = None if is_open else self._redeem(authorization or "")
        if grant is not None:
            self._take(self._uploads, grant.client, 1)
        most_bytes = limits.upload_bytes if grant is None else grant.size_bytes
        payers = (network, None if grant is None else grant.client)
        self._running.add(network)
        self._running_total += 1
        try:
            yield Upload(most_bytes, self, payers)
        finally:
            self._running.remove(network)
            self._running_total -= 1

    def client_of(self, authorization: str | None) -> ClientId:
        """The client to whom the token in this Authorization was given. It is used up.

        Raises:
            RequestRefused: there is none that is good.
        """
        return self._redeem(authorization or "").client

    def statistics(self) -> UploadRulesStatistics:
        return UploadRulesStatistics(self._refused_total)

    def _redeem(self, authorization: str) -> Grant:
        scheme, _, token = authorization.partition(" ")
        grant = self._tokens.redeem(token.strip(), self._now_ms()) if scheme.lower() == SCHEME.lower() else None
        if grant is None:
            self._refused_total += 1
            detail = "this needs a token that is fresh and unused: ask for one with upload_token over the socket"
            raise RequestRefused(401, "unauthorized", detail, {"WWW-Authenticate": SCHEME})
        return grant

    def _take(
        self, buckets: Buckets[SourceNetwork | ClientId], payer: SourceNetwork | ClientId | None, count: int
    ) -> None:
        wait = 0.0 if payer is None else buckets.take(payer, count, trio.current_time())
        if wait:
            raise self._too_many(ceil(wait))

    def _too_many(self, retry_after_seconds: int) -> RequestRefused:
        self._refused_total += 1
        detail = f"too many or too large uploads: try again in {retry_after_seconds} s"
        return RequestRefused(429, "rate_limited", detail, {"Retry-After": str(retry_after_seconds)})
