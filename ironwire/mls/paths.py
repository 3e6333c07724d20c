"""Paths of commits: new keys from a leaf to the root, and who gets which secret (RFC 9420, sections 7.4 to 7.6)."""

from collections.abc import Mapping

from attrs import frozen

from ironwire.crypto.signing import KeyPair
from ironwire.errors import MLSError
from ironwire.mls import suite
from ironwire.mls.codec import need
from ironwire.mls.messages import GroupContext, UpdatePath, UpdatePathNode
from ironwire.mls.nodes import FromCommit, LeafNode
from ironwire.mls.suite import KEY_BYTES, decrypt_with_label, derive_key_pair, derive_secret, encrypt_with_label
from ironwire.mls.tree import Tree
from ironwire.mls.tree_math import is_below

_LABEL = "UpdatePathNode"


@frozen(repr=False)
class PathKeys:
    """The private keys that a path gives to one member, by node, and the secret that enters the key schedule."""

    private: Mapping[int, bytes]
    commit_secret: bytes


@frozen(repr=False)
class NewPath:
    """A path that was just made: the keys of its committer, and the secret of each node for those who join below it."""

    leaf: LeafNode
    keys: PathKeys
    secrets: Mapping[int, bytes]

    def encrypt(self, tree: Tree, sender: int, context: GroupContext, joiners: frozenset[int]) -> UpdatePath:
        """Section 7.6. `joiners` learn their secrets from the Welcome."""
        nodes = []
        for place, off_path in tree.filtered_direct_path(sender):
            ciphertexts = tuple(
                encrypt_with_label(tree.key(recipient), _LABEL, context.encode(), self.secrets[place])
                for recipient in _recipients(tree, off_path, joiners)
            )
            nodes.append(UpdatePathNode(tree.key(place), ciphertexts))
        return UpdatePath(self.leaf, tuple(nodes))


def new_path(tree: Tree, index: int, device_key: KeyPair, group_id: bytes, old: LeafNode) -> NewPath:
    """Give the path of leaf `index` in `tree` fresh keys (section 7.4)."""
    leaf_private, leaf_public = derive_key_pair(suite.random(KEY_BYTES))
    places = [place for place, _ in tree.filtered_direct_path(index)]
    secrets, keys, public = _chain(places, suite.random(suite.HASH_BYTES))
    source = FromCommit(tree.merge_path(index, public))
    leaf = LeafNode(
        leaf_public, old.signature_key, old.credential, old.capabilities, source, old.extensions, b""
    ).signed(device_key, group_id, index)
    tree.put(2 * index, leaf)
    return NewPath(leaf, PathKeys({2 * index: leaf_private, **keys.private}, keys.commit_secret), secrets)


def merge(tree: Tree, sender: int, path: UpdatePath, group_id: bytes) -> None:
    """Check a received path, and put it into `tree` (sections 7.5, 7.9.2 and 12.4.2).

    Raises:
        MLSError: the path is not valid in this tree.
    """
    old = tree.leaf(sender)
    need(isinstance(path.leaf.source, FromCommit), "the leaf of a path comes from elsewhere")
    path.leaf.check(group_id, sender)
    need(path.leaf.encryption_key != old.encryption_key, "a path that keeps the key of its leaf")
    keys = [node.encryption_key for node in path.nodes]
    for key in keys:
        suite.need_hpke_key(key)
    present = {node.encryption_key for node in tree.nodes if node is not None}
    need(present.isdisjoint((path.leaf.encryption_key, *keys)), "a path with a key that the tree has already")
    need(path.leaf.source == FromCommit(tree.merge_path(sender, keys)), "a path whose parent hash is wrong")
    tree.put(2 * sender, path.leaf)


def receive(
    tree: Tree,
    private: Mapping[int, bytes],
    sender: int,
    path: UpdatePath,
    context: GroupContext,
    joiners: frozenset[int],
    index: int,
) -> PathKeys:
    """The keys that a path merged into `tree` gives to leaf `index` (section 7.5).

    Raises:
        MLSError: a node has more or fewer secrets than recipients, or ours is not the one that its keys were made from.
    """
    steps = tree.filtered_direct_path(sender)
    ours: tuple[int, bytes] | None = None
    for number, ((_, off_path), node) in enumerate(zip(steps, path.nodes, strict=True)):
        recipients = _recipients(tree, off_path, joiners)
        need(len(recipients) == len(node.path_secrets), "a path node with another number of secrets than recipients")
        if not is_below(2 * index, off_path):
            continue
        for place, sealed in zip(recipients, node.path_secrets, strict=True):
            if place in private and is_below(2 * index, place):
                ours = number, decrypt_with_label(private[place], _LABEL, context.encode(), sealed)
    if ours is None:
        raise MLSError("a path without a secret for this member")
    return follow(tree, [place for place, _ in steps[ours[0] :]], ours[1])


def follow(tree: Tree, places: list[int], secret: bytes) -> PathKeys:
    """The keys from the node whose path secret this is up to the root.

    Raises:
        MLSError: the nodes have other public keys.
    """
    need(len(secret) == suite.HASH_BYTES, "a path secret of another length")
    _, keys, public = _chain(places, secret)
    for place, key in zip(places, public, strict=True):
        need(tree.key(place) == key, "a path secret that does not give the key of its node")
    return keys


def _chain(places: list[int], secret: bytes) -> tuple[dict[int, bytes], PathKeys, list[bytes]]:
    """Path secrets, private and public keys of `places`, lowest first."""
    secrets: dict[int, bytes] = {}
    private: dict[int, bytes] = {}
    public: list[bytes] = []
    for place in places:
        secrets[place] = secret
        private[place], key = derive_key_pair(derive_secret(secret, "node"))
        public.append(key)
        secret = derive_secret(secret, "path")
    return secrets, PathKeys(private, secret), public


def _recipients(tree: Tree, off_path: int, joiners: frozenset[int]) -> list[int]:
    """The nodes that get the secret of a path node."""
    return [place for place in tree.resolution(off_path) if place & 1 or place // 2 not in joiners]
