"""The changes that are wanted of each conversation, one after the other.

    wanted ──turn──> drafted, committed, sent ──made, or not needed──> done
                          └─ another commit was first: the mailbox brings it, then the wish is drafted anew

Rule: one commit of a conversation is under way at a time, and the next turn comes when the mailbox has brought it back.
Wishes of a person outlive sessions; the server asks for its own again.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

from attrs import define, field

from ironwire.e2e.conversations.committing import CommitAuthor, Fate
from ironwire.e2e.conversations.effects import Pause, Steps
from ironwire.e2e.conversations.jobs import Jobs
from ironwire.e2e.conversations.membership import Membership
from ironwire.e2e.conversations.state import DeviceState
from ironwire.e2e.conversations.wishes import Found, RenewKeys, Wish
from ironwire.ids import ConversationId
from ironwire.wire.messages import Error

FIRST_PAUSE_MS = 50
MOST_PAUSE_MS = 5_000
WELCOME_MS = 5_000
"""Who lost the race for a generation waits so long for a welcome of the winner."""
NOT_IN = Error("not_found", "this device is not in the conversation")


@define(eq=False)
class WantedChange:
    """`seen` is the generation when it was wanted: a wish to begin the next one is fulfilled by anybody's."""

    wish: Wish
    seen: int
    then: Callable[[Error | None], None]
    attempts: int = 0


@define(eq=False)
class ChangeQueue:
    """The wanted changes of all conversations of one device."""

    _state: DeviceState
    _jobs: Jobs
    _author: CommitAuthor
    _settled: Callable[[Membership], None]
    _queues: dict[ConversationId, deque[WantedChange]] = field(factory=dict, init=False)
    _busy: set[ConversationId] = field(factory=set, init=False)

    def want(self, member: Membership, wish: Wish, then: Callable[[Error | None], None] = lambda _: None) -> None:
        """Have it made, unless the same is wanted already by nobody in particular."""
        queue = self._queues.setdefault(member.id, deque())
        if isinstance(wish, Found | RenewKeys) and any(type(each.wish) is type(wish) for each in queue):
            return
        queue.append(WantedChange(wish, member.facts.generation, then))
        self._settled(member)

    def end_session(self) -> None:
        self._busy.clear()

    def work(self, member: Membership) -> None:
        """Take the next turn, if there may be one."""
        if not self._state.is_caught_up or member.id in self._busy:
            return
        queue = self._queues.get(member.id)
        if member.facts.commit is not None:
            self._busy.add(member.id)
            self._jobs.start(self._author.send(member), partial(self._sent_again, member))
        elif queue and self._has_turn(member, queue[0]):
            self._busy.add(member.id)
            change = queue[0]
            self._jobs.start(self._author.carry_out(member, change.wish), partial(self._ended, member, change))

    def _has_turn(self, member: Membership, change: WantedChange) -> bool:
        """Whether a change can be made as things stand; one that cannot be any more is ended here."""
        standing, is_founding = member.standing, isinstance(change.wish, Found)
        if is_founding and member.facts.generation > change.seen:
            self._end(member, change, None)
            return False
        if standing == "out" or (standing == "absent" and not is_founding):
            self._end(member, change, NOT_IN)
            return False
        return is_founding or standing == "active"

    def _sent_again(self, member: Membership, fate: Fate) -> None:
        """A commit of an earlier session has its answer. The wish behind it, if there is one, is still in the queue."""
        self._busy.discard(member.id)
        self._settled(member)

    def _ended(self, member: Membership, change: WantedChange, fate: Fate) -> None:
        if fate == "again" and not isinstance(change.wish, RenewKeys):
            change.attempts += 1
            self._jobs.start(self._wait(member, change))
            return
        self._busy.discard(member.id)
        self._end(member, change, fate if isinstance(fate, Error) else None)

    def _end(self, member: Membership, change: WantedChange, refused: Error | None) -> None:
        queue = self._queues[member.id]
        if change in queue:
            queue.remove(change)
        change.then(refused)
        self._settled(member)

    def _wait(self, member: Membership, change: WantedChange) -> Steps[None]:
        """Another commit was first. It is on its way here; where it was the first of a generation, so is a welcome,
        unless the winner left this device out.
        """
        pause = min(FIRST_PAUSE_MS << min(change.attempts, 10), MOST_PAUSE_MS)
        yield Pause(pause + self._state.around.below(pause))
        if isinstance(change.wish, Found) and member.facts.generation <= change.seen:
            yield Pause(WELCOME_MS)
            if member.standing == "absent":
                member.wedge(self._state.now)
        self._busy.discard(member.id)
        self._settled(member)
