"""Encrypted conversations in memory: pools, claims, generations and tasks. `operations.py` brings envelopes out."""

from collections.abc import Iterable, Sequence

from attrs import define, field

from ironwire.ids import ClientId, ConversationId
from ironwire.protocol.conversations.key_packages import POOL_PACKAGES
from ironwire.protocol.conversations.slots import Leaf, leaves_in
from ironwire.protocol.conversations.tasks import Task, TaskKind, due_after
from ironwire.store.contract import conversations as kept
from ironwire.store.contract import operations as op


@define
class PublishedPackage:
    """One that was taken stays known until it has expired."""

    device: Leaf
    package: kept.PoolPackage
    is_taken: bool = False


@define
class ConversationsState:
    conversations: dict[ConversationId, kept.StoredConversation] = field(factory=dict)
    commits: dict[tuple[ConversationId, int, int], tuple[kept.KeptCommit, int]] = field(factory=dict)
    """By generation and epoch, with when it was accepted."""
    packages: list[PublishedPackage] = field(factory=list)
    claims: dict[tuple[ConversationId, ClientId, bytes], tuple[Leaf, int]] = field(factory=dict)
    """By claimer and reference, with when it was claimed."""
    tasks: list[tuple[ConversationId, Task]] = field(factory=list)


# --- reads -----------------------------------------------------------------------------------------------------------


def conversations_of(state: ConversationsState, client: ClientId) -> list[kept.StoredConversation]:
    return [each for _, each in sorted(state.conversations.items()) if client in each.roster]


def summaries(state: ConversationsState, device: Leaf, after: ConversationId | None) -> list[kept.ConversationSummary]:
    return [
        kept.ConversationSummary(
            each.id, each.generation, each.epoch, len(leaves_in(each.slots)), is_in=device in each.slots
        )
        for each in conversations_of(state, device.client)
        if after is None or each.id > after
    ]


def read_commits(
    state: ConversationsState, conversation: ConversationId, generation: int, first: int, limit: int
) -> list[kept.KeptCommit]:
    page, size = [], 0
    for (its_conversation, its_generation, epoch), (commit, _) in sorted(state.commits.items()):
        if (its_conversation, its_generation) == (conversation, generation) and epoch >= first:
            page.append(commit)
            size += len(commit.payload)
            if len(page) == limit or size >= kept.COMMITS_BYTES:
                break
    return page


def pool_of(state: ConversationsState, device: Leaf) -> kept.Pool:
    waiting = [each.package for each in state.packages if each.device == device and not each.is_taken]
    count = sum(not package.is_last_resort for package in waiting)
    return kept.Pool(count, has_last_resort=count < len(waiting))


def tasks_of(state: ConversationsState, conversation: ConversationId) -> list[Task]:
    tasks = [task for its_conversation, task in state.tasks if its_conversation == conversation]
    return sorted(tasks, key=lambda task: (task.kind, task.client, task.device))


# --- pools -----------------------------------------------------------------------------------------------------------


def publish(
    state: ConversationsState, publish: op.PublishPackages
) -> op.PackagesPublished | op.PackageKnown | op.TooManyPackages:
    """Of a device that has a mailbox."""
    device = publish.device
    known = {value for each in state.packages for value in (each.package.ref, each.package.init_key)}
    for index, package in enumerate(publish.packages):
        if package.ref in known or package.init_key in known:
            return op.PackageKnown(index)
        known |= {package.ref, package.init_key}
    added = sum(not package.is_last_resort for package in publish.packages)
    if pool_of(state, device).count + added > POOL_PACKAGES:
        return op.TooManyPackages()
    if all(each.device != device for each in state.packages):
        for conversation in conversations_of(state, device.client):
            if device not in conversation.slots:
                ask(state, conversation.id, Task("add", device.client, device.device))
    for package in publish.packages:
        if package.is_last_resort:
            for each in state.packages:
                if each.device == device and each.package.is_last_resort:
                    each.is_taken = True
        state.packages.append(PublishedPackage(device, package))
    return op.PackagesPublished(pool_of(state, device))


