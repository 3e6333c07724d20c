"""What a device does when it cannot read any more, without its person.

what happened                                how it shows                         what heals it
-------------------------------------------  -----------------------------------  ----------------------------------
commits were missed                          an epoch ahead; a gap that names     `mls_commits`
                                             the conversation
they are not kept any more, the welcome      no answer; `mls_groups` has what     `mls_rejoin`: another member adds
was lost, the mailbox is a new one           is not here                          the device again
a commit does not verify                     MLS, or the membership check         `mls_nack`, then the same
the server is behind its members             `mls_groups` names an older epoch    a restart: the next generation
nobody adds the device again                 a day in a group, seconds in a pair  a restart, by an admin
"""

from collections.abc import Callable
from functools import partial

from attrs import define

from ironwire.e2e.conversations.effects import Pause, Steps, ask
from ironwire.e2e.conversations.events import CommitRefused, MembersChanged
from ironwire.e2e.conversations.membership import DeviceMembership, Roster
from ironwire.e2e.conversations.state import DeviceState
from ironwire.e2e.conversations.wishes import BeginGeneration, ChangeMembers, GiveRoles, Wish
from ironwire.ids import ClientId, ConversationId
from ironwire.limits import REJOINED_AT_ONCE
from ironwire.wire.messages import Accepted, Error
from ironwire.wire.messages import conversations as wire
from ironwire.wire.messages.fields import ShortText, is_retryable

PAIR_MS = 5_000
"""In a pair the other one answers within seconds, or is not there."""
GROUP_MS = 24 * 3_600_000
LATER_MS = 5_000
ASK_AGAIN_MS = 9 * 3_600_000
"""The server takes three `mls_rejoin` a day."""
_REASON_CHARS = 255


