"""A test for each check that RFC 9420, section 12.4.3.1, demands of a joiner, and of the tree that a Welcome brings."""

from collections.abc import Callable, Sequence
from functools import partial
from unittest.mock import patch

import pytest
from attrs import evolve, frozen

from ironwire.errors import MLSError
from ironwire.mls import Extension, KeyPackagePrivate, MLSGroup, Policy, paths, suite
from ironwire.mls.codec import Vector
from ironwire.mls.framing import envelope, open_envelope
from ironwire.mls.messages import (
    ExternalPsk,
    GroupSecrets,
    MLSGroupInfo,
    PathSecret,
    PreSharedKeyId,
    Welcome,
)
from ironwire.mls.nodes import NODE, RATCHET_TREE, LeafNode, ParentNode
from ironwire.mls.tree import Tree
from ironwire.mls.tree_math import right, root
from tests.mls.crew import Device, add, crew, deliver
from tests.mls.forgery import careless, edit_welcome, epoch_of

PSK = PreSharedKeyId(ExternalPsk(b"shared"), bytes(32))


@frozen
class Invitation:
    """A Welcome of Alice's for Dave, into a group of hers with Bob and Carol."""

    alice: Device
    dave: Device
    own: KeyPackagePrivate
    welcome: bytes

    def refuse(self, welcome: bytes, why: str, tree: bytes | None = None) -> None:
        with pytest.raises(MLSError, match=why):
            self.dave.join(self.own, welcome, tree)

    def edited(self, edit: Callable[[MLSGroupInfo], MLSGroupInfo], *, signer: Device | None = None) -> bytes:
        return edit_welcome(signer or self.alice, self.own, self.welcome, info=edit)

    def with_context(self, **parts: object) -> bytes:
        def edit(info: MLSGroupInfo) -> MLSGroupInfo:
            return evolve(info, context=evolve(info.context, **parts))  # type: ignore[arg-type]  # of a context

        return self.edited(edit)

    def with_tree(self, edit: Callable[[Tree], None]) -> bytes:
        """The Welcome with another tree, whose hash is right."""

        def edit_info(info: MLSGroupInfo) -> MLSGroupInfo:
            tree = tree_of(info)
            edit(tree)
            fresh = Tree(tree.nodes)  # without hashes from before
            return with_tree(info, fresh)

        return self.edited(edit_info)


def tree_of(info: MLSGroupInfo) -> Tree:
    (encoded,) = [each.data for each in info.extensions if each.type == RATCHET_TREE]
    return Tree.decode(encoded)


def with_tree(info: MLSGroupInfo, tree: Tree) -> MLSGroupInfo:
    context = evolve(info.context, tree_hash=tree.hash())
    return evolve(info, context=context, extensions=(Extension(RATCHET_TREE, tree.encode()),))


@pytest.fixture
def invitation() -> Invitation:
    members = crew("alice", "bob", "carol")
    dave = Device("dave")
    own = dave.package()
    pending = members[0].group.commit(add=[own.public], path=True)
    deliver(pending.commit, members)
    return Invitation(members[0], dave, own, pending.welcome)


def test_another_message_than_a_welcome(invitation: Invitation) -> None:
    invitation.refuse(invitation.own.public, "not a welcome")


def test_a_welcome_of_another_suite(invitation: Invitation) -> None:
    welcome = open_envelope(invitation.welcome)
    assert isinstance(welcome, Welcome)
    invitation.refuse(envelope(evolve(welcome, cipher_suite=1)), "a welcome of another cipher suite")


def test_a_welcome_for_somebody_else(invitation: Invitation) -> None:
    with pytest.raises(MLSError, match="a welcome for other key packages"):
        invitation.dave.join(invitation.dave.package(), invitation.welcome)


def test_another_device_with_the_key_package(invitation: Invitation) -> None:
    with pytest.raises(MLSError, match="a key package of another device"):
        MLSGroup.join(invitation.alice.key, invitation.own, invitation.welcome, Policy())


