"""A client's calls: what two sessions tell each other to get a connection of their own (docs/protocol.md, section 7.4).

The other side's words come as events: `RelayedOffer`, `RelayedRinging`, `RelayedAnswer`, `RelayedCandidate`,
`RelayedUpdate` and `RelayedEnd`. A call of a device goes on after a short loss of its connection: `RelayedResumed` says
so, on both sides, and asks to repeat a description that the other side may have missed. Every other call has ended with
its session, and `RelayedEnd` says that too.
"""

from uuid import uuid4

from attrs import define

from ironwire.client.connection.requests import Requests
from ironwire.ids import CallId, ClientId
from ironwire.wire import messages as msg
from ironwire.wire.messages.calls import EndReason, Media, UpdateKind


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
        await self._requests.ask(msg.CallOffer(to, call, sdp, media), msg.Accepted)
        return call

    async def ringing(self, to: ClientId, call: CallId) -> None:
        """Say that a person here is being told of the call."""
        await self._requests.ask(msg.CallRinging(to, call), msg.Accepted)

    async def answer(self, to: ClientId, call: CallId, sdp: str) -> None:
        """Take the call in this session; `conflict`: another one was quicker."""
        await self._requests.ask(msg.CallAnswer(to, call, sdp), msg.Accepted)

    async def candidate(self, to: ClientId, call: CallId, candidate: msg.Candidate) -> None:
        """Name one way to reach this session."""
        await self._requests.ask(msg.CallCandidate(to, call, candidate), msg.Accepted)

    async def update(self, to: ClientId, call: CallId, kind: UpdateKind, sdp: str) -> None:
        """Change the connection of a call that was answered, or answer such a change; `conflict`: not answered yet.
        Where both sides offer at once, the caller's offer wins.
        """
        await self._requests.ask(msg.CallUpdate(to, call, kind, sdp), msg.Accepted)

    async def end(self, to: ClientId, call: CallId, reason: EndReason = "hangup") -> None:
        """End the call, or refuse it for every session of this client."""
        await self._requests.ask(msg.CallEnd(to, call, reason), msg.Accepted)
