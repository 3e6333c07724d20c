"""Who is there, and who is typing: known while it is so, kept nowhere (docs/protocol.md, section 7.3).

Rule: nobody is seen who did not say so. What a client shows and wants to see is said again in every new session.
"""

from collections.abc import Iterable

from attrs import define

from ironwire.client.connection.requests import Requests
from ironwire.ids import Address, ClientId
from ironwire.wire.messages import Accepted, Presence, PresenceAllow, PresenceWatch, Typing
from ironwire.wire.messages.presence import Status


@define(eq=False)
class OwnPresence:
    """`Client.presence`. What others are seen as comes as `PresenceUpdate`, who types as `RelayedTyping`.

    Raises, all but `typing`:
        Refused: the server does not want this; it is not said again.
        SessionEnded, AuthenticationRefused, NotTheProtocol: the client has stopped.
    """

    _requests: Requests

    async def say(self, status: Status) -> Accepted:
        """What to be seen as, by those whom `allow` names."""
        return await self._requests.stand(Presence(status))

    async def allow(self, clients: Iterable[ClientId]) -> Accepted:
        """Who may see this client, on all of its sessions, instead of whoever could before."""
        return await self._requests.stand(PresenceAllow([*clients]))

    async def watch(self, clients: Iterable[ClientId]) -> Accepted:
        """Whom to see, instead of whom before. Who does not allow it is seen as offline."""
        return await self._requests.stand(PresenceWatch([*clients]))

    def typing(self, to: Address, is_typing: bool) -> None:
        """Tell a client or a group that this one is typing, or has stopped. Without a session, nobody is told."""
        self._requests.say(Typing(to, is_typing))
