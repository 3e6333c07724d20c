"""The checks of a member that RFC 9420 leaves to the application: whose a device is, and what a commit may do.

A leaf is somebody's device if its credential is a certificate of that client for its signature key. Whether the client
still has the device is in its log, which is read before a commit or a welcome is processed: nothing waits in here.
"""

from collections.abc import Callable

from attrs import define, field

from ironwire.crypto.signing import public_key_from
from ironwire.e2e.conversations.logs import KnownLogs
from ironwire.e2e.conversations.membership import DeviceMembership, Roster, leaf_of
from ironwire.e2e.conversations.packages import KEPT_MS
from ironwire.errors import InvalidCertificate, InvalidDeclaration, InvalidPublicKey, MLSError
from ironwire.ids import ClientId, ConversationId, is_group
from ironwire.mls import Change, Extension, Joined, KeyPackage, LeafNode, Lifetime, Participant, Policy
from ironwire.protocol.conversations import membership as rules
from ironwire.protocol.conversations.declaration import decode_declaration, decode_roster, encode_roster
from ironwire.protocol.conversations.key_packages import EARLY_SECONDS
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.devices.certificate import decode_certificate
from ironwire.protocol.group import ChangeRefused

ROSTER_EXTENSION = 0xF1A0
"""Of the GroupInfo: the roster, for those who join."""


def roster_extension(roster: Roster) -> tuple[Extension, ...]:
    return (Extension(ROSTER_EXTENSION, encode_roster(roster)),)


def certified_leaf(leaf: LeafNode, now_ms: int) -> Leaf:
    """Whose device a leaf is.

    Raises:
        MLSError: nobody's.
    """
    try:
        certificate = decode_certificate(leaf.identity)
        certificate.verify(public_key_from(leaf.signature_key), now_ms)
    except (InvalidCertificate, InvalidPublicKey) as error:
        raise MLSError(str(error)) from None
    return Leaf(certificate.client.client_id, leaf.signature_key)


def need_valid(package: KeyPackage, now_ms: int) -> Leaf:
    """Whose a claimed key package is.

    Raises:
        MLSError: nobody's, or it is not valid at this time.
    """
    source, now = package.leaf.source, now_ms // 1000
    if not isinstance(source, Lifetime) or not source.not_before - EARLY_SECONDS <= now < source.not_after:
        raise MLSError("a key package that is not valid at this time")
    return certified_leaf(package.leaf, now_ms)


def added_leaf(package: KeyPackage, now_ms: int) -> Leaf:
    """Whose the key package of an Add is. It may have ended since it was claimed: a commit waits in mailboxes.

    Raises:
        MLSError: nobody's, or it ended so long ago that no private half of it is left.
    """
    source = package.leaf.source
    if not isinstance(source, Lifetime) or source.not_after * 1000 + KEPT_MS <= now_ms:
        raise MLSError("an Add by a key package that was over long ago")
    return certified_leaf(package.leaf, now_ms)


@define(eq=False)
class MemberPolicy(Policy):
    """The policy of the groups of one conversation. `checked` is the outcome of the last commit that it let through."""

    _membership: DeviceMembership
    _logs: KnownLogs
    _now_ms: Callable[[], int]
    checked: rules.Checked | None = field(default=None, init=False)

    def leaf(self, leaf: LeafNode, replaces: LeafNode | None) -> None:
        super().leaf(leaf, replaces)
        certified_leaf(leaf, self._now_ms())

    def change(self, change: Change) -> None:
        if change.updated or change.extensions is not None:
            raise MLSError("a commit that changes more than members, devices and keys")
        try:
            declared = decode_declaration(change.authenticated_data)
        except InvalidDeclaration as error:
            raise MLSError(str(error)) from None
        added = [leaf_of(each) for each in change.added]
        proposals: list[rules.Proposed] = [rules.RemovedLeaf(each.leaf) for each in change.removed]
        proposals += map(rules.AddedLeaf, added)
        logs = rules.Logs(self._logs.devices({leaf.client for leaf in added}))
        member, committer, path = self._membership, change.committer, change.has_path
        if change.epoch == 1:
            last = member.roster if member.facts.generation else None
            creator = leaf_of(committer)
            outcome = rules.check_first(declared, proposals, creator, member.id, logs, last, has_path=path)
        else:
            before = rules.ConversationState(member.id, member.slots, member.roster)
            outcome = rules.check(declared, proposals, committer.leaf, before, logs, has_path=path)
        if isinstance(outcome, ChangeRefused):
            raise MLSError(outcome.detail)
        self.checked = outcome


# --- joining ---------------------------------------------------------------------------------------------------------


def joined_roster(conversation: ConversationId, joined: Joined, members: tuple[Participant, ...]) -> Roster:
    """The roster that a welcome brings.

    Raises:
        MLSError: there is none, or it does not fit to the leaves or to the conversation.
    """
    try:
        roster = decode_roster(joined.extensions.get(ROSTER_EXTENSION, b""))
    except InvalidDeclaration as error:
        raise MLSError(str(error)) from None
    clients = {leaf_of(member).client for member in members}
    if not clients <= roster.keys():
        raise MLSError("a welcome into a group with a device of nobody in its roster")
    if "admin" not in roster.values():
        raise MLSError("a welcome into a conversation without an admin")
    if not is_group(conversation):
        both = sorted(roster)
        if len(both) > 2 or pair_id(both[0], both[-1]) != conversation or set(roster.values()) != {"admin"}:
            raise MLSError("a welcome into a pair of other clients")
    return roster


def need_restart_allowed(by: ClientId, roster: Roster, last: Roster, *, is_wedged: bool) -> None:
    """Whether a welcome into the next generation is believed. A device that cannot read any more does not know the last
    roster: then it is enough that an admin restarts the conversation.

    Raises:
        MLSError: it is not.
    """
    if last.get(by) != "admin":
        raise MLSError("a restart by somebody who was no admin")
    if not is_wedged and not roster.keys() <= last.keys():
        raise MLSError("a restart that brings in a client that was not in the conversation")
