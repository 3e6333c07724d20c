"""The stored state of a group, and the events that `MLSGroup.process` returns."""

import hashlib
from typing import Self

from attrs import frozen

from ironwire.mls.codec import U16, U32, U64, Cursor, Opaque, Struct, need
from ironwire.mls.epoch import Channel, Epoch
from ironwire.mls.messages import AnyProposal, Proposal
from ironwire.mls.policy import Change, Participant

MOST_PROPOSALS = 256
"""Standalone proposals that are remembered in one epoch."""
_VERSION = 1


@frozen
class Application:
    """An application message."""

    sender: Participant
    epoch: int
    authenticated_data: bytes
    data: bytes


@frozen
class ProposalReceived:
    """A proposal that a later commit may name."""

    sender: Participant
    authenticated_data: bytes
    proposal: Proposal


@frozen
class Committed:
    """Somebody else's commit began an epoch."""

    change: Change


@frozen
class OwnCommit:
    """One's own commit came back, and began an epoch."""

    change: Change


@frozen
class RemovedFromGroup:
    """A commit removed this device. The state is gone. Nothing but its committer's signature vouches for it."""

    change: Change


Event = Application | ProposalReceived | Committed | OwnCommit | RemovedFromGroup


@frozen
class RememberedProposal(Struct):
    ref: Opaque
    sender: U32
    proposal: AnyProposal


@frozen
class PendingCommit(Struct):
    """A commit that waits for its turn, and the Welcome for those whom it adds, empty if there is nobody."""

    commit: Opaque
    welcome: Opaque
    change: Change
    next_epoch: Epoch

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.commit).digest()


@frozen
class MemberState(Struct):
    """Everything of a group but the device's key. A new one replaces it with every change."""

    version: U16
    mark: U64
    epoch: Epoch | None
    """None since this device was removed."""
    past: Channel | None
    pending: PendingCommit | None
    proposals: tuple[RememberedProposal, ...]

    @classmethod
    def begin(cls, epoch: Epoch) -> Self:
        return cls(_VERSION, 0, epoch, None, None, ())

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        state = super().read(cursor)
        need(state.version == _VERSION, "a state of another version")
        return state
