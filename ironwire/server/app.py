"""The composition root: every part is made here, once, and given to those that need it.

    lifespan nursery
      └─ Background.run
           ├─ supervise(postman.run)      empties the outboxes
           ├─ supervise(delivery.run)     the one committer
           ├─ supervise(sessions.pulse)
           └─ supervise(janitor.run)

    request or session nursery (Hypercorn's, one per connection)
      ├─ HTTP: upload, media, pages
      └─ /ws: Sessions.run ── Session.run (its nursery is drawn in session.py)

On shutdown the guard in `hypercorn.py` awaits `sessions.drain` before it lets the connections go.
"""

import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import cast

import structlog
import trio
from attrs import define, field
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope
from quart import websocket
from quart.globals import websocket_ctx
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIWebsocketConnection

from ironwire import __version__
from ironwire.errors import StoreError
from ironwire.hub.delivery import Delivery
from ironwire.hub.devices import DeviceDesk
from ironwire.hub.hub import Hub
from ironwire.hub.janitor import Janitor
from ironwire.hub.postman import Postman
from ironwire.hub.requests import Requests
from ironwire.protocol.auth import AuthPolicy
from ironwire.server.config import Settings
from ironwire.server.hypercorn import install, take_socket
from ironwire.server.media import media_routes
from ironwire.server.metrics import Statistics, metrics_text
from ironwire.server.pages import Readiness, Status, page_routes
from ironwire.server.responses import install_error_pages, install_security_headers
from ironwire.server.session import Services, Session
from ironwire.server.sessions import Sessions
from ironwire.server.transport import PortableTransport, Transport
from ironwire.server.upload import upload_routes
from ironwire.store.base import Quota, Store
from ironwire.store.blobs import Blobs
from ironwire.store.sqlite import SqliteStore

log = structlog.get_logger(__name__)

SOCKET_PATH = "/ws"
RESTART_SECONDS = 1.0
GC_THRESHOLDS = (50_000, 20, 100)
SWITCH_SECONDS = 0.001
"""How long a thread may hold the interpreter while the event loop waits for it (docs/decisions/0005)."""


