"""Presence and typing: signals for the sessions that are live now (docs/protocol.md, section 7.3).

A client is seen as the newest `presence` of its live sessions says, by the clients that it allows and has not blocked;
all others see it offline. Everything lives in memory and ends with the sessions: nothing here reaches a disk.

Rule: a watcher ends up knowing what it should see, at nobody else's cost. Only allowed clients are looked up, so a
crowd that watches a client without being allowed costs nothing. The status is read when a watcher's turn comes, so a
client that came and went meanwhile is reported once; a session that reads too slowly is told when it reads again.
"""

import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice

import trio
from attrs import define, field, frozen

from ironwire.counting import figure
from ironwire.delivery.envelopes import NO_SUCH_GROUP
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.errors import StoreError
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import ClientId, EndpointId, GroupId, MessageId, is_group
from ironwire.store.contract.store import Store
from ironwire.wire import messages as msg
from ironwire.wire.codec import encode
from ironwire.wire.messages.fields import ErrorCode
from ironwire.wire.messages.presence import GivenStatus, Status

CATCH_UP_SECONDS = 1.0
TURN_CLIENTS = 32
"""Clients that are looked up in one iteration of the event loop. Each may have `limits.sessions_per_client` sessions.
"""

_Clients = dict[ClientId, None]
"""A set that keeps its order, so that the same run gives the same trace."""


@frozen
class PresenceStatistics:
    sessions_watching: int = figure("Sessions that watch the presence of others.")
    dropped_total: int = figure("Presence frames dropped because the outbox of a session was half full.")


@define(eq=False)
class _Watcher:
    """An endpoint that watches, in one session."""

    endpoint_id: EndpointId
    watched: _Clients = field(factory=dict)
    told: dict[ClientId, GivenStatus | None] = field(factory=dict)
    """The last report about each client. A missing client is offline to this watcher; None: its view is unknown."""


