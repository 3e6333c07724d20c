"""The vectors of the MLS working group, a test for each file (mlswg/mls-implementations, `test-vectors.md`)."""

from typing import Any

import pytest

from ironwire.crypto.signing import Identity
from ironwire.errors import MLSError
from ironwire.mls import paths, suite, tree_math
from ironwire.mls.codec import Cursor, Struct, length_prefix
from ironwire.mls.framing import (
    PRIVATE,
    PUBLIC,
    AuthenticatedContent,
    FramedContent,
    FramedContentAuth,
    MLSMessage,
    PublicMessage,
    open_envelope,
    protect_private,
    protect_public,
    sender_data_key,
    unprotect_private,
)
from ironwire.mls.messages import (
    PROPOSALS,
    AddProposal,
    ApplicationData,
    Commit,
    Content,
    ExternalInit,
    ExternalPsk,
    GroupContext,
    GroupContextExtensions,
    GroupSecrets,
    MemberSender,
    MLSGroupInfo,
    PreSharedKey,
    PreSharedKeyId,
    PrivateMessage,
    ReInit,
    RemoveProposal,
    StandaloneProposal,
    UpdatePath,
    UpdateProposal,
    Welcome,
)
from ironwire.mls.nodes import KeyPackage
from ironwire.mls.schedule import (
    EpochSecrets,
    confirmed_hash,
    epoch_secret,
    interim_hash,
    joiner_secret,
    psk_secret,
    welcome_key,
)
from ironwire.mls.secret_tree import SecretTree
from ironwire.mls.suite import HPKECiphertext
from ironwire.mls.tree import Tree
from tests.mls.vectors import cases

Case = dict[str, Any]
raw = bytes.fromhex


@pytest.mark.parametrize("case", cases("mls/tree-math.json"))
def test_tree_math(case: Case) -> None:
    leaves, nodes = case["n_leaves"], range(case["n_nodes"])
    top = tree_math.root(leaves)
    assert tree_math.width(leaves) == case["n_nodes"]
    assert top == case["root"]
    assert [tree_math.left(node) if node & 1 else None for node in nodes] == case["left"]
    assert [tree_math.right(node) if node & 1 else None for node in nodes] == case["right"]
    assert [None if node == top else tree_math.parent_of(node) for node in nodes] == case["parent"]
    assert [None if node == top else tree_math.sibling(node) for node in nodes] == case["sibling"]


@pytest.mark.parametrize("case", cases("mls/deserialization.json"))
def test_deserialization(case: Case) -> None:
    header, length = raw(case["vlbytes_header"]), case["length"]
    assert Cursor.over(header).length() == length
    assert length_prefix(length) == header


@pytest.mark.parametrize("case", cases("mls/crypto-basics.json"))
def test_crypto_basics(case: Case) -> None:
    ref = case["ref_hash"]
    assert suite.ref_hash(ref["label"], raw(ref["value"])).hex() == ref["out"]
    expand = case["expand_with_label"]
    expanded = suite.expand_with_label(raw(expand["secret"]), expand["label"], raw(expand["context"]), expand["length"])
    assert expanded.hex() == expand["out"]
    derive = case["derive_secret"]
    assert suite.derive_secret(raw(derive["secret"]), derive["label"]).hex() == derive["out"]
    tree = case["derive_tree_secret"]
    secret = suite.derive_tree_secret(raw(tree["secret"]), tree["label"], tree["generation"], tree["length"])
    assert secret.hex() == tree["out"]
    sign = case["sign_with_label"]
    content = raw(sign["content"])
    suite.verify_with_label(raw(sign["pub"]), sign["label"], content, raw(sign["signature"]))
    mine = suite.sign_with_label(Identity.from_seed(raw(sign["priv"])), sign["label"], content)
    suite.verify_with_label(raw(sign["pub"]), sign["label"], content, mine)
    sealed = case["encrypt_with_label"]
    label, context, plaintext = sealed["label"], raw(sealed["context"]), raw(sealed["plaintext"])
    theirs = HPKECiphertext(raw(sealed["kem_output"]), raw(sealed["ciphertext"]))
    assert suite.decrypt_with_label(raw(sealed["priv"]), label, context, theirs) == plaintext
    ours = suite.encrypt_with_label(raw(sealed["pub"]), label, context, plaintext)
    assert suite.decrypt_with_label(raw(sealed["priv"]), label, context, ours) == plaintext


@pytest.mark.parametrize("case", cases("mls/secret-tree.json"))
def test_secret_tree(case: Case) -> None:
    data = case["sender_data"]
    key, nonce = sender_data_key(raw(data["sender_data_secret"]), raw(data["ciphertext"]))
    assert (key.hex(), nonce.hex()) == (data["key"], data["nonce"])
    tree = SecretTree.new(len(case["leaves"]), raw(case["encryption_secret"]))
    for leaf, generations in enumerate(case["leaves"]):
        for each in generations:
            for kind, name in ((1, "application"), (3, "handshake")):
                key, nonce, tree = tree.take(leaf, kind, each["generation"])
                assert (key.hex(), nonce.hex()) == (each[f"{name}_key"], each[f"{name}_nonce"])


