"""A test for each check that RFC 9420 demands of the receiver of a message."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
from attrs import evolve

from ironwire.errors import MLSError
from ironwire.mls import (
    Extension,
    KeyPackage,
    KeyPackagePrivate,
    LeafNode,
    Lifetime,
    MLSGroup,
    Policy,
    ProposalReceived,
    paths,
    suite,
)
from ironwire.mls.framing import (
    PRIVATE,
    AuthenticatedContent,
    FramedContent,
    PublicMessage,
    envelope,
    open_envelope,
    protect_private,
)
from ironwire.mls.messages import (
    RESUME_APPLICATION,
    AddProposal,
    ApplicationData,
    ByReference,
    ByValue,
    Commit,
    ExternalInit,
    ExternalPsk,
    ExternalSender,
    GroupContextExtensions,
    MemberSender,
    NewMemberCommit,
    NewMemberProposal,
    PreSharedKey,
    PreSharedKeyId,
    PrivateMessage,
    ReInit,
    RemoveProposal,
    ResumptionPsk,
    Sender,
    StandaloneProposal,
    UpdatePath,
    UpdateProposal,
    proposal_ref,
)
from ironwire.mls.nodes import (
    REQUIRED_CAPABILITIES,
    BasicCredential,
    Capabilities,
    FromCommit,
    FromUpdate,
    RequiredCapabilities,
    X509Credential,
)
from tests.mls.crew import Device, crew, deliver, devices, stored
from tests.mls.forgery import content_of, epoch_of, forge, sign

SMALL_ORDER = bytes(32)
UNKNOWN_EXTENSION = Extension(0xF000, b"")


def refused(device: Device, message: bytes, why: str) -> None:
    """`device` refuses the message for that reason, and nothing has changed."""
    state = stored(device.group)
    with pytest.raises(MLSError, match=why):
        device.group.process(message)
    assert stored(device.group) == state


# --- messages (section 6) --------------------------------------------------------------------------------------------


def test_a_wrong_membership_tag() -> None:
    alice, bob = crew("alice", "bob")
    commit = bytearray(alice.group.commit(path=True).commit)
    commit[-1] ^= 1
    refused(bob, bytes(commit), "the membership tag is wrong")


@pytest.mark.parametrize("content", [Commit((), None), StandaloneProposal(RemoveProposal(0))])
def test_a_public_message_in_another_member_s_name(content: Commit | StandaloneProposal) -> None:
    alice, bob, carol = crew("alice", "bob", "carol")
    refused(carol, sign(bob, content, sender=MemberSender(alice.leaf)), "FramedContentTBS: the signature")


def test_a_private_message_in_another_member_s_name() -> None:
    alice, bob, carol = crew("alice", "bob", "carol")
    message, _ = epoch_of(bob).channel.seal(bob.key, alice.leaf, b"I am alice", b"")
    refused(carol, envelope(message), "FramedContentTBS: the signature")


def test_a_message_of_another_group_or_epoch() -> None:
    alice, bob = crew("alice", "bob")
    commit, now = Commit((), None), alice.group.epoch
    refused(bob, sign(alice, commit, group_id=b"another"), "a message of another group")
    for epoch in (now - 1, now + 1):
        refused(bob, sign(alice, commit, epoch=epoch), "a message of another epoch")
    message = open_envelope(alice.group.encrypt(b""))
    assert isinstance(message, PrivateMessage)
    refused(bob, envelope(evolve(message, group_id=b"another")), "a message of another group")
    for epoch in (now - 2, now + 1):
        refused(bob, envelope(evolve(message, epoch=epoch)), "a message of another epoch")
    refused(bob, envelope(evolve(message, epoch=now - 1)), "a ciphertext does not open")


@pytest.mark.parametrize("sender", [ExternalSender(0), NewMemberProposal(), NewMemberCommit()])
def test_a_message_of_somebody_who_is_no_member(sender: Sender) -> None:
    alice, bob = crew("alice", "bob")
    message = content_of(sign(alice, Commit((), None)))
    outside = PublicMessage(evolve(message.content, sender=sender), message.auth, None)
    refused(bob, envelope(outside), "a message of somebody who is no member")


def test_a_message_from_a_leaf_where_nobody_is() -> None:
    alice, bob, carol = crew("alice", "bob", "carol")
    for leaf in (3, 4, 1 << 30):
        refused(carol, sign(alice, Commit((), None), sender=MemberSender(leaf)), "no member at this leaf")
    message, _ = epoch_of(alice).channel.seal(alice.key, 3, b"", b"")
    refused(bob, envelope(message), "no member at this leaf")
    with pytest.raises(MLSError, match="no member at this leaf"):
        epoch_of(bob).channel.keys.take(4, 1, 0)


def test_an_application_message_in_the_clear() -> None:
    alice, bob = crew("alice", "bob")
    refused(bob, sign(alice, ApplicationData(b"hello")), "an application message that is not encrypted")


def test_a_commit_that_is_encrypted() -> None:
    alice, bob = crew("alice", "bob")
    epoch = epoch_of(alice)
    framed = FramedContent(alice.group.group_id, alice.group.epoch, MemberSender(0), b"", Commit((), None))
    signed = AuthenticatedContent.sign(alice.key, PRIVATE, framed, epoch.context, bytes(32))
    message, _ = protect_private(signed, epoch.channel.sender_data, epoch.channel.keys)
    refused(bob, envelope(message), "a handshake message that is not public")


def test_padding_that_says_something() -> None:
    alice, bob = crew("alice", "bob")
    seal = suite.seal

    def with_padding(key: bytes, nonce: bytes, associated: bytes, plaintext: bytes) -> bytes:
        return seal(key, nonce, associated, plaintext[:-1] + b"\1" if len(plaintext) >= 256 else plaintext)

    with patch.object(suite, "seal", with_padding):
        message = alice.group.encrypt(b"")
    refused(bob, message, "padding that is not zero")


def test_another_kind_of_message() -> None:
    alice, bob = crew("alice", "bob")
    refused(bob, alice.package().public, "neither a public nor a private message")
    refused(bob, b"\0\2" + alice.group.commit(path=True).commit[2:], "a message of another version")


@pytest.mark.parametrize("part", ["authenticated_data", "encrypted_sender_data", "ciphertext"])
def test_an_altered_private_message(part: str) -> None:
    alice, bob = crew("alice", "bob")
    sent = alice.group.encrypt(b"hello", b"data")
    message = open_envelope(sent)
    assert isinstance(message, PrivateMessage)
    altered = bytearray(getattr(message, part))
    altered[-1] ^= 1
    refused(bob, envelope(evolve(message, **{part: bytes(altered)})), "does not open")  # type: ignore[arg-type]  # bytes
    refused(bob, envelope(evolve(message, ciphertext=b"short")), "does not open")
    refused(bob, envelope(evolve(message, encrypted_sender_data=b"short")), "shorter than its tag")
    bob.group.process(sent)


def test_every_bit_of_a_commit_counts() -> None:
    alice, bob = crew("alice", "bob")
    commit = alice.group.commit(path=True).commit
    for place in range(0, len(commit), 3):
        altered = bytearray(commit)
        altered[place] ^= 1 << place % 8
        refused(bob, bytes(altered), ".")
    bob.group.process(commit)


# --- lists of proposals (section 12.2) -------------------------------------------------------------------------------


def test_a_commit_that_ends_the_group_or_lets_a_stranger_in() -> None:
    alice, bob = crew("alice", "bob")
    for proposal in (ReInit(b"next", 1, 3, ()), ExternalInit(b"kem output")):
        refused(bob, forge(alice, [proposal]), "a ReInit or ExternalInit proposal")


def test_a_commit_that_removes_its_committer() -> None:
    alice, bob = crew("alice", "bob")
    refused(bob, forge(alice, [RemoveProposal(alice.leaf)]), "removes its own committer")


def update(device: Device, **parts: object) -> UpdateProposal:
    """An Update of that device's leaf, with a new key and other `parts`, signed."""
    old = epoch_of(device).tree.leaf(device.leaf)
    key = suite.derive_key_pair(b"update")[1]
    new = evolve(old, encryption_key=key, source=FromUpdate(), **parts)  # type: ignore[arg-type]  # fields of a leaf
    return UpdateProposal(new.signed(device.key, device.group.group_id, device.leaf))


