"""Every part of a server, made once and given to those that need it. `core.py` makes those that need no connection.

Time and randomness come in through the core: a test can own both.
"""

import secrets
import time
from collections.abc import Callable
from functools import lru_cache

from ironwire import __version__
from ironwire.counting import Statistics
from ironwire.crypto.tokens import UploadTokens
from ironwire.delivery.outbox import OutboxFlusher
from ironwire.handlers.blocks import BlockHandler
from ironwire.handlers.calls import CallHandler
from ironwire.handlers.device_log import DeviceLogHandler
from ironwire.handlers.devices import DeviceHandler
from ironwire.handlers.dispatch import Dispatcher
from ironwire.handlers.history import HistoryHandler
from ironwire.handlers.ice import IceHandler
from ironwire.handlers.operator import Answer
from ironwire.handlers.presence import PresenceHandler
from ironwire.handlers.uploads import UploadHandler
from ironwire.ids import ClientId
from ironwire.protocol.auth import AuthPolicy
from ironwire.server.background import Background
from ironwire.server.core import Core
from ironwire.server.http.backups import BackupRules
from ironwire.server.http.links import Links
from ironwire.server.http.monitoring import MetricsServer, Readiness, metrics_routes, probe_routes
from ironwire.server.http.pages import Status
from ironwire.server.http.upload_rules import UploadRules
from ironwire.server.listener.addresses import Address, TrustedProxies
from ironwire.server.listener.connection_limiter import ConnectionLimiter
from ironwire.server.listener.hypercorn import install
from ironwire.server.operator.admin import AdminSocket
from ironwire.server.operator.config import Settings
from ironwire.server.operator.log_writer import log_statistics
from ironwire.server.operator.process import process_statistics
from ironwire.server.session.rates import Rates
from ironwire.server.session.reader import Reader
from ironwire.server.session.registration import AllowList, Registration
from ironwire.server.session.scheduler import Scheduler
from ironwire.server.session.services import Services
from ironwire.server.session.sessions import Sessions
from ironwire.wire.codec import prepare

_INSTANCE_BYTES = 8
_ADDRESSES_REMEMBERED = 64
"""A server has few addresses, unless a whole network is routed to it."""


