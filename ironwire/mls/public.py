"""Parsing and checks without any key: the half of this package that the server uses.

A server orders commits and hands out key packages and welcomes. It has no tree, so it verifies no signature but those
of key packages; members verify the rest.
"""

from attrs import frozen

from ironwire.errors import MLSError
from ironwire.mls import messages as msg
from ironwire.mls.codec import need
from ironwire.mls.framing import PublicMessage, envelope, open_envelope
from ironwire.mls.messages import AddProposal, RemoveProposal
from ironwire.mls.nodes import OUR_CAPABILITIES, KeyPackage, Lifetime
from ironwire.mls.secret_tree import APPLICATION
from ironwire.mls.suite import CIPHER_SUITE

__all__ = [
    "OUR_CAPABILITIES",
    "AddProposal",
    "KeyPackage",
    "Lifetime",
    "PublicCommit",
    "RemoveProposal",
    "cut_welcome",
    "inspect_application",
    "inspect_commit",
    "open_key_package",
    "sew_welcome",
]


@frozen
class PublicCommit:
    """A commit in the clear."""

    group_id: bytes
    epoch: int
    """The epoch that it ends."""
    sender: int
    """The committer's leaf."""
    authenticated_data: bytes
    proposals: tuple[msg.Proposal, ...]
    has_path: bool


def inspect_commit(data: bytes) -> PublicCommit:
    """Read a commit of a member that names its proposals by value.

    Raises:
        MLSError: `data` is anything else.
    """
    message = open_envelope(data)
    if not isinstance(message, PublicMessage) or not isinstance(message.content.content, msg.Commit):
        raise MLSError("not a public commit")
    content, commit = message.content, message.content.content
    proposals = tuple(each.proposal for each in commit.proposals if isinstance(each, msg.ByValue))
    need(len(proposals) == len(commit.proposals), "a commit that refers to proposals outside of it")
    parts = (content.group_id, content.epoch, content.member, content.authenticated_data, proposals)
    return PublicCommit(*parts, commit.path is not None)


def inspect_application(data: bytes) -> tuple[bytes, int]:
    """The group id and the epoch of an encrypted application message.

    Raises:
        MLSError: `data` is anything else.
    """
    message = open_envelope(data)
    if not isinstance(message, msg.PrivateMessage) or message.content_type != APPLICATION:
        raise MLSError("not an application message")
    return message.group_id, message.epoch


def open_key_package(data: bytes) -> KeyPackage:
    """A published key package, both of whose signatures are right.

    Raises:
        MLSError: it is not one, or is not valid (section 10.1).
    """
    package = open_envelope(data)
    if not isinstance(package, KeyPackage):
        raise MLSError("not a key package")
    package.check()
    return package


def cut_welcome(data: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """The secrets of a Welcome, by the reference of the key package that each is for, and the rest, which all share.

    Raises:
        MLSError: `data` is not a Welcome of this suite, or has two secrets for one key package.
    """
    welcome = open_envelope(data)
    if not isinstance(welcome, msg.Welcome):
        raise MLSError("not a welcome")
    need(welcome.cipher_suite == CIPHER_SUITE, "a welcome of another cipher suite")
    secrets = {each.new_member: each.encode() for each in welcome.secrets}
    need(len(secrets) == len(welcome.secrets), "a welcome with two secrets for one key package")
    return secrets, welcome.encrypted_group_info


def sew_welcome(secret: bytes, shared: bytes) -> bytes:
    """A Welcome for one device alone, from what `cut_welcome` gave."""
    return envelope(msg.Welcome(CIPHER_SUITE, (msg.EncryptedGroupSecrets.decode(secret),), shared))
