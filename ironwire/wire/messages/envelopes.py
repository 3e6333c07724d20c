"""Envelopes, as sent and as delivered, and the history of them (docs/protocol.md, sections 4, 5 and 7.1)."""

from typing import Annotated, ClassVar

from attrs import field

from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId
from ironwire.limits import HISTORY_ENVELOPES, RECEIPT_IDS
from ironwire.record import record
from ironwire.wire.messages.base import ClientMessage, Members, ServerMessage, members_at
from ironwire.wire.messages.fields import (
    WIRE_KEY,
    Between,
    Caption,
    Count,
    FileKind,
    FileName,
    GivenCaption,
    GivenFileName,
    Items,
    MediaPath,
    Milliseconds,
    MimeType,
    Pixels,
    ReceiptState,
    Sha256Hex,
    UnixMs,
    Waveform,
)


@record
class Text(ClientMessage):
    """A text for `to` (section 4)."""

    verb: ClassVar[str] = "text"
    is_ordered = True

    to: Address
    text: str

    def surcharge(self, members: Members) -> int:
        return members_at(self.to, members)


@record
class File(ClientMessage):
    """An uploaded file for `to`, with what a client needs to show it before it is downloaded (section 4)."""

    verb: ClassVar[str] = "file"
    is_ordered = True

    to: Address
    url: MediaPath
    kind: FileKind | None = None
    name: FileName | None = None
    mime: MimeType | None = None
    size: Count | None = None
    sha256: Sha256Hex | None = None
    duration_ms: Milliseconds | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    waveform: Waveform | None = None
    caption: Caption | None = None

    def surcharge(self, members: Members) -> int:
        return members_at(self.to, members)


@record
class Receipt(ClientMessage):
    """The envelopes with these ids were delivered to, or read by, a person's device. Goes to the devices of `to`
    (section 7.1).
    """

    verb: ClassVar[str] = "receipt"
    is_ordered = True

    to: ClientId
    ids: Annotated[list[MessageId], Items(1, RECEIPT_IDS)]
    state: ReceiptState


@record
class DeliveredText(ServerMessage):
    """A text from `sender` (section 2). A device session gets the last three keys too (section 5)."""

    verb: ClassVar[str] = "text"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    text: str
    ts: UnixMs | None = None
    device: DeviceId | None = None
    to: Address | None = None
    """In a copy for another device of the sender."""
    group: GroupId | None = None
    """The group to which it was sent; `to` is then left out."""


@record
class DeliveredFile(ServerMessage):
    """A file from `sender` (section 2). A device session gets the last three keys too (section 5)."""

    verb: ClassVar[str] = "file"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    url: MediaPath
    kind: FileKind | None = None
    name: GivenFileName | None = None
    mime: MimeType | None = None
    size: Count | None = None
    sha256: Sha256Hex | None = None
    duration_ms: Milliseconds | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    waveform: Waveform | None = None
    caption: GivenCaption | None = None
    ts: UnixMs | None = None
    device: DeviceId | None = None
    to: Address | None = None
    group: GroupId | None = None


@record
class DeliveredReceipt(ServerMessage):
    """The state of envelopes that this client sent (section 7.1). Goes to device sessions only."""

    verb: ClassVar[str] = "receipt"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    ids: Annotated[list[MessageId], Items(1, RECEIPT_IDS)]
    state: ReceiptState
    ts: UnixMs | None = None
    device: DeviceId | None = None
    to: Address | None = None


@record
class History(ClientMessage):
    """Asks for archived envelopes between this client and `peer`, newest first: the newest of all, or the page after
    the one that gave `before` (section 7.1).
    """

    verb: ClassVar[str] = "history"

    peer: Address = field(metadata={WIRE_KEY: "with"})
    limit: Annotated[int, Between(1, HISTORY_ENVELOPES)]
    before: Count | None = None

    def surcharge(self, members: Members) -> int:
        return self.limit


@record
class ArchivedEnvelope:
    """One envelope of the history: `text` or `file`, as it was delivered, and the id that its sender gave it."""

    id: MessageId | None = None
    text: DeliveredText | None = None
    file: DeliveredFile | None = None


@record
class HistoryPage(ServerMessage):
    """The answer to `history`, newest first (section 7.1). `before` leads to the next page; the last page has none."""

    verb: ClassVar[str] = "history"

    peer: Address = field(metadata={WIRE_KEY: "with"})
    envelopes: Annotated[list[ArchivedEnvelope], Items(0, HISTORY_ENVELOPES)]
    before: Count | None = None
