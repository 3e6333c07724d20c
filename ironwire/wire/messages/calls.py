"""The signals of a call (docs/protocol.md, section 7.4). They are relayed, and never written to disk."""

from typing import Annotated, ClassVar, Literal

from attrs import field

from ironwire.ids import CallId, ClientId
from ironwire.record import record
from ironwire.wire.messages.base import Answer, ClientMessage, ServerMessage
from ironwire.wire.messages.fields import WIRE_KEY, Between, Chars, Items, ShortText, UnixMs

Sdp = Annotated[str, Chars(1, 32_768)]
"""A session description (RFC 8866), passed on unchanged."""

Media = Literal["audio", "video"]
UpdateKind = Literal["offer", "answer"]
EndReason = Literal["hangup", "declined", "busy", "failed"]
GivenReason = Literal["hangup", "declined", "busy", "failed", "answered_elsewhere", "timeout", "glare", "disconnected"]


@record
class Candidate:
    """An ICE candidate as in RTCIceCandidateInit; an empty `candidate` means that there are no more (RFC 8838)."""

    candidate: Annotated[str, Chars(0, 2048)]
    sdp_mid: ShortText | None = None
    sdp_mline_index: Annotated[int, Between(0, 65_535)] | None = None


@record
class CallOffer(ClientMessage):
    """Calls every session of `to`."""

    verb: ClassVar[str] = "call_offer"

    to: ClientId
    call: CallId
    sdp: Sdp
    media: Media


@record
class CallRinging(ClientMessage):
    """The call is being shown to a person."""

    verb: ClassVar[str] = "call_ringing"

    to: ClientId
    call: CallId


@record
class CallAnswer(ClientMessage):
    """Takes the call in this session."""

    verb: ClassVar[str] = "call_answer"

    to: ClientId
    call: CallId
    sdp: Sdp


@record
class CallCandidate(ClientMessage):
    """One way to reach this session."""

    verb: ClassVar[str] = "call_candidate"

    to: ClientId
    call: CallId
    candidate: Candidate


@record
class CallUpdate(ClientMessage):
    """A later session description in a call that was answered: an offer to change the connection, or the answer."""

    verb: ClassVar[str] = "call_update"

    to: ClientId
    call: CallId
    kind: UpdateKind
    sdp: Sdp


@record
class CallEnd(ClientMessage):
    """Ends the call, or refuses it."""

    verb: ClassVar[str] = "call_end"

    to: ClientId
    call: CallId
    reason: EndReason


@record
class RelayedOffer(ServerMessage):
    """`sender` calls this client."""

    verb: ClassVar[str] = "call_offer"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    call: CallId
    sdp: Sdp
    media: Media


@record
class RelayedRinging(ServerMessage):
    """The call is being shown to a person at `sender`'s."""

    verb: ClassVar[str] = "call_ringing"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    call: CallId


@record
class RelayedAnswer(ServerMessage):
    """`sender` has taken the call."""

    verb: ClassVar[str] = "call_answer"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    call: CallId
    sdp: Sdp


@record
class RelayedCandidate(ServerMessage):
    """One way to reach `sender`'s session."""

    verb: ClassVar[str] = "call_candidate"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    call: CallId
    candidate: Candidate


@record
class RelayedUpdate(ServerMessage):
    """A later session description from `sender`'s end of the call."""

    verb: ClassVar[str] = "call_update"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    call: CallId
    kind: UpdateKind
    sdp: Sdp


@record
class RelayedResumed(ServerMessage):
    """The call with `sender` continues after one of its two devices has opened a new session: this device if it comes
    directly after `auth_ok`, else the other.
    """

    verb: ClassVar[str] = "call_resumed"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    call: CallId


@record
class RelayedEnd(ServerMessage):
    """The call with `sender` is over. Besides the reasons of clients there are the server's own: `answered_elsewhere`,
    `timeout`, `glare` and `disconnected`.
    """

    verb: ClassVar[str] = "call_end"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    call: CallId
    reason: GivenReason


@record
class IceServers(ClientMessage):
    """Asks for the STUN and TURN servers that this server offers for calls."""

    verb: ClassVar[str] = "ice_servers"


@record
class IceServer:
    """One server as in RTCIceServer. `credential` belongs to `username`; both end with the answer's `expires`."""

    urls: Annotated[list[ShortText], Items(1, 16)]
    username: ShortText | None = None
    credential: ShortText | None = None


@record
class IceServerList(Answer):
    """The answer to `ice_servers`; empty if the operator has configured none."""

    verb: ClassVar[str] = "ice_servers"

    servers: Annotated[list[IceServer], Items(0, 16)]
    expires: UnixMs | None = None
