"""Periodic work: forget expired data, and overwrite erased data.

Nothing expires while the clock cannot be believed (`store/clock.py`).

An erased envelope leaves its database page at once (`secure_delete`); the journal and the write-ahead log, at the next
scrub.
"""

from collections.abc import Callable

import structlog
import trio
from attrs import define

from ironwire.delivery.delivery import Delivery
from ironwire.ids import BlobName
from ironwire.limits import Limits
from ironwire.store.contract.maintenance import Expired
from ironwire.store.contract.store import Store
from ironwire.store.files.blobs import Blobs

log = structlog.get_logger(__name__)

SCRUB_SECONDS = 60.0
EXPIRE_SECONDS = 3600.0
DAY_MS = 86_400_000


@define
class Janitor:
    _store: Store
    _delivery: Delivery
    _limits: Limits
    _now_ms: Callable[[], int]
    _history_days: float
    _is_clock_believed: Callable[[], bool] = lambda: True

    async def run(self) -> None:
        """Clean up, for ever.

        Raises:
            StoreError: the store cannot work; whoever supervises this begins anew.
        """
        expire_at = trio.current_time()
        batches_scrubbed = -1  # what a crash has left in the log is overwritten too
        while True:
            is_clock_believed = self._is_clock_believed()  # every time: a leap shows against the loop's clock
            if trio.current_time() >= expire_at:
                if is_clock_believed:
                    await self.expire()
                expire_at += EXPIRE_SECONDS
            store = self._store.statistics()
            if store.is_failing or store.batches_total != batches_scrubbed:
                await self._store.scrub()
                batches_scrubbed = store.batches_total
            await trio.sleep(SCRUB_SECONDS)

    async def expire(self) -> Expired:
        """Forget what has expired; says how much.

        Raises:
            StoreError: the store cannot work.
        """
        self._delivery.touch_devices()
        expired = await self._store.expire(
            before_ms=self._days_ago(self._limits.retention_days), archived_before_ms=self._days_ago(self._history_days)
        )
        if expired.entries or expired.devices:
            log.info("expired", entries=expired.entries, devices=expired.devices)
        return expired

    def _days_ago(self, days: float) -> int:
        return max(self._now_ms() - int(days * DAY_MS), 0)


@define
class FileJanitor:
    """Expires uploaded files. A disk that fails here does not keep envelopes from expiring."""

    _blobs: Blobs
    _now_ms: Callable[[], int]
    _expire_days: float
    _is_clock_believed: Callable[[], bool] = lambda: True

    async def run(self) -> None:
        """Clean up every hour, for ever; the server has done it at its start.

        Raises:
            StoreError: the folder of files cannot be listed or written; whoever supervises this begins anew.
        """
        while True:
            await trio.sleep(EXPIRE_SECONDS)
            if self._is_clock_believed():
                await self.expire()

    def expires_ms(self) -> int:
        """When a file expires that is stored now: at that time or within the hour after it."""
        return self._now_ms() + int(self._expire_days * DAY_MS)

    async def keep(self, name: BlobName, until_ms: int) -> bool:
        """Let a file expire at that time, unless it does later by itself. False: it has expired already.

        Raises:
            StoreError: as `run` says.
        """
        return await self._blobs.keep(name, until_ms - int(self._expire_days * DAY_MS))

    async def expire(self) -> int:
        """Remove the files that are older than files may get; says how many.

        Raises:
            StoreError: as `run` says.
        """
        removed = await self._blobs.expire(max(self._now_ms() - int(self._expire_days * DAY_MS), 0))
        if removed:
            log.info("files expired", files=removed)
        return removed
