"""What an engine tells the program: events of encrypted conversations."""

from typing import Literal

from attrs import frozen

from ironwire.e2e.content import Content
from ironwire.e2e.own_records import OwnRecord
from ironwire.ids import Address, ClientId, ConversationId, DeviceId, MessageId, Role
from ironwire.protocol.devices.log_reader import Verdict
from ironwire.wire.messages import ServerMessage


@frozen
class OpenedMessage:
    """A message that was encrypted: an event, and kept before it is one."""

    conversation: ConversationId
    peer: ClientId | None
    """The other client of a pair; None in a group."""
    place: tuple[int, int]
    """Generation and epoch."""
    sender: ClientId
    device_key: bytes
    device: DeviceId
    ts: int
    content: Content
    seq: int | None
    """Of the delivery; None of a signal, which is not kept."""


@frozen
class Unreadable:
    """A message that cannot be read: now (it is asked for again), or any more (`is_given_up`)."""

    conversation: ConversationId
    sender: ClientId
    id: MessageId | None
    ts: int
    reason: str
    is_given_up: bool = False


@frozen
class NotEncrypted:
    """A message came in the clear although the conversation is encrypted: the server, or who has its key, may have
    written it.
    """

    conversation: ConversationId
    sender: ClientId
    id: MessageId | None


@frozen
class Secured:
    """The conversation is encrypted from now on, by a generation that `by` began; `restarted`: it was before."""

    conversation: ConversationId
    generation: int
    by: ClientId
    restarted: bool = False


@frozen
class MessagesHeld:
    """Messages to a client or group wait: no device of the client has published `keys` yet; or this device cannot write
    in the group before a member's device has granted it `entry`. Without a reason, they go out now.
    """

    conversation: ConversationId
    to: Address
    reason: Literal["keys", "entry"] | None


@frozen
class MembersChanged:
    """An admin's device, or the server for those who left, changed who is in the conversation."""

    conversation: ConversationId
    by: ClientId
    added: tuple[ClientId, ...] = ()
    removed: tuple[ClientId, ...] = ()
    roles: tuple[tuple[ClientId, Role], ...] = ()


@frozen
class DevicesChanged:
    """Devices of members came or went: one grey line."""

    conversation: ConversationId
    added: tuple[tuple[ClientId, bytes], ...] = ()
    removed: tuple[tuple[ClientId, bytes], ...] = ()


@frozen
class CommitRefused:
    """A commit that the server let through is not valid. `by` has made it, or the server in its name."""

    conversation: ConversationId
    by: ClientId
    epoch: int
    reason: str


@frozen
class LogDisputed:
    """What the server shows of a device log is shorter than, or different from, what is known: `verdict` has the
    evidence, where somebody has signed two things.
    """

    client: ClientId
    verdict: Verdict | None


@frozen
class DeviceLinked:
    """A device was added to the own device log, and by another device: "not you? Revoke it"."""

    device_key: bytes
    added_at: int


@frozen
class GroupRenamed:
    """An admin says that the group has this name."""

    conversation: ConversationId
    by: ClientId
    name: str


@frozen
class OwnRecordsChanged:
    """Another device of this client knows names or verified people that this one did not."""

    records: tuple[OwnRecord, ...]


@frozen
class CallSignalled:
    """A signal of a call, with what it says; `content` is the secret half, where it came encrypted."""

    message: ServerMessage
    content: Content | None = None


EngineEvent = (
    OpenedMessage
    | CallSignalled
    | Unreadable
    | NotEncrypted
    | Secured
    | MessagesHeld
    | MembersChanged
    | DevicesChanged
    | CommitRefused
    | LogDisputed
    | DeviceLinked
    | GroupRenamed
    | OwnRecordsChanged
)