def test_a_commit_that_updates_its_committer() -> None:
    alice, bob = crew("alice", "bob")
    refused(bob, forge(alice, [update(alice)]), "an Update of its own committer")


def proposed(proposer: Device, members: list[Device], proposal: UpdateProposal | RemoveProposal) -> ByReference:
    """A proposal that all members have received, and its reference."""
    message = sign(proposer, StandaloneProposal(proposal))
    for event in deliver(message, members):
        assert isinstance(event, ProposalReceived)
        assert event.sender == proposer.group.me
    return ByReference(proposal_ref(content_of(message).authenticated.encode()))


def test_a_commit_with_two_changes_of_one_leaf() -> None:
    alice, bob, carol = members = crew("alice", "bob", "carol")
    removal = RemoveProposal(bob.leaf)
    refused(carol, forge(alice, [removal, removal]), "two Updates or Removes of one leaf")
    ref = proposed(bob, members, update(bob))
    commit = sign(alice, Commit((ref, ByValue(removal)), None))
    refused(carol, commit, "two Updates or Removes of one leaf")


def test_a_commit_by_reference() -> None:
    alice, bob, carol = members = crew("alice", "bob", "carol")
    ref = proposed(carol, members, update(carol))
    commit = forge(alice, [ref])
    bob.restart()
    bob.group.process(commit)
    assert epoch_of(bob).tree.leaf(carol.leaf) == update(carol).leaf
    refused(bob, forge(alice, [ref]), "another epoch")


