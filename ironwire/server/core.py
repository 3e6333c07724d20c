"""The parts that keep and deliver, made once for one data folder.

A server adds to them what meets peers (`parts.py`); `ironwire admin` on a stopped server works with them alone.
Nothing here imports Quart or Hypercorn, which take longer to load than such a command takes to run.
"""

import os
import time
from collections.abc import Callable, Mapping

import trio

from ironwire.counting import Statistics
from ironwire.delivery.delivery import Delivery
from ironwire.delivery.hub import Hub
from ironwire.delivery.janitor import FileJanitor, Janitor
from ironwire.handlers.groups import GroupHandler
from ironwire.handlers.operator import Admin, Answer
from ironwire.server.operator.config import Settings
from ironwire.store.clock import TrustedClock, tolerance_ms
from ironwire.store.contract.records import Quota
from ironwire.store.contract.store import Store
from ironwire.store.files.blobs import Blobs
from ironwire.store.invites import INVITES, Invites
from ironwire.store.sqlite.store import SqliteStore
from ironwire.store.survey import DATABASE, MEDIA, Survey


def wall_clock_ms() -> int:
    """Unix milliseconds. Every other time in the server is `trio.current_time()`, and a test can own both."""
    return time.time_ns() // 1_000_000


def trusted_clock(settings: Settings, wall_ms: Callable[[], int] = wall_clock_ms) -> TrustedClock:
    """The clock of a server with these settings, not opened."""
    history_days = settings.history.days
    periods = [settings.limits.retention_days, settings.upload.expire_days, *([history_days] if history_days else [])]
    return TrustedClock(settings.data, wall_ms, tolerance_ms(periods))


class Core:
    """The store, the files, delivery, and whatever else needs no connection. Nothing touches the disk before `open`."""

    def __init__(
        self,
        settings: Settings,
        *,
        wall_ms: Callable[[], int] = wall_clock_ms,
        random_bytes: Callable[[int], bytes] = os.urandom,
        open_store: Callable[[Quota], Store] | None = None,
    ) -> None:
        """Args:
        settings: checked already.
        wall_ms: the wall clock, in Unix milliseconds, right or wrong.
        random_bytes: the source of challenges, tokens, ids of groups and names of blobs.
        open_store: makes another store than the SQLite file in the data folder.
        """
        limits, history_days, upload = settings.limits, settings.history.days, settings.upload
        quota = Quota.of(limits)
        self.settings = settings
        self.random_bytes = random_bytes
        self.clock = trusted_clock(settings, wall_ms)
        self.now_ms = now_ms = self.clock.now_ms
        self.store = SqliteStore(settings.data / DATABASE, quota) if open_store is None else open_store(quota)
        self.hub = Hub(sessions_per_client=limits.sessions_per_client)
        self.delivery = Delivery(self.hub, self.store, now_ms, limits, keeps_history=history_days > 0)
        self.groups = GroupHandler(self.store, self.delivery, now_ms, random_bytes, limits.group_members)
        self.janitor = Janitor(self.store, self.delivery, limits, now_ms, history_days, self.clock.look)
        self.blobs = Blobs(settings.data / MEDIA, random_bytes, now_ms, upload.quota_bytes)
        self.file_janitor = FileJanitor(self.blobs, now_ms, upload.expire_days, self.clock.look)
        self.invites = Invites(settings.data / INVITES, now_ms, self.clock.look)

    def admin(self, sources: Mapping[str, Statistics], about: Callable[[], Answer] = dict) -> Admin:
        """The answers to the operator.

        Args:
            sources: the `statistics` of a server's parts, by name; none where no server runs.
            about: what a server says of itself besides.
        """
        return Admin(
            self.store,
            self.hub,
            self.delivery,
            self.groups,
            self.janitor,
            self.file_janitor,
            self.invites,
            Survey(self.settings.data),
            self.clock,
            sources,
            about,
        )

    async def open(self) -> None:
        """Open the store, and find out when the clock was believed last.

        Raises:
            StoreError: the folder is in use, or cannot be used.
        """
        await self.store.open()
        try:
            self.clock.open(await self.store.newest_ms())
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.close()
            raise

    async def close(self) -> None:
        """Let the next process have the folder."""
        await self.store.close()
