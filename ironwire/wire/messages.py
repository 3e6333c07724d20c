"""One class per verb: what a client may say, and what the server may say.

A message is the content of a frame's `payload`. What stands beside the payload (`id`, `seq`) belongs to the frame and
travels beside the message in `codec.py`. Field names are the keys on the wire, except where a key is a word of Python
(`from`): there `WIRE_KEY` in the field's metadata names it. docs/protocol.md is the law; `docs/schema/` is generated
from this module.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, get_args

from attrs import Attribute, define, field

from ironwire.ids import Address, ClientId, DeviceId, MessageId
from ironwire.wire.constraints import Between, Chars, Count, Items, MediaPath, MimeType, Sha256Hex, UnixMs

T = TypeVar("T")

WIRE_KEY = "wire_key"


if TYPE_CHECKING:
    from attrs import frozen as message
else:

    def message(cls: type[T]) -> type[T]:
        """An attrs class that the type checker holds to be frozen. Freezing it at run time would make every message
        three times as expensive to build, and building messages is what a relay does.
        """
        return define(cls, unsafe_hash=True)


ReceiptState = Literal["delivered", "read"]
FileKind = Literal["file", "image", "voice", "circle"]
ErrorCode = Literal[
    "auth_required",
    "expected_verify",
    "invalid",
    "user_offline",
    "mailbox_full",
    "too_large",
    "rate_limited",
    "forbidden",
    "not_found",
    "conflict",
    "quota",
    "internal",
]
"""The closed set of section 6."""

Waveform = Annotated[list[Annotated[int, Between(0, 255)]], Items(64, 64)]
ShortText = Annotated[str, Chars(0, 255)]
Milliseconds = Annotated[int, Between(0, 24 * 3_600_000)]
Pixels = Annotated[int, Between(1, 65_535)]


# --- client to server ------------------------------------------------------------------------------------------------


@message
class Auth:
    """Opens authentication (sections 2 and 3). `token` is checked by `protocol/auth.py`: a bad one closes the
    connection.
    """

    verb: ClassVar[str] = "auth"

    token: str
    device: DeviceId | None = None
    origin: Annotated[str, Chars(1, 255)] | None = None


@message
class Verify:
    """Answers the challenge with a signature in hex (section 2)."""

    verb: ClassVar[str] = "verify"

    attempt: str


@message
class Text:
    """A text for `to` (section 4)."""

    verb: ClassVar[str] = "text"

    to: Address
    text: str


@message
class File:
    """An uploaded file for `to`, with what a client needs to show it before it is downloaded (section 4)."""

    verb: ClassVar[str] = "file"

    to: Address
    url: MediaPath
    kind: FileKind | None = None
    name: ShortText | None = None
    mime: MimeType | None = None
    size: Count | None = None
    sha256: Sha256Hex | None = None
    duration_ms: Milliseconds | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    waveform: Waveform | None = None
    caption: Annotated[str, Chars(0, 4096)] | None = None


@message
class Ack:
    """Everything up to `upto` is safe with this device: cumulative, may be repeated (section 5)."""

    verb: ClassVar[str] = "ack"

    upto: Count


@message
class Receipt:
    """The envelopes with these ids were delivered to, or read by, a person's device. Goes to the devices of `to`
    (section 7).
    """

    verb: ClassVar[str] = "receipt"

    to: ClientId
    ids: Annotated[list[MessageId], Items(1, 100)]
    state: ReceiptState


@message
class Devices:
    """Asks for this client's devices (section 5)."""

    verb: ClassVar[str] = "devices"


@message
class DeviceRemove:
    """Deletes one of this client's devices with its mailbox (section 5)."""

    verb: ClassVar[str] = "device_remove"

    device: DeviceId


@message
class History:
    """Asks for archived envelopes between this client and `peer`, newest first: the newest of all, or those that follow
    the page which gave `before` (section 7).
    """

    verb: ClassVar[str] = "history"

    peer: Address = field(metadata={WIRE_KEY: "with"})
    limit: Annotated[int, Between(1, 100)]
    before: Count | None = None


ClientMessage = Auth | Verify | Text | File | Ack | Receipt | Devices | DeviceRemove | History


# --- server to client ------------------------------------------------------------------------------------------------


@message
class AuthChallenge:
    """32 random bytes in hex, to be signed once (section 2). On the wire `challenge` stands beside `type`, without a
    payload.
    """

    verb: ClassVar[str] = "auth_challenge"

    challenge: Sha256Hex


@message
class ServerLimits:
    """The bounds that a client has to know, as `auth_ok` tells them. Bytes."""

    frame_bytes: Count
    upload_bytes: Count