def test_a_commit_of_a_proposal_that_never_came() -> None:
    alice, bob, carol = crew("alice", "bob", "carol")
    ref = proposed(bob, [alice, bob], RemoveProposal(carol.leaf))
    refused(carol, forge(alice, [ref]), "a proposal that is not here")


def test_a_proposal_comes_once_and_there_are_not_many() -> None:
    alice, bob = crew("alice", "bob")
    message = sign(alice, StandaloneProposal(RemoveProposal(0)))
    bob.group.process(message)
    refused(bob, message, "a proposal that came before")
    with patch("ironwire.mls.state.MOST_PROPOSALS", 1):
        refused(bob, sign(alice, StandaloneProposal(RemoveProposal(1))), "too many proposals")


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda old, new: evolve(new, source=FromCommit(b"")), "comes from elsewhere"),
        (lambda old, new: evolve(new, encryption_key=old.encryption_key), "an Update that keeps its key"),
        (lambda old, new: evolve(new, encryption_key=SMALL_ORDER), "small order"),
        (lambda old, new: evolve(new, credential=BasicCredential(b"alice")), "changes its credential"),
    ],
)
def test_an_update_that_is_not_valid(edit: Callable[[LeafNode, LeafNode], LeafNode], why: str) -> None:
    alice, bob, carol = members = crew("alice", "bob", "carol")
    leaf = edit(epoch_of(carol).tree.leaf(carol.leaf), update(carol).leaf)
    proposal = UpdateProposal(leaf.signed(carol.key, carol.group.group_id, carol.leaf))
    refused(bob, sign(alice, Commit((proposed(carol, members, proposal),), None)), why)


def test_an_update_of_another_place_or_group() -> None:
    alice, bob, carol = members = crew("alice", "bob", "carol")
    leaf = update(carol).leaf
    for signed in (leaf.signed(carol.key, b"another", carol.leaf), leaf.signed(carol.key, carol.group.group_id, 0)):
        ref = proposed(carol, members, UpdateProposal(signed))
        refused(bob, forge(alice, [ref]), "LeafNodeTBS: the signature")


def test_an_update_by_another_device_s_key() -> None:
    alice, bob, carol = members = crew("alice", "bob", "carol")
    stranger = Device("stranger")
    leaf = evolve(update(carol).leaf, signature_key=stranger.key.public_key.raw)
    proposal = UpdateProposal(leaf.signed(stranger.key, carol.group.group_id, carol.leaf))
    refused(bob, forge(alice, [proposed(carol, members, proposal)]), "changes its signature key")


