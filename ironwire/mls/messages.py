"""Proposals, commits, welcomes, and the envelope of every message (RFC 9420, sections 6, 12 and 12.4.3)."""

from typing import Annotated

from attrs import evolve, frozen

from ironwire.mls import suite
from ironwire.mls.codec import U8, U16, U32, U64, Fixed, Opaque, Select, Struct
from ironwire.mls.nodes import Extension, KeyPackage, LeafNode
from ironwire.mls.suite import HPKECiphertext

RESUME_APPLICATION = 1
"""The usage of a resumption key in the group that it comes from (section 8.6)."""


@frozen
class ExternalPsk(Struct):
    psk_id: Opaque


@frozen
class ResumptionPsk(Struct):
    usage: U8
    psk_group_id: Opaque
    psk_epoch: U64


@frozen
class PreSharedKeyId(Struct):
    """Section 8.4."""

    psk: Annotated[ExternalPsk | ResumptionPsk, Select(1, {1: ExternalPsk, 2: ResumptionPsk})]
    nonce: Opaque


# --- proposals (section 12.1) ----------------------------------------------------------------------------------------


@frozen
class AddProposal(Struct):
    package: KeyPackage


@frozen
class UpdateProposal(Struct):
    leaf: LeafNode


@frozen
class RemoveProposal(Struct):
    removed: U32


@frozen
class PreSharedKey(Struct):
    psk: PreSharedKeyId


@frozen
class ReInit(Struct):
    group_id: Opaque
    version: U16
    cipher_suite: U16
    extensions: tuple[Extension, ...]


@frozen
class ExternalInit(Struct):
    kem_output: Opaque


@frozen
class GroupContextExtensions(Struct):
    extensions: tuple[Extension, ...]


PROPOSALS = Select(
    2,
    {
        1: AddProposal,
        2: UpdateProposal,
        3: RemoveProposal,
        4: PreSharedKey,
        5: ReInit,
        6: ExternalInit,
        7: GroupContextExtensions,
    },
)
Proposal = AddProposal | UpdateProposal | RemoveProposal | PreSharedKey | ReInit | ExternalInit | GroupContextExtensions
AnyProposal = Annotated[Proposal, PROPOSALS]


# --- commits (sections 7.6 and 12.4) ---------------------------------------------------------------------------------


@frozen
class UpdatePathNode(Struct):
    encryption_key: Opaque
    path_secrets: tuple[HPKECiphertext, ...]


@frozen
class UpdatePath(Struct):
    leaf: LeafNode
    nodes: tuple[UpdatePathNode, ...]


@frozen
class ByValue(Struct):
    proposal: AnyProposal


@frozen
class ByReference(Struct):
    ref: Opaque


@frozen
class Commit(Struct):
    proposals: tuple[Annotated[ByValue | ByReference, Select(1, {1: ByValue, 2: ByReference})], ...]
    path: UpdatePath | None


# --- content (section 6) ---------------------------------------------------------------------------------------------


@frozen
class MemberSender(Struct):
    """The sender is the member at this leaf."""

    leaf: U32


@frozen
class ExternalSender(Struct):
    index: U32


@frozen
class NewMemberProposal(Struct):
    """A stranger who proposes itself."""


@frozen
class NewMemberCommit(Struct):
    """A stranger who adds itself."""


Sender = MemberSender | ExternalSender | NewMemberProposal | NewMemberCommit
AnySender = Annotated[Sender, Select(1, {1: MemberSender, 2: ExternalSender, 3: NewMemberProposal, 4: NewMemberCommit})]


@frozen
class ApplicationData(Struct):
    data: Opaque


@frozen
class StandaloneProposal(Struct):
    proposal: AnyProposal


CONTENTS = Select(1, {1: ApplicationData, 2: StandaloneProposal, 3: Commit})
Content = ApplicationData | StandaloneProposal | Commit


@frozen
class GroupContext(Struct):
    """Section 8.1."""

    version: U16
    cipher_suite: U16
    group_id: Opaque
    epoch: U64
    tree_hash: Opaque
    confirmed_transcript_hash: Opaque
    extensions: tuple[Extension, ...]


# --- joining (sections 12.4.3 and 12.4.3.1) --------------------------------------------------------------------------


@frozen
class MLSGroupInfo(Struct):
    """GroupInfo of section 12.4.3."""

    context: GroupContext
    extensions: tuple[Extension, ...]
    confirmation_tag: Opaque
    signer: U32
    signature: Opaque

    def to_be_signed(self) -> bytes:
        return evolve(self, signature=b"").encode()[:-1]


@frozen(repr=False)
class PathSecret(Struct):
    path_secret: Opaque


@frozen(repr=False)
class GroupSecrets(Struct):
    joiner_secret: Opaque
    path_secret: PathSecret | None
    psks: tuple[PreSharedKeyId, ...]


@frozen
class EncryptedGroupSecrets(Struct):
    new_member: Opaque
    group_secrets: HPKECiphertext


@frozen
class Welcome(Struct):
    cipher_suite: U16
    secrets: tuple[EncryptedGroupSecrets, ...]
    encrypted_group_info: Opaque


# --- private messages (section 6.3) ----------------------------------------------------------------------------------


@frozen
class PrivateMessage(Struct):
    group_id: Opaque
    epoch: U64
    content_type: U8
    authenticated_data: Opaque
    encrypted_sender_data: Opaque
    ciphertext: Opaque


@frozen
class SenderData(Struct):
    leaf: U32
    generation: U32
    reuse_guard: Annotated[bytes, Fixed(4)]


def proposal_ref(authenticated_content: bytes) -> bytes:
    """Section 5.2."""
    return suite.ref_hash("MLS 1.0 Proposal Reference", authenticated_content)
