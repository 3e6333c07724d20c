"""Encrypted conversations: their commits, the key packages of devices, and how a device comes back."""

from ironwire.ids import ClientId, ConversationId
from ironwire.protocol.conversations.slots import Leaf
from ironwire.record import record
from ironwire.store.contract.conversations import Pool, PoolPackage, StoredConversation
from ironwire.store.contract.operations.directory import ChangeGroup
from ironwire.store.contract.operations.envelopes import Appended
from ironwire.store.contract.records import Envelope


@record
class Encrypted:
    """The conversation is encrypted, for good; nothing was stored."""


@record
class ConversationMoved:
    """The conversation is in this generation and epoch, both 0 if there is none; nothing was done."""

    generation: int
    epoch: int


@record
class AdvanceConversation:
    """Bring an encrypted conversation to the state `after` a commit, which makes it where that is epoch 1.

    `seen` are the generation and epoch that this was decided from. The envelope has the commit, and goes to the devices
    of all leaves that there were, in a new generation of the one that begins it; each of `welcomes` goes to one new
    device, unless its client has blocked the sender. `group` is the change of the server group, if there is one: told
    to those members' mailboxes that get none of the former. A full mailbox loses the place.

    The commit is kept, and tasks that it does are done. Results in `Advanced`, `Duplicate`, `IdTaken`, or
    `ConversationMoved`; or in `EpochPassed` or `TooManyGroups`, of `group`.
    """

    envelope: Envelope
    digest: bytes
    seen: tuple[int, int]
    after: StoredConversation
    added: tuple[Leaf, ...] = ()
    welcomes: tuple[tuple[Leaf, Envelope], ...] = ()
    group: ChangeGroup | None = None


@record
class Advanced:
    """Where each envelope went: the commit, the welcomes, the change of the group."""

    stored: tuple[tuple[Envelope, Appended], ...]


@record
class PublishPackages:
    """Put key packages into the pool of a device; a last resort replaces the one before. The first that a device ever
    publishes make it a task to add the device to all conversations of its client. Results in `PackagesPublished`, or in
    `PackageKnown`, `TooManyPackages`, or `SessionOver` if no mailbox belongs to this key; then nothing was done.
    """

    device: Leaf
    packages: tuple[PoolPackage, ...]


@record
class PackagesPublished:
    pool: Pool


@record
class PackageKnown:
    """The package at this index, or its init key, was published before."""

    index: int


@record
class TooManyPackages:
    pass


@record
class ClaimPackages:
    """Take a key package of each device for a conversation: the oldest that is valid, or the last resort, which stays.
    Where the claimer may not take, or is blocked by the client of the device, it is the last resort. Results in
    `PackagesClaimed`.
    """

    claimer: ClientId
    conversation: ConversationId
    targets: tuple[tuple[Leaf, bool], ...]
    """Each with whether the claimer may take from its pool."""
    now_ms: int


@record
class ClaimedPackage:
    """`left` are the packages in the pool now, the last resort not counted."""

    device: Leaf
    data: bytes
    is_last_resort: bool
    left: int


@record
class PackagesClaimed:
    """In the order of the targets, without those that have nothing to give."""

    packages: tuple[ClaimedPackage, ...]


@record
class AskToRejoin:
    """The device cannot read these conversations any more. Make it a task to add it again, or to add it where it is not
    in. Conversations in which its client is not are left out. Results in `AskedToRejoin`.
    """

    device: Leaf
    conversations: tuple[ConversationId, ...]


@record
class AskedToRejoin:
    conversations: tuple[ConversationId, ...]