class Server:
    """The parts of one server. To make it replaces parts of Hypercorn in this process (`listener/hypercorn.py`)."""

    def __init__(self, core: Core) -> None:
        settings, limits, now_ms = core.settings, core.settings.limits, core.now_ms
        self.core = core
        self.instance = secrets.token_hex(_INSTANCE_BYTES)
        """Tells this run of the server from every other."""
        self._started = time.monotonic()
        prepare()

        # What sessions ask for.
        tokens = UploadTokens(core.random_bytes)
        turn = settings.turn
        ice = IceHandler(turn.urls, turn.secret, turn.ttl_seconds, now_ms, core.random_bytes)
        self.presence = PresenceHandler(core.hub, core.store, now_ms)
        self.calls = CallHandler(core.hub, core.store, ice, limits, now_ms)
        self.dispatcher = Dispatcher(
            DeviceHandler(core.hub, core.delivery),
            DeviceLogHandler(core.hub, core.delivery, core.store, now_ms),
            HistoryHandler(core.store, is_kept=core.delivery.envelopes.keeps_history),
            core.groups,
            self.presence,
            BlockHandler(core.delivery, core.store, self.presence, now_ms),
            self.calls,
            UploadHandler(tokens, core.blobs, limits, now_ms),
        )

        # Sessions, and the connections and requests that they come through.
        self.flusher = OutboxFlusher()
        self.reader = Reader()
        self.scheduler = Scheduler()
        self.rates = Rates(limits)
        self.services = self._services()
        self.sessions = Sessions(limits)
        proxies = TrustedProxies.parse(settings.server.trusted_proxies)
        self.policies = AuthPolicies(settings, core.store.glance.is_banned, now_ms)
        self.limiter = ConnectionLimiter(limits, proxies, self.policies.serves_page_of)
        self.guard = install(limits, self.sessions.drain, self.limiter, self.scheduler)
        self.links = Links(limits, proxies, now_ms)
        self.uploads = UploadRules(limits, tokens, proxies, settings.upload.auth == "token", now_ms)
        self.backups = BackupRules(limits, self.uploads, proxies)

        # What the operator sees, and the tasks.
        self.sources = self._sources()
        self.probes = probe_routes(self.readiness, self.instance)
        self.metrics = metrics_routes(self.sources, settings.metrics.token)
        self.monitors = MetricsServer(settings.metrics, self.guard, self.probes, self.metrics)
        self.background = self._background()
        self.sources["background"] = self.background.statistics

    def status(self) -> Status:
        return Status(
            version=__version__,
            sessions=self.core.hub.statistics().sessions,
            uptime_seconds=time.monotonic() - self._started,
            is_draining=self.sessions.statistics().is_draining,
        )

    def readiness(self) -> Readiness:
        checks = {
            "the server is stopping": self.sessions.statistics().is_draining,
            "the store cannot write: see the log": self.core.store.statistics().is_failing,
        }
        reasons = tuple(reason for reason, holds in checks.items() if holds)
        return Readiness(is_ready=not reasons, reasons=reasons)

    def about(self) -> Answer:
        """This run of the server, for the operator."""
        return {"instance": self.instance, "listens": self.guard.listens}

    def _services(self) -> Services:
        """The parts that every session is given."""
        core, auth, upload = self.core, self.core.settings.auth, self.core.settings.upload
        allow_list = None if auth.allow_list is None else AllowList(auth.allow_list)
        features = {"history": core.delivery.envelopes.keeps_history, "upload_token": upload.auth == "token"}
        return Services(
            hub=core.hub,
            delivery=core.delivery,
            dispatcher=self.dispatcher,
            flusher=self.flusher,
            reader=self.reader,
            scheduler=self.scheduler,
            rates=self.rates,
            registration=Registration(auth.registration, allow_list, core.invites),
            limits=core.settings.limits,
            features=[feature for feature, is_there in features.items() if is_there],
            now_ms=core.now_ms,
            random_bytes=core.random_bytes,
        )

    def _sources(self) -> dict[str, Statistics]:
        """The statistics of the parts, by the name under which they are published."""
        return {
            "guard": self.guard.statistics,
            "connections": self.limiter.statistics,
            "rates": self.rates.statistics,
            "sessions": self.sessions.statistics,
            "hub": self.core.hub.statistics,
            "delivery": self.core.delivery.statistics,
            "flusher": self.flusher.statistics,
            "requests": self.dispatcher.statistics,
            "presence": self.presence.statistics,
            "calls": self.calls.statistics,
            "store": self.core.store.statistics,
            "blobs": self.core.blobs.statistics,
            "uploads": self.uploads.statistics,
            "links": self.links.statistics,
            "backups": self.backups.statistics,
            "process": process_statistics,
            "log": log_statistics,
            "clock": self.core.clock.statistics,
        }

    def _background(self) -> Background:
        """The tasks that live as long as the server."""
        core = self.core
        admin = core.admin(self.sources, self.about)
        return Background(
            [
                self.flusher.run,
                self.reader.run,
                core.delivery.run,
                self.presence.tell,
                self.presence.catch_up,
                self.calls.run,
                self.sessions.keepalive,
                core.janitor.run,
                core.file_janitor.run,
                AdminSocket(core.settings.data, admin).run,
                *([self.monitors.run] if core.settings.metrics.port else []),
            ]
        )


class AuthPolicies:
    """Which origins a client may sign and a page may come from, by the address that its connection arrived at."""

    def __init__(self, settings: Settings, is_banned: Callable[[ClientId], bool], now_ms: Callable[[], int]) -> None:
        self._settings = settings
        self._is_banned = is_banned
        self._now_ms = now_ms
        self._at = lru_cache(_ADDRESSES_REMEMBERED)(self._make)

    def at(self, server: tuple[str, int | None] | None) -> AuthPolicy:
        """The policy at an address of the server; None is a connection without one, as of a Unix socket."""
        address, port = server or ("127.0.0.1", self._settings.server.port)
        return self._at(address, port or 0)

    def serves_page_of(self, origin: str, server: Address | None) -> bool:
        """Whether a page of this origin may open a socket."""
        return origin in self.at(server).origins or origin in self._settings.auth.web_origins

    def _make(self, address: str, port: int) -> AuthPolicy:
        settings = self._settings
        origins = settings.served_origins(address, port)
        return AuthPolicy(origins, settings.auth.require_origin, self._is_banned, self._now_ms)
