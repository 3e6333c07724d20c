"""What happens in an epoch of an encrypted conversation in memory, and how it moves to the next."""

from collections.abc import Sequence

from attrs import evolve

from ironwire.ids import ClientId, GroupId, is_group
from ironwire.protocol.conversations.slots import Leaf, leaves_in
from ironwire.store.contract import operations as op
from ironwire.store.contract.conversations import owed_commit
from ironwire.store.contract.records import Envelope, Quota
from ironwire.store.memory import conversations, placing
from ironwire.store.memory import state as memory


def append(
    state: memory.MemoryState, append: op.Append, to: op.ToConversation, quota: Quota
) -> op.Appended | op.ConversationMoved | op.MailboxFull | op.NotMember:
    envelope = append.envelope
    found = state.encrypted.conversations.get(to.conversation)
    if found is None or to.by not in found.slots:
        return op.NotMember()
    group = state.groups.get(GroupId(to.conversation))
    if is_group(to.conversation) and (group is None or envelope.sender not in group.members):
        return op.NotMember()
    if (found.generation, found.epoch) != (to.generation, to.epoch):
        return op.ConversationMoved(found.generation, found.epoch)
    boxes = _boxes_of(state, [leaf for leaf in leaves_in(found.slots) if leaf != to.by])
    if not is_group(to.conversation):
        theirs = [box for box in boxes if box.client != envelope.sender]
        have_room = [box.admits(len(envelope.payload), quota) for box in theirs]
        if not all(have_room):
            return op.MailboxFull()
        boxes = [box for box in boxes if not _blocks(state, box.client, envelope.sender)]
    placing.remember(state, envelope, append.digest, is_archived=False)
    return placing.spread(envelope, [(box, False) for box in boxes], quota)


def advance(state: memory.MemoryState, advance: op.AdvanceConversation, quota: Quota) -> op.AdvanceResult:
    envelope, after = advance.envelope, advance.after
    known = memory.recall(state, placing.key_of(envelope, advance.digest), advance.digest)
    if known is not None:
        return known
    moved = conversations.moved(state.encrypted, after.id, advance.seen)
    if moved is not None:
        return moved
    members = None if advance.group is None else placing.move_group(state, advance.group, quota)
    if members is not None and not isinstance(members, list):
        return members
    before = state.encrypted.conversations.get(after.id)
    conversations.advance(state.encrypted, advance)
    placing.remember(state, envelope, advance.digest, is_archived=False)
    owed = owed_commit(before, after)
    stored = [(envelope, _spread_to_leaves(state, envelope, owed, quota))]
    for leaf, welcome in advance.welcomes:
        is_blocked = _blocks(state, leaf.client, envelope.sender)
        stored.append((welcome, _spread_to_leaves(state, welcome, [] if is_blocked else [leaf], quota)))
    if members is not None and advance.group is not None:
        told = {*owed, *(leaf for leaf, _ in advance.welcomes)}
        boxes = [box for client in members for box in memory.boxes_of(state, client) if box.leaf not in told]
        group = advance.group.envelope
        stored.append(
            (group, evolve(placing.spread(group, [(box, False) for box in boxes], quota), owed=tuple(members)))
        )
    return op.Advanced(tuple(stored))


def _boxes_of(state: memory.MemoryState, leaves: Sequence[Leaf]) -> list[memory.MemoryMailbox]:
    return [box for leaf in leaves if (box := memory.box_of(state, leaf)) is not None]


def _spread_to_leaves(
    state: memory.MemoryState, envelope: Envelope, leaves: Sequence[Leaf], quota: Quota
) -> op.Appended:
    return placing.spread(envelope, [(box, False) for box in _boxes_of(state, leaves)], quota)


def _blocks(state: memory.MemoryState, client: ClientId, sender: ClientId) -> bool:
    return sender in state.blocks.get(client, ())
