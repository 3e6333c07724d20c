"""Key packages and welcomes: how a device comes into a group (RFC 9420, sections 10 and 12.4.3.1)."""

from collections.abc import Mapping

from attrs import evolve, field, frozen

from ironwire.crypto.signing import KeyPair
from ironwire.errors import MLSError
from ironwire.mls import nodes as leaves
from ironwire.mls import paths, schedule, suite
from ironwire.mls.changes import Changes, find_psk, need_supported
from ironwire.mls.codec import Opaque, Struct, need
from ironwire.mls.epoch import Epoch
from ironwire.mls.framing import envelope, open_envelope
from ironwire.mls.messages import EncryptedGroupSecrets, GroupSecrets, MLSGroupInfo, PathSecret, Welcome
from ironwire.mls.paths import NewPath
from ironwire.mls.policy import Participant, Policy
from ironwire.mls.suite import CIPHER_SUITE, KEY_BYTES, VERSION
from ironwire.mls.tree import Tree
from ironwire.mls.tree_math import is_below

_LABEL = "GroupInfoTBS"


@frozen
class KeyPackagePrivate(Struct):
    """A key package with its private halves, which stay on the device until they are used."""

    package: leaves.KeyPackage
    init_private: Opaque = field(repr=False)
    leaf_private: Opaque = field(repr=False)

    @property
    def public(self) -> bytes:
        """The message to publish."""
        return envelope(self.package)

    @property
    def ref(self) -> bytes:
        return self.package.ref


def make_key_package(
    device_key: KeyPair, certificate: bytes, lifetime: leaves.Lifetime, *, last_resort: bool = False
) -> KeyPackagePrivate:
    """A fresh key package of the device whose credential is `certificate`."""
    init_private, init_key = suite.derive_key_pair(suite.random(KEY_BYTES))
    leaf_private, leaf_key = suite.derive_key_pair(suite.random(KEY_BYTES))
    credential = leaves.BasicCredential(certificate)
    leaf = leaves.LeafNode(leaf_key, device_key.public_key.raw, credential, leaves.OUR_CAPABILITIES, lifetime, (), b"")
    extensions = (leaves.Extension(leaves.LAST_RESORT, b""),) if last_resort else ()
    package = leaves.KeyPackage(VERSION, CIPHER_SUITE, init_key, leaf.signed(device_key, b"", 0), extensions, b"")
    signature = suite.sign_with_label(device_key, leaves.KeyPackage.LABEL, package.to_be_signed())
    return KeyPackagePrivate(evolve(package, signature=signature), init_private, leaf_private)


def make_welcome(
    epoch: Epoch,
    device_key: KeyPair,
    secrets: tuple[bytes, bytes],
    changes: Changes,
    path: NewPath | None,
    extensions: tuple[leaves.Extension, ...],
) -> bytes:
    """The Welcome for everybody whom a commit adds. `secrets` are the joiner's and the PSK's."""
    info_extensions = (leaves.Extension(leaves.RATCHET_TREE, epoch.tree.encode()), *extensions)
    info = MLSGroupInfo(epoch.context, info_extensions, epoch.confirmation_tag, epoch.leaf, b"")
    info = evolve(info, signature=suite.sign_with_label(device_key, _LABEL, info.to_be_signed()))
    encrypted = suite.seal(*schedule.welcome_key(*secrets), b"", info.encode())
    psks = tuple(psk for psk, _ in changes.psks)
    sealed = []
    for index, package in changes.packages.items():
        common = [place for place, _ in _common_path(epoch.tree, epoch.leaf, index)]
        path_secret = PathSecret(path.secrets[common[0]]) if path is not None else None
        group_secrets = GroupSecrets(secrets[0], path_secret, psks).encode()
        ciphertext = suite.encrypt_with_label(package.init_key, "Welcome", encrypted, group_secrets)
        sealed.append(EncryptedGroupSecrets(package.ref, ciphertext))
    return envelope(Welcome(CIPHER_SUITE, tuple(sealed), encrypted))