@pytest.mark.parametrize("case", cases("mls/key-schedule.json"))
def test_key_schedule(case: Case) -> None:
    init = raw(case["initial_init_secret"])
    for epoch, each in enumerate(case["epochs"]):
        hashes = raw(each["tree_hash"]), raw(each["confirmed_transcript_hash"])
        context = GroupContext(1, 3, raw(case["group_id"]), epoch, *hashes, ())
        assert context.encode().hex() == each["group_context"]
        joiner = joiner_secret(init, raw(each["commit_secret"]), context)
        assert joiner.hex() == each["joiner_secret"]
        psk = raw(each["psk_secret"])
        assert suite.derive_secret(suite.extract(joiner, psk), "welcome").hex() == each["welcome_secret"]
        secrets, encryption = EpochSecrets.derive(epoch_secret(joiner, psk, context))
        assert encryption.hex() == each["encryption_secret"]
        assert {
            "sender_data_secret": secrets.sender_data.hex(),
            "exporter_secret": secrets.exporter.hex(),
            "external_secret": secrets.external.hex(),
            "confirmation_key": secrets.confirmation_key.hex(),
            "membership_key": secrets.membership_key.hex(),
            "resumption_psk": secrets.resumption_psk.hex(),
            "epoch_authenticator": secrets.authenticator.hex(),
            "init_secret": secrets.init.hex(),
        }.items() <= each.items()
        assert suite.derive_key_pair(secrets.external)[1].hex() == each["external_pub"]
        exporter = each["exporter"]
        exported = secrets.export(exporter["label"], raw(exporter["context"]), exporter["length"])
        assert exported.hex() == exporter["secret"]
        init = secrets.init


@pytest.mark.parametrize("case", cases("mls/psk_secret.json"))
def test_psk_secret(case: Case) -> None:
    psks = [
        (PreSharedKeyId(ExternalPsk(raw(each["psk_id"])), raw(each["psk_nonce"])), raw(each["psk"]))
        for each in case["psks"]
    ]
    assert psk_secret(psks).hex() == case["psk_secret"]


@pytest.mark.parametrize("case", cases("mls/transcript-hashes.json"))
def test_transcript_hashes(case: Case) -> None:
    cursor = Cursor.over(raw(case["authenticated_content"]))
    wire_format, content = cursor.number(2), FramedContent.read(cursor)
    message = AuthenticatedContent(wire_format, content, FramedContentAuth.read_for(content.content, cursor))
    cursor.finish()
    confirmed = confirmed_hash(raw(case["interim_transcript_hash_before"]), message.confirmed_hash_input())
    assert confirmed.hex() == case["confirmed_transcript_hash_after"]
    tag = message.auth.confirmation_tag
    assert tag is not None
    assert tag == suite.mac(raw(case["confirmation_key"]), confirmed)
    assert interim_hash(confirmed, tag).hex() == case["interim_transcript_hash_after"]


@pytest.mark.parametrize("case", cases("mls/welcome.json"))
def test_welcome(case: Case) -> None:
    package, welcome = open_envelope(raw(case["key_package"])), open_envelope(raw(case["welcome"]))
    assert isinstance(package, KeyPackage)
    assert isinstance(welcome, Welcome)
    (sealed,) = [each.group_secrets for each in welcome.secrets if each.new_member == package.ref]
    private, encrypted = raw(case["init_priv"]), welcome.encrypted_group_info
    secrets = GroupSecrets.decode(suite.decrypt_with_label(private, "Welcome", encrypted, sealed))
    assert secrets.psks == ()
    key, nonce = welcome_key(secrets.joiner_secret, psk_secret([]))
    info = MLSGroupInfo.decode(suite.unseal(key, nonce, b"", encrypted))
    suite.verify_with_label(raw(case["signer_pub"]), "GroupInfoTBS", info.to_be_signed(), info.signature)
    epoch, _ = EpochSecrets.derive(epoch_secret(secrets.joiner_secret, psk_secret([]), info.context))
    assert epoch.confirmation_tag(info.context) == info.confirmation_tag


@pytest.mark.parametrize("case", cases("mls/tree-operations.json"))
def test_tree_operations(case: Case) -> None:
    tree = Tree.decode(raw(case["tree_before"]))
    assert tree.hash().hex() == case["tree_hash_before"]
    proposal = PROPOSALS.read(Cursor.over(raw(case["proposal"])))
    match proposal:
        case AddProposal(package):
            tree.add(package.leaf)
        case UpdateProposal(leaf):
            tree.update(case["proposal_sender"], leaf)
        case RemoveProposal(removed):
            tree.remove(removed)
        case _:
            pytest.fail("another kind of proposal")
    assert tree.encode().hex() == case["tree_after"]
    assert tree.hash().hex() == case["tree_hash_after"]


