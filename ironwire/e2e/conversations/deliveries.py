"""Welcomes and commits from the mailbox, in its order (docs/protocol.md, sections 10.2 and 10.3).

comes                       is
--------------------------  -----------------------------------------------------------------------------------
a welcome                   checked: the certificate of every leaf, each device in the log of its client, the
                            roster, and who may invite or restart; then the device is in the conversation
a commit, of an old place   ignored: it was processed before
a commit, the next          checked by MLS and by the membership rules, then applied; one's own as it was made
a commit, further on        the ones between are fetched first
anything that is not right  not believed: nothing changes here but that the device asks to be added again
"""

import hashlib

from attrs import define, field

from ironwire.e2e.bodies import GroupBody
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.e2e.conversations.effects import Steps
from ironwire.e2e.conversations.healing import Healing
from ironwire.e2e.conversations.membership import CommitFrame, DeviceMembership, Roster, leaf_of, slots_of
from ironwire.e2e.conversations.outgoing import OutgoingMessages
from ironwire.e2e.conversations.packages import DAY_MS
from ironwire.e2e.conversations.policy import added_leaf, joined_roster, need_restart_allowed
from ironwire.e2e.conversations.state import DeviceState
from ironwire.errors import InvalidId, MLSError
from ironwire.ids import ClientId, Role
from ironwire.mls import Change, Committed, Joined, MLSGroup, OwnCommit, RemovedFromGroup
from ironwire.mls.public import AddProposal, inspect_commit
from ironwire.protocol.conversations.declaration import decode_roster
from ironwire.protocol.conversations.names import Generation
from ironwire.protocol.conversations.slots import Leaf
from ironwire.wire.base64url import from_base64url
from ironwire.wire.messages.conversations import MlsCommitted, MlsWelcome

FETCH_ATTEMPTS = 3
FETCH_AGAIN_MS = 5_000
RENEW_MS = 7 * DAY_MS


