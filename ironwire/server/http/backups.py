"""`PUT` and `GET /backup/<32 hex>`: what a recovery code brings back (docs/protocol.md, section 8.3).

Rules: only a client stores, with a token, under a name that is free or its own. Anybody reads who knows the name,
because whoever recovers has nothing but the code. The server cannot open a backup, and never makes a name known.
"""

from collections.abc import Callable
from hashlib import sha256

import structlog
from attrs import define, field, frozen
from quart import Blueprint, Response, request

from ironwire.counting import figure
from ironwire.errors import InvalidId, StoreError, StoreFull
from ironwire.ids import parse_backup_name
from ironwire.limits import BACKUP_BYTES, Limits
from ironwire.server.http.allowance import RequestAllowance
from ironwire.server.http.body import read_small_body
from ironwire.server.http.responses import HttpErrorCode, RequestRefused, error_response, json_response, sealed_response
from ironwire.server.http.upload_rules import UploadRules
from ironwire.server.listener.addresses import TrustedProxies
from ironwire.server.listener.connection_limiter import per_hour
from ironwire.store.contract.backups import BACKUPS_PER_CLIENT, BackupRefusal
from ironwire.store.contract.store import Store

_log = structlog.get_logger(__name__)

_REFUSALS: dict[BackupRefusal, tuple[int, HttpErrorCode, str]] = {
    "not_yours": (403, "forbidden", "this is the backup of another client"),
    "too_many": (409, "conflict", f"a client has {BACKUPS_PER_CLIENT} backups: remove that of the former code first"),
    "no_room": (507, "storage_full", "the server has no room left for backups; try again later"),
}


@frozen
class BackupRulesStatistics:
    stored_total: int = figure("Backups that were stored, or removed by their clients.")
    fetched_total: int = figure("Backups that were fetched.")
    refused_total: int = figure("Requests for backups that were answered with 429.")


@define(eq=False)
class BackupRules:
    """Who may store and fetch, and how often."""

    _limits: Limits
    tokens: UploadRules
    _proxies: TrustedProxies
    writes: RequestAllowance = field(init=False)
    reads: RequestAllowance = field(init=False)
    stored_total: int = field(default=0, init=False)
    fetched_total: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        rate = per_hour(self._limits.backups_per_hour)
        self.writes, self.reads = RequestAllowance(rate, self._proxies), RequestAllowance(rate, self._proxies)

    def statistics(self) -> BackupRulesStatistics:
        refused_total = self.writes.refused_total + self.reads.refused_total
        return BackupRulesStatistics(self.stored_total, self.fetched_total, refused_total)


def backup_routes(store: Store, rules: BackupRules, limits: Limits, now_ms: Callable[[], int]) -> Blueprint:
    """The routes of backups. The app streams the bodies of its requests (`upload.py`)."""
    routes = Blueprint("backups", __name__)

    @routes.put("/backup/<path:name>", merge_slashes=False)
    async def keep(name: str) -> Response:
        backup = parse_backup_name(name)
        client = rules.tokens.client_of(request.headers.get("Authorization"))
        rules.writes.take()
        body = await read_small_body(BACKUP_BYTES, limits.upload_idle_seconds)
        refusal = await store.keep_backup(client, backup, body, now_ms())
        if refusal is not None:
            raise RequestRefused(*_REFUSALS[refusal])
        rules.stored_total += 1
        return json_response({"size": len(body), "sha256": sha256(body).hexdigest()})

    @routes.get("/backup/<path:name>", merge_slashes=False)
    async def fetch(name: str) -> Response:
        backup = parse_backup_name(name)
        rules.reads.take()
        body = await store.backup(backup)
        if body is None:
            return _not_found()
        rules.fetched_total += 1
        return sealed_response(b"" if request.method == "HEAD" else body)

    @routes.errorhandler(InvalidId)
    async def not_a_name(error: InvalidId) -> Response:
        return _not_found()

    @routes.errorhandler(RequestRefused)
    async def refused(error: RequestRefused) -> Response:
        return error.response()

    @routes.errorhandler(StoreError)
    async def failed(error: StoreError) -> Response:
        _log.error("backup_failed", reason=str(error))
        if isinstance(error, StoreFull):
            return error_response(*_REFUSALS["no_room"])
        return error_response(500, "internal", "the backup could not be stored or read; try again later")

    return routes


def _not_found() -> Response:
    return error_response(404, "not_found", "there is no such backup")
