"""How envelopes come into mailboxes in memory, how their ids are remembered, and how a group moves."""

from collections.abc import Sequence

from ironwire.ids import ClientId, GroupId
from ironwire.store.contract import operations as op
from ironwire.store.contract.records import Archived, Entry, Envelope, Quota
from ironwire.store.memory import state as memory


def spread(envelope: Envelope, owed: Sequence[tuple[memory.MemoryMailbox, bool]], quota: Quota) -> op.Appended:
    """Put the envelope into these mailboxes, each the sender's own or not. A full one gives out a number without an
    entry.
    """
    placed, lost = [], []
    for box, is_own in owed:
        has_room = box.admits(len(envelope.payload), quota)
        box.tail += 1
        if has_room:
            box.entries[box.tail] = Entry(box.tail, envelope, is_own)
            placed.append(op.Placed(box.id, box.client, box.device, box.tail, is_own))
        else:
            box.lose(box.tail, envelope, quota)
            lost.append(op.LostPlace(box.id, box.tail))
    return op.Appended(tuple(placed), lost=tuple(lost))


def key_of(envelope: Envelope, digest: bytes) -> memory.MessageKey | None:
    """The key under which the id is remembered; None if it is not."""
    return None if envelope.id is None or not digest else (envelope.sender, envelope.device, envelope.id)


def remember(state: memory.MemoryState, envelope: Envelope, digest: bytes, *, is_archived: bool) -> None:
    key = key_of(envelope, digest)
    if key is not None:
        state.known_ids[key] = (envelope, digest)
    if is_archived:
        state.archive.append(Archived(state.next_archived, envelope))
        state.next_archived += 1


def move_group(
    state: memory.MemoryState, change: op.ChangeGroup, quota: Quota
) -> list[ClientId] | op.EpochPassed | op.TooManyGroups:
    """Bring the group to its next epoch; returns all who were members or are now."""
    group_id = GroupId(change.envelope.to)
    group = state.groups.get(group_id, memory.GroupState(group_id))
    if group.epoch != change.expected_epoch:
        return op.EpochPassed()
    for client in change.roles:
        if client not in group.members and len(memory.groups_of(state, client)) >= quota.groups_per_client:
            return op.TooManyGroups(client)
    everyone = [*group.members, *(client for client in change.roles if client not in group.members)]
    for client in everyone:
        if client not in change.roles:
            del group.members[client]
        elif client in group.members:
            group.members[client].role = change.roles[client]
        else:
            group.members[client] = memory.Member(state.next_member, change.roles[client], state.next_archived)
            state.next_member += 1
    group.epoch += 1
    group.name = change.name
    if group.members:
        state.groups[group_id] = group
    else:
        state.groups.pop(group_id, None)
    return everyone