def test_a_welcome_with_a_pre_shared_key(invitation: Invitation) -> None:
    def with_psks(*psks: PreSharedKeyId) -> bytes:
        def edit(secrets: GroupSecrets) -> GroupSecrets:
            return evolve(secrets, psks=psks)

        return edit_welcome(invitation.alice, invitation.own, invitation.welcome, secrets=edit)

    invitation.refuse(with_psks(PSK), "a pre-shared key that is not here")
    invitation.refuse(with_psks(PSK, PSK), "a welcome with one pre-shared key twice")


def test_a_group_info_that_another_has_signed(invitation: Invitation) -> None:
    invitation.refuse(invitation.edited(lambda info: info, signer=Device("bob")), "GroupInfoTBS: the signature")
    invitation.refuse(invitation.edited(lambda info: evolve(info, signer=1)), "GroupInfoTBS: the signature")
    for place in (4, 1 << 31):
        nobody = partial(evolve, signer=place)
        invitation.refuse(invitation.edited(nobody), "no member at this leaf")


def test_a_group_info_that_one_s_own_device_has_signed(invitation: Invitation) -> None:
    edit = invitation.edited(lambda info: evolve(info, signer=3), signer=invitation.dave)
    invitation.refuse(edit, "a welcome of one's own")


def test_a_group_of_another_version_or_suite(invitation: Invitation) -> None:
    invitation.refuse(invitation.with_context(version=2), "a group of another version")
    invitation.refuse(invitation.with_context(cipher_suite=1), "a group of another cipher suite")


def test_extensions_that_may_not_be(invitation: Invitation) -> None:
    twice = (Extension(0xF1A0, b""), Extension(0xF1A0, b""))

    def edit(info: MLSGroupInfo) -> MLSGroupInfo:
        return evolve(info, extensions=(*info.extensions, *twice))

    invitation.refuse(invitation.edited(edit), "two extensions of one type")
    invitation.refuse(invitation.with_context(extensions=twice), "two extensions of one type")
    invitation.refuse(invitation.with_context(extensions=twice[:1]), "does not support an extension of the group")


def test_a_tree_that_is_not_there_or_is_another(invitation: Invitation) -> None:
    nothing = invitation.edited(lambda info: evolve(info, extensions=()))
    invitation.refuse(nothing, "a welcome without a tree")
    invitation.refuse(nothing, "no member at this leaf|the signature does not verify|another hash", other_tree())
    before = Tree.decode(invitation.alice.group.tree())
    before.remove(3)
    invitation.refuse(nothing, "a tree with another hash than its group", before.encode())
    invitation.refuse(invitation.with_context(tree_hash=bytes(32)), "a tree with another hash than its group")


def other_tree() -> bytes:
    (zoe,) = crew("zoe", warm=False)
    return zoe.group.tree()


def test_a_tree_without_the_one_who_joins(invitation: Invitation) -> None:
    invitation.refuse(invitation.with_tree(lambda tree: tree.remove(3)), "a tree without this device")


def test_a_tree_with_a_leaf_that_is_not_valid(invitation: Invitation) -> None:
    def edit(tree: Tree) -> None:
        tree.nodes[2] = evolve(tree.leaf(1), signature=bytes(64))

    invitation.refuse(invitation.with_tree(edit), "LeafNodeTBS: the signature|no parent hash leads")

    def move(tree: Tree) -> None:
        """Bob's leaf was signed for place 1; nobody has committed since who would notice by a parent hash."""
        for parent, _ in list(tree.parents()):
            tree.nodes[parent] = None
        tree.nodes[2], tree.nodes[4] = tree.nodes[4], tree.nodes[2]

    invitation.refuse(invitation.with_tree(move), "LeafNodeTBS: the signature")


