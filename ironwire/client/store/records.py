"""Records of a device's store: its changes, and what can be read. `file.py` and `store.py` carry them out.

A device's store is changed in batches of the changes below, each batch whole or not at all. Some are promises:
a message is queued, and has its number, before it is sent; and a delivery has arrived before it is acknowledged
(docs/protocol.md, sections 4.1 and 5).
"""

import os
import re
from pathlib import Path
from typing import Literal

from attrs import frozen

from ironwire.client.errors import LocalStoreError
from ironwire.e2e.archive import ArchivedMessage
from ironwire.e2e.bodies import AnyBody, HistoryManifest, HistoryPart, ReceiptBody, TextBody
from ironwire.e2e.content import Content
from ironwire.e2e.conversations.effects import Write
from ironwire.ids import Address, ClientId, DeviceId, MessageId, Origin
from ironwire.wire import messages as msg
from ironwire.wire.codec import ServerFrame
from ironwire.wire.messages.conversations import MlsMessage

Sendable = msg.Text | msg.File | msg.Receipt
Said = msg.DeliveredText | msg.DeliveredFile | msg.GroupChanged
"""Messages that belong to a conversation."""

Delivery = Said | msg.DeliveredReceipt | msg.DeviceLogChanged


@frozen
class Owner:
    """Whose mailbox a store belongs to: its numbers and its queue mean nothing to another server."""

    client: ClientId
    device: DeviceId
    origin: Origin


# --- changes ---------------------------------------------------------------------------------------------------------


@frozen
class Begin:
    """A session began: the mailbox is `epoch`, the last number that it has given out is `tail`, and the numbers of this
    device are settled up to `sent`.
    """

    epoch: int
    tail: int
    sent: int = 0


@frozen
class Arrive:
    """A delivery or a gap came; one that came before changes nothing. `seq` is its number, or the last of the gap."""

    message: Delivery | msg.Gap
    id: MessageId | None
    seq: int


@frozen
class Absorb:
    """Everything that follows from one input of the engine of encrypted conversations."""

    writes: tuple[Write, ...]


@frozen
class Queue:
    """`message` is to be sent, under the same `id` in every attempt. `ts` is now, in Unix ms; `n` is its number, if it
    is sent at once. With a `body`, that is sent, and encrypted or not at all; `message` is how the history shows it.
    """

    id: MessageId
    message: Sendable
    ts: int
    n: int | None = None
    body: AnyBody | None = None


@frozen
class GiveNumber:
    """A queued message is sent under the number `n`, which stands for no other from now on; encrypted, or as it is."""

    id: MessageId
    n: int
    is_encrypted: bool = False


@frozen
class VoidNumber:
    """The number of a queued message was refused, and the message is to be sent again."""

    id: MessageId


@frozen
class Settle:
    """The server accepted a queued message at `ts`, if that is known, or refused it for `reason`."""

    id: MessageId
    ts: int | None
    reason: msg.ErrorCode | None = None
    is_encrypted: bool = False


@frozen
class Finish:
    """The program is done with every delivery up to entry `number`."""

    number: int


@frozen
class MarkRead:
    """A person has read the conversation with `peer` up to entry `upto`, if not further before."""

    peer: Address
    upto: int


ABOVE_ALL = 2**63 - 1
"""No entry has so high a number."""


@frozen
class Gift:
    """History for the own device with this key, since `since`. All entries from `before` on are in `manifest` already;
    `told` is the one that the other device has.
    """

    device: str
    since: int
    before: int
    manifest: HistoryManifest
    told: HistoryManifest


def new_gift(device: str, since: int) -> Gift:
    """All messages since then, for the own device with this key."""
    nothing = HistoryManifest(device, [], 0, False)
    return Gift(device, since, ABOVE_ALL, nothing, nothing)


@frozen
class KeepGift:
    """History for another own device is wanted, or has come so far."""

    gift: Gift


@frozen
class DropGift:
    """The own device with this key gets no history."""

    device: str


@frozen
class TellHistory:
    """The own device with the key `source` has told of these, newest first; those that are there are left out."""

    source: str
    messages: tuple[ArchivedMessage, ...]


@frozen
class FinishPart:
    """A part of a history is done with; `reason` is why it cannot be had."""

    sha256: str
    reason: str | None = None


@frozen
class NoteMark:
    """The file was opened or closed for the `mark`th time, by a device that encrypts."""

    mark: int


