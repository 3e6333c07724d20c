"""Messaging Layer Security (RFC 9420), cipher suite 3 alone, without I/O and without a clock.

Everything that is refused raises `ironwire.errors.MLSError`, and changes nothing. Not here: external commits and
proposals, ReInit, resumption keys, X.509; a message that needs one of them is refused.
"""

from ironwire.errors import MLSError
from ironwire.mls.group import MLSGroup
from ironwire.mls.joining import Joined, KeyPackagePrivate, make_key_package
from ironwire.mls.nodes import Extension, KeyPackage, LeafNode, Lifetime
from ironwire.mls.policy import Change, Participant, Policy
from ironwire.mls.public import open_key_package
from ironwire.mls.state import (
    Application,
    Committed,
    Event,
    OwnCommit,
    PendingCommit,
    ProposalReceived,
    RemovedFromGroup,
)

__all__ = [
    "Application",
    "Change",
    "Committed",
    "Event",
    "Extension",
    "Joined",
    "KeyPackage",
    "KeyPackagePrivate",
    "LeafNode",
    "Lifetime",
    "MLSError",
    "MLSGroup",
    "OwnCommit",
    "Participant",
    "PendingCommit",
    "Policy",
    "ProposalReceived",
    "RemovedFromGroup",
    "make_key_package",
    "open_key_package",
]