@define(eq=False)
class Deliveries:
    """Processes the welcomes and commits of one device."""

    _state: DeviceState
    _outgoing: OutgoingMessages
    healing: Healing = field(init=False)

    # --- welcomes ----------------------------------------------------------------------------------------------------

    def welcome(self, welcome: MlsWelcome) -> Steps[None]:
        """Come into a conversation, or be refused to: then ask to be added by another welcome."""
        member = self._state.member(welcome.group)
        if (welcome.generation, welcome.epoch) <= member.place:
            return
        data = yield from self._bytes(welcome)
        try:
            yield from self._join(member, welcome, data)
        except MLSError as error:
            self._state.tell(ev.CommitRefused(member.id, welcome.sender, welcome.epoch, str(error)))
            if member.standing in ("absent", "wedged"):
                member.wedge(self._state.now)

    def _join(self, member: DeviceMembership, welcome: MlsWelcome, data: bytes) -> Steps[None]:
        """Raises:
        MLSError: the welcome is not to be believed. Nothing was changed.
        """
        state = self._state
        found = state.pool.find(data)
        if found is None:
            raise MLSError("a welcome for a key package that is not here")
        package, saved = found
        group, joined = MLSGroup.join(state.key, package, data, state.policy_of(member))
        if not Generation(member.id, welcome.generation).is_named_by(group.group_id) or group.epoch != welcome.epoch:
            raise MLSError("a welcome into another group than the server says")
        roster = joined_roster(member.id, joined, group.members())
        yield from state.logs.need(leaf for leaf in slots_of(group) if leaf is not None)
        if any(leaf and state.logs.standing_of(leaf) == "unknown" for leaf in slots_of(group)):
            raise MLSError("a welcome into a group with a device that is in nobody's log")
        self._check_inviter(member, welcome, joined, roster)
        is_new, was_encrypted = welcome.generation != member.facts.generation, member.facts.generation > 0
        state.pool.use(saved)
        member.enter(group, welcome.generation, roster, welcome.ts)
        update_at = self._first_update(saved.is_last_resort)
        member.note(peer=_peer_of(member, roster, state.own.client), update_at=update_at, was_used=True)
        if is_new:
            by = leaf_of(joined.inviter).client
            self._tell_secured(member, by, restarted=was_encrypted)

    def _check_inviter(self, member: DeviceMembership, welcome: MlsWelcome, joined: Joined, roster: Roster) -> None:
        inviter = leaf_of(joined.inviter)
        if self._state.logs.standing_of(inviter) != "current":
            raise MLSError("a welcome by a device that was revoked")
        if not member.facts.generation:
            return
        if welcome.generation > member.facts.generation:
            if welcome.epoch > 1 and inviter.client == self._state.own.client:
                return  # who restarted it, another device of this client has checked; it need not be an admin itself
            is_wedged = member.standing in ("wedged", "out")
            need_restart_allowed(inviter.client, roster, member.roster, is_wedged=is_wedged)
        elif inviter.client not in member.roster and not member.facts.is_out:
            raise MLSError("a welcome by somebody who was not in the conversation")

    def _first_update(self, was_last_resort: bool) -> int:
        """At once after a last resort, of which others may have a copy; else within a day."""
        return self._state.now + (0 if was_last_resort else self._state.around.below(DAY_MS))

    # --- commits -----------------------------------------------------------------------------------------------------

    def committed(self, commit: MlsCommitted) -> Steps[None]:
        """Take a commit as the mailbox brings it."""
        member = self._state.members.get(commit.group)
        if member is None:
            return
        if self._begins_own(member, commit):
            self._begin(member, commit)
            return
        generation, epoch = member.place
        is_following = member.standing in ("active", "pending") and commit.generation == generation
        if not is_following or commit.epoch <= epoch:
            return
        if commit.epoch > epoch + 1 and not (yield from self.healing.fill(member, commit.epoch - 1)):
            return
        yield from self.apply(member, commit)

    def _begins_own(self, member: DeviceMembership, commit: MlsCommitted) -> bool:
        """Whether it is the first commit of the generation that this device founds."""
        pending = None if member.founding is None else member.founding.pending
        return (
            pending is not None
            and (commit.generation, commit.epoch) == (member.facts.founding_generation, 1)
            and commit.sha256 == pending.sha256.hex()
        )

    def _begin(self, member: DeviceMembership, commit: MlsCommitted) -> None:
        group, frame = member.founding, member.facts.commit
        if group is None or group.pending is None or frame is None:
            return
        was_encrypted = member.facts.generation > 0
        group.process(group.pending.commit)
        roster = decode_roster(bytes.fromhex(frame.roster))
        member.enter(group, commit.generation, roster, commit.ts)
        own = self._state.own.client
        member.note(peer=_peer_of(member, roster, own), update_at=self._state.now + RENEW_MS)
        self._tell_secured(member, own, restarted=was_encrypted)
        if frame.name is not None:
            member.note(name=frame.name)
        self._tell_name(member)

    def _tell_secured(self, member: DeviceMembership, by: ClientId, *, restarted: bool) -> None:
        """Of the conversation of a client with itself nobody is told: no person began it."""
        if member.facts.peer != self._state.own.client:
            self._state.tell(ev.Secured(member.id, member.facts.generation, by, restarted=restarted))

    def apply(self, member: DeviceMembership, commit: MlsCommitted) -> Steps[bool]:
        """Process the next commit of the conversation. False: it is refused, and so the device has fallen out."""
        data = yield from self._bytes(commit)
        if not data:
            member.wedge(self._state.now)
            return False
        try:
            if hashlib.sha256(data).hexdigest() != commit.sha256:
                raise MLSError("a commit with other bytes than its hash says")
            yield from self._state.logs.need(self._added_by(data))
            if commit.epoch != member.place[1] + 1 or member.group is None:
                return True  # meanwhile it came on another way
            roster, frame = member.roster, member.facts.commit
            event = member.group.process(data)
        except MLSError as error:
            yield from self.healing.refuse(member, commit, str(error))
            return False
        match event:
            case OwnCommit(change) if frame is not None:
                self._advance(member, change, decode_roster(bytes.fromhex(frame.roster)), commit.ts)
                self._after_own(member, change, frame)
            case Committed(change):
                self._advance(member, change, self._checked_roster(member), commit.ts)
            case RemovedFromGroup(change):
                left = self._checked_roster(member)
                if self._is_to_stay(left):
                    member.have_roster(left, commit.ts)
                    self.healing.wedge(member)
                else:
                    member.leave()
                self._tell_change(member, change, roster, left)
            case _:
                raise MLSError("a commit that is none")
        return True

    def _is_to_stay(self, roster: Roster) -> bool:
        """Whether this device belongs into the conversation although it was removed: the server let it be dropped, as
        one that had not been seen for a month, and it is here again. It asks to be added.
        """
        own = self._state.own
        return own.client in roster and self._state.logs.standing_of(own) == "current"

    def _advance(self, member: DeviceMembership, change: Change, roster: Roster, ts: int) -> None:
        before = member.roster
        member.note(commit=None)
        member.have_roster(roster, ts)
        self._tell_change(member, change, before, roster)

    def _checked_roster(self, member: DeviceMembership) -> Roster:
        checked = self._state.policy_of(member).checked
        return member.roster if checked is None else checked.roster

    def _after_own(self, member: DeviceMembership, change: Change, frame: CommitFrame) -> None:
        """An own commit holds: keys that are new, and a name that joiners and members do not know."""
        if change.has_path:
            member.note(update_at=self._state.now + RENEW_MS, was_used=False)
        if frame.name is not None:
            member.note(name=frame.name)
            self._state.tell(ev.GroupRenamed(member.id, self._state.own.client, frame.name))
        if frame.name is not None or change.added:
            self._tell_name(member)

    def _tell_name(self, member: DeviceMembership) -> None:
        if member.is_group and member.facts.name is not None:
            self._outgoing.say(member, GroupBody(member.facts.name))

    def _tell_change(self, member: DeviceMembership, change: Change, before: Roster, after: Roster) -> None:
        by = leaf_of(change.committer).client
        added = tuple(client for client in after if client not in before)
        removed = tuple(client for client in before if client not in after)
        roles: tuple[tuple[ClientId, Role], ...] = tuple(
            (client, role) for client, role in after.items() if before.get(client) != role
        )
        if added or removed or roles:
            self._state.tell(ev.MembersChanged(member.id, by, added, removed, roles))
        came = tuple(_named(leaf_of(each)) for each in change.added if leaf_of(each).client in before)
        went = tuple(_named(leaf_of(each)) for each in change.removed if leaf_of(each).client in after)
        if came != went:
            self._state.tell(ev.DevicesChanged(member.id, came, went))

    # --- parts -------------------------------------------------------------------------------------------------------

    def _added_by(self, data: bytes) -> list[Leaf]:
        """The devices that a commit adds.

        Raises:
            MLSError: it is no commit, or adds what is nobody's device, or by a key package that is over.
        """
        adds = [each for each in inspect_commit(data).proposals if isinstance(each, AddProposal)]
        return [added_leaf(each.package, self._state.now) for each in adds]

    def _bytes(self, message: MlsWelcome | MlsCommitted) -> Steps[bytes]:
        """What it carries or refers to; nothing, where that cannot be had."""
        if message.data is not None:
            try:
                return from_base64url(message.data)
            except InvalidId:
                return b""
        for _ in range(FETCH_ATTEMPTS if message.ref is not None else 0):
            data: bytes | None = yield fx.Inquiry(fx.FetchBlob(message.ref))  # type: ignore[arg-type]  # not None
            if data is not None:
                return data
            yield fx.Pause(FETCH_AGAIN_MS)
        return b""


def _peer_of(member: DeviceMembership, roster: Roster, own: ClientId) -> ClientId | None:
    """The other client of a pair, or one's own with itself; None of a group."""
    return None if member.is_group else next((client for client in roster if client != own), own)


def _named(leaf: Leaf) -> tuple[ClientId, bytes]:
    return leaf.client, leaf.device