@frozen
class ForgetSecrets:
    """This file was put back from a copy: no key in it may be used again. What is encrypted stays known as that."""


Change = (
    Begin
    | Arrive
    | Absorb
    | Queue
    | GiveNumber
    | VoidNumber
    | Settle
    | Finish
    | MarkRead
    | KeepGift
    | DropGift
    | TellHistory
    | FinishPart
    | NoteMark
    | ForgetSecrets
)


# --- what can be read ------------------------------------------------------------------------------------------------


@frozen
class Kept:
    """A delivery or a gap that the program has not finished. Numbers grow in the order of arrival. `content` is the
    inside of one that was encrypted.
    """

    number: int
    frame: ServerFrame
    content: Content | None = None


@frozen
class QueuedMessage:
    """A message that has to be sent; None for one that no server takes any more. `number` is that of its entry in the
    file, `n` the one under which it was sent, encrypted or as it is, or may have been.
    """

    number: int
    id: MessageId
    message: Sendable | None
    body: AnyBody | None = None
    n: int | None = None
    is_encrypted: bool = False


@frozen
class OfferedPart:
    """The next part of a history that this device has to fetch; `done` of the `total` messages of the device `source`
    are here.
    """

    source: str
    part: HistoryPart
    done: int
    total: int
    is_last: bool


@frozen
class Numbered:
    """The messages that a device was sending when it ended, in the order in which they were queued. Some have no number
    any more, because it was refused: they come before later ones to the same recipient that have one.
    """

    epoch: int
    highest: int
    queued: list[QueuedMessage]


HistoryState = Literal["received", "queued", "accepted", "refused"]


@frozen
class HistoryEntry:
    """One text or file of a conversation, in the form in which it reached this client's other devices; or a change of
    the group.

    So what the client said itself, here or there, has its id as `message.sender` and the recipient as `message.to` or
    `message.group`. `receipt` is what the recipient said of it; of what is said in a group there are none. `reason` is
    why it was refused. Numbers grow in the order in which entries came or were queued. `is_encrypted`: nobody but the
    devices of the conversation could read it; `content` is then what `message` has no room for, such as the key of a
    file. `message` is as it was edited last, if it was; a deleted one is no entry any more. `reactions` are by client.
    `told_by` is the key, in hex, of the own device that has told this one of it: nobody's signature says so.
    """

    number: int
    message: Said
    id: MessageId | None
    state: HistoryState
    receipt: msg.ReceiptState | None = None
    reason: msg.ErrorCode | None = None
    is_encrypted: bool = False
    content: Content | None = None
    told_by: str | None = None
    is_edited: bool = False
    reactions: tuple[tuple[ClientId, str], ...] = ()


@frozen
class Conversation:
    """With one client or group. `last` is the newest entry; its time is `last.message.ts`."""

    peer: Address
    last: HistoryEntry
    unread: int
    """Texts and files of others after the entry that `MarkRead` named last."""


def sender_of(message: Delivery | MlsMessage) -> ClientId:
    match message:
        case msg.GroupChanged(by=by):
            return by
        case msg.DeviceLogChanged(client=client):
            return client
        case _:
            return message.sender


def conversation_of(message: Said, own: ClientId) -> Address:
    """The conversation of `message`, at the client `own`: with a group, or with the other of two clients."""
    if message.group is not None:
        return message.group
    return message.to if message.sender == own and message.to is not None else message.sender


def default_store_path(owner: Owner) -> Path:
    """`ironwire/<server>/<client>-<device>.db` in the data folder (XDG Base Directory Specification).

    Raises:
        LocalStoreError: that is in the home folder of a user who has none.
    """
    configured = os.environ.get("XDG_DATA_HOME", "")
    try:
        folder = Path(configured) if os.path.isabs(configured) else Path.home() / ".local" / "share"
    except RuntimeError:
        raise LocalStoreError(
            "this user has no home folder for what the device keeps: set HOME or XDG_DATA_HOME"
        ) from None
    server = re.sub(r"[^a-z0-9.-]+", "_", owner.origin)
    return folder / "ironwire" / server / f"{owner.client[:16]}-{owner.device}.db"


def body_for(message: Sendable) -> AnyBody | None:
    """What is encrypted in the place of a message; None of a file, which has to be encrypted itself."""
    match message:
        case msg.Text(_, text):
            return TextBody(text)
        case msg.Receipt(_, ids, state):
            return ReceiptBody(ids, state)
        case _:
            return None
