"""A survey of a data folder for its operator: clients, devices, groups and files, with their counts and times, never a
message's body.

Each question opens a connection of its own, which only reads, and its answer has a bounded size: nothing here can hold
up the store, and nothing here needs it to be open.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from heapq import nlargest
from pathlib import Path
from typing import Any, TypeVar

import trio
from attrs import frozen

from ironwire.errors import InvalidId, StoreError
from ironwire.ids import BlobName, ClientId, DeviceId, GroupId, parse_blob_name

T = TypeVar("T")

DATABASE = "ironwire.db"
MEDIA = "media"


@frozen
class SurveyedClient:
    """A client with a device or a device log, in a group, or banned; others leave no trace but envelopes. `seen_ms` is
    when one of its devices was here last.
    """

    client: ClientId
    devices: int
    groups: int
    waiting: int
    waiting_bytes: int
    seen_ms: int | None
    is_banned: bool


@frozen
class SurveyedDevice:
    """A device and its mailbox. `oldest_ms` is when the first envelope that waits was accepted."""

    client: ClientId
    device: DeviceId
    waiting: int
    waiting_bytes: int
    oldest_ms: int | None
    is_full: bool
    created_ms: int
    seen_ms: int


@frozen
class SurveyedGroup:
    group: GroupId
    name: str | None
    epoch: int
    members: int
    admins: int


SurveyRow = SurveyedClient | SurveyedDevice | SurveyedGroup


@frozen
class Blob:
    name: BlobName
    size_bytes: int
    stored_ms: int


@frozen
class SurveyPage:
    """Some rows of a list, and how long the whole list is."""

    total: int
    rows: Sequence[SurveyRow | Blob]


@frozen
class BlobPage(SurveyPage):
    """Blobs, the newest first; `total_bytes` is the size of all."""

    total_bytes: int


_KNOWN_CLIENTS = """(
    SELECT client FROM mailbox UNION SELECT client FROM member UNION SELECT client FROM ban
    UNION SELECT client FROM logged_device)"""
_CLIENTS = """
    SELECT known.client,
        (SELECT count(*) FROM mailbox WHERE mailbox.client = known.client),
        (SELECT count(*) FROM member WHERE member.client = known.client),
        (SELECT coalesce(sum(waiting), 0) FROM mailbox WHERE mailbox.client = known.client),
        (SELECT coalesce(sum(waiting_bytes), 0) FROM mailbox WHERE mailbox.client = known.client),
        (SELECT max(seen_ms) FROM mailbox WHERE mailbox.client = known.client),
        EXISTS (SELECT 1 FROM ban WHERE ban.client = known.client)
    FROM {known} AS known ORDER BY known.client LIMIT :limit OFFSET :offset"""
_BOXES = """
    SELECT client, device, waiting, waiting_bytes,
        (SELECT ts FROM envelope
         WHERE id = (SELECT envelope FROM entry WHERE mailbox = mailbox.id ORDER BY seq LIMIT 1)),
        is_full, created_ms, seen_ms
    FROM mailbox WHERE :client IS NULL OR client = :client ORDER BY {order} LIMIT :limit OFFSET :offset"""
_COUNT_BOXES = "SELECT count(*) FROM mailbox WHERE :client IS NULL OR client = :client"
_GROUPS = """
    SELECT id, name, epoch,
        (SELECT count(*) FROM member WHERE roster = id),
        (SELECT count(*) FROM member WHERE roster = id AND role = 'admin')
    FROM roster ORDER BY id LIMIT :limit OFFSET :offset"""
_COUNT_GROUPS = "SELECT count(*) FROM roster"


@frozen
class Survey:
    """Questions about one data folder. All raise `StoreError` where it cannot be read."""

    folder: Path

    async def clients(self, *, is_banned: bool, limit: int, offset: int) -> SurveyPage:
        """Clients by id; if `is_banned`, those alone."""
        known = "ban" if is_banned else _KNOWN_CLIENTS
        count, select = f"SELECT count(*) FROM {known}", _CLIENTS.format(known=known)  # noqa: S608  # constants
        return await self._page(count, select, _client, limit=limit, offset=offset)

    async def devices(self, client: ClientId | None, *, limit: int, offset: int) -> SurveyPage:
        """Devices, of one client or of all, in the order of the clients' ids."""
        select = _BOXES.format(order="client, id")
        return await self._page(_COUNT_BOXES, select, _box, client=client, limit=limit, offset=offset)

    async def mailboxes(self, *, limit: int, offset: int) -> SurveyPage:
        """Mailboxes, those in which the most waits first."""
        select = _BOXES.format(order="waiting_bytes DESC, id")
        return await self._page(_COUNT_BOXES, select, _box, client=None, limit=limit, offset=offset)

    async def groups(self, *, limit: int, offset: int) -> SurveyPage:
        return await self._page(_COUNT_GROUPS, _GROUPS, lambda row: SurveyedGroup(*row), limit=limit, offset=offset)

    async def blobs(self, *, limit: int) -> BlobPage:
        return await self._in_thread(lambda: self._list_blobs(limit))

    async def _page(
        self,
        count: str,
        select: str,
        make: Callable[[Sequence[Any]], SurveyRow],
        **wanted: str | int | None,
    ) -> SurveyPage:
        def read() -> SurveyPage:
            with self._opened() as database:
                total = database.execute(count, wanted).fetchone()[0]
                return SurveyPage(total, [make(row) for row in database.execute(select, wanted)])

        return await self._in_thread(read)

    async def _in_thread(self, read: Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(read)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self.folder} cannot be read: {error}") from error

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        path = (self.folder / DATABASE).absolute()
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            yield database

    def _list_blobs(self, limit: int) -> BlobPage:
        media = self.folder / MEDIA
        blobs = list(_blobs_in(media)) if media.exists() else []
        newest = nlargest(limit, blobs, key=lambda blob: blob.stored_ms)
        return BlobPage(len(blobs), newest, sum(blob.size_bytes for blob in blobs))


def _blobs_in(media: Path) -> Iterator[Blob]:
    with os.scandir(media) as entries:
        for entry in entries:
            try:
                name = parse_blob_name(entry.name)
                status = entry.stat(follow_symlinks=False)
            except (InvalidId, FileNotFoundError):
                continue  # an upload under way, or a blob that is being removed
            yield Blob(name, status.st_size, status.st_mtime_ns // 1_000_000)


def _client(row: Sequence[Any]) -> SurveyedClient:
    client, devices, groups, waiting, waiting_bytes, seen_ms, is_banned = row
    return SurveyedClient(client, devices, groups, waiting, waiting_bytes, seen_ms, bool(is_banned))


def _box(row: Sequence[Any]) -> SurveyedDevice:
    client, device, waiting, waiting_bytes, oldest_ms, is_full, created_ms, seen_ms = row
    return SurveyedDevice(client, device, waiting, waiting_bytes, oldest_ms, bool(is_full), created_ms, seen_ms)