def test_a_tree_with_a_parent_that_nobody_signed(invitation: Invitation) -> None:
    def edit(tree: Tree) -> None:
        parent = tree.nodes[1]
        assert isinstance(parent, ParentNode)
        tree.nodes[1] = evolve(parent, encryption_key=suite.derive_key_pair(b"mine")[1])

    invitation.refuse(invitation.with_tree(edit), "to which no parent hash leads")


def test_a_wrong_confirmation_tag(invitation: Invitation) -> None:
    wrong = invitation.edited(lambda info: evolve(info, confirmation_tag=bytes(32)))
    invitation.refuse(wrong, "a welcome whose confirmation tag is wrong")
    other = invitation.with_context(confirmed_transcript_hash=bytes(32))
    invitation.refuse(other, "a welcome whose confirmation tag is wrong")
    later = invitation.with_context(epoch=99)
    invitation.refuse(later, "a welcome whose confirmation tag is wrong")


def test_a_wrong_path_secret(invitation: Invitation) -> None:
    def with_secret(secret: bytes) -> bytes:
        def edit(secrets: GroupSecrets) -> GroupSecrets:
            return evolve(secrets, path_secret=PathSecret(secret))

        return edit_welcome(invitation.alice, invitation.own, invitation.welcome, secrets=edit)

    invitation.refuse(with_secret(bytes(32)), "does not give the key of its node")
    invitation.refuse(with_secret(b""), "a path secret of another length")


def test_a_joiner_without_its_path_secret_cannot_follow_a_path() -> None:
    alice, bob, carol = members = crew("alice", "bob", "carol")
    dave = Device("dave")
    own = dave.package()
    pending = carol.group.commit(add=[own.public], path=True)
    deliver(pending.commit, members)
    dave.join(own, edit_welcome(carol, own, pending.welcome, secrets=lambda each: evolve(each, path_secret=None)))
    commit = alice.group.commit(path=True).commit
    deliver(commit, [bob, carol])
    with pytest.raises(MLSError, match="a path without a secret for this member"):
        dave.group.process(commit)


def test_every_bit_of_a_welcome_counts(invitation: Invitation) -> None:
    for place in range(0, len(invitation.welcome), 11):
        altered = bytearray(invitation.welcome)
        altered[place] ^= 1 << place % 8
        invitation.refuse(bytes(altered), ".")
    invitation.dave.join(invitation.own, invitation.welcome)


# --- trees (sections 7.8, 7.9.2 and 12.4.3.1) ------------------------------------------------------------------------


def grown() -> tuple[Tree, list[Device]]:
    """A tree of eight places without blank parents, in which leaf 7 has not been merged into any of them."""
    members = crew(*"abcdefg")
    add(members[0], members, joiner := Device("h"))
    return epoch_of(joiner).tree.copy(), members


def unmerged(tree: Tree, place: int, *leaves: int) -> None:
    parent = tree.nodes[place]
    assert isinstance(parent, ParentNode)
    tree.put(place, evolve(parent, unmerged_leaves=leaves))


def broken(tree: Tree, why: str) -> None:
    with pytest.raises(MLSError, match=why):
        tree.check_structure()


def test_a_good_tree() -> None:
    tree, _ = grown()
    assert [place for place, _ in tree.parents()] == [1, 3, 5, 7, 9, 11]
    tree.check_structure()


def test_unmerged_leaves_that_may_not_be() -> None:
    for leaves, why in (
        ((7, 6), "unmerged leaves are not in order"),
        ((7, 7), "unmerged leaves are not in order"),
        ((3, 7), "an unmerged leaf that is not below its parent"),
        ((7, 8), "an unmerged leaf that is not below its parent"),
        ((), "an unmerged leaf that a node between does not list"),
    ):
        tree, _ = grown()
        unmerged(tree, 11, *leaves)
        broken(tree, why)
    tree, _ = grown()
    tree.remove(5)
    tree.put(11, ParentNode(b"key", b"", (5,)))
    broken(tree, "an unmerged leaf that is not below its parent")


