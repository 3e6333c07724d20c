"""Changes of a conversation that somebody has to commit because the server cannot, and the device that is asked to.

    task    add     a device of a member, which its client's log lists
            remove  a device that was removed, revoked, or has expired
            readd   a device that cannot read any more, and asks to be added again
            left    a client that has left, or was erased

    lease   none     tasks, and a live device            -> leased, for 30 s
            leased   another task                        -> leased by the same device, which is asked again
            leased   its end, or that of its session     -> leased by the next device, or none
            leased   a commit after which nothing is due -> none

All tasks of a conversation are leased together. A lease is in memory alone: after a restart nobody has one, and whoever
connects is asked. A task is done when a commit has made it so, whoever committed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from attrs import define, evolve, field, frozen

from ironwire.ids import ClientId, ConversationId, Role
from ironwire.protocol.conversations.slots import Leaf, Slots

LEASE_SECONDS = 30.0

TaskKind = Literal["add", "remove", "readd", "left"]


@frozen
class Task:
    """`device` is empty for `left`."""

    kind: TaskKind
    client: ClientId
    device: bytes = b""

    @property
    def leaf(self) -> Leaf:
        return Leaf(self.client, self.device)


def is_due(task: Task, slots: Slots, roster: Mapping[ClientId, Role]) -> bool:
    """Whether the conversation still needs it."""
    if task.kind == "left":
        return task.client in roster
    if task.kind == "add":
        return task.client in roster and task.leaf not in slots
    return task.leaf in slots


def due_after(
    tasks: Iterable[Task], slots: Slots, roster: Mapping[ClientId, Role], added: Iterable[Leaf]
) -> tuple[Task, ...]:
    """The tasks that a commit, which added these leaves, leaves to be done."""
    fresh = set(added)
    return tuple(
        task for task in tasks if is_due(task, slots, roster) and not (task.kind == "readd" and task.leaf in fresh)
    )


def helpers(tasks: Sequence[Task], roster: Mapping[ClientId, Role], live: Iterable[Leaf]) -> list[Leaf]:
    """The live devices that may be asked, best first: for the first task, other devices of the client concerned, then
    admins, then anybody; none that the tasks concern themselves. Where devices of several clients cannot read any more
    admins come first, who may restart the conversation instead.
    """
    gone = {task.client for task in tasks if task.kind == "left"}
    concerned = {task.leaf for task in tasks}
    is_broken = len({task.client for task in tasks if task.kind == "readd"}) > 1
    nearest = None if is_broken else tasks[0].client

    def rank(leaf: Leaf) -> int:
        if leaf.client == nearest:
            return 0
        return 1 if roster.get(leaf.client) == "admin" else 2

    return sorted((leaf for leaf in live if leaf not in concerned and leaf.client not in gone), key=rank)


@frozen
class Lease:
    """`tasks` are those that the holder was told."""

    holder: Leaf
    until: float
    tasks: frozenset[Task]


@define
class Leases:
    """The leases of all conversations. Time is in seconds of any monotonic clock."""

    _held: dict[ConversationId, Lease] = field(init=False, factory=dict)
    """One that is over stays until the next, so that somebody else has it then."""

    def offer(
        self,
        conversation: ConversationId,
        tasks: Sequence[Task],
        roster: Mapping[ClientId, Role],
        live: Iterable[Leaf],
        now: float,
    ) -> Leaf | None:
        """The device that has to be asked now; None: somebody is at it, or nobody is there, or nothing is to do."""
        if not tasks:
            self._held.pop(conversation, None)
            return None
        lease = self._held.get(conversation)
        asked = frozenset(tasks)
        is_held = lease is not None and now < lease.until
        if lease is not None and is_held and asked <= lease.tasks:
            return None
        candidates = helpers(tasks, roster, live)
        if not candidates:
            self._held.pop(conversation, None)
            return None
        following = 0
        if lease is not None and lease.holder in candidates:
            following = candidates.index(lease.holder) + (0 if is_held else 1)
        holder = candidates[following % len(candidates)]
        self._held[conversation] = Lease(holder, now + LEASE_SECONDS, asked)
        return holder

    def end(self, holder: Leaf, now: float) -> list[ConversationId]:
        """The device has left: its leases are over. Returns of which conversations."""
        ended = {conversation: lease for conversation, lease in self._held.items() if lease.holder == holder}
        for conversation, lease in ended.items():
            self._held[conversation] = evolve(lease, until=now)
        return [*ended]

    def over(self, now: float) -> list[ConversationId]:
        """Conversations whose lease has ended without the work being done."""
        return [conversation for conversation, lease in self._held.items() if lease.until <= now]
