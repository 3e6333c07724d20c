"""Encrypted conversations as a store keeps them: the newest generation of each, its commits, key packages, and tasks.

pool of a device    published ──claim──> handed out, and remembered until it has expired, so that it comes in once
claim               a package that was handed out to one client for one conversation
conversation        generation and epoch, its leaves and its roster; one commit after the other moves it on
commit              kept for the retention period, for devices that have missed it
task                a change that a member has to commit, until a commit has made it so
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ironwire.ids import ClientId, ConversationId, GroupId, PairId, Recipient, Role, is_group
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.conversations.slots import Leaf, Slots, leaves_in
from ironwire.protocol.conversations.tasks import Task
from ironwire.record import record
from ironwire.wire.messages import File, Receipt, Text

CLEARTEXT_VERBS = frozenset({Text.verb, File.verb, Receipt.verb})
"""Envelopes that are refused where the conversation is encrypted."""
COMMITS_BYTES = 256 * 1024
"""A page of commits ends early when it has this many."""


@record
class PoolPackage:
    """A key package. `ref` is its reference (RFC 9420, section 5.2); `init_key` must be new."""

    ref: bytes
    init_key: bytes
    data: bytes
    is_last_resort: bool
    not_after_ms: int


@record
class Pool:
    """What is left of a device's key packages."""

    count: int
    has_last_resort: bool


@record
class StoredConversation:
    """The newest generation of a conversation."""

    id: ConversationId
    generation: int
    epoch: int
    group_id: bytes
    slots: Slots
    roster: Mapping[ClientId, Role]


@record
class ConversationSummary:
    """A conversation in a list: how many devices are in it, and whether the one that asks is."""

    id: ConversationId
    generation: int
    epoch: int
    devices: int
    is_in: bool


@record
class KeptCommit:
    """The commit that began an epoch. `payload` is the JSON object that devices got."""

    epoch: int
    payload: bytes


def conversation_of(sender: ClientId, to: Recipient) -> ConversationId:
    """The conversation that an envelope would belong to if it were encrypted."""
    if len(to) == len(sender):
        return pair_id(sender, ClientId(to))
    return GroupId(to) if is_group(to) else PairId(to)


def owed_commit(before: StoredConversation | None, after: StoredConversation) -> tuple[Leaf, ...]:
    """Whose devices get the commit that led from one state to the other."""
    if before is None or before.generation != after.generation:
        return leaves_in(after.slots[:1])
    return leaves_in(before.slots)


def group_after(
    group: Mapping[ClientId, Role], before: Mapping[ClientId, Role], after: Mapping[ClientId, Role]
) -> dict[ClientId, Role]:
    """The members of a server group after a commit that led from one roster to another. Members that are in no roster
    stay, because nobody has put them into the encrypted part; those that have left meanwhile stay away.
    """
    members = {client: role for client, role in group.items() if client not in before or client in after}
    members.update({client: role for client, role in after.items() if client in group or client not in before})
    return members


class Conversations(Protocol):
    async def conversation(self, conversation: ConversationId) -> StoredConversation | None:
        """None: nothing encrypted was ever said in it.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def conversations_of(
        self, device: Leaf, *, after: ConversationId | None, limit: int
    ) -> Sequence[ConversationSummary]:
        """Up to `limit` of those in whose roster the device's client is, in the order of their ids, behind `after`.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def commits(
        self, conversation: ConversationId, generation: int, *, first: int, limit: int
    ) -> Sequence[KeptCommit]:
        """Up to `limit` commits that began epoch `first` or a later one, in order; fewer where they are large, but not
        none. It may begin later, where older ones have expired.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def claimed(
        self, conversation: ConversationId, claimer: ClientId, refs: Sequence[bytes]
    ) -> Mapping[bytes, Leaf]:
        """Those of the key packages that were handed out to the client for the conversation, and whose each is.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def listed_devices(self, client: ClientId) -> frozenset[bytes]:
        """The keys that the client's device log lists now.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def pool(self, device: Leaf) -> Pool:
        """Raises:
        StoreError: the store cannot be read.
        """
        ...

    async def tasks(self, conversation: ConversationId) -> Sequence[Task]:
        """What is to be committed, in the order of kind, client and device.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def conversations_with_tasks(self, client: ClientId) -> Sequence[ConversationId]:
        """Conversations in whose roster the client is, and in which something is to be committed.

        Raises:
            StoreError: the store cannot be read.
        """
        ...
