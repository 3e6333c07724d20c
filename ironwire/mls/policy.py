"""The decisions that RFC 9420 leaves to the application (sections 5.3.1 and 12.2), and what they are about."""

from attrs import frozen

from ironwire.mls.codec import U32, U64, Bool, Opaque, Struct, need
from ironwire.mls.messages import ExternalPsk, ResumptionPsk
from ironwire.mls.nodes import Extension, LeafNode


@frozen
class Participant(Struct):
    """A device in a group."""

    leaf: U32
    identity: Opaque
    """The credential that the policy has accepted for `signature_key`."""
    signature_key: Opaque

    @classmethod
    def at(cls, index: int, leaf: LeafNode) -> "Participant":
        return cls(index, leaf.identity, leaf.signature_key)


@frozen
class Change(Struct):
    """One commit, as its committer signed it."""

    epoch: U64
    """The epoch that it begins."""
    committer: Participant
    authenticated_data: Opaque
    added: tuple[Participant, ...]
    removed: tuple[Participant, ...]
    updated: tuple[Participant, ...]
    """Other members whose leaves it replaces by proposals of their own."""
    has_path: Bool
    extensions: tuple[Extension, ...] | None
    """The new extensions of the group context; None if they stay."""


class Policy:
    """The application's checks. Each raises `MLSError` to refuse, before anything is changed.

    Lifetimes are checked here, because only the application has a clock.
    """

    def leaf(self, leaf: LeafNode, replaces: LeafNode | None) -> None:
        """Check the credential of a leaf that enters the tree, or of each leaf of a tree that is joined.

        `replaces` is the same member's leaf until now. Here a member keeps its credential and its signature key.
        """
        if replaces is not None:
            need(leaf.credential == replaces.credential, "a member that changes its credential")
            need(leaf.signature_key == replaces.signature_key, "a member that changes its signature key")

    def change(self, change: Change) -> None:
        """Check a commit that is valid as far as MLS goes, one's own included."""

    def psk(self, psk: ExternalPsk | ResumptionPsk) -> bytes | None:
        """The pre-shared key of that name (section 8.4). A commit or Welcome with an unknown one is refused."""
        return None
