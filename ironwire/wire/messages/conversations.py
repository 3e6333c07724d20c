"""Encrypted conversations: key packages, commits, messages, and tasks (docs/protocol.md, section 10)."""

from typing import Annotated, ClassVar

from attrs import field

from ironwire.ids import ClientId, ConversationId, DeviceId, GroupId, is_group
from ironwire.limits import (
    CLAIMED_AT_ONCE,
    COMMITS_PER_PAGE,
    CONVERSATIONS_PER_PAGE,
    MLS_INLINE_BYTES,
    PACKAGES_AT_ONCE,
    PACKAGES_PER_CLAIM,
    REJOINED_AT_ONCE,
    TASKS_AT_ONCE,
)
from ironwire.record import record
from ironwire.wire.messages.base import ClientMessage, Members, ServerMessage
from ironwire.wire.messages.fields import (
    WIRE_KEY,
    Between,
    Count,
    Items,
    MediaPath,
    Number,
    Pattern,
    Sha256Hex,
    ShortText,
    UnixMs,
)

_MOST_CHARS = -(-MLS_INLINE_BYTES * 4 // 3)
MlsBytes = Annotated[
    str, Pattern(rf"[A-Za-z0-9_-]{{1,{_MOST_CHARS}}}", description="base64url without padding, of up to 32 KiB")
]
MlsText = Annotated[str, Pattern(r"[A-Za-z0-9_-]+", description="base64url without padding")]
"""The same from a server."""
DeviceKeyHex = Sha256Hex
"""64 lowercase hex digits, too."""
Generation = Annotated[int, Between(1, 2**32 - 1)]


def _members_of(conversation: ConversationId, members: Members) -> int:
    return members(GroupId(conversation)) if is_group(conversation) else 0


@record
class MlsDevice:
    """A device of a client, by its key."""

    client: ClientId
    device_key: DeviceKeyHex


@record
class BlobRef:
    """Bytes that were uploaded."""

    url: MediaPath
    sha256: Sha256Hex
    size: Count


def _read_of(*refs: BlobRef | None) -> int:
    """The surcharge of blobs that the server has to read: a MiB takes it up to a second."""
    return sum(ref.size for ref in refs if ref is not None) // 256


# --- key packages ----------------------------------------------------------------------------------------------------


@record
class MlsPublish(ClientMessage):
    """Puts key packages of this device into its pool, a last resort in the place of the former."""

    verb: ClassVar[str] = "mls_publish"

    packages: Annotated[list[MlsBytes], Items(1, PACKAGES_AT_ONCE)]

    def surcharge(self, members: Members) -> int:
        return 10 * len(self.packages)


@record
class MlsPackages(ClientMessage):
    """Asks what is left in the pool of this device."""

    verb: ClassVar[str] = "mls_packages"


@record
class MlsPool(ServerMessage):
    """The answer to `mls_packages`: packages that are left, and whether there is a last resort."""

    verb: ClassVar[str] = "mls_packages"

    count: Count
    last_resort: bool


@record
class MlsClaim(ClientMessage):
    """Takes a key package of each device of `clients`, or of each of `devices`, to add them to a conversation."""

    verb: ClassVar[str] = "mls_claim"

    group: ConversationId
    clients: Annotated[list[ClientId], Items(1, CLAIMED_AT_ONCE)] | None = None
    devices: Annotated[list[MlsDevice], Items(1, CLAIMED_AT_ONCE)] | None = None

    def surcharge(self, members: Members) -> int:
        return len(self.clients or ()) + len(self.devices or ())


@record
class MlsPackage:
    """A key package of a device. `last`: a last resort, so that the device updates itself at once."""

    client: ClientId
    device_key: DeviceKeyHex
    package: MlsText
    last: bool = False


@record
class MlsLogHead:
    """The last entry of a client's device log, as the server has it."""

    client: ClientId
    index: Count
    head: Sha256Hex


@record
class MlsClaimed(ServerMessage):
    """The answer to `mls_claim`. `missing` are clients of which no device had a package."""

    verb: ClassVar[str] = "mls_claimed"

    packages: Annotated[list[MlsPackage], Items(0, PACKAGES_PER_CLAIM)]
    missing: Annotated[list[ClientId], Items(0, CLAIMED_AT_ONCE)]
    logs: Annotated[list[MlsLogHead], Items(0, CLAIMED_AT_ONCE)]


@record
class MlsLow(ServerMessage):
    """Few packages are left in the pool of this device: publish more."""

    verb: ClassVar[str] = "mls_low"

    count: Count


# --- commits ---------------------------------------------------------------------------------------------------------


@record
class MlsCreate(ClientMessage):
    """Begins a generation of a conversation with the first commit of its MLS group, and the welcome of everybody else.
    What is too large to stand here is uploaded, and named by its `ref`.
    """

    verb: ClassVar[str] = "mls_create"

    group: ConversationId
    generation: Generation
    commit: MlsBytes | None = None
    commit_ref: BlobRef | None = None
    welcome: MlsBytes | None = None
    welcome_ref: BlobRef | None = None

    def surcharge(self, members: Members) -> int:
        return 9 + _members_of(self.group, members) + _read_of(self.commit_ref, self.welcome_ref)


@record
class MlsCommit(ClientMessage):
    """Moves a conversation to its next epoch. It takes effect when it comes back as `mls_committed`."""

    verb: ClassVar[str] = "mls_commit"

    group: ConversationId
    generation: Generation
    commit: MlsBytes | None = None
    commit_ref: BlobRef | None = None
    welcome: MlsBytes | None = None
    welcome_ref: BlobRef | None = None

    def surcharge(self, members: Members) -> int:
        return 9 + _members_of(self.group, members) + _read_of(self.commit_ref, self.welcome_ref)


@record
class MlsCommitted(ServerMessage):
    """A commit that began an epoch: an envelope for all devices that were in the conversation before it, that of the
    committer included.
    """

    verb: ClassVar[str] = "mls_committed"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    device: DeviceId
    group: ConversationId
    generation: Generation
    epoch: Number
    ts: UnixMs
    sha256: Sha256Hex
    data: MlsText | None = None
    ref: BlobRef | None = None


@record
class MlsWelcome(ServerMessage):
    """Leads this device into a conversation, at that epoch: an envelope."""

    verb: ClassVar[str] = "mls_welcome"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    device: DeviceId
    group: ConversationId
    generation: Generation
    epoch: Number
    ts: UnixMs
    data: MlsText | None = None
    ref: BlobRef | None = None


@record
class MlsCommits(ClientMessage):
    """Asks for the commits that began epoch `first` and later ones."""

    verb: ClassVar[str] = "mls_commits"

    group: ConversationId
    generation: Generation
    first: Number = field(metadata={WIRE_KEY: "from"})

    def surcharge(self, members: Members) -> int:
        return 99


@record
class MlsCommitPage(ServerMessage):
    """The answer to `mls_commits`, in order. `more`: there are later ones."""

    verb: ClassVar[str] = "mls_commits"

    commits: Annotated[list[MlsCommitted], Items(1, COMMITS_PER_PAGE)]
    more: bool = False


# --- messages --------------------------------------------------------------------------------------------------------


@record
class MlsSend(ClientMessage):
    """Sends an encrypted message to all other devices in a conversation."""

    verb: ClassVar[str] = "mls_send"
    is_ordered = True

    group: ConversationId
    generation: Generation
    epoch: Number
    data: MlsBytes

    def surcharge(self, members: Members) -> int:
        return _members_of(self.group, members)


@record
class MlsMessage(ServerMessage):
    """An encrypted message: an envelope."""

    verb: ClassVar[str] = "mls_message"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    device: DeviceId
    group: ConversationId
    generation: Generation
    epoch: Number
    ts: UnixMs
    data: MlsText


@record
class MlsSignal(ClientMessage):
    """Hands an encrypted message to the other devices that have a live session. It is stored nowhere."""

    verb: ClassVar[str] = "mls_signal"

    group: ConversationId
    generation: Generation
    epoch: Number
    data: MlsBytes

    def surcharge(self, members: Members) -> int:
        return _members_of(self.group, members)


@record
class RelayedMlsSignal(ServerMessage):
    """An encrypted message that nobody stores, such as that somebody types."""

    verb: ClassVar[str] = "mls_signal"

    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    device: DeviceId
    group: ConversationId
    generation: Generation
    epoch: Number
    data: MlsText


# --- healing and tasks -----------------------------------------------------------------------------------------------


@record
class MlsNack(ClientMessage):
    """Says that the commit which began an epoch cannot be applied."""

    verb: ClassVar[str] = "mls_nack"

    group: ConversationId
    generation: Generation
    epoch: Number
    sha256: Sha256Hex
    reason: ShortText

    def surcharge(self, members: Members) -> int:
        return 9


@record
class MlsRejoin(ClientMessage):
    """Asks to be added again to conversations that this device cannot read any more."""

    verb: ClassVar[str] = "mls_rejoin"

    groups: Annotated[list[ConversationId], Items(1, REJOINED_AT_ONCE)]

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
    epoch: Number
    devices: Count
    is_in: bool


@record
class MlsGroupPage(ServerMessage):
    """The answer to `mls_groups`, in the order of their ids. `more`: there are others behind the last."""

    verb: ClassVar[str] = "mls_groups"

    groups: Annotated[list[MlsGroup], Items(0, CONVERSATIONS_PER_PAGE)]
    more: bool = False


@record
class MlsTask(ServerMessage):
    """Asks this device to commit what somebody has to: to add devices of members, to remove devices, to add devices
    again, and to remove clients that have left. Another is asked after `lease_ms`.
    """

    verb: ClassVar[str] = "mls_task"

    group: ConversationId
    lease_ms: Count
    add: Annotated[list[MlsDevice], Items(1, TASKS_AT_ONCE)] | None = None
    remove: Annotated[list[MlsDevice], Items(1, TASKS_AT_ONCE)] | None = None
    readd: Annotated[list[MlsDevice], Items(1, TASKS_AT_ONCE)] | None = None
    left: Annotated[list[ClientId], Items(1, TASKS_AT_ONCE)] | None = None