def test_a_removal_of_nobody() -> None:
    alice, bob, _ = crew("alice", "bob", "carol")
    for leaf in (3, 4, 1 << 31):
        message = sign(alice, Commit((ByValue(RemoveProposal(leaf)),), None))
        refused(bob, message, "no member at this leaf")


# --- pre-shared keys (section 12.1.4) --------------------------------------------------------------------------------


class Shared(Policy):
    """Everybody knows one key."""

    def psk(self, psk: ExternalPsk | ResumptionPsk) -> bytes | None:
        return b"shared" if psk != ExternalPsk(b"unknown") else None


PSK = PreSharedKey(PreSharedKeyId(ExternalPsk(b"known"), bytes(32)))
RESUMPTION = PreSharedKey(PreSharedKeyId(ResumptionPsk(2, b"group", 1), bytes(32)))


def sharing() -> list[Device]:
    members = crew("alice", "bob")
    for member in members:
        member.policy = Shared()
        member.restart()
    return members


def test_a_commit_with_a_pre_shared_key() -> None:
    alice, bob = sharing()
    again = PreSharedKey(evolve(PSK.psk, nonce=b"\1" * 32))
    application = PreSharedKey(PreSharedKeyId(ResumptionPsk(RESUME_APPLICATION, b"group", 1), bytes(32)))
    bob.group.process(forge(alice, [PSK, again, application], with_path=False))


def test_a_commit_with_a_pre_shared_key_that_may_not_be() -> None:
    alice, bob = sharing()
    refused(bob, forge(alice, [PSK, PSK]), "one pre-shared key twice")
    short = PreSharedKey(evolve(PSK.psk, nonce=b"short"))
    refused(bob, forge(alice, [short]), "the nonce of a pre-shared key")
    refused(bob, forge(alice, [RESUMPTION]), "a group that ended or branched")
    bob.policy = Policy()
    bob.restart()
    refused(bob, forge(alice, [PSK]), "a pre-shared key that is not here")


# --- extensions of the group (sections 11.1, 12.1.7 and 13) ----------------------------------------------------------


def required(
    *, extensions: tuple[int, ...] = (), proposals: tuple[int, ...] = (), credentials: tuple[int, ...] = ()
) -> Extension:
    return Extension(REQUIRED_CAPABILITIES, RequiredCapabilities(extensions, proposals, credentials).encode())


def test_new_extensions_of_the_group() -> None:
    alice, bob = crew("alice", "bob")
    harmless = required(extensions=(2,), proposals=(1,), credentials=(1,))
    event = bob.group.process(forge(alice, [GroupContextExtensions((harmless,))]))
    assert event.change.extensions == bob.group.extensions == (harmless,)  # type: ignore[union-attr]  # a commit


@pytest.mark.parametrize(
    ("extensions", "why"),
    [
        ((Extension(1, b""), Extension(1, b"")), "two extensions of one type"),
        ((UNKNOWN_EXTENSION,), "does not support an extension of the group"),
        ((required(extensions=(0xF000,)),), "a leaf without a required capability"),
        ((required(proposals=(0xF000,)),), "a leaf without a required capability"),
        ((required(credentials=(2,)),), "a leaf without a required capability"),
        ((Extension(REQUIRED_CAPABILITIES, b"x"),), "cut short"),
    ],
)
def test_extensions_that_may_not_be(extensions: tuple[Extension, ...], why: str) -> None:
    alice, bob = crew("alice", "bob")
    changes = GroupContextExtensions(extensions)
    refused(bob, sign(alice, Commit((ByValue(changes),), None)), why)
    refused(bob, sign(alice, Commit((ByValue(changes), ByValue(changes)), None)), "two GroupContextExtensions")
    with pytest.raises(MLSError, match=why):
        MLSGroup.create(alice.key, b"", alice.package(), Policy(), extensions)


def test_a_change_of_extensions_wants_a_path() -> None:
    alice, bob = crew("alice", "bob")
    refused(bob, forge(alice, [GroupContextExtensions(())], with_path=False), "without the path that it must have")


