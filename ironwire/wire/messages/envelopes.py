"""Envelopes, as sent and as delivered, and the history of them (docs/protocol.md, sections 4, 5 and 7.1)."""

from typing import Annotated, ClassVar

from attrs import field

from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId
from ironwire.limits import HISTORY_ENVELOPES, RECEIPT_IDS
from ironwire.record import record
from ironwire.wire.messages import fields
from ironwire.wire.messages.base import Answer, ClientMessage, Members, ServerMessage, members_at


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
    url: fields.MediaPath
    kind: fields.FileKind | None = None
    name: fields.FileName | None = None
    mime: fields.MimeType | None = None
    size: fields.Count | None = None
    sha256: fields.Sha256Hex | None = None
    duration_ms: fields.Milliseconds | None = None
    width: fields.Pixels | None = None
    height: fields.Pixels | None = None
    waveform: fields.Waveform | None = None
    caption: fields.Caption | None = None

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
    ids: Annotated[list[MessageId], fields.Items(1, RECEIPT_IDS)]
    state: fields.ReceiptState


@record
class DeliveredText(ServerMessage):
    """A text from `sender` (section 2). A device session gets the last three keys too (section 5)."""

    verb: ClassVar[str] = "text"

    sender: ClientId = field(metadata={fields.WIRE_KEY: "from"})
    text: str
    ts: fields.UnixMs | None = None
    device: DeviceId | None = None
    to: Address | None = None
    """In a copy for another device of the sender."""
    group: GroupId | None = None
    """The group to which it was sent; `to` is then left out."""


@record
class DeliveredFile(ServerMessage):
    """A file from `sender` (section 2). A device session gets the last three keys too (section 5)."""

    verb: ClassVar[str] = "file"

    sender: ClientId = field(metadata={fields.WIRE_KEY: "from"})
    url: fields.MediaPath
    kind: fields.FileKind | None = None
    name: fields.GivenFileName | None = None
    mime: fields.MimeType | None = None
    size: fields.Count | None = None
    sha256: fields.Sha256Hex | None = None
    duration_ms: fields.Milliseconds | None = None
    width: fields.Pixels | None = None
    height: fields.Pixels | None = None
    waveform: fields.Waveform | None = None
    caption: fields.GivenCaption | None = None
    ts: fields.UnixMs | None = None
    device: DeviceId | None = None
    to: Address | None = None
    group: GroupId | None = None


@record
class DeliveredReceipt(ServerMessage):
    """The state of envelopes that this client sent (section 7.1). Goes to device sessions only."""

    verb: ClassVar[str] = "receipt"

    sender: ClientId = field(metadata={fields.WIRE_KEY: "from"})
    ids: Annotated[list[MessageId], fields.Items(1, RECEIPT_IDS)]
    state: fields.ReceiptState
    ts: fields.UnixMs | None = None
    device: DeviceId | None = None
    to: Address | None = None


@record
class History(ClientMessage):
    """Asks for archived envelopes between this client and `peer`, newest first: the newest of all, or the page after
    the one that gave `before` (section 7.1).
    """

    verb: ClassVar[str] = "history"

    peer: Address = field(metadata={fields.WIRE_KEY: "with"})
    limit: Annotated[int, fields.Between(1, HISTORY_ENVELOPES)]
    before: fields.Count | None = None

    def surcharge(self, members: Members) -> int:
        return self.limit


@record
class ArchivedEnvelope:
    """One envelope of the history: `text` or `file`, as it was delivered, and the id that its sender gave it."""

    id: MessageId | None = None
    text: DeliveredText | None = None
    file: DeliveredFile | None = None


@record
class HistoryPage(Answer):
    """The answer to `history`, newest first (section 7.1). `before` leads to the next page; the last page has none."""

    verb: ClassVar[str] = "history"

    peer: Address = field(metadata={fields.WIRE_KEY: "with"})
    envelopes: Annotated[list[ArchivedEnvelope], fields.Items(0, HISTORY_ENVELOPES)]
    before: fields.Count | None = None
