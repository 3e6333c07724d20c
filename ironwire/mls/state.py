"""The stored state of a group, and the events that `MLSGroup.process` returns."""

import hashlib
from typing import Self

from attrs import evolve, frozen

from ironwire.mls.codec import U16, U32, U64, Cursor, Opaque, Struct, need
from ironwire.mls.epoch import Channel, Epoch
from ironwire.mls.messages import AnyProposal, Proposal
from ironwire.mls.policy import Change, Participant
from ironwire.mls.secret_tree import SecretTree

MOST_PROPOSALS = 256
"""Standalone proposals that are remembered in one epoch."""
NO_KEYS = SecretTree(0, {}, {})
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
    """Everything of a group but the device's key. Stored, it has no message keys of the current epoch either."""

    version: U16
    mark: U64
    """Of the last change, unless that was of message keys of the current epoch alone."""
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

    def with_keys(self, keys: SecretTree) -> "MemberState":
        """With other message keys of the current epoch, if this device is in one."""
        epoch = self.epoch
        return self if epoch is None else evolve(self, epoch=evolve(epoch, channel=evolve(epoch.channel, keys=keys)))


@frozen(repr=False)
class MessageKeys(Struct):
    """The rest of a stored state: a few hundred bytes, and the part that every message changes."""

    version: U16
    state_mark: U64
    """Of the state to which they belong."""
    mark: U64
    keys: SecretTree

    @classmethod
    def of(cls, state: MemberState, mark: int) -> Self:
        keys = NO_KEYS if state.epoch is None else state.epoch.channel.keys
        return cls(_VERSION, state.mark, mark, keys)

    def belong_to(self, state: MemberState) -> None:
        """Raises:
        MLSError: these are not the keys of this stored state.
        """
        own = self.version, self.state_mark, self.mark >= state.mark
        need(own == (state.version, state.mark, True), "keys of another state")
        need((self.keys == NO_KEYS) == (state.epoch is None), "keys of no epoch")
