"""Requests of the operator: one class for each, and the one place where they are answered.

The same answers come from a running server, over its socket (`server/operator/admin.py`), and where none runs
from the data folder itself: then nobody is connected. Rule: who, how much and since when; never what was written.
"""

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Protocol, assert_never, cast

import attrs
import trio
from attrs import frozen

from ironwire import __version__
from ironwire.close_codes import CloseCode
from ironwire.counting import Distribution, Statistics, Tallied
from ironwire.delivery.delivery import Delivery
from ironwire.delivery.hub import Hub
from ironwire.delivery.janitor import DAY_MS, FileJanitor, Janitor
from ironwire.delivery.outbox import Ending
from ironwire.errors import AdminError, StoreError
from ironwire.handlers.groups import GroupHandler
from ironwire.ids import ClientId
from ironwire.protocol.auth import BANNED
from ironwire.store.clock import TrustedClock, describe_leap
from ironwire.store.contract.store import Store
from ironwire.store.invites import Invites
from ironwire.store.survey import Survey, SurveyPage
from ironwire.wire.messages.fields import Between

MOST_ROWS = 10_000
MOST_OFFSET = 2**53
COPY_PREFIX = "ironwire.db.copy-"

_BANNED = Ending(BANNED.code, BANNED.reason)
_ERASED = Ending(CloseCode.REMOVED, "erased by the operator")
_LOOK_SECONDS = 0.02

Limit = Annotated[int, Between(1, MOST_ROWS)]
Offset = Annotated[int, Between(0, MOST_OFFSET)]


@frozen
class ListClients:
    limit: Limit
    offset: Offset
    is_banned: bool


@frozen
class ListDevices:
    limit: Limit
    offset: Offset
    client: ClientId | None = None


@frozen
class ListMailboxes:
    limit: Limit
    offset: Offset


@frozen
class ListGroups:
    limit: Limit
    offset: Offset


@frozen
class ListBlobs:
    limit: Limit


@frozen
class Ban:
    client: ClientId


@frozen
class Unban:
    client: ClientId


@frozen
class Erase:
    client: ClientId


@frozen
class Expire:
    pass


@frozen
class Clock:
    """Say whether the clock is trusted; with `confirm`, trust it."""

    confirm: bool


@frozen
class Invite:
    """Make an invite: it admits so many new clients, for so many days."""

    uses: Annotated[int, Between(1, 1_000)]
    days: Annotated[int, Between(1, 3_650)]


@frozen
class Copy:
    """A consistent copy of the database beside it, for `ironwire backup` to take away."""


@frozen
class Observe:
    """The statistics of every part."""


Request = (
    ListClients
    | ListDevices
    | ListMailboxes
    | ListGroups
    | ListBlobs
    | Ban
    | Unban
    | Erase
    | Expire
    | Clock
    | Invite
    | Copy
    | Observe
)

REQUESTS: Mapping[str, type[Request]] = {
    "clients": ListClients,
    "devices": ListDevices,
    "mailboxes": ListMailboxes,
    "groups": ListGroups,
    "blobs": ListBlobs,
    "ban": Ban,
    "unban": Unban,
    "erase": Erase,
    "expire": Expire,
    "clock": Clock,
    "invite": Invite,
    "copy": Copy,
    "observe": Observe,
}
"""The class of each verb."""

VERBS: Mapping[type[Request], str] = {kind: verb for verb, kind in REQUESTS.items()}

Answer = dict[str, Any]
"""A JSON object."""


class CopyingStore(Store, Protocol):
    """A store that can be copied while it works."""

    async def copy_to(self, path: Path) -> None: ...


