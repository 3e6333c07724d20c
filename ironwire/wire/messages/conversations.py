"""Encrypted conversations: commits, messages, healing and tasks (docs/protocol.md, section 10)."""

from typing import Annotated, ClassVar

from attrs import field

from ironwire import limits
from ironwire.ids import ClientId, ConversationId, DeviceId, GroupId, is_group
from ironwire.record import record
from ironwire.wire.messages import fields
from ironwire.wire.messages.base import Answer, ClientMessage, Members, ServerMessage
from ironwire.wire.messages.key_packages import MlsDevice

Generation = Annotated[int, fields.Between(1, 2**32 - 1)]


def _members_of(conversation: ConversationId, members: Members) -> int:
    return members(GroupId(conversation)) if is_group(conversation) else 0


@record
class BlobRef:
    """Bytes that were uploaded."""

    url: fields.MediaPath
    sha256: fields.Sha256Hex
    size: fields.Count


def _read_of(*refs: BlobRef | None) -> int:
    """The surcharge of blobs that the server has to read: a MiB takes it up to a second."""
    return sum(ref.size for ref in refs if ref is not None) // 256


# --- commits ---------------------------------------------------------------------------------------------------------


@record
class MlsCreate(ClientMessage):
    """Begins a generation of a conversation with the first commit of its MLS group, and the welcome of everybody else.
    What is too large to stand here is uploaded, and named by its `ref`.
    """

    verb: ClassVar[str] = "mls_create"

    group: ConversationId
    generation: Generation
    commit: fields.MlsBytes | None = None
    commit_ref: BlobRef | None = None
    welcome: fields.MlsBytes | None = None
    welcome_ref: BlobRef | None = None

    def surcharge(self, members: Members) -> int:
        return 9 + _members_of(self.group, members) + _read_of(self.commit_ref, self.welcome_ref)


@record
class MlsCommit(ClientMessage):
    """Moves a conversation to its next epoch. It takes effect when it comes back as `mls_committed`."""

    verb: ClassVar[str] = "mls_commit"

    group: ConversationId
    generation: Generation
    commit: fields.MlsBytes | None = None
    commit_ref: BlobRef | None = None
    welcome: fields.MlsBytes | None = None
    welcome_ref: BlobRef | None = None

    def surcharge(self, members: Members) -> int:
        return 9 + _members_of(self.group, members) + _read_of(self.commit_ref, self.welcome_ref)


@record
class MlsCommitted(ServerMessage):
    """A commit that began an epoch: an envelope for all devices that were in the conversation before it, that of the
    committer included.
    """

    verb: ClassVar[str] = "mls_committed"

    sender: ClientId = field(metadata={fields.WIRE_KEY: "from"})
    device: DeviceId
    group: ConversationId
    generation: Generation
    epoch: fields.Number
    ts: fields.UnixMs
    sha256: fields.Sha256Hex
    data: fields.MlsText | None = None
    ref: BlobRef | None = None


@record
class MlsWelcome(ServerMessage):
    """Leads this device into a conversation, at that epoch: an envelope."""

    verb: ClassVar[str] = "mls_welcome"

    sender: ClientId = field(metadata={fields.WIRE_KEY: "from"})
    device: DeviceId
    group: ConversationId
    generation: Generation
    epoch: fields.Number
    ts: fields.UnixMs
    data: fields.MlsText | None = None
    ref: BlobRef | None = None


@record
class MlsCommits(ClientMessage):
    """Asks for the commits that began epoch `first` and later ones."""

    verb: ClassVar[str] = "mls_commits"

    group: ConversationId
    generation: Generation
    first: fields.Number = field(metadata={fields.WIRE_KEY: "from"})

    def surcharge(self, members: Members) -> int:
        return 99


@record
class MlsCommitPage(Answer):
    """The answer to `mls_commits`, in order. `more`: there are later ones."""

    verb: ClassVar[str] = "mls_commits"

    commits: Annotated[list[MlsCommitted], fields.Items(1, limits.COMMITS_PER_PAGE)]
    more: bool = False


