"""What happens in an epoch of an encrypted conversation, and how it moves to the next, within the writer's transaction.

`ConversationWriter` knows how a conversation stands, the directory who is in its group and who blocks whom, the
mailboxes whose device is where. The writer brings envelopes into mailboxes: `spread` is that of it.
"""

from collections.abc import Callable, Sequence

from attrs import frozen

from ironwire.ids import ClientId, GroupId, is_group
from ironwire.protocol.conversations.slots import Leaf, leaves_in
from ironwire.store.contract import operations as op
from ironwire.store.contract.conversations import owed_commit
from ironwire.store.contract.records import Envelope
from ironwire.store.sqlite.conversations import ConversationWriter
from ironwire.store.sqlite.directory import DirectoryWriter
from ironwire.store.sqlite.key_packages import PackageWriter
from ironwire.store.sqlite.mailboxes import MailboxCache
from ironwire.store.sqlite.memtable import Box

Spread = Callable[
    [op.Append | op.AdvanceConversation, bytes | None, list[tuple[Box, bool]], tuple[ClientId, ...]], op.Appended
]


@frozen(eq=False)
class EpochWriter:
    _conversations: ConversationWriter
    _packages: PackageWriter
    _directory: DirectoryWriter
    _mailboxes: MailboxCache
    _spread: Spread

    def append(
        self, append: op.Append, key: bytes | None, to: op.ToConversation
    ) -> op.Appended | op.ConversationMoved | op.MailboxFull | op.NotMember:
        found, sender = self._conversations.conversation(to.conversation), append.envelope.sender
        if found is None or to.by not in found.slots:
            return op.NotMember()
        if is_group(to.conversation) and sender not in self._directory.members_of(GroupId(to.conversation)):
            return op.NotMember()
        if (found.generation, found.epoch) != (to.generation, to.epoch):
            return op.ConversationMoved(found.generation, found.epoch)
        size = len(append.envelope.payload)
        boxes = self._boxes_of([leaf for leaf in leaves_in(found.slots) if leaf != to.by])
        if not is_group(to.conversation):
            have_room = [self._mailboxes.admit(box, size) for box in boxes if box.client != sender]
            if not all(have_room):
                return op.MailboxFull()
            boxes = [box for box in boxes if sender not in self._directory.blocks_of(box.client)]
        return self._spread(append, key, [(box, False) for box in boxes], ())

    def _boxes_of(self, leaves: Sequence[Leaf]) -> list[Box]:
        """The mailboxes of these devices, in their order, of those that have one."""
        clients = dict.fromkeys(leaf.client for leaf in leaves)
        found = {(box.client, box.device_key): box for boxes in self._mailboxes.of_all(clients) for box in boxes}
        keys = ((leaf.client, leaf.device) for leaf in leaves)
        return [found[key] for key in keys if key in found]

    def publish(self, publish: op.PublishPackages) -> op.PublishResult:
        return self._packages.publish(publish) if self._boxes_of([publish.device]) else op.SessionOver()

    def advance(self, advance: op.AdvanceConversation, key: bytes | None) -> op.AdvanceResult:
        """Of an operation that is not known."""
        envelope, after = advance.envelope, advance.after
        moved = self._conversations.moved(after.id, advance.seen)
        if moved is not None:
            return moved
        members: tuple[ClientId, ...] = ()
        if advance.group is not None:
            everyone = self._directory.change(advance.group, self._mailboxes.last_envelope)
            if not isinstance(everyone, tuple):
                return everyone
            members = everyone
        before = self._conversations.conversation(after.id)
        self._conversations.advance(advance)
        owed = owed_commit(before, after)
        stored = [(envelope, self._spread(advance, key, [(box, False) for box in self._boxes_of(owed)], ()))]
        for leaf, welcome in advance.welcomes:
            is_blocked = envelope.sender in self._directory.blocks_of(leaf.client)
            boxes = [] if is_blocked else self._boxes_of([leaf])
            stored.append((welcome, self._spread(_untold(welcome), None, [(box, False) for box in boxes], ())))
        if advance.group is not None:
            told = {(leaf.client, leaf.device) for leaf in (*owed, *(leaf for leaf, _ in advance.welcomes))}
            boxes = [box for found in self._mailboxes.of_all(members) for box in found]
            others = [(box, False) for box in boxes if (box.client, box.device_key) not in told]
            change = advance.group.envelope
            stored.append((change, self._spread(_untold(change), None, others, members)))
        return op.Advanced(tuple(stored))


def _untold(envelope: Envelope) -> op.Append:
    """An envelope that follows from another operation: its id is not remembered."""
    return op.Append(envelope, b"", op.ToDevices(()))
