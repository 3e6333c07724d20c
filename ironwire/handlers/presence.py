"""Who is here, and who is typing: what is said to those who are there now (docs/protocol.md, section 7.3).

A client is seen as what the newest `presence` of its live sessions said, by those whom it allows and has not blocked;
everybody else sees it offline. All of it lives in memory and ends with the sessions: nothing here reaches a disk.

Rule: a watcher ends up knowing what it should see, at nobody else's cost. Only who is allowed is looked up, so a crowd
that watches a client without being allowed costs nothing. What is seen is decided when a watcher's turn comes, so of a
client that came and went meanwhile it is told once; one that reads too slowly is told when it reads again.
"""

import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice
from typing import assert_never

import trio
from attrs import define, field, frozen

from ironwire.counting import figure
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.errors import StoreError
from ironwire.ids import ClientId, GroupId, MessageId, is_group
from ironwire.store.contract.store import Store
from ironwire.wire.codec import encode
from ironwire.wire.messages import (
    Accepted,
    Error,
    Presence,
    PresenceAllow,
    PresenceUpdate,
    PresenceWatch,
    RelayedTyping,
    Typing,
)
from ironwire.wire.messages.fields import ErrorCode
from ironwire.wire.messages.presence import GivenStatus, Status

CATCH_UP_SECONDS = 1.0
TURN_CLIENTS = 32
"""How many are looked up in one turn of the event loop. Each may have as many sessions as one may."""

PresenceRequest = Typing | Presence | PresenceAllow | PresenceWatch

_Clients = dict[ClientId, None]
"""A set that keeps its order, so that the same run gives the same trace."""


@frozen
class PresenceStatistics:
    sessions_watching: int = figure("Sessions that watch the presence of others.")
    dropped_total: int = figure("Presence frames dropped because the outbox of a session was half full.")


@define(eq=False)
class _Watcher:
    """A session that watches."""

    session: Endpoint
    watched: _Clients = field(factory=dict)
    told: dict[ClientId, GivenStatus | None] = field(factory=dict)
    """What it was told last. Who is not in here is offline to it; None: it may think anything."""