def test_an_unmerged_leaf_that_a_node_between_does_not_list() -> None:
    tree, _ = grown()
    unmerged(tree, 7)
    broken(tree, "to which no parent hash leads")
    tree, _ = grown()
    tree.put(13, ParentNode(b"key", b"", ()))
    broken(tree, "that a node between does not list")


def test_a_parent_to_which_no_parent_hash_leads() -> None:
    for part in ("encryption_key", "parent_hash"):
        tree, _ = grown()
        for place, parent in list(tree.parents()):
            changed = tree.copy()
            changed.put(place, evolve(parent, **{part: b"another"}))  # type: ignore[arg-type]  # bytes, both of them
            broken(changed, "to which no parent hash leads")


def test_two_nodes_with_one_key() -> None:
    tree, _ = grown()
    parent = tree.nodes[1]
    assert isinstance(parent, ParentNode)
    for place in (3, 11):
        changed = tree.copy()
        changed.put(place, evolve(parent, unmerged_leaves=()))
        broken(changed, "two nodes with one encryption key")
    changed = tree.copy()
    changed.put(0, evolve(tree.leaf(0), signature_key=tree.leaf(1).signature_key))
    broken(changed, "two leaves with one signature key")


def test_a_sibling_that_changed_after_the_parent_hash() -> None:
    tree, _ = grown()
    tree.put(8, evolve(tree.leaf(4), signature=bytes(64)))
    broken(tree, "to which no parent hash leads")


def test_leaves_in_the_places_of_parents() -> None:
    tree, _ = grown()
    nodes = list(tree.nodes)
    for first, second in ((0, 1), (1, 2)):
        swapped = list(nodes)
        swapped[first], swapped[second] = swapped[second], swapped[first]
        with pytest.raises(MLSError, match="a leaf in a parent's place"):
            Tree.decode(encoded(swapped))


def encoded(nodes: Sequence[LeafNode | ParentNode | None]) -> bytes:
    return Vector(NODE).write(tuple(nodes))


def test_a_tree_with_blanks_at_its_end() -> None:
    tree, _ = grown()
    nodes = list(tree.nodes)
    for bad in (nodes[:-1], [*nodes, None], [None], []):
        with pytest.raises(MLSError, match="does not end with a leaf"):
            Tree.decode(encoded(bad))


def test_a_tree_has_room_for_so_many() -> None:
    tree, _ = grown()
    with patch("ironwire.mls.tree.MOST_LEAVES", tree.size):
        Tree.decode(tree.encode())
        with pytest.raises(MLSError, match="a tree with too many leaves"):
            tree.add(tree.leaf(0))
    with patch("ironwire.mls.tree.MOST_LEAVES", tree.size - 1), pytest.raises(MLSError, match="too many leaves"):
        Tree.decode(tree.encode())


def test_a_parent_with_a_key_of_small_order() -> None:
    alice, *_ = crew("alice", "bob", "carol")
    own = Device("dave").package()
    chain = paths._chain

    def small(places: list[int], secret: bytes) -> tuple[dict[int, bytes], paths.PathKeys, list[bytes]]:
        secrets, keys, public = chain(places, secret)
        return secrets, keys, [bytes(32), *public[1:]]

    with careless(), patch.object(paths, "_chain", small):
        pending = alice.group.commit(add=[own.public], path=True)
    with pytest.raises(MLSError, match="small order"):
        Device("dave").join(own, pending.welcome)


def test_removing_the_last_makes_the_tree_smaller() -> None:
    tree, _ = grown()
    assert tree.size == 8
    for leaf in (7, 6, 5):
        tree.remove(leaf)
    assert tree.size == 8
    tree.remove(4)
    assert tree.size == 4
    for leaf in (1, 2, 3):
        tree.remove(leaf)
    assert (tree.size, len(tree.nodes)) == (1, 1)
    assert right(root(2)) == 2