def wall_clock_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def create_app(
    settings: Settings,
    *,
    now_ms: Callable[[], int] = wall_clock_ms,
    random_bytes: Callable[[int], bytes] = os.urandom,
    open_store: Callable[[Quota], Store] | None = None,
) -> QuartTrio:
    """The server as an ASGI application, not started: nothing touches the disk before its lifespan begins.

    Hypercorn's guarded parts are put in place here, because they drain these sessions when the worker has to stop.

    Args:
        settings: checked already.
        now_ms: the wall clock, in Unix milliseconds; every other time is `trio.current_time()`.
        random_bytes: the source of challenges and of blobs' names.
        open_store: makes another store than the SQLite file in the data folder.
    """
    limits = settings.limits
    quota = Quota(
        limits.mailbox_envelopes,
        limits.mailbox_bytes,
        limits.devices_per_client,
        limits.groups_per_client,
        limits.blocks_per_client,
    )
    store = SqliteStore(settings.data / "ironwire.db", quota) if open_store is None else open_store(quota)
    hub = Hub(sessions_per_client=limits.sessions_per_client)
    delivery = Delivery(hub, store, now_ms, limits, keeps_history=settings.history.days > 0)
    janitor = Janitor(store, delivery, limits, now_ms, settings.history.days)
    postman = Postman()
    services = Services(
        hub=hub,
        delivery=delivery,
        requests=Requests(delivery, DeviceDesk(hub, delivery)),
        postman=postman,
        limits=limits,
        now_ms=now_ms,
        random_bytes=random_bytes,
    )
    sessions = Sessions(limits)
    background = _Background((postman.run, delivery.run, sessions.pulse, janitor.run))
    blobs = Blobs(settings.data / "media", random_bytes)

    guard = install(limits, sessions.drain)
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
        checks = {
            "the server is stopping": sessions.statistics().is_draining,
            "the store cannot write: see the log": store.statistics().is_failing,
        }
        reasons = tuple(reason for reason, holds in checks.items() if holds)
        return Readiness(is_ready=not reasons, reasons=reasons)

    sources: dict[str, Statistics] = {
        "guard": guard.statistics,
        "sessions": sessions.statistics,
        "hub": hub.statistics,
        "delivery": delivery.statistics,
        "store": store.statistics,
        "blobs": blobs.statistics,
    }

    app = _App(__name__, static_folder=None)
    install_error_pages(app)
    install_security_headers(app)
    app.register_blueprint(upload_routes(blobs, limits))
    app.register_blueprint(media_routes(blobs))
    app.register_blueprint(
        page_routes(
            status=status,
            readiness=readiness,
            metrics=lambda: metrics_text(sources),
            origin=settings.auth.origins[0] if settings.auth.origins else None,
        )
    )

    async def serve_session(transport: Transport, scope: WebsocketScope) -> None:
        address, port = scope.get("server") or ("127.0.0.1", settings.server.port)
        policy = AuthPolicy(settings.served_origins(address, port or 0), settings.auth.require_origin)
        await sessions.run(Session(transport, services, policy))

    class SocketConnection(TrioASGIWebsocketConnection):
        """Where the server gives its stream out, a session needs none of what Quart prepares for a WebSocket: a request
        context, two tasks and two channels, which are more than the rest of an idle connection (docs/decisions/0006).
        """

        def __init__(self, app: QuartTrio, scope: WebsocketScope) -> None:
            self.app, self.scope = app, scope

        async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            transport = None
            if settings.transport == "auto" and self.scope["path"] == SOCKET_PATH:
                transport = await take_socket(self.scope, send, limits)
            if transport is None:
                super().__init__(app, self.scope)
                await super().__call__(receive, send)
            else:
                await serve_session(transport, self.scope)

    app.asgi_websocket_class = SocketConnection

    @app.websocket(SOCKET_PATH)
    async def portable_session() -> None:
        await websocket.accept()
        here = websocket_ctx.websocket  # itself and not its proxy, which the tasks that write could not look up
        await serve_session(PortableTransport(here, limits), cast("WebsocketScope", here.scope))

    @app.before_serving
    async def start() -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        _spare_the_collector()
        await store.open()
        await blobs.sweep()
        app.nursery.start_soon(background.run)

    @app.after_serving
    async def stop() -> None:
        await background.stop()
        await store.close()

    return app


def _spare_the_collector() -> None:
    """Let the cyclic garbage collector look rarely, and never at what lives as long as the process.

    A session's objects live as long as the session, so the more there are the longer each full collection takes, and
    the default thresholds ask for one every few connections (docs/decisions/0007).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


class _App(QuartTrio):
    """Quart logs what goes wrong in a request or at the start. A store that cannot be opened needs no traceback."""

    def log_exception(
        self, exception_info: tuple[type, BaseException, TracebackType] | tuple[None, None, None]
    ) -> None:
        if isinstance(exception_info[1], StoreError):
            log.error("the server cannot start", reason=str(exception_info[1]))
        else:
            super().log_exception(exception_info)


@define
class _Background:
    """Tasks that live as long as the server. None of them can end it, and none can vanish: one that fails is logged
    and begins anew.
    """

    _tasks: tuple[Callable[[], Awaitable[None]], ...]
    _scope: trio.CancelScope = field(init=False, factory=trio.CancelScope)
    _ended: trio.Event = field(init=False, factory=trio.Event)

    async def run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                for task in self._tasks:
                    nursery.start_soon(self._supervise, task)
        self._ended.set()

    async def stop(self) -> None:
        """End all of them and wait until they have ended."""
        self._scope.cancel()
        await self._ended.wait()

    async def _supervise(self, task: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await task()
            except Exception:
                log.exception("background task failed", task=task.__qualname__)
            await trio.sleep(RESTART_SECONDS)
