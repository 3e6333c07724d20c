"""Presence and typing of others, known while they last and stored nowhere (docs/protocol.md, section 7.3).

Rule: nobody is seen who did not say so. What a client shows and wants to see is said again in every new session.
"""

from collections.abc import Iterable

from attrs import define

from ironwire.client.connection.requests import Requests
from ironwire.e2e.bodies import TypingBody
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
        """Show this client as `status` to those whom `allow` names."""
        return await self._requests.stand(Presence(status))

    async def allow(self, clients: Iterable[ClientId]) -> Accepted:
        """Let `clients` see this client, on all of its sessions, and nobody else."""
        return await self._requests.stand(PresenceAllow([*clients]))

    async def watch(self, clients: Iterable[ClientId]) -> Accepted:
        """Follow the presence of `clients`, and of nobody else. Those who do not allow it are seen as offline."""
        return await self._requests.stand(PresenceWatch([*clients]))

    def typing(self, to: Address, is_typing: bool) -> None:
        """Tell a client or a group that this one is typing, or has stopped. Without a session, nobody is told."""
        encryption = self._requests.encryption
        if encryption is None or not encryption.signal(to, TypingBody(is_typing)):
            self._requests.say(Typing(to, is_typing))
