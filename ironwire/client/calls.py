"""A client's calls: what two sessions tell each other to get a connection of their own (docs/protocol.md, section 7.4).

The other side's words come as events: `RelayedOffer`, `RelayedRinging`, `RelayedAnswer`, `RelayedCandidate`,
`RelayedUpdate` and `RelayedEnd`. A call of a device goes on after a short loss of its connection: `RelayedResumed` says
so, on both sides, and asks to repeat a description that the other side may have missed. Every other call has ended with
its session, and `RelayedEnd` says that too.

Between devices that read encrypted messages, descriptions and candidates are encrypted: the server relays them, and
does not learn how the two reach each other.
"""

from uuid import uuid4

import trio
from attrs import define

from ironwire.client.connection.requests import Requests
from ironwire.client.sealed_files import will_encrypt
from ironwire.e2e.bodies import CallBody
from ironwire.e2e.conversations.wishes import BeginGeneration
from ironwire.ids import CallId, ClientId
from ironwire.wire import messages as msg
from ironwire.wire.messages.calls import EndReason, Media, UpdateKind

_AGAIN_SECONDS = 0.1


@define(eq=False)
class OwnCalls:
    """`Client.calls`. Each method returns when the server has passed the signal on.

    Raises, every one of them:
        Refused: `not_found`: the call is over, or never was. `conflict`: another session has it. `user_offline`: nobody
            is there to be called. `quota`: as many calls or candidates as the server allows. `rate_limited`: the other
            side has still to read what it was told; try again.
        SessionEnded, AuthenticationRefused, NotTheProtocol: the client has stopped.
    """

    _requests: Requests

    async def ice_servers(self) -> msg.IceServerList:
        """The STUN and TURN servers that this server offers, with credentials good until `expires`."""
        return await self._requests.ask(msg.IceServers(), msg.IceServerList)

    async def offer(self, to: ClientId, sdp: str, media: Media) -> CallId:
        """Call every session of `to`."""
        call = CallId(uuid4().hex)
        await self._requests.ask(msg.CallOffer(to, call, await self._secret_sdp(to, call, sdp), media), msg.Accepted)
        return call

    async def ringing(self, to: ClientId, call: CallId) -> None:
        """Say that a person here is being told of the call."""
        await self._requests.ask(msg.CallRinging(to, call), msg.Accepted)

    async def answer(self, to: ClientId, call: CallId, sdp: str) -> None:
        """Take the call in this session; `conflict`: another one was quicker."""
        await self._requests.ask(msg.CallAnswer(to, call, await self._secret_sdp(to, call, sdp)), msg.Accepted)

    async def candidate(self, to: ClientId, call: CallId, candidate: msg.Candidate) -> None:
        """Name one way to reach this session."""
        text = await self._secret(to, CallBody(call, candidate=candidate))
        hidden = candidate if text is None else msg.Candidate(text)
        await self._requests.ask(msg.CallCandidate(to, call, hidden), msg.Accepted)

    async def update(self, to: ClientId, call: CallId, kind: UpdateKind, sdp: str) -> None:
        """Change the connection of a call that was answered, or answer such a change; `conflict`: not answered yet.
        Where both sides offer at once, the caller's offer wins.
        """
        await self._requests.ask(msg.CallUpdate(to, call, kind, await self._secret_sdp(to, call, sdp)), msg.Accepted)

    async def end(self, to: ClientId, call: CallId, reason: EndReason = "hangup") -> None:
        """End the call, or refuse it for every session of this client."""
        await self._requests.ask(msg.CallEnd(to, call, reason), msg.Accepted)

    async def _secret_sdp(self, to: ClientId, call: CallId, sdp: str) -> str:
        return await self._secret(to, CallBody(call, sdp=sdp)) or sdp

    async def _secret(self, to: ClientId, body: CallBody) -> str | None:
        """What stands in its place on the wire; None where the other side reads nothing encrypted.

        Raises:
            Refused: it does, and cannot be reached.
        """
        encryption = self._requests.encryption
        if encryption is None or not await will_encrypt(self._requests, to):
            return None
        if not encryption.engine.is_encrypted(to):
            await encryption.change(to, BeginGeneration((to,), {to: "admin"}))
        while (text := await encryption.seal(to, body)) is None:  # noqa: ASYNC110 - a commit is on its way
            await trio.sleep(_AGAIN_SECONDS)
        return text
