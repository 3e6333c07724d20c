"""What monitors ask for: the two probes, and the metrics, which are the operator's (docs/operations.md, Monitoring).

Rule: the metrics are read by whoever shows the token, or asks from this machine and came through no proxy. A proxy on
this machine would make everybody local, so one header of a proxy is enough to be nobody local. With a port of their own
the metrics are there and nowhere else, under the same rule.
"""

import hmac
import logging
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address

import trio
from attrs import frozen
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from quart import Blueprint, Response, request
from quart_trio import QuartTrio

from ironwire.server.http.responses import error_response, install_error_pages, install_security_headers, json_response
from ironwire.server.listener.guard import Guard
from ironwire.server.listener.guarded_server import serve_connection
from ironwire.server.listener.hypercorn import settle
from ironwire.server.listener.sockets import listen
from ironwire.server.operator.config import MetricsSettings

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
INSTANCE_HEADER = "X-IronWire-Instance"
_PROXY_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
_NO_BODY_BYTES = 0
_BACKLOG = 64


@frozen
class Readiness:
    """Whether new clients should be sent here; if not, `reasons` says why, for the operator."""

    is_ready: bool
    reasons: tuple[str, ...] = ()


def probe_routes(readiness: Callable[[], Readiness], instance: str) -> Blueprint:
    """Args:
    instance: tells this run of the server from every other; it is in the answer to `/healthz`.
    """
    routes = Blueprint("probes", __name__)

    @routes.get("/healthz")
    async def healthz() -> Response:
        return Response(b"ok\n", content_type="text/plain; charset=utf-8", headers={INSTANCE_HEADER: instance})

    @routes.get("/readyz")
    async def readyz() -> Response:
        now = readiness()
        return json_response({"ready": now.is_ready, "reasons": now.reasons}, 200 if now.is_ready else 503)

    return routes


def metrics_routes(metrics: Callable[[], bytes], token: str) -> Blueprint:
    """Args:
    metrics: the text format of Prometheus.
    token: lets its bearer read them from anywhere; "" for nobody.
    """
    routes = Blueprint("metrics", __name__)

    @routes.get("/metrics")
    async def metrics_text() -> Response:
        if _is_on_this_machine() or _shows(token):
            return Response(metrics(), content_type=METRICS_TYPE)
        detail = "the metrics are the operator's: ask from the server's own machine, or with metrics.token"
        return error_response(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})

    return routes


def _is_on_this_machine() -> bool:
    if any(name in request.headers for name in _PROXY_HEADERS):
        return False
    try:
        return ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False  # a Unix socket: most likely a proxy's


def _shows(token: str) -> bool:
    shown = request.headers.get("Authorization", "")
    return token != "" and hmac.compare_digest(shown.encode(), f"Bearer {token}".encode())


class MetricsServer:
    """The metrics and the probes at an address of their own. `open` it, then `run` it."""

    def __init__(self, settings: MetricsSettings, guard: Guard, *routes: Blueprint) -> None:
        self._settings = settings
        self._guard = guard
        self._app = QuartTrio(__name__, static_folder=None)
        install_error_pages(self._app)
        install_security_headers(self._app)
        for blueprint in routes:
            self._app.register_blueprint(blueprint)
        self.listeners: list[trio.SocketListener] = []

    async def open(self) -> None:
        """Raises:
        ConfigError: the address cannot be listened on.
        """
        settings = self._settings
        sockets = await trio.to_thread.run_sync(lambda: listen(settings.host, settings.port, _BACKLOG, "metrics"))
        self.listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in sockets]

    async def run(self) -> None:
        """Serve, for ever. Whoever calls this again opens the address anew."""
        if not self.listeners:
            await self.open()
        listeners, self.listeners = self.listeners, []
        config = Config()
        config.errorlog = logging.getLogger("ironwire.hypercorn")  # Hypercorn's own would write past our log
        settle(config, self._guard.limits)
        app = wrap_app(self._app, _NO_BODY_BYTES, "asgi")
        serve = partial(serve_connection, self._guard, app, config, WorkerContext(None), {})
        await trio.serve_listeners(serve, listeners)