@define(eq=False)
class PresenceHandler:
    """Answers what clients ask about presence, and tells watchers what changes: `tell` and `catch_up` are two tasks."""

    _hub: Hub
    _store: Store
    _now_ms: Callable[[], int]
    _said: dict[ClientId, dict[Endpoint, Status]] = field(init=False, factory=dict)
    """The last word of each live session, newest last."""
    _allowed: dict[ClientId, _Clients] = field(init=False, factory=dict)
    _watchers: dict[Endpoint, _Watcher] = field(init=False, factory=dict)
    _changed: dict[ClientId, _Clients] = field(init=False, factory=dict)
    """Who may be seen as another than before, and by whom."""
    _behind: dict[_Watcher, None] = field(init=False, factory=dict)
    _news: trio.lowlevel.ParkingLot = field(init=False, factory=trio.lowlevel.ParkingLot)
    _dropped: int = field(init=False, default=0)

    # --- what sessions ask for ---------------------------------------------------------------------------------------

    def answer(self, endpoint: Endpoint, request: PresenceRequest, id: MessageId | None) -> ErrorCode | None:  # noqa: A002  # the frame's
        """Returns the code of the error that was the answer, if it was one.

        Raises:
            StoreError: the store cannot be read.
        """
        match request:
            case Typing():
                return self._relay(endpoint, request, id)
            case Presence(status):
                self._say(endpoint, status)
                self._accept(endpoint, id)
            case PresenceAllow(clients):
                self._allow(endpoint.principal.client, _distinct(clients))
                self._accept(endpoint, id)
            case PresenceWatch(clients):
                self._accept(endpoint, id)  # first: what follows it is about the new list
                self._watch(endpoint, _distinct(clients))
            case _:
                assert_never(request)
        return None

    def left(self, endpoint: Endpoint) -> None:
        """The session has ended; to be called once it is no longer attached."""
        client = endpoint.principal.client
        watcher = self._watchers.pop(endpoint, None)
        if watcher is not None:
            watcher.watched = {}
            self._behind.pop(watcher, None)
        said = self._said.get(client, {})
        if said.pop(endpoint, None) is not None:
            if not said:
                del self._said[client]
            self.changed(client)
        if not self._hub.sessions_of(client):
            self._allowed.pop(client, None)

    def changed(self, client: ClientId) -> None:
        """What the client is seen as by those whom it allows may be another now."""
        allowed = self._allowed.get(client)
        if allowed:
            self._changed.setdefault(client, {}).update(allowed)
            self._news.unpark()

    def statistics(self) -> PresenceStatistics:
        return PresenceStatistics(sessions_watching=len(self._watchers), dropped_total=self._dropped)

    # --- the two tasks -----------------------------------------------------------------------------------------------

    async def tell(self) -> None:
        """Tell watchers what has changed, for ever."""
        while True:
            changed = await self._next_round()
            pairs = ((client, by) for client, clients in changed.items() for by in clients)
            while turn := list(islice(pairs, TURN_CLIENTS)):
                for client, by in turn:
                    self._tell_client(by, client)
                await trio.lowlevel.checkpoint()

    async def catch_up(self) -> None:
        """Tell those who read too slowly what they have missed, for ever."""
        while True:
            await trio.sleep(CATCH_UP_SECONDS)
            behind, self._behind = self._behind, {}
            for watcher in behind:
                for client in watcher.watched:
                    self._tell(watcher, client)
                await trio.lowlevel.checkpoint()

    async def _next_round(self) -> dict[ClientId, _Clients]:
        if not self._changed:
            await self._news.park()
        changed, self._changed = self._changed, {}
        return changed

    # --- presence ----------------------------------------------------------------------------------------------------

    def _say(self, endpoint: Endpoint, status: Status) -> None:
        said = self._said.setdefault(endpoint.principal.client, {})
        said.pop(endpoint, None)
        said[endpoint] = status
        self.changed(endpoint.principal.client)

    def _allow(self, client: ClientId, allowed: _Clients) -> None:
        self.changed(client)  # to those who were allowed before
        self._allowed[client] = allowed
        self.changed(client)

    def _watch(self, endpoint: Endpoint, watched: _Clients) -> None:
        """A client may reset its view on `accepted` or keep it. Resend every watched client that is online now or was
        last reported online, so that both converge.
        """
        watcher = self._watchers.setdefault(endpoint, _Watcher(endpoint))
        kept = [client for client, status in watcher.told.items() if status != "offline" and client in watched]
        watcher.told = dict.fromkeys(kept)
        watcher.watched = watched
        for client in watched:
            self._tell(watcher, client)

    def _tell_client(self, by: ClientId, client: ClientId) -> None:
        for other in self._hub.sessions_of(by):
            watcher = self._watchers.get(other)
            if watcher is not None:
                self._tell(watcher, client)

    def _tell(self, watcher: _Watcher, client: ClientId) -> None:
        """Tell the watcher what it should see, unless it was told that last or does not watch the client any more."""
        if client not in watcher.watched:
            return
        try:
            status = self._seen(client, watcher.session.principal.client)
        except StoreError:
            self._behind[watcher] = None  # the store says for itself that it fails; this waits until it does not
            return
        if status == watcher.told.get(client, "offline"):
            return
        if watcher.session.outbox.put_ephemeral(_update(client, status)):
            watcher.told[client] = status
        else:
            self._dropped += 1
            self._behind[watcher] = None

    def _seen(self, client: ClientId, by: ClientId) -> GivenStatus:
        said = self._said.get(client)
        if not said or by not in self._allowed.get(client, ()) or by in self._store.glance.blocks_of(client):
            return "offline"
        return next(reversed(said.values()))

    # --- typing ------------------------------------------------------------------------------------------------------

    def _relay(self, endpoint: Endpoint, typing: Typing, id: MessageId | None) -> ErrorCode | None:  # noqa: A002  # as above
        sender = endpoint.principal.client
        if is_group(typing.to):
            group = self._store.glance.group(GroupId(typing.to))
            if group is None or sender not in group.roles:
                endpoint.outbox.put(encode(Error("not_found", detail="no such group"), id))
                return "not_found"
            self._spread(sender, group.roles, encode(RelayedTyping(sender, typing.typing, group.id)))
        else:
            to = ClientId(typing.to)
            if sender not in self._store.glance.blocks_of(to):
                self._spread(sender, [to], encode(RelayedTyping(sender, typing.typing)))
        self._accept(endpoint, id)
        return None

    def _spread(self, sender: ClientId, to: Iterable[ClientId], frame: bytes) -> None:
        for client in to:
            if client == sender:
                continue
            for other in self._hub.sessions_of(client):
                if not other.outbox.put_ephemeral(frame):
                    self._dropped += 1

    def _accept(self, endpoint: Endpoint, id: MessageId | None) -> None:  # noqa: A002  # as above
        if id is not None:
            endpoint.outbox.put(encode(Accepted(ts=self._now_ms()), id))


def _distinct(clients: list[ClientId]) -> _Clients:
    """Interned: a client that stands in a thousand lists would otherwise bring a thousand strings."""
    return dict.fromkeys(ClientId(sys.intern(client)) for client in clients)


@lru_cache(maxsize=1024)
def _update(client: ClientId, status: GivenStatus) -> bytes:
    """A client with many watchers is encoded once."""
    return encode(PresenceUpdate(client, status))
