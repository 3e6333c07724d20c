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

from attrs import define

from ironwire.e2e.conversations.effects import CommitRefused, Pause, Steps, ask
from ironwire.e2e.conversations.membership import Membership
from ironwire.e2e.conversations.state import DeviceState
from ironwire.e2e.conversations.wishes import Found, Wish
from ironwire.ids import ConversationId
from ironwire.wire.messages import Accepted, Error
from ironwire.wire.messages.conversations import (
    MlsCommitPage,
    MlsCommits,
    MlsCommitted,
    MlsGroup,
    MlsGroupPage,
    MlsGroups,
    MlsNack,
    MlsRejoin,
)
from ironwire.wire.messages.fields import ShortText

PAIR_MS = 5_000
"""In a pair the other one answers within seconds, or is not there."""
GROUP_MS = 24 * 3_600_000
ASK_AGAIN_MS = 9 * 3_600_000
"""The server takes three `mls_rejoin` a day."""
_REASON_CHARS = 255


@define(eq=False)
class Healing:
    """Heals the memberships of one device."""

    _state: DeviceState
    _apply: Callable[[Membership, MlsCommitted], Steps[bool]]
    """Process one commit, the next of the conversation."""
    _wish: Callable[[Membership, Wish], None]
    """Have a change made when its turn comes."""

    def fill(self, member: Membership, upto: int) -> Steps[bool]:
        """Process the commits that were missed, up to the one that began epoch `upto`, and no further: messages of that
        epoch may still be on their way. Whether it was reached.
        """
        while member.standing in ("active", "pending") and member.place[1] < upto:
            generation, epoch = member.place
            page = yield from ask(MlsCommits(member.id, generation, epoch + 1), MlsCommitPage)
            if isinstance(page, Error):
                return False
            for commit in page.commits:
                is_next = commit.epoch == member.place[1] + 1 and commit.epoch <= upto
                if is_next and (commit.generation != generation or not (yield from self._apply(member, commit))):
                    return False
            if member.place == (generation, epoch):
                return False
        return member.place[1] >= upto

    def refuse(self, member: Membership, commit: MlsCommitted, reason: str) -> Steps[None]:
        """A commit that the server has ordered is not valid: this device stays behind, and asks to be added again."""
        self._state.tell(CommitRefused(member.id, commit.sender, commit.epoch, reason))
        self.wedge(member)
        said: ShortText = reason[:_REASON_CHARS]
        yield from ask(MlsNack(member.id, commit.generation, commit.epoch, commit.sha256, said), Accepted)
        yield from self.rejoin([member])

    def wedge(self, member: Membership) -> None:
        member.wedge(self._state.now)

    def rejoin(self, members: list[Membership]) -> Steps[None]:
        """Ask to be added again, where that was not asked lately."""
        now = self._state.now
        due = [each for each in members if each.facts.asked_at is None or each.facts.asked_at + ASK_AGAIN_MS <= now]
        for each in due:
            each.note(asked_at=now)
        if due:
            yield from ask(MlsRejoin([each.id for each in due]), Accepted)

    # --- where things stand ------------------------------------------------------------------------------------------

    def reconcile(self) -> Steps[None]:
        """Compare every conversation with what the server has of it: after a gap, and with a new mailbox."""
        after: ConversationId | None = None
        lost: list[Membership] = []
        while True:
            page = yield from ask(MlsGroups(after), MlsGroupPage)
            if isinstance(page, Error):
                break
            for stands in page.groups:
                member = self._state.member(stands.group)
                if not (yield from self._compare(member, stands)):
                    lost.append(member)
            if not page.more or not page.groups:
                break
            after = page.groups[-1].group
        for start in range(0, len(lost), 100):
            yield from self.rejoin(lost[start : start + 100])

    def _compare(self, member: Membership, stands: MlsGroup) -> Steps[bool]:
        """Whether the device can read, or will by its own doing."""
        member.highest = max(member.highest, stands.generation)
        here, there = member.place, (stands.generation, stands.epoch)
        if member.standing in ("founding", "restarting"):
            return True
        if here > there and member.standing in ("active", "pending"):
            self.restart(member)
            return True
        if not stands.is_in:
            member.wedge(self._state.now)
            return False
        is_near = member.standing in ("active", "pending") and here[0] == there[0]
        if is_near and (yield from self.fill(member, there[1])):
            return True
        if member.standing != "wedged":
            member.wedge(self._state.now)
        return False

    # --- restarts ----------------------------------------------------------------------------------------------------

    def restart(self, member: Membership) -> None:
        """Begin the next generation, if this client may."""
        own = self._state.own.client
        if not member.is_group:
            peer = member.facts.peer
            self._wish(member, Found(() if peer is None else (peer,), {} if peer is None else {peer: "admin"}, True))
        elif member.roster.get(own) == "admin":
            others = tuple(client for client in sorted(member.roster) if client != own)
            self._wish(member, Found(others, {client: member.roster[client] for client in others}, True))

    def watch(self, member: Membership) -> Steps[None]:
        """Wait until somebody has added the device again; where nobody does, ask once more, and restart at last."""
        while member.standing == "wedged":
            since = member.facts.wedged_at or 0
            patience = GROUP_MS if member.is_group else PAIR_MS
            if since + patience <= self._state.now:
                self.restart(member)
                yield Pause(patience)
                continue
            yield from self.rejoin([member])
            yield Pause(min(max(since + patience - self._state.now, 1), ASK_AGAIN_MS))
