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
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.state import DeviceState
from ironwire.e2e.conversations.wishes import BeginGeneration, OfHearers, RenewKeys, Wish
from ironwire.ids import ConversationId, MessageId
from ironwire.wire.messages import Error

FIRST_PAUSE_MS = 50
MOST_PAUSE_MS = 5_000
WELCOME_MS = 5_000
"""Who lost the race for a generation waits so long for a welcome of the winner."""
PACKAGES_MS = 2_000
ATTEMPTS = 5
"""A device that is in the log is about to publish key packages: so long they are waited for, so many times."""
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
    _settled: Callable[[DeviceMembership], None]
    _fell_behind: Callable[[], None]
    _queues: dict[ConversationId, deque[WantedChange]] = field(factory=dict, init=False)
    _busy: set[ConversationId] = field(factory=set, init=False)
    _accepted: set[MessageId] = field(factory=set, init=False)
    """Commits of this session that the mailbox has to bring back."""

    def want(self, member: DeviceMembership, wish: Wish, then: Callable[[Error | None], None] | None = None) -> None:
        """Have it made. What nobody waits for is wanted once, and so is what a later wish of its kind includes."""
        queue = self._queues.setdefault(member.id, deque())
        is_for_all = isinstance(wish, BeginGeneration | RenewKeys)
        if is_for_all and any(type(each.wish) is type(wish) for each in queue):
            return
        if then is None and any(each.wish == wish for each in queue):
            return
        change = WantedChange(wish, member.facts.generation, then or _nobody)
        if isinstance(wish, BeginGeneration):
            queue.appendleft(change)  # what cannot be done in this generation is done in the next
        else:
            queue.append(change)
        self._settled(member)

    def is_awaited(self, member: DeviceMembership) -> bool:
        """Whether a change is wanted of those who hear what is said."""
        return any(isinstance(each.wish, OfHearers) for each in self._queues.get(member.id, ()))

    def end_session(self) -> None:
        self._busy.clear()
        self._accepted.clear()

    def work(self, member: DeviceMembership) -> None:
        """Take the next turn, if there may be one."""
        if not self._state.is_caught_up or member.id in self._busy:
            return
        queue = self._queues.get(member.id)
        if member.facts.commit is not None:
            if member.facts.commit.id in self._accepted:
                return
            self._busy.add(member.id)
            self._jobs.start(self._author.send(member), partial(self._sent_again, member))
        elif queue and self._has_turn(member, queue[0]):
            self._busy.add(member.id)
            change = queue[0]
            self._jobs.start(self._author.carry_out(member, change.wish), partial(self._ended, member, change))

    def _has_turn(self, member: DeviceMembership, change: WantedChange) -> bool:
        """Whether a change can be made as things stand; one that cannot be any more is ended here."""
        standing, is_founding = member.standing, isinstance(change.wish, BeginGeneration)
        if is_founding and member.facts.generation > change.seen:
            self._end(member, change, None)
            return False
        if standing == "out" or (standing == "absent" and not is_founding):
            self._end(member, change, NOT_IN)
            return False
        return is_founding or (standing == "active" and member.place >= member.awaited)

    def _sent_again(self, member: DeviceMembership, fate: Fate) -> None:
        """A commit of an earlier session has its answer. The wish behind it, if there is one, is still in the queue."""
        self._busy.discard(member.id)
        self._watch_for(member, fate)
        self._settled(member)

    def _watch_for(self, member: DeviceMembership, fate: Fate) -> None:
        """An accepted commit comes back by the mailbox; where it does not, the server has to say where things stand."""
        frame = member.facts.commit
        if fate == "made" and frame is not None:
            self._accepted.add(frame.id)
            self._jobs.start(self._await_own(member, frame.id))

    def _await_own(self, member: DeviceMembership, commit_id: MessageId) -> Steps[None]:
        yield Pause(WELCOME_MS)
        if member.facts.commit is not None and member.facts.commit.id == commit_id:
            self._fell_behind()

    def _ended(self, member: DeviceMembership, change: WantedChange, fate: Fate) -> None:
        if fate == "again" and not isinstance(change.wish, RenewKeys):
            change.attempts += 1
            self._jobs.start(self._wait(member, change))
            return
        if isinstance(fate, Error) and fate.msg == "user_offline" and change.attempts < ATTEMPTS:
            change.attempts += 1
            self._jobs.start(self._await_packages(member))
            return
        self._busy.discard(member.id)
        self._watch_for(member, fate)
        self._end(member, change, fate if isinstance(fate, Error) else None)

    def _end(self, member: DeviceMembership, change: WantedChange, refused: Error | None) -> None:
        queue = self._queues[member.id]
        if change in queue:
            queue.remove(change)
        change.then(refused)
        self._settled(member)

    def _await_packages(self, member: DeviceMembership) -> Steps[None]:
        yield Pause(PACKAGES_MS)
        self._busy.discard(member.id)
        self._settled(member)

    def _wait(self, member: DeviceMembership, change: WantedChange) -> Steps[None]:
        """Another commit was first. It is on its way here; where it was the first of a generation, so is a welcome,
        unless the winner left this device out.
        """
        pause = min(FIRST_PAUSE_MS << min(change.attempts, 10), MOST_PAUSE_MS)
        yield Pause(pause + self._state.around.below(pause))
        is_first = isinstance(change.wish, BeginGeneration) and member.facts.generation <= change.seen
        if is_first or member.place < member.awaited:
            yield Pause(WELCOME_MS)
        if is_first and member.standing == "absent":
            member.wedge(self._state.now)
        elif member.place < member.awaited:
            self._fell_behind()
        self._busy.discard(member.id)
        self._settled(member)


def _nobody(refused: Error | None) -> None:
    """Nobody waits for what becomes of it."""
