"""One epoch of a group as one member knows it: its messages, and the step to the next (sections 8 and 12.4)."""

from collections.abc import Mapping
from typing import Self

from attrs import evolve, frozen

from ironwire.crypto.signing import KeyPair
from ironwire.errors import MLSError
from ironwire.mls import schedule
from ironwire.mls.changes import Changes
from ironwire.mls.codec import U32, Opaque, Struct
from ironwire.mls.framing import PRIVATE, AuthenticatedContent, FramedContent, protect_private, unprotect_private
from ironwire.mls.messages import ApplicationData, GroupContext, MemberSender, PrivateMessage
from ironwire.mls.paths import PathKeys
from ironwire.mls.policy import Participant
from ironwire.mls.schedule import EpochSecrets
from ironwire.mls.secret_tree import NodeSecret, SecretTree
from ironwire.mls.tree import Tree


@frozen(repr=False)
class Channel(Struct):
    """The application messages of one epoch. It outlives the epoch by one, for messages that come late."""

    context: GroupContext
    sender_data: Opaque
    keys: SecretTree
    tree: Tree

    def seal(
        self, key: KeyPair, leaf: int, data: bytes, authenticated_data: bytes
    ) -> tuple[PrivateMessage, SecretTree]:
        """The message, and the keys without the one that it took."""
        context = self.context
        parts = (context.group_id, context.epoch, MemberSender(leaf), authenticated_data, ApplicationData(data))
        signed = AuthenticatedContent.sign(key, PRIVATE, FramedContent(*parts), context)
        return protect_private(signed, self.sender_data, self.keys)

    def open(self, message: PrivateMessage) -> tuple[Participant, bytes, SecretTree]:
        """The sender, the data, and the keys without the one that it took.

        Raises:
            MLSError: the message is not of this epoch, was not made by the member it says, or was opened before.
        """
        opened, keys = unprotect_private(message, self.sender_data, self.keys)
        sender, content = opened.content.member, opened.content.content
        if not isinstance(content, ApplicationData):
            raise MLSError("a handshake message that is not public")
        leaf = self.tree.leaf(sender)
        opened.verify(leaf.signature_key, self.context)
        return Participant.at(sender, leaf), content.data, keys


@frozen(repr=False)
class Epoch(Struct):
    """All that a member keeps of the current epoch."""

    channel: Channel
    secrets: EpochSecrets
    interim_hash: Opaque
    leaf: U32
    """One's own."""
    private: tuple[NodeSecret, ...]
    """The keys of one's own leaf and of the nodes above it, where they are known."""

    @classmethod
    def begin(
        cls, context: GroupContext, tree: Tree, epoch_secret: bytes, leaf: int, private: Mapping[int, bytes]
    ) -> Self:
        secrets, encryption = EpochSecrets.derive(epoch_secret)
        channel = Channel(context, secrets.sender_data, SecretTree.new(tree.size, encryption), tree)
        interim = schedule.interim_hash(context.confirmed_transcript_hash, secrets.confirmation_tag(context))
        there = range(len(tree.nodes))
        kept = tuple(NodeSecret(*each) for each in sorted(private.items()) if each[0] in there and tree.key(each[0]))
        return cls(channel, secrets, interim, leaf, kept)

    @property
    def context(self) -> GroupContext:
        return self.channel.context

    @property
    def tree(self) -> Tree:
        return self.channel.tree

    @property
    def private_keys(self) -> dict[int, bytes]:
        return {each.place: each.secret for each in self.private}

    @property
    def confirmation_tag(self) -> bytes:
        return self.secrets.confirmation_tag(self.context)

    def provisional(self, changes: Changes) -> GroupContext:
        """The next context before its transcript is known, for which path secrets are encrypted (section 12.4.2)."""
        return evolve(
            self.context,
            epoch=self.context.epoch + 1,
            tree_hash=changes.tree.hash(),
            extensions=changes.extensions,
        )

    def advance(
        self, changes: Changes, path: PathKeys | None, commit: AuthenticatedContent
    ) -> tuple["Epoch", tuple[bytes, bytes]]:
        """The next epoch, and its joiner secret and PSK secret (section 8). `changes` holds the path already.

        Raises:
            MLSError: the new tree is not valid.
        """
        changes.tree.check_keys()
        confirmed = schedule.confirmed_hash(self.interim_hash, commit.confirmed_hash_input())
        context = evolve(self.provisional(changes), confirmed_transcript_hash=confirmed)
        joiner = schedule.joiner_secret(self.secrets.init, path.commit_secret if path else schedule.ZERO, context)
        psk = schedule.psk_secret(changes.psks)
        private = {**self.private_keys, **(path.private if path else {})}
        secret = schedule.epoch_secret(joiner, psk, context)
        return Epoch.begin(context, changes.tree, secret, self.leaf, private), (joiner, psk)