# --- key packages (sections 7.3 and 10.1) ----------------------------------------------------------------------------


def repack(
    device: Device,
    leaf: Callable[[LeafNode], LeafNode] = lambda leaf: leaf,
    package: Callable[[KeyPackage], KeyPackage] = lambda package: package,
    *,
    signs_leaf: bool = True,
    signs_package: bool = True,
) -> KeyPackagePrivate:
    """A key package of `device` with another leaf or other parts, and right signatures unless told otherwise."""
    own = device.package()
    made = own.package
    new_leaf = leaf(made.leaf)
    new_leaf = new_leaf.signed(device.key, b"", 0) if signs_leaf else new_leaf
    made = package(evolve(made, leaf=new_leaf))
    if signs_package:
        made = evolve(made, signature=suite.sign_with_label(device.key, KeyPackage.LABEL, made.to_be_signed()))
    return evolve(own, package=made)


DAVE = Device("dave")


def able(**parts: tuple[int, ...]) -> Callable[[LeafNode], LeafNode]:
    def change(leaf: LeafNode) -> LeafNode:
        return evolve(leaf, capabilities=evolve(leaf.capabilities, **parts))

    return change


BAD_PACKAGES = {
    "another version": (
        repack(DAVE, package=lambda each: evolve(each, version=2)),
        "a key package of another version or suite",
    ),
    "another suite": (
        repack(DAVE, package=lambda each: evolve(each, cipher_suite=1)),
        "a key package of another version or suite",
    ),
    "leaf of an update": (
        repack(DAVE, leaf=lambda leaf: evolve(leaf, source=FromUpdate())),
        "the leaf of a key package comes from elsewhere",
    ),
    "leaf not signed": (
        repack(DAVE, leaf=lambda leaf: evolve(leaf, source=Lifetime(0, 1)), signs_leaf=False),
        "LeafNodeTBS: the signature",
    ),
    "package not signed": (
        repack(DAVE, package=lambda each: evolve(each, extensions=(UNKNOWN_EXTENSION,)), signs_package=False),
        "KeyPackageTBS: the signature",
    ),
    "one key for two purposes": (
        repack(DAVE, package=lambda each: evolve(each, init_key=each.leaf.encryption_key)),
        "the init key is the encryption key",
    ),
    "init key of small order": (repack(DAVE, package=lambda each: evolve(each, init_key=SMALL_ORDER)), "small order"),
    "init key of another length": (repack(DAVE, package=lambda each: evolve(each, init_key=b"x")), "32 bytes long"),
    "leaf key of small order": (
        repack(DAVE, leaf=lambda leaf: evolve(leaf, encryption_key=SMALL_ORDER)),
        "small order",
    ),
    "two extensions of a package": (
        repack(DAVE, package=lambda each: evolve(each, extensions=(UNKNOWN_EXTENSION, UNKNOWN_EXTENSION))),
        "two extensions of one type",
    ),
    "two extensions of a leaf": (
        repack(DAVE, leaf=lambda leaf: evolve(leaf, extensions=(Extension(1, b""), Extension(1, b"")))),
        "two extensions of one type",
    ),
    "an extension that is not listed": (
        repack(DAVE, leaf=lambda leaf: evolve(leaf, extensions=(UNKNOWN_EXTENSION,))),
        "an extension that it does not list",
    ),
    "without the version": (repack(DAVE, leaf=able(versions=(2,))), "a leaf without this version and suite"),
    "without the suite": (repack(DAVE, leaf=able(cipher_suites=(1,))), "a leaf without this version and suite"),
    "without its credential": (repack(DAVE, leaf=able(credentials=(2,))), "the type of its own credential"),
    "a certificate of X.509": (
        repack(DAVE, leaf=lambda leaf: evolve(leaf, credential=X509Credential((b"x",)))),
        "a credential that is not basic",
    ),
    "a signature key of small order": (
        repack(DAVE, leaf=lambda leaf: evolve(leaf, signature_key=b"\1" + bytes(31))),
        "LeafNodeTBS: the signature",
    ),
}