@message
class AuthOk:
    """The session may begin (sections 2 and 3). A seed client gets it without a payload: every field is then absent."""

    verb: ClassVar[str] = "auth_ok"

    client: ClientId | None = None
    device: DeviceId | None = None
    epoch: Count | None = None
    """Tells this mailbox from one that the device had before it was removed."""
    seq: Count | None = None
    """The last number that the mailbox has given out."""
    server_time: UnixMs | None = None
    limits: ServerLimits | None = None
    features: Annotated[list[ShortText], Items(0, 64)] | None = None


@message
class DeliveredText:
    """A text from `sender` (section 2). A device session gets the last three keys too (section 5)."""

    verb: ClassVar[str] = "text"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    text: str
    ts: UnixMs | None = None
    device: DeviceId | None = None
    to: Address | None = None
    """In a copy for another device of the sender."""


@message
class DeliveredFile:
    """A file from `sender` (section 2). A device session gets the last three keys too (section 5)."""

    verb: ClassVar[str] = "file"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    url: MediaPath
    kind: FileKind | None = None
    name: ShortText | None = None
    mime: MimeType | None = None
    size: Count | None = None
    sha256: Sha256Hex | None = None
    duration_ms: Milliseconds | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    waveform: Waveform | None = None
    caption: Annotated[str, Chars(0, 4096)] | None = None
    ts: UnixMs | None = None
    device: DeviceId | None = None
    to: Address | None = None


@message
class DeliveredReceipt:
    """What became of envelopes that this client sent (section 7). Goes to device sessions alone."""

    verb: ClassVar[str] = "receipt"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    ids: Annotated[list[MessageId], Items(1, 100)]
    state: ReceiptState
    ts: UnixMs | None = None
    device: DeviceId | None = None
    to: Address | None = None


@message
class Accepted:
    """The message with the frame's `id` is the server's duty from now on (section 4). `ts` is when it was accepted."""

    verb: ClassVar[str] = "accepted"

    ts: UnixMs
    duplicate: bool = False


@message
class Error:
    """A frame was not carried out (section 6); the session goes on."""

    verb: ClassVar[str] = "error"

    msg: ErrorCode
    detail: str | None = None
    user: Address | None = None
    retry_after_ms: Count | None = None


@message
class CaughtUp:
    """Everything that waited has been delivered, up to `seq`; what follows is live (section 5)."""

    verb: ClassVar[str] = "caught_up"

    seq: Count


@message
class Gap:
    """The entries `first` to `last` of the mailbox are gone (section 5)."""

    verb: ClassVar[str] = "gap"

    first: Count = field(metadata={WIRE_KEY: "from"})
    last: Count = field(metadata={WIRE_KEY: "to"})
    reason: Literal["expired"]


@message
class Device:
    """One of the client's devices: when it was registered and last connected, and how many envelopes wait for it."""

    device: DeviceId
    created: UnixMs
    seen: UnixMs
    waiting: Count


@message
class DeviceList:
    """The answer to `devices`, oldest first (section 5)."""

    verb: ClassVar[str] = "devices"

    devices: Annotated[list[Device], Items(0, 64)]


@message
class DeviceRemoved:
    """The answer to `device_remove` (section 5)."""

    verb: ClassVar[str] = "device_removed"

    device: DeviceId


@message
class ArchivedEnvelope:
    """One envelope of the history: `text` or `file`, as it was delivered, and the id that its sender gave it."""

    id: MessageId | None = None
    text: DeliveredText | None = None
    file: DeliveredFile | None = None


@message
class HistoryPage:
    """The answer to `history`, newest first (section 7). `before` leads to the next page; the last page has none."""

    verb: ClassVar[str] = "history"

    peer: Address = field(metadata={WIRE_KEY: "with"})
    envelopes: Annotated[list[ArchivedEnvelope], Items(0, 100)]
    before: Count | None = None


ServerMessage = (
    AuthChallenge
    | AuthOk
    | DeliveredText
    | DeliveredFile
    | DeliveredReceipt
    | Accepted
    | Error
    | CaughtUp
    | Gap
    | DeviceList
    | DeviceRemoved
    | HistoryPage
)

DELIVERIES = (DeliveredText, DeliveredFile, DeliveredReceipt)
"""What comes out of a mailbox, numbered by the frame's `seq`."""

CLIENT_MESSAGES: tuple[type[ClientMessage], ...] = get_args(ClientMessage)
SERVER_MESSAGES: tuple[type[ServerMessage], ...] = get_args(ServerMessage)


def wire_key(attribute: "Attribute[Any]") -> str:
    """The key under which a field stands on the wire."""
    return str(attribute.metadata.get(WIRE_KEY, attribute.name))
