"""The kinds of message inside the encryption: one class for each `t` (docs/between-devices.md, section 11.2).

The annotations are the rules, as those of `wire/messages/` are; docs/schema/e2e/ is generated from them. No body names
its sender: that is the device whose leaf signed the message.
"""

from typing import Annotated, ClassVar

from attrs import field

from ironwire.ids import Address, CallId, ClientId, ConversationId, MessageId
from ironwire.limits import RECEIPT_IDS
from ironwire.record import record
from ironwire.wire.messages import fields
from ironwire.wire.messages.calls import Candidate, Sdp
from ironwire.wire.messages.fields import WIRE_KEY, Chars, Items, Pattern

Base64Key = Annotated[
    str,
    Pattern(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", description="32 bytes in base64url without padding"),
]
THUMBNAIL_CHARS = 12_000
Thumbnail = Annotated[
    str,
    Chars(1, THUMBNAIL_CHARS),
    Pattern(r"[A-Za-z0-9_-]*", description="a small JPEG in base64url without padding"),
]
Emoji = Annotated[str, Chars(1, 32)]
"""One that a person sees as one may be many code points long."""
DeviceKeyHex = Annotated[str, Pattern(r"[0-9a-f]{64}", description="a device key: 64 lowercase hex digits")]


HISTORY_PARTS = 64
"""Of one history: so many still fit into a frame."""


class Body:
    """A kind of message."""

    __slots__ = ()

    t: ClassVar[str]


# --- parts of several ------------------------------------------------------------------------------------------------


@record
class SealedFile:
    """An uploaded file that is encrypted (section 11.1): `size` is that of its content, `sha256` is of the blob."""

    url: fields.MediaPath
    key: Base64Key
    size: fields.Count
    sha256: fields.Sha256Hex


@record
class MessageName:
    """A message of this conversation: ids are unique for one sender alone."""

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    id: MessageId


# --- what people say -------------------------------------------------------------------------------------------------


@record
class TextBody(Body):
    """A text; `reply` is the message that it answers."""

    t: ClassVar[str] = "text"

    text: str
    reply: MessageName | None = None


@record
class FileBody(Body):
    """An encrypted file, with what a client needs to show it before it is downloaded."""

    t: ClassVar[str] = "file"

    file: SealedFile
    kind: fields.FileKind | None = None
    name: fields.FileName | None = None
    mime: fields.MimeType | None = None
    duration_ms: fields.Milliseconds | None = None
    width: fields.Pixels | None = None
    height: fields.Pixels | None = None
    waveform: fields.Waveform | None = None
    thumbnail: Thumbnail | None = None
    caption: fields.Caption | None = None
    reply: MessageName | None = None


@record
class ReactionBody(Body):
    """The sender's one reaction to a message, instead of an earlier one; without `emoji`, none any more."""

    t: ClassVar[str] = "reaction"

    to: MessageName
    emoji: Emoji | None = None


@record
class EditBody(Body):
    """Another text, or caption, for a message of the sender's own client."""

    t: ClassVar[str] = "edit"

    of: MessageId
    text: str


@record
class DeleteBody(Body):
    """A message of the sender's own client is not to be shown any more."""

    t: ClassVar[str] = "delete"

    of: MessageId


@record
class ReceiptBody(Body):
    """These messages of the recipient were delivered to, or read by, a person's device. In pairs alone."""

    t: ClassVar[str] = "receipt"

    ids: Annotated[list[MessageId], Items(1, RECEIPT_IDS)]
    state: fields.ReceiptState


@record
class TypingBody(Body):
    """Somebody is typing, or has stopped. A signal: it is not stored."""

    t: ClassVar[str] = "typing"

    typing: bool


@record
class ProfileBody(Body):
    """The sender's name and picture."""

    t: ClassVar[str] = "profile"

    name: fields.GroupName
    avatar: SealedFile | None = None


@record
class GroupBody(Body):
    """The group's name and picture, from an admin; and again for those who join, from the one who added them."""

    t: ClassVar[str] = "group"

    name: fields.GroupName
    avatar: SealedFile | None = None


@record
class CallBody(Body):
    """The secret half of a signal of a call: a session description or a candidate, one of the two (section 7.4)."""

    t: ClassVar[str] = "call"

    call: CallId
    sdp: Sdp | None = None
    candidate: Candidate | None = None


# --- what devices say ------------------------------------------------------------------------------------------------


@record
class ResendBody(Body):
    """These messages could not be decrypted: their sender encrypts them again, under the same ids."""

    t: ClassVar[str] = "resend"

    ids: Annotated[list[MessageId], Items(1, RECEIPT_IDS)]


@record
class LogBody(Body):
    """Nothing but the `logs` that stand beside it."""

    t: ClassVar[str] = "log"


@record
class RevokeMeBody(Body):
    """In `self` alone: a linked device asks an owner device to revoke it."""

    t: ClassVar[str] = "revoke_me"


@record
class VerifiedMark:
    """Whether a person has compared the safety number with this client: said at `at`, on the device `by`."""

    client: ClientId
    verified: bool
    at: fields.UnixMs
    by: DeviceKeyHex


@record
class ContactName:
    """Whom this name means to the person; nobody any more, without `who`."""

    name: fields.GroupName
    at: fields.UnixMs
    by: DeviceKeyHex
    who: Address | None = None


@record
class ReadMark:
    """The conversation was read up to the message that the server accepted at `ts`."""

    conversation: ConversationId
    ts: fields.UnixMs


@record
class DeviceName:
    """The name that the person gave to a device of their own."""

    device: DeviceKeyHex
    name: fields.GroupName
    at: fields.UnixMs
    by: DeviceKeyHex


@record
class HistoryPart:
    """One encrypted part of an archived history: its messages were accepted from `since` to `until`."""

    file: SealedFile
    since: fields.UnixMs = field(metadata={WIRE_KEY: "from"})
    until: fields.UnixMs = field(metadata={WIRE_KEY: "to"})
    messages: fields.Number


@record
class HistoryManifest:
    """History for the device with this key, newest part first: `total` messages in all. `parts` grows from one manifest
    to the next; the last has `is_complete`.
    """

    device: DeviceKeyHex
    parts: Annotated[list[HistoryPart], Items(0, HISTORY_PARTS)]
    total: fields.Count
    is_complete: bool


@record
class SyncBody(Body):
    """In `self` alone: what the devices of one client tell each other. `state` is the hash of everything that the
    device knows of names and marks (section 11.3); devices that know something else tell it.
    """

    t: ClassVar[str] = "sync"

    verified: Annotated[list[VerifiedMark], Items(1, 1000)] | None = None
    contacts: Annotated[list[ContactName], Items(1, 1000)] | None = None
    read: Annotated[list[ReadMark], Items(1, 1000)] | None = None
    devices: Annotated[list[DeviceName], Items(1, 1000)] | None = None
    state: fields.Sha256Hex | None = None
    history: HistoryManifest | None = None


AnyBody = (
    TextBody
    | FileBody
    | ReactionBody
    | EditBody
    | DeleteBody
    | ReceiptBody
    | TypingBody
    | ProfileBody
    | GroupBody
    | CallBody
    | ResendBody
    | LogBody
    | RevokeMeBody
    | SyncBody
)