@pytest.mark.parametrize(("own", "why"), BAD_PACKAGES.values(), ids=BAD_PACKAGES)
def test_a_key_package_that_is_not_valid(own: KeyPackagePrivate, why: str) -> None:
    alice, bob = crew("alice", "bob")
    with pytest.raises(MLSError, match=why):
        alice.group.commit(add=[own.public])
    refused(bob, sign(alice, Commit((ByValue(AddProposal(own.package)),), None)), why)


def test_a_key_package_with_an_extension_that_nobody_knows_is_good() -> None:
    alice, bob = crew("alice", "bob")
    known = able(extensions=(0xF000,))
    own = repack(
        DAVE,
        lambda leaf: evolve(known(leaf), extensions=(UNKNOWN_EXTENSION,)),
        lambda each: evolve(each, extensions=(Extension(0xF001, b""),)),
    )
    deliver(alice.group.commit(add=[own.public]).commit, [bob])


def test_somebody_who_is_a_member_already() -> None:
    alice, bob, carol = crew("alice", "bob", "carol")
    packages = [carol.package(), Device("dave").package(), Device("dave").package()]
    for added in (packages[:1], packages[1:]):
        refused(
            bob,
            forge(alice, [AddProposal(each.package) for each in added], with_path=False),
            "two leaves with one signature key",
        )
        with pytest.raises(MLSError, match="two leaves with one signature key"):
            alice.group.commit(add=[each.public for each in added])


def test_a_leaf_with_a_key_that_the_tree_has_already() -> None:
    alice, bob = crew("alice", "bob")
    taken = epoch_of(alice).tree.leaf(bob.leaf).encryption_key
    own = repack(DAVE, leaf=lambda leaf: evolve(leaf, encryption_key=taken))
    refused(bob, forge(alice, [AddProposal(own.package)], with_path=False), "two nodes with one encryption key")


def capable(*names: str) -> tuple[list[Device], list[KeyPackagePrivate]]:
    """Devices that support the unknown extension, the first in a group that wants it."""
    members = devices(*names)
    packages = [repack(device, leaf=able(extensions=(0xF000,))) for device in members]
    members[0]._group = MLSGroup.create(members[0].key, b"group", packages[0], Policy(), (UNKNOWN_EXTENSION,))
    return members, packages


def test_a_leaf_that_does_not_support_what_the_group_requires() -> None:
    (alice, bob), packages = capable("alice", "bob")
    with pytest.raises(MLSError, match="does not support an extension of the group"):
        alice.group.commit(add=[bob.package().public])
    alice.group.commit(add=[packages[1].public])


def test_a_group_of_a_key_package_that_is_not_good() -> None:
    alice, bob = devices("alice", "bob")
    own = alice.package()
    with pytest.raises(MLSError, match="a key package of another device"):
        MLSGroup.create(bob.key, b"group", own, Policy())
    broken = evolve(own, package=evolve(own.package, signature=bytes(64)))
    with pytest.raises(MLSError, match="KeyPackageTBS"):
        MLSGroup.create(alice.key, b"group", broken, Policy())


# --- paths (sections 7.5, 7.6 and 12.4.2) ----------------------------------------------------------------------------


def test_a_commit_without_the_path_that_it_must_have() -> None:
    alice, bob, carol = members = crew("alice", "bob", "carol")
    for proposals in ([], [RemoveProposal(carol.leaf)], [proposed(carol, members, update(carol))]):
        refused(bob, forge(alice, proposals, with_path=False), "without the path that it must have")


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda old, new: evolve(new, source=FromUpdate()), "the leaf of a path comes from elsewhere"),
        (lambda old, new: evolve(new, source=Lifetime(0, 1)), "the leaf of a path comes from elsewhere"),
        (lambda old, new: evolve(new, encryption_key=old.encryption_key), "keeps the key of its leaf"),
        (lambda old, new: evolve(new, encryption_key=SMALL_ORDER), "small order"),
        (lambda old, new: evolve(new, source=FromCommit(bytes(32))), "whose parent hash is wrong"),
        (lambda old, new: evolve(new, credential=BasicCredential(b"bob")), "changes its credential"),
        (lambda old, new: evolve(new, signature_key=bytes(32)), "changes its signature key"),
        (lambda old, new: evolve(new, credential=X509Credential(())), "changes its credential"),
        (lambda old, new: evolve(new, capabilities=Capabilities((), (), (), (), ())), "without this version and suite"),
    ],
)
def test_a_path_whose_leaf_is_not_valid(edit: Callable[[LeafNode, LeafNode], LeafNode], why: str) -> None:
    alice, bob, _ = crew("alice", "bob", "carol")
    old = epoch_of(alice).tree.leaf(alice.leaf)
    refused(bob, forge(alice, [], leaf=lambda new: edit(old, new)), why)