@pytest.mark.parametrize("case", cases("mls/tree-validation.json"))
def test_tree_validation(case: Case) -> None:
    tree = Tree.decode(raw(case["tree"]))
    assert [tree.resolution(place) for place in range(len(tree.nodes))] == case["resolutions"]
    assert [tree.hash(place).hex() for place in range(len(tree.nodes))] == case["tree_hashes"]
    tree.check_structure()
    for index, leaf in tree.leaves():
        leaf.check(raw(case["group_id"]), index)
    assert tree.encode().hex() == case["tree"]


@pytest.mark.parametrize("case", cases("mls/treekem.json"))
def test_treekem(case: Case) -> None:
    group_id, transcript = raw(case["group_id"]), raw(case["confirmed_transcript_hash"])
    for update in case["update_paths"]:
        sender, path = update["sender"], UpdatePath.decode(raw(update["update_path"]))
        tree = Tree.decode(raw(case["ratchet_tree"]))
        paths.merge(tree, sender, path, group_id)
        assert tree.hash().hex() == update["tree_hash_after"]
        context = GroupContext(1, 3, group_id, case["epoch"], tree.hash(), transcript, ())
        for each in case["leaves_private"]:
            if (index := each["index"]) == sender:
                continue
            private = {2 * index: raw(each["encryption_priv"])}
            for known in each["path_secrets"]:
                secret = suite.derive_secret(raw(known["path_secret"]), "node")
                private[known["node"]] = suite.derive_key_pair(secret)[0]
            keys = paths.receive(tree, private, sender, path, context, frozenset(), index)
            assert keys.commit_secret.hex() == update["commit_secret"]
        (own,) = [each for each in case["leaves_private"] if each["index"] == sender]
        old = Tree.decode(raw(case["ratchet_tree"]))
        mine = paths.new_path(old, sender, Identity.from_seed(raw(own["signature_priv"])), group_id, old.leaf(sender))
        context = GroupContext(1, 3, group_id, case["epoch"], old.hash(), transcript, ())
        again = Tree.decode(raw(case["ratchet_tree"]))
        paths.merge(again, sender, mine.encrypt(old, sender, context, frozenset()), group_id)
        assert again.hash() == old.hash()


MESSAGES: dict[str, type[Struct]] = {
    "group_secrets": GroupSecrets,
    "add_proposal": AddProposal,
    "update_proposal": UpdateProposal,
    "remove_proposal": RemoveProposal,
    "pre_shared_key_proposal": PreSharedKey,
    "re_init_proposal": ReInit,
    "external_init_proposal": ExternalInit,
    "group_context_extensions_proposal": GroupContextExtensions,
    "commit": Commit,
}


@pytest.mark.parametrize("case", cases("mls/messages.json"))
def test_messages(case: Case) -> None:
    for name, encoded in case.items():
        if name == "ratchet_tree":
            assert Tree.decode(raw(encoded)).encode().hex() == encoded
        else:
            kind = MESSAGES.get(name, MLSMessage)
            assert kind.decode(raw(encoded)).encode().hex() == encoded, name


@pytest.mark.parametrize("case", cases("mls/message-protection.json"))
def test_message_protection(case: Case) -> None:
    hashes = raw(case["tree_hash"]), raw(case["confirmed_transcript_hash"])
    context = GroupContext(1, 3, raw(case["group_id"]), case["epoch"], *hashes, ())
    key, signer = Identity.from_seed(raw(case["signature_priv"])), raw(case["signature_pub"])
    sender_data, membership = raw(case["sender_data_secret"]), raw(case["membership_key"])
    contents: dict[str, Content] = {
        "proposal": StandaloneProposal(PROPOSALS.read(Cursor.over(raw(case["proposal"])))),  # type: ignore[arg-type]
        "commit": Commit.decode(raw(case["commit"])),
        "application": ApplicationData(raw(case["application"])),
    }

    def secrets() -> SecretTree:
        return SecretTree.new(2, raw(case["encryption_secret"]))

    for name, content in contents.items():
        tag = bytes(32) if isinstance(content, Commit) else None
        framed = FramedContent(context.group_id, context.epoch, MemberSender(1), b"", content)
        theirs = open_envelope(raw(case[f"{name}_priv"]))
        own = AuthenticatedContent.sign(key, PRIVATE, framed, context, tag)
        ours, _ = protect_private(own, sender_data, secrets())
        for private in (theirs, ours):
            assert isinstance(private, PrivateMessage)
            opened, _ = unprotect_private(private, sender_data, secrets())
            opened.verify(signer, context)
            assert opened.content.content == content
        if name == "application":
            continue
        public = open_envelope(raw(case[f"{name}_pub"]))
        own = AuthenticatedContent.sign(key, PUBLIC, framed, context, tag)
        for message in (public, protect_public(own, membership, context)):
            assert isinstance(message, PublicMessage)
            message.verify_membership(membership, context)
            message.authenticated.verify(signer, context)
            assert message.content.content == content
        with pytest.raises(MLSError):
            protect_public(own, bytes(32), context).verify_membership(membership, context)