# --- messages --------------------------------------------------------------------------------------------------------


@record
class MlsSend(ClientMessage):
    """Sends an encrypted message to all other devices in a conversation."""

    verb: ClassVar[str] = "mls_send"
    is_ordered = True

    group: ConversationId
    generation: Generation
    epoch: fields.Number
    data: fields.MlsBytes

    def surcharge(self, members: Members) -> int:
        return _members_of(self.group, members)


@record
class MlsMessage(ServerMessage):
    """An encrypted message: an envelope."""

    verb: ClassVar[str] = "mls_message"

    sender: ClientId = field(metadata={fields.WIRE_KEY: "from"})
    device: DeviceId
    group: ConversationId
    generation: Generation
    epoch: fields.Number
    ts: fields.UnixMs
    data: fields.MlsText


@record
class MlsSignal(ClientMessage):
    """Hands an encrypted message to the other devices that have a live session. It is stored nowhere."""

    verb: ClassVar[str] = "mls_signal"

    group: ConversationId
    generation: Generation
    epoch: fields.Number
    data: fields.MlsBytes

    def surcharge(self, members: Members) -> int:
        return _members_of(self.group, members)


@record
class RelayedMlsSignal(ServerMessage):
    """An encrypted message that nobody stores, such as that somebody types."""

    verb: ClassVar[str] = "mls_signal"

    sender: ClientId = field(metadata={fields.WIRE_KEY: "from"})
    device: DeviceId
    group: ConversationId
    generation: Generation
    epoch: fields.Number
    data: fields.MlsText


# --- healing and tasks -----------------------------------------------------------------------------------------------


@record
class MlsNack(ClientMessage):
    """Says that the commit which began an epoch cannot be applied."""

    verb: ClassVar[str] = "mls_nack"

    group: ConversationId
    generation: Generation
    epoch: fields.Number
    sha256: fields.Sha256Hex
    reason: fields.ShortText

    def surcharge(self, members: Members) -> int:
        return 9


@record
class MlsRejoin(ClientMessage):
    """Asks to be added again to conversations that this device cannot read any more."""

    verb: ClassVar[str] = "mls_rejoin"

    groups: Annotated[list[ConversationId], fields.Items(1, limits.REJOINED_AT_ONCE)]

    def surcharge(self, members: Members) -> int:
        return 9 + len(self.groups)


@record
class MlsGroups(ClientMessage):
    """Asks for the conversations of this client, behind the one named `after`."""

    verb: ClassVar[str] = "mls_groups"

    after: ConversationId | None = None

    def surcharge(self, members: Members) -> int:
        return 99


@record
class MlsGroup:
    """A conversation as it stands. `is_in`: this device is in it. `devices`: how many are."""

    group: ConversationId
    generation: Generation
    epoch: fields.Number
    devices: fields.Count
    is_in: bool


@record
class MlsGroupPage(Answer):
    """The answer to `mls_groups`, in the order of their ids. `more`: there are others behind the last."""

    verb: ClassVar[str] = "mls_groups"

    groups: Annotated[list[MlsGroup], fields.Items(0, limits.CONVERSATIONS_PER_PAGE)]
    more: bool = False


@record
class MlsTask(ServerMessage):
    """Asks this device to commit what somebody has to: to add devices of members, to remove devices, to add devices
    again, and to remove clients that have left. Another is asked after `lease_ms`.
    """

    verb: ClassVar[str] = "mls_task"

    group: ConversationId
    lease_ms: fields.Count
    add: Annotated[list[MlsDevice], fields.Items(1, limits.TASKS_AT_ONCE)] | None = None
    remove: Annotated[list[MlsDevice], fields.Items(1, limits.TASKS_AT_ONCE)] | None = None
    readd: Annotated[list[MlsDevice], fields.Items(1, limits.TASKS_AT_ONCE)] | None = None
    left: Annotated[list[ClientId], fields.Items(1, limits.TASKS_AT_ONCE)] | None = None
