"""Authentication, and the server's general answers (docs/protocol.md, sections 2, 3, 4 and 6)."""

from typing import Annotated, ClassVar

from attrs import field

from ironwire.ids import Address, ClientId, DeviceId, GroupId
from ironwire.limits import UNANSWERED_ENVELOPES
from ironwire.record import record
from ironwire.wire.messages import fields
from ironwire.wire.messages.base import Answer, ClientMessage, ServerMessage
from ironwire.wire.messages.fields import WIRE_KEY, Chars, Count, ErrorCode, Items, Number, Sha256Hex, ShortText, UnixMs


@record
class Auth(ClientMessage):
    """Opens authentication (sections 2 and 3). `token` is checked by `protocol/auth.py`: a bad one closes the
    connection.
    """

    verb: ClassVar[str] = "auth"

    token: str
    device: DeviceId | None = None
    origin: Annotated[str, Chars(1, 255)] | None = None
    invite: ShortText | None = None
    cert: fields.CertificateHex | None = None
    """With a certificate it is the device's key that signs (section 9.2); then the two keys below are there as well."""
    device_key: Sha256Hex | None = None
    log_head: Sha256Hex | None = None
    """The hash of the last entry of the own device log that the device knows."""


@record
class Verify(ClientMessage):
    """Answers the challenge with a signature in hex (section 2)."""

    verb: ClassVar[str] = "verify"

    attempt: str


@record
class AuthChallenge(ServerMessage):
    """32 random bytes in hex, to be signed once (section 2). On the wire `challenge` stands beside `type`, without a
    payload.
    """

    verb: ClassVar[str] = "auth_challenge"

    challenge: Sha256Hex


@record
class ServerLimits:
    """The bounds that a client has to know, in `auth_ok` and `/client.json`. Every field is the one of the same name in
    `Limits` (`ironwire/limits.py`), which explains it.
    """

    frame_bytes: Count
    server_frame_bytes: Count
    upload_bytes: Count
    window_envelopes: Count
    window_bytes: Count
    unanswered_envelopes: Count
    mailbox_envelopes: Count
    mailbox_bytes: Count
    retention_ms: Count
    sessions_per_client: Count
    devices_per_client: Count
    messages_at_once: Count
    bytes_at_once: Count
    clients_per_frame: Count
    receipt_ids: Count
    history_envelopes: Count
    group_members: Count
    groups_per_client: Count
    blocks_per_client: Count
    call_ring_ms: Count
    call_resume_ms: Count
    calls_per_client: Count
    call_candidates: Count
    call_bytes: Count


@record
class RefusedNumbers:
    """The envelopes of the device with the numbers `first` to `last` were refused, all with `msg` (section 4.1)."""

    first: Number = field(metadata={WIRE_KEY: "from"})
    last: Number = field(metadata={WIRE_KEY: "to"})
    msg: ErrorCode


@record
class AuthOk(ServerMessage):
    """The session may begin (sections 2 and 3). A seed client gets it without a payload: every field is then absent."""

    verb: ClassVar[str] = "auth_ok"

    client: ClientId | None = None
    device: DeviceId | None = None
    epoch: Count | None = None
    """Distinguishes this mailbox from an earlier one of the same device."""
    seq: Count | None = None
    """The last number that the mailbox gave out."""
    sent: Count | None = None
    """The last number of the device that is settled."""
    refused: Annotated[list[RefusedNumbers], Items(0, UNANSWERED_ENVELOPES)] | None = None
    """The refused ones of the last numbers up to `sent`."""
    server_time: UnixMs | None = None
    limits: ServerLimits | None = None
    features: Annotated[list[ShortText], Items(0, 64)] | None = None
    protocol: Count | None = None
    """The version of the protocol; it grows with every change that breaks older clients."""


@record
class Accepted(Answer):
    """The message with the frame's `id` is the server's duty from now on (section 4). `ts` is when it was accepted."""

    verb: ClassVar[str] = "accepted"

    ts: UnixMs
    duplicate: bool = False
    group: GroupId | None = None
    epoch: Count | None = None
    """Where a change of a group was accepted: the group, and what its epoch is now (section 7.2)."""
    index: Count | None = None
    """Where an entry of a device log was accepted: its index (section 9.3)."""
    sent: Count | None = None
    """Where `resume` was accepted of a device: as in `auth_ok`."""


@record
class Error(ServerMessage):
    """A frame was not carried out (section 6); the session goes on."""

    verb: ClassVar[str] = "error"

    msg: ErrorCode
    detail: str | None = None
    user: Address | None = None
    retry_after_ms: Count | None = None
    held: bool = False
    """The frame itself was not examined: an earlier one of the session was refused (section 4)."""


@record
class Resume(ClientMessage):
    """Ends the hold after a refusal: the client continues from there (section 4)."""

    verb: ClassVar[str] = "resume"


@record
class Ping(ClientMessage):
    """Asks for a sign of life. For clients that cannot send WebSocket pings (section 6.2)."""

    verb: ClassVar[str] = "ping"


@record
class Pong(Answer):
    """The answer to `ping`."""

    verb: ClassVar[str] = "pong"
