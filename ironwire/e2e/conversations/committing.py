"""Commits of this device: key packages are claimed, the commit is made, kept, and sent.

wish ──draft──> claim ──> check logs and packages ──> MLS commit, kept as pending ──> mls_create, mls_commit
                                                                                        │ accepted: the mailbox
                                                                                        │   brings it back, and
                                                                                        │   only then it holds
                                                                                        │ conflict: dropped; the
                                                                                        │   wish is drafted anew
                                                                                        └ no answer: sent again,
                                                                                            the same bytes
"""

from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

from attrs import define, evolve, field, frozen

from ironwire.crypto.signing import KeyPair, is_public_key
from ironwire.e2e.content import KnownHead
from ironwire.e2e.conversations.effects import Inquiry, Pause, Steps, StoreBlob, ask
from ironwire.e2e.conversations.logs import KnownLogs
from ironwire.e2e.conversations.membership import CommitFrame, DeviceMembership, Roster
from ironwire.e2e.conversations.packages import KeyPackagePool
from ironwire.e2e.conversations.policy import MemberPolicy, need_valid, roster_extension
from ironwire.e2e.conversations.wishes import BeginGeneration, Draft, Rename, RenewKeys, Wish, draft
from ironwire.errors import InvalidDeclaration, InvalidId, MLSError
from ironwire.ids import ClientId, MessageId
from ironwire.limits import CLAIMED_AT_ONCE, MLS_INLINE_BYTES
from ironwire.mls import MLSGroup, PendingCommit, open_key_package
from ironwire.protocol.conversations.names import RANDOM_BYTES, Generation
from ironwire.protocol.conversations.slots import Leaf
from ironwire.wire.base64url import from_base64url, to_base64url
from ironwire.wire.messages import Accepted, Error
from ironwire.wire.messages.conversations import BlobRef, MlsCommit, MlsCreate
from ironwire.wire.messages.fields import is_retryable
from ironwire.wire.messages.key_packages import MlsClaim, MlsClaimed, MlsDevice, MlsPackage

T = TypeVar("T")

RETRY_MS = 5_000
"""After an error that says "later" without a time."""

NO_DEVICE = "this client has no device that reads encrypted messages"
NO_PACKAGES = "no device of this client has published keys yet; that happens when one is connected"
NO_KEY = "nobody can have this id: it is no key"

Fate = Literal["made", "again", "not needed"] | Error
"""What became of a wish. `again`: another commit was first."""


@frozen
class _Claimed:
    leaf: Leaf
    package: bytes