def claim(state: ConversationsState, claim: op.ClaimPackages, blocked_by: frozenset[ClientId]) -> op.PackagesClaimed:
    """`blocked_by` are clients that have blocked the claimer."""
    claimed = []
    for device, may_take in claim.targets:
        valid = [
            each
            for each in state.packages
            if each.device == device and not each.is_taken and each.package.not_after_ms > claim.now_ms
        ]
        normal = [each for each in valid if not each.package.is_last_resort]
        last_resorts = [each for each in valid if each.package.is_last_resort]
        is_allowed = may_take and device.client not in blocked_by
        for taken in (normal[:1] if is_allowed else []) or last_resorts:
            taken.is_taken = not taken.package.is_last_resort
            key = (claim.conversation, claim.claimer, taken.package.ref)
            state.claims[key] = (device, claim.now_ms)
            left = pool_of(state, device).count
            claimed.append(op.ClaimedPackage(device, taken.package.data, taken.package.is_last_resort, left))
    return op.PackagesClaimed(tuple(claimed))


def drop_device(state: ConversationsState, device: Leaf) -> None:
    """The device's mailbox is gone: nobody may add it any more, and somebody has to remove it."""
    state.packages = [each for each in state.packages if each.device != device]
    state.tasks = [(each, task) for each, task in state.tasks if task.leaf != device]
    ask_everywhere(state, Task("remove", device.client, device.device))


def keep_device(state: ConversationsState, device: Leaf) -> None:
    """The device has a mailbox again, before anybody has removed it."""
    state.tasks = [(each, task) for each, task in state.tasks if (task.kind, task.leaf) != ("remove", device)]


# --- conversations ---------------------------------------------------------------------------------------------------


def advance(state: ConversationsState, advance: op.AdvanceConversation) -> None:
    """To be asked after `moved`."""
    after = advance.after
    state.conversations[after.id] = after
    key = (after.id, after.generation, after.epoch)
    state.commits[key] = (kept.KeptCommit(after.epoch, advance.envelope.payload), advance.envelope.ts)
    due = due_after(tasks_of(state, after.id), after.slots, after.roster, advance.added)
    state.tasks = [(each, task) for each, task in state.tasks if each != after.id or task in due]


def moved(
    state: ConversationsState, conversation: ConversationId, seen: tuple[int, int]
) -> op.ConversationMoved | None:
    """None: the conversation is still as it was seen."""
    found = state.conversations.get(conversation)
    current = (0, 0) if found is None else (found.generation, found.epoch)
    return None if current == seen else op.ConversationMoved(*current)


# --- tasks -----------------------------------------------------------------------------------------------------------


def ask(state: ConversationsState, conversation: ConversationId, task: Task) -> None:
    if (conversation, task) not in state.tasks:
        state.tasks.append((conversation, task))


def ask_everywhere(state: ConversationsState, task: Task) -> None:
    """In all conversations of the task's client."""
    for conversation in conversations_of(state, task.client):
        ask(state, conversation.id, task)


def ask_for_those_who_left(state: ConversationsState, conversation: ConversationId, gone: Iterable[ClientId]) -> None:
    found = state.conversations.get(conversation)
    for client in gone:
        if found is not None and client in found.roster:
            ask(state, conversation, Task("left", client))


def rejoin(state: ConversationsState, rejoin: op.AskToRejoin) -> op.AskedToRejoin:
    device, asked = rejoin.device, []
    for conversation in rejoin.conversations:
        found = state.conversations.get(conversation)
        if found is not None and device.client in found.roster:
            kind: TaskKind = "readd" if device in found.slots else "add"
            ask(state, conversation, Task(kind, device.client, device.device))
            asked.append(conversation)
    return op.AskedToRejoin(tuple(asked))


# --- what ends -------------------------------------------------------------------------------------------------------


def expire(state: ConversationsState, before_ms: int) -> None:
    state.commits = {key: kept for key, kept in state.commits.items() if kept[1] >= before_ms}
    state.claims = {key: claimed for key, claimed in state.claims.items() if claimed[1] >= before_ms}
    state.packages = [each for each in state.packages if each.package.not_after_ms >= before_ms]


def erase(state: ConversationsState, client: ClientId) -> None:
    """A client whose mailboxes are gone. A conversation that it had with nobody else goes with it."""
    state.claims = {key: claimed for key, claimed in state.claims.items() if client not in (key[1], claimed[0].client)}
    for conversation in conversations_of(state, client):
        if conversation.roster.keys() == {client}:
            del state.conversations[conversation.id]
            state.commits = {key: kept for key, kept in state.commits.items() if key[0] != conversation.id}
            state.tasks = [(each, task) for each, task in state.tasks if each != conversation.id]
    ask_everywhere(state, Task("left", client))


def claimed(
    state: ConversationsState, conversation: ConversationId, claimer: ClientId, refs: Sequence[bytes]
) -> dict[bytes, Leaf]:
    keys = {ref: (conversation, claimer, ref) for ref in refs}
    return {ref: state.claims[key][0] for ref, key in keys.items() if key in state.claims}
