"""Monitoring: two probes for everybody, and the metrics for the operator (docs/operations.md, Monitoring).

Rule: the metrics are read with the token, or from this machine by a request that came through no proxy. A proxy on this
machine would make every client look local, so a single proxy header is enough to count as remote. With a port of their
own the metrics are served there and nowhere else, under the same rule.

The metrics are the parts' `statistics()` in the text format of Prometheus. The name of a field makes the metric's,
`figure` brings the explanation, and the value decides the kind: `Tallied` has labels, and a `Distribution` is a
histogram. So a part that counts something new publishes it by declaring a field.
"""

import hmac
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from ipaddress import ip_address

import attrs
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from quart import Blueprint, Response, request
from quart_trio import QuartTrio

from ironwire.counting import HELP, Distribution, Statistics, Tallied
from ironwire.server.http.responses import error_response, install_response_rules, json_response
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


@attrs.frozen
class Readiness:
    """Whether a load balancer should send new clients here; if not, `reasons` tells the operator why."""

    is_ready: bool
    reasons: tuple[str, ...] = ()


def probe_routes(readiness: Callable[[], Readiness], instance: str) -> Blueprint:
    """Args:
    instance: distinguishes this run of the server from every other; it is in the answer to `/healthz`.
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


def metrics_routes(sources: Mapping[str, Statistics], token: str) -> Blueprint:
    """Args:
    sources: as `metrics_text` takes them.
    token: lets its bearer read the metrics from anywhere; "" for nobody.
    """
    routes = Blueprint("metrics", __name__)

    @routes.get("/metrics")
    async def metrics() -> Response:
        if _is_on_this_machine() or _shows(token):
            return Response(metrics_text(sources), content_type=METRICS_TYPE)
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


def metrics_text(sources: Mapping[str, Statistics]) -> bytes:
    """Each field of each source as `ironwire_<source>_<field>`: a counter if its name ends in `_total`, a histogram if
    it holds one, else a gauge.

    Args:
        sources: each part's `statistics`, by the part's name.
    """
    registry = CollectorRegistry()
    registry.register(_StatisticsCollector(sources))
    return generate_latest(registry)


@attrs.frozen(eq=False)
class _StatisticsCollector(Collector):
    sources: Mapping[str, Statistics]

    def collect(self) -> Iterable[Metric]:
        for source, statistics in self.sources.items():
            snapshot = statistics()
            for field in attrs.fields(type(snapshot)):
                name = f"ironwire_{source}_{field.name}"
                yield _metric(name, field.metadata[HELP], getattr(snapshot, field.name))


def _metric(name: str, explanation: str, value: float | Tallied | Distribution) -> Metric:
    if isinstance(value, Distribution):
        bounds = [*map(str, value.bounds), "+Inf"]
        buckets = list(zip(bounds, value.cumulative, strict=True))
        return HistogramMetricFamily(name, explanation, buckets=buckets, sum_value=value.sum)
    family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    if not isinstance(value, Tallied):
        return family(name, explanation, value=float(value))
    metric = family(name, explanation, labels=value.labels)
    for label_values, count in value.counts.items():
        metric.add_metric(label_values, count)
    return metric


class MetricsServer:
    """The metrics and the probes at an address of their own. `open` it, then `run` it."""

    def __init__(self, settings: MetricsSettings, guard: Guard, *routes: Blueprint) -> None:
        self._settings = settings
        self._guard = guard
        self._app = QuartTrio(__name__, static_folder=None)
        install_response_rules(self._app)
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
        """Serve, for ever. Called again, it opens the address anew."""
        if not self.listeners:
            await self.open()
        listeners, self.listeners = self.listeners, []
        config = Config()
        config.errorlog = logging.getLogger("ironwire.hypercorn")  # Hypercorn's own would write past our log
        settle(config, self._guard.limits)
        app = wrap_app(self._app, _NO_BODY_BYTES, "asgi")
        serve = partial(serve_connection, self._guard, app, config, WorkerContext(None), {})
        await trio.serve_listeners(serve, listeners)
