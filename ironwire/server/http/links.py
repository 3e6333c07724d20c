"""`PUT` and `GET /link/<32 hex>`: the answer of an owner device waits for the new device (docs/protocol.md, section
8.2).

Rules: an answer stays as it was written, for five minutes, and in memory alone. What is in it only the new device can
read, and whether it was written by an owner device only that one can tell; so anybody may write under a name that is
free, as somebody who could do harm with that would have to guess 128 bits.
"""

from collections.abc import Callable
from hmac import compare_digest
from itertools import takewhile

import trio
from attrs import define, field, frozen
from quart import Blueprint, Response, request

from ironwire.counting import figure
from ironwire.errors import InvalidId
from ironwire.ids import LinkName, parse_link_name
from ironwire.limits import LINK_BYTES, LINK_SECONDS, Limits
from ironwire.server.http.allowance import RequestAllowance, too_often
from ironwire.server.http.body import read_small_body
from ironwire.server.http.responses import RequestRefused, error_response, json_response, sealed_response
from ironwire.server.listener.addresses import TrustedProxies
from ironwire.server.listener.connection_limiter import per_minute


@frozen
class LinksStatistics:
    waiting: int = figure("Answers that wait for a new device, or for their end.")
    stored_total: int = figure("Answers that were left for new devices.")
    refused_total: int = figure("Requests for links that were answered with 429.")


@frozen
class _Answer:
    body: bytes
    expires_ms: int
    expires_at: float


@define(eq=False)
class Links:
    """The answers that wait, each until `LINK_SECONDS` after it was written."""

    _limits: Limits
    _proxies: TrustedProxies
    _now_ms: Callable[[], int]
    writes: RequestAllowance = field(init=False)
    reads: RequestAllowance = field(init=False)
    _answers: dict[LinkName, _Answer] = field(factory=dict, init=False)
    """In the order in which they end."""
    _stored_total: int = field(default=0, init=False)
    _full_total: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        rate = per_minute(self._limits.links_per_minute)
        self.writes, self.reads = RequestAllowance(rate, self._proxies), RequestAllowance(rate, self._proxies)

    def put(self, name: LinkName, body: bytes) -> int:
        """Leave an answer; returns when it ends, in Unix milliseconds. To write the same again changes nothing.

        Raises:
            RequestRefused: there is another one under this name, or no room.
        """
        self._forget_ended()
        known = self._answers.get(name)
        if known is None:
            if len(self._answers) >= self._limits.links_at_a_time:
                self._full_total += 1
                raise too_often(LINK_SECONDS)
            expires_ms = self._now_ms() + LINK_SECONDS * 1000
            known = self._answers[name] = _Answer(body, expires_ms, trio.current_time() + LINK_SECONDS)
            self._stored_total += 1
        elif not compare_digest(known.body, body):
            raise RequestRefused(409, "conflict", "there is another answer to this link: begin again")
        return known.expires_ms

    def get(self, name: LinkName) -> bytes | None:
        self._forget_ended()
        answer = self._answers.get(name)
        return None if answer is None else answer.body

    def statistics(self) -> LinksStatistics:
        refused_total = self.writes.refused_total + self.reads.refused_total + self._full_total
        return LinksStatistics(len(self._answers), self._stored_total, refused_total)

    def _forget_ended(self) -> None:
        now = trio.current_time()
        for name in [*takewhile(lambda name: self._answers[name].expires_at <= now, self._answers)]:
            del self._answers[name]


def link_routes(links: Links, limits: Limits) -> Blueprint:
    """The routes of links. The app streams the bodies of its requests (`upload.py`)."""
    routes = Blueprint("links", __name__)

    @routes.put("/link/<path:name>", merge_slashes=False)
    async def leave(name: str) -> Response:
        link = parse_link_name(name)
        links.writes.take()
        body = await read_small_body(LINK_BYTES, limits.upload_idle_seconds)
        if not body:
            raise RequestRefused(400, "invalid", "an answer to a link is not empty")
        return json_response({"expires": links.put(link, body)})

    @routes.get("/link/<path:name>", merge_slashes=False)
    async def fetch(name: str) -> Response:
        link = parse_link_name(name)
        links.reads.take()
        answer = links.get(link)
        if answer is None:
            return _not_found()
        return sealed_response(b"" if request.method == "HEAD" else answer)

    @routes.errorhandler(InvalidId)
    async def not_a_name(error: InvalidId) -> Response:
        return _not_found()

    @routes.errorhandler(RequestRefused)
    async def refused(error: RequestRefused) -> Response:
        return error.response()

    return routes


def _not_found() -> Response:
    return error_response(404, "not_found", "no answer to this link is here: not yet, or not any more")
