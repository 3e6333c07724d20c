"""The server as an ASGI application: routes, sockets, and what happens at its start and end.

    lifespan nursery
      └─ Background.run
           ├─ supervise(flusher.run)       empties the outboxes
           ├─ supervise(reader.run)        reads the plain sockets of sessions
           ├─ supervise(delivery.run)      the one committer
           ├─ supervise(presence.tell)     and presence.catch_up: tell watchers who is here
           ├─ supervise(calls.run)         ends those that nobody answers
           ├─ supervise(sessions.keepalive)
           ├─ supervise(janitor.run)       and file_janitor.run: forget what has expired
           └─ supervise(AdminSocket.run)   the operator's commands

    one task per connection (`server/listener/guarded_server.py`)
      ├─ HTTP: upload, media, pages, in Hypercorn's nursery for the connection
      └─ /ws: Sessions.run ── Session.run (its nursery is drawn in session.py)

On shutdown the guard in `server/listener/hypercorn.py` awaits `sessions.drain` before it lets the connections go.
`server/parts.py` makes the parts.
"""

import gc
import os
import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import cast

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIWebsocketConnection

from ironwire.errors import ConfigError, StoreError
from ironwire.server.core import Core, wall_clock_ms
from ironwire.server.http.backups import backup_routes
from ironwire.server.http.links import link_routes
from ironwire.server.http.media import media_routes
from ironwire.server.http.pages import client_json_routes, page_routes
from ironwire.server.http.responses import install_cors, install_response_rules
from ironwire.server.http.upload import upload_routes
from ironwire.server.listener.addresses import Address
from ironwire.server.listener.connection_limiter import ConnectionSlot
from ironwire.server.listener.guard import DirectSockets
from ironwire.server.listener.hypercorn import direct_transport, take_socket
from ironwire.server.operator.config import Settings
from ironwire.server.parts import Server
from ironwire.server.session.session import Session
from ironwire.store.contract.records import Quota
from ironwire.store.contract.store import Store

log = structlog.get_logger(__name__)

SOCKET_PATH = "/ws"
GC_THRESHOLDS = (5_000, 200, 100)
SWITCH_SECONDS = 0.0001
"""How long one thread may hold the interpreter while another waits for it (docs/decisions/0005)."""


def create_app(
    settings: Settings,
    *,
    now_ms: Callable[[], int] = wall_clock_ms,
    random_bytes: Callable[[int], bytes] = os.urandom,
    open_store: Callable[[Quota], Store] | None = None,
    cannot_start: Callable[[str], None] | None = None,
) -> "App":
    """The server as an ASGI application, not started: nothing touches the disk before its lifespan begins.

    Hypercorn's guarded parts are put in place here, because they drain these sessions when the worker has to stop.

    Args:
        settings: checked already.
        now_ms: the wall clock, in Unix milliseconds; every other time is `trio.current_time()`.
        random_bytes: the source of challenges and of blobs' names.
        open_store: makes another store than the SQLite file in the data folder.
        cannot_start: is told why, where that is no fault of the program; without it, the log is.
    """
    core = Core(settings, wall_ms=now_ms, random_bytes=random_bytes, open_store=open_store)
    server = Server(core)
    app = App(__name__, static_folder=None)
    if cannot_start is not None:
        app.cannot_start = cannot_start
    install_response_rules(app)
    _register_routes(app, server)
    _serve_sockets(app, server)
    _follow_lifespan(app, server)
    return app


def _log_that_it_cannot_start(reason: str) -> None:
    log.error("the server cannot start", reason=reason)


class App(QuartTrio):
    """Quart logs what goes wrong in a request or at the start. A store that cannot be opened needs no traceback."""

    direct_sockets: DirectSockets
    """For the guard to find."""
    cannot_start: Callable[[str], None] = staticmethod(_log_that_it_cannot_start)

    def log_exception(
        self, exception_info: tuple[type, BaseException, TracebackType] | tuple[None, None, None]
    ) -> None:
        if isinstance(exception_info[1], StoreError | ConfigError):
            self.cannot_start(str(exception_info[1]))
        else:
            super().log_exception(exception_info)


def _register_routes(app: App, server: Server) -> None:
    core, settings = server.core, server.core.settings
    auth, limits = settings.auth, settings.limits
    for files in (
        upload_routes(core.blobs, limits, server.uploads, core.file_janitor.expires_ms),
        media_routes(core.blobs),
        link_routes(server.links, limits),
        backup_routes(core.store, server.backups, limits, core.now_ms),
    ):
        install_cors(files, auth.web_origins)
        app.register_blueprint(files)
    app.register_blueprint(page_routes(server.status, auth.origins[0] if auth.origins else None))
    app.register_blueprint(
        client_json_routes(
            auth.registration,
            server.services.features,
            limits,
            lambda address: server.policies.at(address).origins,
        )
    )
    app.register_blueprint(server.probes)
    if not settings.metrics.port:
        app.register_blueprint(server.metrics)


def _serve_sockets(app: App, server: Server) -> None:
    """Serve WebSockets at `SOCKET_PATH`, those that the guard upgrades and those that come through Hypercorn."""

    def serve_stream(
        stream: trio.abc.Stream, leftover: bytes, address: Address | None, slot: ConnectionSlot
    ) -> Awaitable[None]:
        transport = direct_transport(stream, leftover, server.core.settings.limits)
        return server.sessions.run(Session(transport, server.services, server.policies.at(address), slot))

    class SocketConnection(TrioASGIWebsocketConnection):
        """A session works on the connection's own stream, and needs nothing that Quart prepares for a WebSocket: a
        request context, two tasks and two channels cost more than the rest of an idle connection (docs/decisions/0006).
        """

        def __init__(self, app: QuartTrio, scope: WebsocketScope) -> None:
            self.app, self.scope = app, scope

        async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            if self.scope["path"] == SOCKET_PATH:
                connection = await take_socket(self.scope, send)
                await serve_stream(*connection.take(), cast("Address | None", self.scope["server"]), connection.slot)
            else:
                super().__init__(app, self.scope)
                await super().__call__(receive, send)

    app.direct_sockets = DirectSockets(SOCKET_PATH.encode(), serve_stream)
    app.asgi_websocket_class = SocketConnection


def _follow_lifespan(app: App, server: Server) -> None:
    core = server.core

    @app.before_serving
    async def start() -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        _spare_the_collector()
        _keep_the_heap()
        await core.open()
        await core.blobs.sweep()
        if core.clock.look():
            await core.file_janitor.expire()
        if core.settings.metrics.port:
            await server.monitors.open()
        app.nursery.start_soon(server.background.run)

    @app.after_serving
    async def stop() -> None:
        await server.background.stop()
        core.clock.look()
        await core.close()


def _spare_the_collector() -> None:
    """Let the cyclic garbage collector look rarely, and never at what lives as long as the process.

    A session's objects live as long as the session, so the more there are the longer each full collection takes, and
    the default thresholds ask for one every few connections (docs/decisions/0007).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _keep_the_heap() -> None:
    """Let the C library keep 2 MiB of freed memory instead of giving it back to the kernel after every other read.

    glibc gives back what is free at the end of the heap once that is 128 KiB, and takes it again page by page. To free
    a large block once raises that bound to twice its size (mallopt(3), M_MMAP_THRESHOLD; docs/decisions/0006).
    """
    bytes(1024 * 1024)