def _first(path: UpdatePath, **parts: object) -> UpdatePath:
    first, *others = path.nodes
    return evolve(path, nodes=(evolve(first, **parts), *others))  # type: ignore[arg-type]  # fields of a path node


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda path: evolve(path, leaf=evolve(path.leaf, signature=bytes(64))), "LeafNodeTBS: the signature"),
        (lambda path: evolve(path, nodes=path.nodes[1:]), "a path of another length than the tree's"),
        (lambda path: evolve(path, nodes=(*path.nodes, path.nodes[0])), "a path of another length than the tree's"),
        (lambda path: _first(path, encryption_key=SMALL_ORDER), "small order"),
        (lambda path: _first(path, encryption_key=suite.derive_key_pair(b"x")[1]), "whose parent hash is wrong"),
        (lambda path: _first(path, path_secrets=()), "another number of secrets"),
        (lambda path: _first(path, path_secrets=path.nodes[0].path_secrets * 2), "another number of secrets"),
        (
            lambda path: _first(path, path_secrets=(suite.HPKECiphertext(SMALL_ORDER, b""),)),
            "small order",
        ),
        (
            lambda path: _first(path, path_secrets=(evolve(path.nodes[0].path_secrets[0], ciphertext=bytes(48)),)),
            "does not open",
        ),
    ],
)
def test_a_path_that_is_not_valid(edit: Callable[[UpdatePath], UpdatePath], why: str) -> None:
    alice, bob, _ = crew("alice", "bob", "carol")
    refused(bob, forge(alice, [], path=edit), why)


def test_a_path_with_a_key_that_the_tree_has_already() -> None:
    alice, bob, carol = crew("alice", "bob", "carol")
    taken = epoch_of(alice).tree.leaf(carol.leaf).encryption_key
    refused(bob, forge(alice, [], path=lambda path: _first(path, encryption_key=taken)), "a key that the tree has")
    refused(bob, forge(alice, [], leaf=lambda leaf: evolve(leaf, encryption_key=taken)), "a key that the tree has")


def test_a_path_with_one_key_twice() -> None:
    alice, _, carol = crew("alice", "bob", "carol")
    chain = paths._chain

    def repeating(places: list[int], secret: bytes) -> tuple[dict[int, bytes], paths.PathKeys, list[bytes]]:
        secrets, keys, public = chain(places, secret)
        return secrets, keys, [public[-1]] * len(public)

    with patch.object(paths, "_chain", repeating):
        message = forge(alice, [])
    refused(carol, message, "two nodes with one encryption key")


def test_a_path_secret_of_something_else() -> None:
    alice, bob, _ = crew("alice", "bob", "carol")
    refused(bob, forge(alice, [], secret=suite.digest), "does not give the key of its node")
    refused(bob, forge(alice, [], secret=lambda secret: secret + b"x"), "a path secret of another length")


def test_a_path_leaf_that_gives_up_what_the_group_requires() -> None:
    (alice, bob), packages = capable("alice", "bob")
    pending = alice.group.commit(add=[packages[1].public])
    alice.group.process(pending.commit)
    bob.join(packages[1], pending.welcome)
    refused(bob, forge(alice, [], leaf=able(extensions=())), "does not support an extension of the group")


def test_a_wrong_confirmation_tag() -> None:
    alice, bob, _ = crew("alice", "bob", "carol")
    for wrong in (lambda tag: bytes(32), lambda tag: tag[:-1], lambda tag: b""):
        refused(bob, forge(alice, [], tag=wrong), "a commit whose confirmation tag is wrong")
