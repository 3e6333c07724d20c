"""Leaves, parents and key packages: their fields and signatures (RFC 9420, sections 5.3, 7.1, 7.2, 10)."""

from functools import cached_property
from typing import Annotated, ClassVar

from attrs import evolve, frozen

from ironwire.crypto.signing import KeyPair
from ironwire.errors import MLSError
from ironwire.mls import suite
from ironwire.mls.codec import U16, U32, U64, Opaque, Optional, Select, Struct, need, opaque
from ironwire.mls.suite import CIPHER_SUITE, VERSION

BASIC = 1
"""The one credential type here (section 5.3)."""
RATCHET_TREE, REQUIRED_CAPABILITIES, LAST_RESORT = 2, 3, 0x000A
"""Extension types of section 17.3, and of draft-ietf-mls-extensions."""
DEFAULT_EXTENSIONS, DEFAULT_PROPOSALS = range(1, 6), range(1, 8)
"""Types that every member supports without listing them (section 7.2)."""


@frozen
class Extension(Struct):
    type: U16
    data: Opaque


def need_distinct_types(extensions: tuple[Extension, ...]) -> None:
    """Section 13: at most one extension of each type."""
    need(len({each.type for each in extensions}) == len(extensions), "two extensions of one type")


def extension(extensions: tuple[Extension, ...], kind: int) -> bytes | None:
    return next((each.data for each in extensions if each.type == kind), None)


@frozen
class RequiredCapabilities(Struct):
    """Section 11.1."""

    extensions: tuple[U16, ...]
    proposals: tuple[U16, ...]
    credentials: tuple[U16, ...]


@frozen
class BasicCredential(Struct):
    identity: Opaque


@frozen
class X509Credential(Struct):
    """Read only: no leaf with one passes `Leaf.check`."""

    certificates: tuple[Opaque, ...]


CREDENTIALS = Select(2, {BASIC: BasicCredential, 2: X509Credential})


@frozen
class Capabilities(Struct):
    versions: tuple[U16, ...]
    cipher_suites: tuple[U16, ...]
    extensions: tuple[U16, ...]
    proposals: tuple[U16, ...]
    credentials: tuple[U16, ...]

    def supports_extension(self, kind: int) -> bool:
        return kind in DEFAULT_EXTENSIONS or kind in self.extensions

    def supports_proposal(self, kind: int) -> bool:
        return kind in DEFAULT_PROPOSALS or kind in self.proposals


OUR_CAPABILITIES = Capabilities((VERSION,), (CIPHER_SUITE,), (), (), (BASIC,))


@frozen
class Lifetime(Struct):
    """The source of a leaf in a key package: Unix seconds."""

    not_before: U64
    not_after: U64


@frozen
class FromUpdate(Struct):
    """The source of a leaf in an Update proposal."""


@frozen
class FromCommit(Struct):
    """The source of a leaf in the path of a commit."""

    parent_hash: Opaque


@frozen
class TreeNode(Struct):
    """A node that trees share."""

    @cached_property
    def in_tree(self) -> bytes:
        """The element of a `ratchet_tree`, encoded once: every stored state holds all of them."""
        return NODE.write(self)


@frozen
class LeafNode(TreeNode):
    """A device's place in a group (section 7.2)."""

    LABEL: ClassVar[str] = "LeafNodeTBS"

    encryption_key: Opaque
    signature_key: Opaque
    credential: Annotated[BasicCredential | X509Credential, CREDENTIALS]
    capabilities: Capabilities
    source: Annotated[Lifetime | FromUpdate | FromCommit, Select(1, {1: Lifetime, 2: FromUpdate, 3: FromCommit})]
    extensions: tuple[Extension, ...]
    signature: Opaque

    @property
    def identity(self) -> bytes:
        """The bytes of the basic credential."""
        if not isinstance(self.credential, BasicCredential):
            raise MLSError("a credential that is not basic")
        return self.credential.identity

    @property
    def credential_type(self) -> int:
        return CREDENTIALS.tag(self.credential)

    def to_be_signed(self, group_id: bytes, leaf: int) -> bytes:
        """The leaf of a key package names no group yet."""
        fields = evolve(self, signature=b"").encode()[:-1]
        if isinstance(self.source, Lifetime):
            return fields
        return fields + opaque(group_id) + leaf.to_bytes(4, "big")

    def signed(self, key: KeyPair, group_id: bytes, leaf: int) -> "LeafNode":
        signature = suite.sign_with_label(key, self.LABEL, self.to_be_signed(group_id, leaf))
        return evolve(self, signature=signature)

    def check(self, group_id: bytes, leaf: int) -> None:
        """The checks of section 7.3 that need no group but its id.

        Raises:
            MLSError: the leaf is not valid.
        """
        need(self.credential_type == BASIC, "a credential that is not basic")
        suite.verify_with_label(self.signature_key, self.LABEL, self.to_be_signed(group_id, leaf), self.signature)
        suite.need_hpke_key(self.encryption_key)
        need_distinct_types(self.extensions)
        able = self.capabilities
        need(VERSION in able.versions and CIPHER_SUITE in able.cipher_suites, "a leaf without this version and suite")
        need(self.credential_type in able.credentials, "a leaf that does not list the type of its own credential")
        need(
            all(able.supports_extension(each.type) for each in self.extensions),
            "a leaf with an extension that it does not list",
        )


@frozen
class KeyPackage(Struct):
    """Published by a device, so that others can add it to groups (section 10)."""

    LABEL: ClassVar[str] = "KeyPackageTBS"

    version: U16
    cipher_suite: U16
    init_key: Opaque
    leaf: LeafNode
    extensions: tuple[Extension, ...]
    signature: Opaque

    @property
    def ref(self) -> bytes:
        """Section 5.2."""
        return suite.ref_hash("MLS 1.0 KeyPackage Reference", self.encode())

    @property
    def is_last_resort(self) -> bool:
        return extension(self.extensions, LAST_RESORT) is not None

    def check(self) -> None:
        """Section 10.1, except for the lifetime: there is no clock here, so the policy asks.

        Raises:
            MLSError: the key package is not valid.
        """
        need(self.version == VERSION and self.cipher_suite == CIPHER_SUITE, "a key package of another version or suite")
        need(isinstance(self.leaf.source, Lifetime), "the leaf of a key package comes from elsewhere")
        self.leaf.check(b"", 0)
        suite.verify_with_label(self.leaf.signature_key, self.LABEL, self.to_be_signed(), self.signature)
        need(self.init_key != self.leaf.encryption_key, "the init key is the encryption key")
        suite.need_hpke_key(self.init_key)
        need_distinct_types(self.extensions)

    def to_be_signed(self) -> bytes:
        return evolve(self, signature=b"").encode()[:-1]


@frozen
class ParentNode(TreeNode):
    """Section 7.1."""

    encryption_key: Opaque
    parent_hash: Opaque
    unmerged_leaves: tuple[U32, ...]


Node = LeafNode | ParentNode
NODE = Optional(Select(1, {1: LeafNode, 2: ParentNode}))


@frozen
class ParentHashInput(Struct):
    """Section 7.9."""

    encryption_key: Opaque
    parent_hash: Opaque
    original_sibling_tree_hash: Opaque
