"""The proposals of a commit: validation and application (RFC 9420, sections 12.1 to 12.3)."""

from collections.abc import Sequence

from attrs import field, frozen

from ironwire.errors import MLSError
from ironwire.mls import messages as msg
from ironwire.mls import nodes as leaves
from ironwire.mls.codec import need
from ironwire.mls.policy import Participant, Policy
from ironwire.mls.suite import HASH_BYTES
from ironwire.mls.tree import Tree

Proposed = tuple[msg.Proposal, int]
"""A proposal, and the leaf of the member who made it."""


@frozen
class Changes:
    """The result of a list of proposals. `tree` is a copy that nobody else has."""

    tree: Tree
    extensions: tuple[leaves.Extension, ...]
    packages: dict[int, leaves.KeyPackage] = field(factory=dict)
    """Of those who join, by leaf, in the order in which they were added."""
    added: tuple[Participant, ...] = ()
    removed: tuple[Participant, ...] = ()
    updated: tuple[Participant, ...] = ()
    psks: tuple[tuple[msg.PreSharedKeyId, bytes], ...] = ()
    needs_path: bool = False
    changes_extensions: bool = False

    @property
    def joiners(self) -> frozenset[int]:
        return frozenset(self.packages)


def apply(
    tree: Tree,
    extensions: tuple[leaves.Extension, ...],
    group_id: bytes,
    committer: int,
    proposals: Sequence[Proposed],
    policy: Policy,
) -> Changes:
    """Apply the proposals of one commit, in the order of section 12.3.

    Raises:
        MLSError: the list is not valid (section 12.2), or the policy refuses a leaf.
    """
    contexts = [each for each, _ in proposals if isinstance(each, msg.GroupContextExtensions)]
    updates = [(each.leaf, sender) for each, sender in proposals if isinstance(each, msg.UpdateProposal)]
    removals = [each.removed for each, _ in proposals if isinstance(each, msg.RemoveProposal)]
    packages = [each.package for each, _ in proposals if isinstance(each, msg.AddProposal)]
    psks = [each.psk for each, _ in proposals if isinstance(each, msg.PreSharedKey)]
    counted = len(contexts) + len(updates) + len(removals) + len(packages) + len(psks)
    need(counted == len(proposals), "a commit with a ReInit or ExternalInit proposal")
    need(len(contexts) <= 1, "a commit with two GroupContextExtensions proposals")
    need(committer not in removals, "a commit that removes its own committer")
    need(all(sender != committer for _, sender in updates), "a commit with an Update of its own committer")
    touched = [*removals, *(sender for _, sender in updates)]
    need(len(set(touched)) == len(touched), "a commit with two Updates or Removes of one leaf")
    need(len(set(psks)) == len(psks), "a commit with one pre-shared key twice")

    tree = tree.copy()
    if contexts:
        extensions = contexts[0].extensions
    updated = tuple(_update(tree, sender, leaf, group_id, policy) for leaf, sender in updates)
    removed = tuple(Participant.at(index, tree.leaf(index)) for index in removals)
    for index in removals:
        tree.remove(index)
    joined = {_add(tree, package, policy): package for package in packages}
    added = tuple(Participant.at(index, package.leaf) for index, package in joined.items())
    fresh = [*added, *updated] if not contexts else [Participant.at(*each) for each in tree.leaves()]
    for each in fresh:
        need_supported(extensions, tree.leaf(each.leaf).capabilities)
    secrets = tuple((each, find_psk(each, policy)) for each in psks)
    needs_path = not proposals or bool(updates or removals or contexts)
    return Changes(tree, extensions, joined, added, removed, updated, secrets, needs_path, bool(contexts))


def need_supported(extensions: tuple[leaves.Extension, ...], able: leaves.Capabilities) -> None:
    """Whether a leaf may be in a group with these extensions of its context (sections 7.3, 11.1 and 13.4)."""
    leaves.need_distinct_types(extensions)
    need(
        all(each.type in leaves.DEFAULT_EXTENSIONS or each.type in able.extensions for each in extensions),
        "a leaf that does not support an extension of the group",
    )
    encoded = leaves.extension(extensions, leaves.REQUIRED_CAPABILITIES)
    if encoded is not None:
        required = leaves.RequiredCapabilities.decode(encoded)
        need(
            all(map(able.supports_extension, required.extensions))
            and all(map(able.supports_proposal, required.proposals))
            and set(required.credentials) <= set(able.credentials),
            "a leaf without a required capability",
        )


def find_psk(psk: msg.PreSharedKeyId, policy: Policy) -> bytes:
    """The pre-shared key of that name.

    Raises:
        MLSError: it is not here, or is for another use (section 12.1.4).
    """
    need(len(psk.nonce) == HASH_BYTES, "the nonce of a pre-shared key has another length")
    if isinstance(psk.psk, msg.ResumptionPsk):
        need(psk.psk.usage == msg.RESUME_APPLICATION, "a resumption key of a group that ended or branched")
    secret = policy.psk(psk.psk)
    if secret is None:
        raise MLSError("a pre-shared key that is not here")
    return secret


def _update(tree: Tree, sender: int, leaf: leaves.LeafNode, group_id: bytes, policy: Policy) -> Participant:
    """Section 12.1.2."""
    old = tree.leaf(sender)
    need(isinstance(leaf.source, leaves.FromUpdate), "the leaf of an Update comes from elsewhere")
    leaf.check(group_id, sender)
    need(leaf.encryption_key != old.encryption_key, "an Update that keeps its key")
    policy.leaf(leaf, old)
    tree.update(sender, leaf)
    return Participant.at(sender, leaf)


def _add(tree: Tree, package: leaves.KeyPackage, policy: Policy) -> int:
    """Section 12.1.1."""
    package.check()
    policy.leaf(package.leaf, None)
    return tree.add(package.leaf)