def _common_path(tree: Tree, committer: int, joiner: int) -> list[tuple[int, int]]:
    """The part of the committer's path that stands above the joiner too."""
    path = tree.filtered_direct_path(committer)
    start = next(number for number, (place, _) in enumerate(path) if is_below(2 * joiner, place))
    return path[start:]


@frozen
class Joined:
    """The signed contents of a Welcome besides the group itself."""

    inviter: Participant
    extensions: Mapping[int, bytes]
    """Of the GroupInfo, by type, except for the tree."""


def open_welcome(
    device_key: KeyPair, own: KeyPackagePrivate, data: bytes, policy: Policy, tree: bytes | None
) -> tuple[Epoch, Joined]:
    """The epoch that a Welcome leads into. `tree` is the ratchet tree where the Welcome does not carry it.

    Raises:
        MLSError: any step of section 12.4.3.1 fails.
    """
    welcome = open_envelope(data)
    if not isinstance(welcome, Welcome):
        raise MLSError("not a welcome")
    need(welcome.cipher_suite == CIPHER_SUITE, "a welcome of another cipher suite")
    secrets = _open_secrets(own, welcome)
    need(len(set(secrets.psks)) == len(secrets.psks), "a welcome with one pre-shared key twice")
    psk = schedule.psk_secret([(each, find_psk(each, policy)) for each in secrets.psks])
    key = schedule.welcome_key(secrets.joiner_secret, psk)
    info = MLSGroupInfo.decode(suite.unseal(*key, b"", welcome.encrypted_group_info))
    public = _check_info(info, tree)
    _check_tree(public, info, policy)
    leaf = next((index for index, leaf in public.leaves() if leaf == own.package.leaf), None)
    if leaf is None:
        raise MLSError("a welcome into a tree without this device")
    need(device_key.public_key.raw == own.package.leaf.signature_key, "a key package of another device")
    need(info.signer != leaf, "a welcome of one's own")
    private = {2 * leaf: own.leaf_private}
    if secrets.path_secret is not None:
        common = [place for place, _ in _common_path(public, info.signer, leaf)]
        private.update(paths.follow(public, common, secrets.path_secret.path_secret).private)
    secret = schedule.epoch_secret(secrets.joiner_secret, psk, info.context)
    epoch = Epoch.begin(info.context, public, secret, leaf, private)
    need(suite.same(epoch.confirmation_tag, info.confirmation_tag), "a welcome whose confirmation tag is wrong")
    told = {each.type: each.data for each in info.extensions if each.type != leaves.RATCHET_TREE}
    return epoch, Joined(Participant.at(info.signer, public.leaf(info.signer)), told)


def _open_secrets(own: KeyPackagePrivate, welcome: Welcome) -> GroupSecrets:
    sealed = next((each.group_secrets for each in welcome.secrets if each.new_member == own.ref), None)
    if sealed is None:
        raise MLSError("a welcome for other key packages")
    opened = suite.decrypt_with_label(own.init_private, "Welcome", welcome.encrypted_group_info, sealed)
    return GroupSecrets.decode(opened)


def _check_info(info: MLSGroupInfo, tree: bytes | None) -> Tree:
    """The tree of a GroupInfo that is signed by one of its members, for this version and suite."""
    need(info.context.version == VERSION, "a group of another version")
    need(info.context.cipher_suite == CIPHER_SUITE, "a group of another cipher suite")
    leaves.need_distinct_types(info.extensions)
    encoded = leaves.extension(info.extensions, leaves.RATCHET_TREE)
    encoded = tree if encoded is None else encoded
    if encoded is None:
        raise MLSError("a welcome without a tree")
    public = Tree.decode(encoded)
    suite.verify_with_label(public.leaf(info.signer).signature_key, _LABEL, info.to_be_signed(), info.signature)
    need(public.hash() == info.context.tree_hash, "a tree with another hash than its group")
    return public


def _check_tree(tree: Tree, info: MLSGroupInfo, policy: Policy) -> None:
    tree.check_structure()
    for index, leaf in tree.leaves():
        leaf.check(info.context.group_id, index)
        need_supported(info.context.extensions, leaf.capabilities)
        policy.leaf(leaf, None)
    for _, parent in tree.parents():
        suite.need_hpke_key(parent.encryption_key)