@define(eq=False)
class PresenceHandler:
    """Answers clients about presence, and tells watchers of changes: `tell` and `catch_up` are two tasks."""

    _hub: Hub
    _store: Store
    _now_ms: Callable[[], int]
    _said: dict[ClientId, dict[EndpointId, Status]] = field(init=False, factory=dict)
    """The last status of each live session, newest last."""
    _allowed: dict[ClientId, _Clients] = field(init=False, factory=dict)
    _watchers: dict[EndpointId, _Watcher] = field(init=False, factory=dict)
    _changed: dict[ClientId, _Clients] = field(init=False, factory=dict)
    """Clients whose status may have changed, each with the clients that may see it."""
    _behind: dict[_Watcher, None] = field(init=False, factory=dict)
    _news: trio.lowlevel.ParkingLot = field(init=False, factory=trio.lowlevel.ParkingLot)
    _dropped: int = field(init=False, default=0)

    # --- requests ----------------------------------------------------------------------------------------------------

    @verb_handler
    def typing(self, endpoint: Endpoint, request: msg.Typing, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the group or the blocks cannot be read.
        """
        sender = endpoint.principal.client
        if is_group(request.to):
            group = self._store.glance.group(GroupId(request.to))
            if group is None or sender not in group.roles:
                return reply(endpoint, NO_SUCH_GROUP, id_)
            self._fan_out(sender, group.roles, encode(msg.RelayedTyping(sender, request.typing, group.id)))
        else:
            to = ClientId(request.to)
            if sender not in self._store.glance.blocks_of(to):
                self._fan_out(sender, [to], encode(msg.RelayedTyping(sender, request.typing)))
        return self._accept(endpoint, id_)

    @verb_handler
    def say(self, endpoint: Endpoint, request: msg.Presence, id_: MessageId | None) -> ErrorCode | None:
        """The client is seen as this, while the session is the newest that has said something."""
        if _is_over(endpoint):
            return None
        client = endpoint.principal.client
        said = self._said.setdefault(client, {})
        said.pop(endpoint.endpoint_id, None)
        said[endpoint.endpoint_id] = request.status
        self.changed(client)
        return self._accept(endpoint, id_)

    @verb_handler
    def allow(self, endpoint: Endpoint, request: msg.PresenceAllow, id_: MessageId | None) -> ErrorCode | None:
        """These clients may see the client from now on."""
        if _is_over(endpoint):
            return None
        client = endpoint.principal.client
        self.changed(client)  # to those who were allowed before
        self._allowed[client] = _distinct(request.clients)
        self.changed(client)
        return self._accept(endpoint, id_)

    @verb_handler
    def watch(self, endpoint: Endpoint, request: msg.PresenceWatch, id_: MessageId | None) -> ErrorCode | None:
        """The session wants to see these clients from now on.

        A client may reset its view on `accepted` or keep it. Resend every watched client that is online now or was last
        reported online, so that both converge.
        """
        if _is_over(endpoint):
            return None
        watched = _distinct(request.clients)
        self._accept(endpoint, id_)  # first: the reports that follow are about the new list
        watcher = self._watchers.setdefault(endpoint.endpoint_id, _Watcher(endpoint.endpoint_id))
        kept = [client for client, status in watcher.told.items() if status != "offline" and client in watched]
        watcher.told = dict.fromkeys(kept)
        watcher.watched = watched
        for client in watched:
            self._tell(watcher, endpoint, client)
        return None

    def arrived(self, endpoint: Endpoint) -> None:
        """A session has begun. It has said and watches nothing yet; an older session that it replaced is over."""
        self._forget(endpoint.endpoint_id)

    def left(self, endpoint: Endpoint) -> None:
        """A session is over, and not attached any more. One that was replaced was forgotten when the newer arrived."""
        client = endpoint.principal.client
        if self._hub.session_at(endpoint.endpoint_id) is None:
            self._forget(endpoint.endpoint_id)
        if not self._hub.sessions_of(client):
            self._allowed.pop(client, None)

    def changed(self, client: ClientId) -> None:
        """The status of the client may have changed for the clients that it allows."""
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
                session = self._hub.session_at(watcher.endpoint_id)
                if session is not None:
                    for client in watcher.watched:
                        self._tell(watcher, session, client)
                await trio.lowlevel.checkpoint()

    async def _next_round(self) -> dict[ClientId, _Clients]:
        if not self._changed:
            await self._news.park()
        changed, self._changed = self._changed, {}
        return changed

    # --- presence ----------------------------------------------------------------------------------------------------

    def _forget(self, endpoint_id: EndpointId) -> None:
        watcher = self._watchers.pop(endpoint_id, None)
        if watcher is not None:
            watcher.watched = {}
            self._behind.pop(watcher, None)
        client = endpoint_id.client
        said = self._said.get(client, {})
        if said.pop(endpoint_id, None) is not None:
            if not said:
                del self._said[client]
            self.changed(client)

    def _tell_client(self, by: ClientId, client: ClientId) -> None:
        for other in self._hub.sessions_of(by):
            watcher = self._watchers.get(other.endpoint_id)
            if watcher is not None:
                self._tell(watcher, other, client)

    def _tell(self, watcher: _Watcher, session: Endpoint, client: ClientId) -> None:
        """Tell the watcher in its session what it should see, unless it was told that last or does not watch the client
        any more.
        """
        if client not in watcher.watched:
            return
        try:
            status = self._seen(client, watcher.endpoint_id.client)
        except StoreError:
            self._behind[watcher] = None  # the store says for itself that it fails; this waits until it does not
            return
        if status == watcher.told.get(client, "offline"):
            return
        if session.outbox.put_ephemeral(_update(client, status)):
            watcher.told[client] = status
        else:
            self._dropped += 1
            self._behind[watcher] = None

    def _seen(self, client: ClientId, by: ClientId) -> GivenStatus:
        said = self._said.get(client)
        if not said or by not in self._allowed.get(client, ()) or by in self._store.glance.blocks_of(client):
            return "offline"
        return next(reversed(said.values()))

    def _fan_out(self, sender: ClientId, to: Iterable[ClientId], frame: bytes) -> None:
        for client in to:
            if client == sender:
                continue
            for other in self._hub.sessions_of(client):
                if not other.outbox.put_ephemeral(frame):
                    self._dropped += 1

    def _accept(self, endpoint: Endpoint, id_: MessageId | None) -> ErrorCode | None:
        return reply(endpoint, msg.Accepted(ts=self._now_ms()), id_)


def _is_over(endpoint: Endpoint) -> bool:
    """Whether the session is ending: it takes no answer, and must not speak for a newer one that replaced it."""
    return endpoint.outbox.ending is not None


def _distinct(clients: list[ClientId]) -> _Clients:
    """The distinct clients, interned: one client in a thousand lists is then one string."""
    return dict.fromkeys(ClientId(sys.intern(client)) for client in clients)


@lru_cache(maxsize=1024)
def _update(client: ClientId, status: GivenStatus) -> bytes:
    """The encoded update, cached: a client may have many watchers."""
    return encode(msg.PresenceUpdate(client, status))