@frozen
class Admin:
    """Answers the operator. `parts` are the `statistics` of a server's parts, by name; none where no server runs."""

    _store: Store
    _hub: Hub
    _delivery: Delivery
    _groups: GroupHandler
    _janitor: Janitor
    _file_janitor: FileJanitor
    _invites: Invites
    _survey: Survey
    _clock: TrustedClock
    _parts: Mapping[str, Statistics]
    _about: Callable[[], Answer] = dict
    """More about the server: its instance, and where it listens."""

    async def answer(self, request: Request) -> Answer:
        """Raises:
        StoreError: the store or the folder cannot be read or written.
        AdminError: things are not such that it could be done.
        """
        if isinstance(request, ListClients | ListDevices | ListMailboxes):
            with suppress(StoreError):  # then the files say what they can
                await self._store.checkpoint()
        match request:
            case ListClients(limit, offset, is_banned):
                return self._with_sessions(await self._survey.clients(is_banned=is_banned, limit=limit, offset=offset))
            case ListDevices(limit, offset, client):
                return self._with_sessions(await self._survey.devices(client, limit=limit, offset=offset))
            case ListMailboxes(limit, offset):
                return attrs.asdict(await self._survey.mailboxes(limit=limit, offset=offset))
            case ListGroups(limit, offset):
                return attrs.asdict(await self._survey.groups(limit=limit, offset=offset))
            case ListBlobs(limit):
                return attrs.asdict(await self._survey.blobs(limit=limit))
            case Ban(client):
                is_news = await self._store.ban(client, self._clock.now_ms())
                return {"is_news": is_news, "sessions": self._close_sessions(client, _BANNED)}
            case Unban(client):
                return {"is_news": await self._store.unban(client)}
            case Erase(client):
                return await self._erase(client)
            case Expire():
                self._want_a_clock_that_is_believed()
                expired = await self._janitor.expire()
                return {**attrs.asdict(expired), "files": await self._file_janitor.expire()}
            case Clock(confirm):
                leap_ms = self._clock.leap_ms()
                if confirm:
                    self._clock.confirm()
                return {"leap_ms": leap_ms, "is_believed": confirm or leap_ms == 0}
            case Invite(uses, days):
                return {"invite": self._invites.make(uses, days)}
            case Copy():
                return await self._copy()
            case Observe():
                parts = {name: _numbers(statistics()) for name, statistics in self._parts.items()}
                return {"version": __version__, "parts": parts, **self._about()}
            case _:
                assert_never(request)

    def _want_a_clock_that_is_believed(self) -> None:
        leap_ms = self._clock.leap_ms()
        if leap_ms:
            raise AdminError(f"{describe_leap(leap_ms)}: set it, or confirm it with `ironwire admin clock --confirm`")

    def _close_sessions(self, client: ClientId, ending: Ending) -> int:
        endpoints = self._hub.sessions_of(client)
        for other in endpoints:
            other.outbox.close(ending)
        return len(endpoints)

    async def _erase(self, client: ClientId) -> Answer:
        """Repeat it if it fails half-way: what is gone is gone, and the rest follows."""
        sessions = self._close_sessions(client, _ERASED)
        while self._hub.sessions_of(client):  # noqa: ASYNC110  # they leave in their own time, which is bounded
            await trio.sleep(_LOOK_SECONDS)
        await self._delivery.settled(client)
        groups = await self._groups.expel(client)
        erased = await self._store.erase(client)
        sessions += self._close_sessions(client, _ERASED)  # who came back meanwhile has lost its mailbox
        await self._store.scrub()
        return {"sessions": sessions, "groups": groups, **attrs.asdict(erased)}

    async def _copy(self) -> Answer:
        folder = self._survey.folder
        for leftover in folder.glob(f"{COPY_PREFIX}*"):
            if self._clock.now_ms() - leftover.stat().st_mtime_ns // 1_000_000 > DAY_MS:
                leftover.unlink(missing_ok=True)
        name = f"{COPY_PREFIX}{secrets.token_hex(8)}"
        await cast("CopyingStore", self._store).copy_to(folder / name)
        return {"name": name}

    def _with_sessions(self, page: SurveyPage) -> Answer:
        """The page, and for each client or device how many sessions it has."""
        answer = attrs.asdict(page)
        for row in answer["rows"]:
            endpoints = self._hub.sessions_of(row["client"])
            row["sessions"] = sum("device" not in row or other.principal.device == row["device"] for other in endpoints)
        return answer


def _numbers(statistics: attrs.AttrsInstance) -> Answer:
    """A part's statistics as JSON: counts by label as their sum, a distribution as how many and how much."""
    numbers: Answer = {}
    for name, value in attrs.asdict(statistics, recurse=False).items():
        match value:
            case Tallied():
                numbers[name] = value.total
            case Distribution():
                numbers[name] = {"count": sum(value.counts), "sum": value.sum}
            case _:
                numbers[name] = value
    return numbers
