"""The composition root: every part is made here, once, and given to those that need it.

    lifespan nursery
      └─ supervise(sessions.pulse)

    request or session nursery (Hypercorn's, one per connection)
      ├─ HTTP: upload, media, pages
      └─ /ws: Sessions.run ── Session.run (its nursery is drawn in session.py)

On shutdown the guard in `hypercorn.py` awaits `sessions.drain` before it lets the connections go.
"""

import os
import time
from collections.abc import Awaitable, Callable

import structlog
import trio
from quart import websocket
from quart_trio import QuartTrio

from ironwire import __version__
from ironwire.hub.delivery import Delivery
from ironwire.hub.hub import Hub
from ironwire.protocol.auth import AuthPolicy
from ironwire.server.config import Settings
from ironwire.server.hypercorn import install, open_transport
from ironwire.server.media import media_routes
from ironwire.server.metrics import Statistics, metrics_text
from ironwire.server.pages import Readiness, Status, page_routes
from ironwire.server.responses import install_error_pages, install_security_headers
from ironwire.server.session import Services, Session
from ironwire.server.sessions import Sessions
from ironwire.server.upload import upload_routes
from ironwire.store.blobs import Blobs

log = structlog.get_logger(__name__)

RESTART_SECONDS = 1.0


def wall_clock_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def create_app(
    settings: Settings,
    *,
    now_ms: Callable[[], int] = wall_clock_ms,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> QuartTrio:
    """The server as an ASGI application, not started: nothing touches the disk before its lifespan begins.

    Hypercorn's guarded parts are put in place here, because they drain these sessions when the worker has to stop.

    Args:
        settings: checked already.
        now_ms: the wall clock, in Unix milliseconds; every other time is `trio.current_time()`.
        random_bytes: the source of challenges and of blobs' names.
    """
    hub = Hub(sessions_per_client=settings.limits.sessions_per_client)
    services = Services(
        hub=hub,
        delivery=Delivery(hub, now_ms),
        limits=settings.limits,
        now_ms=now_ms,
        random_bytes=random_bytes,
    )
    sessions = Sessions(settings.limits)
    blobs = Blobs(settings.data / "media", random_bytes)

    guard = install(settings.limits, sessions.drain)
    started = time.monotonic()

    def status() -> Status:
        now = sessions.statistics()
        return Status(
            version=__version__,
            sessions=hub.statistics().sessions,
            uptime_seconds=time.monotonic() - started,
            is_draining=now.is_draining,
        )

    def readiness() -> Readiness:
        reasons = ("the server is stopping",) if sessions.statistics().is_draining else ()
        return Readiness(is_ready=not reasons, reasons=reasons)

    sources: dict[str, Statistics] = {
        "guard": guard.statistics,
        "sessions": sessions.statistics,
        "hub": hub.statistics,
        "delivery": services.delivery.statistics,
        "blobs": blobs.statistics,
    }

    app = QuartTrio(__name__, static_folder=None)
    install_error_pages(app)
    install_security_headers(app)
    app.register_blueprint(upload_routes(blobs, settings.limits))
    app.register_blueprint(media_routes(blobs))
    app.register_blueprint(
        page_routes(
            status=status,
            readiness=readiness,
            metrics=lambda: metrics_text(sources),
            origin=settings.auth.origins[0] if settings.auth.origins else None,
        )
    )

    @app.websocket("/ws")
    async def session() -> None:
        address, port = websocket.scope.get("server") or ("127.0.0.1", settings.server.port)
        policy = AuthPolicy(settings.served_origins(address, port or 0), settings.auth.require_origin)
        transport = await open_transport(websocket, settings.limits, portable=settings.transport == "portable")
        await sessions.run(Session(transport, services, policy))

    @app.before_serving
    async def start() -> None:
        await blobs.sweep()
        app.nursery.start_soon(_supervise, sessions.pulse)

    return app


async def _supervise(task: Callable[[], Awaitable[None]]) -> None:
    """Keep a background task going: a fault in it is logged and it begins anew, so that it can neither end the server nor vanish."""
    while True:
        try:
            await task()
        except Exception:
            log.exception("background task failed", task=task.__qualname__)
        await trio.sleep(RESTART_SECONDS)