@define(eq=False)
class Healing:
    """Heals the memberships of one device."""

    _state: DeviceState
    _apply: Callable[[DeviceMembership, wire.MlsCommitted], Steps[bool]]
    """Process one commit, the next of the conversation."""
    _take: Callable[[wire.MlsCommitted], Steps[None]]
    """Take a commit as if the mailbox had brought it."""
    _wish: Callable[[DeviceMembership, Wish, Callable[[Error | None], None] | None], None]
    """Have a change made when its turn comes, and hear of it."""

    def fill(self, member: DeviceMembership, upto: int) -> Steps[bool]:
        """Process the commits that were missed, up to the one that began epoch `upto`, and no further: messages of that
        epoch may still be on their way. Where they cannot be had, the device has fallen out of the conversation.
        """
        while member.standing in ("active", "pending") and member.place[1] < upto:
            generation, epoch = member.place
            page = yield from ask(wire.MlsCommits(member.id, generation, epoch + 1), wire.MlsCommitPage)
            if isinstance(page, Error) and page.msg in ("rate_limited", "internal"):
                yield Pause(page.retry_after_ms or LATER_MS)
                continue
            for commit in [] if isinstance(page, Error) else page.commits:
                is_next = commit.epoch == member.place[1] + 1 and commit.epoch <= upto
                if is_next and (commit.generation != generation or not (yield from self._apply(member, commit))):
                    break
            if member.place == (generation, epoch):
                member.wedge(self._state.now)
        return member.standing != "wedged" and member.place[1] >= upto

    def refuse(self, member: DeviceMembership, commit: wire.MlsCommitted, reason: str) -> Steps[None]:
        """A commit that the server has ordered is not valid: this device stays behind, and asks to be added again."""
        self._state.tell(CommitRefused(member.id, commit.sender, commit.epoch, reason))
        self.wedge(member)
        said: ShortText = reason[:_REASON_CHARS]
        yield from ask(wire.MlsNack(member.id, commit.generation, commit.epoch, commit.sha256, said), Accepted)
        yield from self.rejoin([member])

    def wedge(self, member: DeviceMembership) -> None:
        member.wedge(self._state.now)

    def rejoin(self, members: list[DeviceMembership]) -> Steps[None]:
        """Ask to be added again, where that was not asked lately. The server takes all of it or nothing: what it
        refuses is asked for each conversation alone, and where that is refused too, at the time that the server names.
        """
        now = self._state.now
        due = [each for each in members if _may_ask_at(each) <= now]
        for each in due:
            each.note(asked_at=now)
        reply = (yield from ask(wire.MlsRejoin([each.id for each in due]), Accepted)) if due else None
        if not isinstance(reply, Error) or not is_retryable(reply.msg):
            return
        if len(due) == 1:
            due[0].note(asked_at=self._state.now + (reply.retry_after_ms or LATER_MS) - ASK_AGAIN_MS)
            return
        for each in due:
            each.note(asked_at=None)
            yield from self.rejoin([each])

    # --- where things stand ------------------------------------------------------------------------------------------

    def reconcile(self) -> Steps[bool]:
        """Compare every conversation with what the server has of it: after a gap, and with a new mailbox. False: the
        server does not say now.
        """
        after: ConversationId | None = None
        lost: list[DeviceMembership] = []
        unnamed = {each.id: each for each in self._state.members.values() if each.standing in ("active", "wedged")}
        while True:
            page = yield from ask(wire.MlsGroups(after), wire.MlsGroupPage)
            if isinstance(page, Error):
                return False
            here = {stands.group: self._state.member(stands.group).place for stands in page.groups}  # as of the page
            for stands in page.groups:
                member = self._state.member(stands.group)
                unnamed.pop(stands.group, None)
                if not (yield from self._compare(member, here[stands.group], stands)):
                    lost.append(member)
            if not page.more or not page.groups:
                break
            after = page.groups[-1].group
        for member in unnamed.values():
            if member.standing in ("active", "wedged"):
                self._bring_back(member)
        for start in range(0, len(lost), REJOINED_AT_ONCE):
            yield from self.rejoin(lost[start : start + REJOINED_AT_ONCE])
        return True

    def _compare(self, member: DeviceMembership, here: tuple[int, int], stands: wire.MlsGroup) -> Steps[bool]:
        """Whether the device can read, or will by its own doing. It was `here` when the server said how it stands."""
        member.highest = max(member.highest, stands.generation)
        there = (stands.generation, stands.epoch)
        if member.standing in ("founding", "restarting"):
            if stands.generation == member.facts.founding_generation:
                page = yield from ask(wire.MlsCommits(member.id, stands.generation, 1), wire.MlsCommitPage)
                if isinstance(page, wire.MlsCommitPage):
                    yield from self._take(page.commits[0])  # perhaps it is the own one, whose delivery was lost
            return True
        if here > there and member.standing in ("active", "pending"):
            return self._is_ahead(member)
        if not stands.is_in:
            member.wedge(self._state.now)
            return False
        is_near = member.standing in ("active", "pending") and here[0] == there[0]
        if is_near and (yield from self.fill(member, there[1])):
            return True
        if member.standing != "wedged":
            member.wedge(self._state.now)
        return False

    def _is_ahead(self, member: DeviceMembership) -> bool:
        """The server was set back: the conversation is begun anew by who may. Anybody else is added again, where it
        goes on without the epochs that only this device remembers.
        """
        if member.is_group and member.roster.get(self._state.own.client) != "admin":
            member.wedge(self._state.now)
            return False
        self.restart(member)
        return True

    def _bring_back(self, member: DeviceMembership) -> None:
        """The server does not name it: it was set back, and the conversation is to be begun anew by who may; or this
        client was removed, which members take from the server.
        """
        own = self._state.own.client
        if member.is_group and (member.standing == "wedged" or member.roster.get(own) != "admin"):
            self._leave(member)
        else:
            self.restart(member)

    def _leave(self, member: DeviceMembership) -> None:
        own = self._state.own.client
        member.leave()
        self._state.tell(MembersChanged(member.id, own, removed=(own,)))

    # --- restarts ----------------------------------------------------------------------------------------------------

    def restart(self, member: DeviceMembership, unknown: tuple[ClientId, ...] = ()) -> None:
        """Begin the next generation, if this client may; without those whom the server does not know in it, because it
        was set back to before they came: they are added to it after that.
        """
        own, peer = self._state.own.client, member.facts.peer
        if not member.is_group and peer is not None:
            self._wish(member, BeginGeneration((peer,), {peer: "admin"}), None)
        elif member.roster.get(own) == "admin":
            others = tuple(client for client in sorted(member.roster) if client not in (own, *unknown))
            roles = {client: member.roster[client] for client in others}
            wish = BeginGeneration(others, roles, may_be_missing=True, name=member.facts.name)
            then = {client: member.roster[client] for client in unknown}
            self._wish(member, wish, partial(self._restarted, member, then))

    def _restarted(self, member: DeviceMembership, unknown: Roster, refused: Error | None) -> None:
        """The server has taken it; or it does not know somebody; or there is no such group for this client any more."""
        if refused is None and unknown:
            self._wish(member, ChangeMembers(tuple(unknown)), None)
            self._wish(member, GiveRoles(unknown), None)
        elif refused is not None and refused.msg == "forbidden" and refused.user in member.roster.keys() - {*unknown}:
            self.restart(member, (*unknown, ClientId(refused.user)))
        elif refused is not None and refused.msg == "not_found" and member.standing != "out":
            self._leave(member)

    def watch(self, member: DeviceMembership) -> Steps[None]:
        """Wait until somebody has added the device again; where nobody does, ask once more, and restart at last."""
        patience = pause = GROUP_MS if member.is_group else PAIR_MS
        while member.standing == "wedged":
            since = member.facts.wedged_at or 0
            if since + patience <= self._state.now:
                self.restart(member)
                yield Pause(pause)
                pause = min(2 * pause, GROUP_MS)
                continue
            yield from self.rejoin([member])
            yield Pause(max(min(since + patience, _may_ask_at(member)) - self._state.now, 1))


def _may_ask_at(member: DeviceMembership) -> int:
    """When a device asks next to be added again."""
    return 0 if member.facts.asked_at is None else member.facts.asked_at + ASK_AGAIN_MS
