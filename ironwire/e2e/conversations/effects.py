"""The vocabulary of the engine: what it asks, what it wants kept, and what it tells.

    input ──> engine ──> Effects: writes     one transaction of the device's store
                                  requests   then these go to the server
                                  events     and these to the program

Rule: nothing is sent or told before the writes of the same `Effects`, and of all earlier ones, are on the disk. So a
key that has encrypted something is never used again, and a message that was acknowledged was kept.
"""

from collections.abc import Generator
from typing import Any, TypeVar

from attrs import define, field, frozen

from ironwire.e2e.bodies import AnyBody, HistoryManifest
from ironwire.e2e.conversations.events import EngineEvent, OpenedMessage
from ironwire.e2e.own_records import OwnRecord
from ironwire.ids import Address, ClientId, ConversationId, DeviceId, MessageId
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages import Accepted, Answer, ClientMessage, Error
from ironwire.wire.messages.conversations import BlobRef

T = TypeVar("T")
SomeAnswer = TypeVar("SomeAnswer", bound=Answer)


# --- questions -------------------------------------------------------------------------------------------------------


@frozen
class FetchBlob:
    """The bytes of an uploaded blob, or None."""

    ref: BlobRef


@frozen
class StoreBlob:
    """The `BlobRef` of these bytes, uploaded; or None."""

    data: bytes = field(repr=False)


@frozen
class Recall:
    """The `Recalled` messages among `ids` that this device has sent to the client or group, encrypted."""

    to: Address
    ids: tuple[MessageId, ...]


@frozen
class Recalled:
    """A message of one's own. `ts` is when the server accepted it, or when it was written."""

    id: MessageId
    body: AnyBody
    ts: int


@frozen
class WasOpened:
    """Whether a message with this id was read before, of this client and the device with this name."""

    sender: ClientId
    device: DeviceId
    id: MessageId


Question = ClientMessage | FetchBlob | StoreBlob | Recall | WasOpened


@frozen
class Inquiry:
    """A question, with the id of its frame: a new one, unless it is repeated."""

    question: Question
    id: MessageId | None = None


@frozen
class Pause:
    ms: int


Steps = Generator[Inquiry | Pause, Any, T]
"""A piece of work that stops at questions and pauses. It is closed where the session ends, and begun anew in the next
one: nothing that has to outlive a session is in it.
"""


def ask(
    message: ClientMessage, kind: type[SomeAnswer], message_id: MessageId | None = None
) -> Steps[SomeAnswer | Error]:
    """The server's answer; an answer of another kind is an error."""
    reply = yield Inquiry(message, message_id)
    if isinstance(reply, kind | Error):
        return reply
    return Error("internal", "the server gave another answer than there is")


# --- writes ----------------------------------------------------------------------------------------------------------


@frozen
class SavedGroup:
    """An MLS group, in two parts: what commits change, and what every message changes."""

    state: bytes = field(repr=False)
    message_keys: bytes = field(repr=False)


@frozen
class SavedMembership:
    """A device's place in a conversation: the group there, the one that it founds, and JSON (`membership.py`)."""

    conversation: ConversationId
    group: SavedGroup | None
    founding: SavedGroup | None
    facts: bytes


@frozen
class SavedKeys:
    """All that a message has changed in a conversation whose membership was saved before."""

    conversation: ConversationId
    message_keys: bytes = field(repr=False)


@frozen
class SavedPackage:
    """A key package of this device with its private halves. Times are Unix ms.

    `destroy_at` is when nobody can use it any more.
    """

    ref: bytes
    data: bytes = field(repr=False)
    is_last_resort: bool
    made_at: int
    destroy_at: int
    is_published: bool = False
    is_used: bool = False


@frozen
class DropPackage:
    """The private halves are destroyed."""

    ref: bytes


@frozen
class SavedLog:
    """The device log of a client, as far as it is known here."""

    client: ClientId
    entries: bytes = field(repr=False)


@frozen
class Missing:
    """A message that could not be read, and is asked for."""

    conversation: ConversationId
    sender: ClientId
    id: MessageId
    since: int


@frozen
class NoLongerMissing:
    """It is there now, or was given up."""

    conversation: ConversationId
    sender: ClientId
    id: MessageId


@frozen
class SavedOwn:
    """What a person has told one of their devices."""

    record: OwnRecord


@frozen
class SavedManifest:
    """History that the own device with the key `source` has for this one, as far as it is uploaded."""

    source: bytes
    manifest: HistoryManifest


@frozen
class KeptFrame:
    """A delivery that was not encrypted, to be kept as it came."""

    frame: ServerFrame


@frozen
class Passed:
    """Everything up to `seq` in the mailbox has been dealt with, and may be acknowledged; now the entries from `first`
    on.
    """

    first: int
    seq: int


Write = (
    SavedMembership
    | SavedKeys
    | SavedPackage
    | DropPackage
    | SavedLog
    | Missing
    | NoLongerMissing
    | SavedOwn
    | SavedManifest
    | OpenedMessage
    | KeptFrame
    | Passed
)


# --- what becomes of wishes ------------------------------------------------------------------------------------------


@frozen
class Sent:
    """The server's answer to a message."""

    id: MessageId
    reply: Accepted | Error


@frozen
class GoesPlain:
    """The message is to be sent in the clear: the recipient cannot read another."""

    id: MessageId


@frozen
class WishDone:
    """A change that a person wanted was made, was not needed any more, or was refused."""

    wish: MessageId
    refused: Error | None = None
    group: ConversationId | None = None


@frozen
class Sealed:
    """The text that stands for the secret half of a signal of a call; None: it cannot be made now."""

    wish: MessageId
    text: str | None = field(repr=False)


Report = Sent | GoesPlain | WishDone | Sealed


@frozen
class Request:
    """A question that is under way; its answer comes back with this number."""

    number: int
    ask: Inquiry


@define
class Effects:
    """What follows from one input. The three rules stand at the head of this module."""

    writes: list[Write] = field(factory=list)
    requests: list[Request] = field(factory=list)
    events: list[EngineEvent] = field(factory=list)
    reports: list[Report] = field(factory=list)