@define(eq=False)
class CommitAuthor:
    """Makes the commits of one device."""

    _key: KeyPair = field(repr=False)
    _own: Leaf
    _logs: KnownLogs
    _pool: KeyPackagePool
    _policy_of: Callable[[DeviceMembership], MemberPolicy]
    _now_ms: Callable[[], int]
    _new_id: Callable[[], MessageId]
    _random: Callable[[int], bytes]

    def carry_out(self, member: DeviceMembership, wish: Wish) -> Steps[Fate]:
        """Make a commit for the wish, and send it."""
        drafted = draft(wish, member, self._own)
        if drafted is None:
            return "not needed"
        place = member.place, member.standing
        claimed = yield from self._claim(member, drafted)
        if isinstance(claimed, Error):
            return claimed
        if (member.place, member.standing) != place:
            return "again"
        if drafted.devices and not claimed and (drafted.op == "readd" or not drafted.removed):
            return "not needed"  # they have published nothing that is good
        try:
            roster = self._prepare(member, drafted, claimed, is_first=isinstance(wish, BeginGeneration))
        except (MLSError, InvalidDeclaration) as error:
            return Error("forbidden", str(error))
        name = wish.name if isinstance(wish, BeginGeneration | Rename) else None
        frame = CommitFrame(self._new_id(), roster, name)
        member.note(commit=frame)
        return (yield from self.send(member, is_optional=isinstance(wish, RenewKeys)))

    def send(self, member: DeviceMembership, *, is_optional: bool = False) -> Steps[Fate]:
        """Send the commit that is under way, in this session for the first time. An optional one waits for nothing."""
        frame = member.facts.commit
        while frame is not None and (yield from self._upload(member)):
            reply = yield from ask(self._request(member), Accepted, frame.id)
            if isinstance(reply, Accepted):
                return "made"
            is_later = reply.msg in ("rate_limited", "internal") and not is_optional
            if is_later:
                yield Pause(reply.retry_after_ms or RETRY_MS)
            if not _is_under_way(member, frame):
                return "again"  # the mailbox was quicker than the answer
            if is_later:
                continue
            member.drop_commit()
            if reply.msg == "conflict":
                member.highest = max(member.highest, reply.generation or 0)
                member.awaited = max(member.awaited, (reply.generation or 0, reply.epoch or 0))
                return "again"
            return reply
        return "again"

    # --- making it ---------------------------------------------------------------------------------------------------

    def _prepare(self, member: DeviceMembership, drafted: Draft, claimed: list[_Claimed], *, is_first: bool) -> str:
        """Have the commit pending, and return the roster after it in hex.

        Raises:
            MLSError, InvalidDeclaration: it may not be.
        """
        added = {each.leaf.client for each in claimed}
        before: Roster = member.roster
        if is_first:
            before = {self._own.client: "admin"}
            drafted = evolve(drafted, op="members" if added - {self._own.client} else "devices" if added else "update")
        declared, after = drafted.declare(self._own.client, before, added)
        group = self._next_group(member) if is_first else member.group
        if group is None:
            raise MLSError("this device is not in the conversation")
        group.commit(
            add=[each.package for each in claimed],
            remove=drafted.removed,
            authenticated_data=declared.encode(),
            info_extensions=roster_extension(after),
        )
        if is_first:
            member.founding = group
        return roster_extension(after)[0].data.hex()

    def _next_group(self, member: DeviceMembership) -> MLSGroup:
        number = max(member.facts.generation, member.highest) + 1
        member.note(founding_generation=number)
        group_id = Generation(member.id, number).group_id(self._random(RANDOM_BYTES))
        return MLSGroup.create(self._key, group_id, self._pool.make_own(), self._policy_of(member))

    def _request(self, member: DeviceMembership) -> MlsCreate | MlsCommit:
        frame, pending = member.facts.commit, _pending_of(member)
        if frame is None or pending is None:
            raise MLSError("no commit is under way")
        commit = None if frame.commit_ref else to_base64url(pending.commit)
        welcome = to_base64url(pending.welcome) if pending.welcome and not frame.welcome_ref else None
        parts = (commit, frame.commit_ref, welcome, frame.welcome_ref)
        if member.founding is not None:
            return MlsCreate(member.id, member.facts.founding_generation, *parts)
        return MlsCommit(member.id, member.facts.generation, *parts)

    def _upload(self, member: DeviceMembership) -> Steps[bool]:
        """Upload what is too large for a frame, once. False: that cannot be done now."""
        pending = _pending_of(member)
        frame = member.facts.commit
        if pending is None or frame is None:
            return False
        for name, data in (("commit_ref", pending.commit), ("welcome_ref", pending.welcome)):
            if len(data) > MLS_INLINE_BYTES and getattr(frame, name) is None:
                ref: BlobRef | None = yield Inquiry(StoreBlob(data))
                if ref is None or not _is_under_way(member, frame):
                    return False
                frame = evolve(frame, commit_ref=ref) if name == "commit_ref" else evolve(frame, welcome_ref=ref)
                member.note(commit=frame)
        return True

    # --- claiming ----------------------------------------------------------------------------------------------------

    def _claim(self, member: DeviceMembership, drafted: Draft) -> Steps[list[_Claimed] | Error]:
        """Key packages of everybody who is to be added, each checked."""
        found: dict[Leaf, _Claimed] = {}
        logged: set[ClientId] = set()
        questions = [
            *(MlsClaim(member.id, clients=list(part)) for part in _parts(drafted.clients)),
            *(
                MlsClaim(member.id, devices=[MlsDevice(leaf.client, leaf.device.hex()) for leaf in part])
                for part in _parts(drafted.devices)
            ),
        ]
        for question in questions:
            reply = yield from ask(question, MlsClaimed)
            while isinstance(reply, Error) and is_retryable(reply.msg):
                yield Pause(reply.retry_after_ms or RETRY_MS)
                reply = yield from ask(question, MlsClaimed)
            if isinstance(reply, Error):
                return reply
            logged.update(each.client for each in reply.logs)
            yield from self._logs.hear(KnownHead(each.client, each.index, each.head) for each in reply.logs)
            for each in reply.packages:
                claimed = self._checked(each)
                if claimed is not None and _is_wanted(claimed.leaf, drafted):
                    found[claimed.leaf] = claimed
        found.pop(self._own, None)
        having = {leaf.client for leaf in found}
        missing = [client for client in drafted.clients if client not in having and client != self._own.client]
        if missing and not drafted.may_be_missing:
            return self._out_of_reach(missing, logged)
        return list(found.values())

    def _out_of_reach(self, missing: list[ClientId], logged: set[ClientId]) -> Error:
        """Why these clients cannot be added. Rule: `not_found` is for those who have no device log; it is the one
        reason to do without encryption.
        """
        for client in missing:
            if client not in logged and not self._logs.has(client):
                return Error("not_found", NO_DEVICE if is_public_key(client) else NO_KEY, user=client)
        return Error("user_offline", NO_PACKAGES, user=missing[0])

    def _checked(self, claimed: MlsPackage) -> _Claimed | None:
        """None: it is not valid, or of a device that is not in the log. Whose it is says its leaf, not the server."""
        try:
            data = from_base64url(claimed.package)
            leaf = need_valid(open_key_package(data), self._now_ms())
        except (InvalidId, MLSError):
            return None
        return _Claimed(leaf, data) if self._logs.standing_of(leaf) == "current" else None


def _pending_of(member: DeviceMembership) -> PendingCommit | None:
    group = member.founding or member.group
    return None if group is None or not group.is_active else group.pending


def _is_under_way(member: DeviceMembership, frame: CommitFrame) -> bool:
    """Whether this commit is still waited for."""
    return member.facts.commit is not None and member.facts.commit.id == frame.id


def _is_wanted(leaf: Leaf, drafted: Draft) -> bool:
    return leaf in drafted.devices or leaf.client in drafted.clients


def _parts(items: tuple[T, ...]) -> Iterable[tuple[T, ...]]:
    """As many at a time as one claim may name."""
    return (items[start : start + CLAIMED_AT_ONCE] for start in range(0, len(items), CLAIMED_AT_ONCE))
