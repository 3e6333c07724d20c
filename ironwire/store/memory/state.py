"""The state of a store in memory: reads, expiry and erasure. `operations.py` has the changes that come in batches.

Nothing is counted that can be looked at.
"""

from attrs import define, field

from ironwire.crypto.signing import PublicKey
from ironwire.ids import Address, BackupName, ClientId, DeviceId, GroupId, MessageId, Role, is_group
from ironwire.protocol.devices.log import DeviceLog
from ironwire.store.contract.backups import BACKUPS_PER_CLIENT, BackupRefusal
from ironwire.store.contract.directory import Group, Membership
from ironwire.store.contract.losses import Loss, Span, losses_between, widened
from ironwire.store.contract.maintenance import Erased, Expired
from ironwire.store.contract.operations import Duplicate, IdTaken, Known
from ironwire.store.contract.records import Archived, Entry, Envelope, Mailbox, MailboxId, Quota, RefusedSpan
from ironwire.wire.messages import GroupChanged


@define
class MemoryMailbox:
    """A mailbox with its entries by seq."""

    id: MailboxId
    client: ClientId
    device: DeviceId
    epoch: int
    created_ms: int
    seen_ms: int
    acked: int = 0
    tail: int = 0
    is_full: bool = False
    entries: dict[int, Entry] = field(factory=dict)
    expired: int = 0
    """The last number that has expired."""
    lost_changes: dict[GroupId | None, Span] = field(factory=dict)
    """The groups of which a change was lost, with the numbers; None stands for those that are not named."""
    session: int = 1
    sent: int = 0
    refused: tuple[RefusedSpan, ...] = ()
    device_key: bytes | None = None

    @property
    def waiting_bytes(self) -> int:
        return sum(len(entry.envelope.payload) for entry in self.entries.values())

    def admits(self, size: int, quota: Quota) -> bool:
        waiting, waiting_bytes = len(self.entries), self.waiting_bytes
        if self.is_full and waiting * 2 <= quota.mailbox_envelopes and waiting_bytes * 2 <= quota.mailbox_bytes:
            self.is_full = False
        if waiting + 1 > quota.mailbox_envelopes or waiting_bytes + size > quota.mailbox_bytes:
            self.is_full = True
        return not self.is_full

    def lose(self, seq: int, envelope: Envelope, quota: Quota) -> None:
        """Give out a number without an entry."""
        if envelope.verb == GroupChanged.verb:
            group: GroupId | None = GroupId(envelope.to)
            if group not in self.lost_changes and len(self.lost_changes) >= quota.lost_groups:
                group = None
            self.lost_changes[group] = widened(self.lost_changes.get(group), seq)

    def snapshot(self) -> Mailbox:
        return Mailbox(
            id=self.id,
            client=self.client,
            device=self.device,
            epoch=self.epoch,
            acked=self.acked,
            tail=self.tail,
            waiting=len(self.entries),
            waiting_bytes=self.waiting_bytes,
            created_ms=self.created_ms,
            seen_ms=self.seen_ms,
            session=self.session,
            sent=self.sent,
            refused=self.refused,
            device_key=self.device_key,
        )


@define
class Member:
    """Members are numbered as they come; the group's history begins for each at `reads_from`."""

    number: int
    role: Role
    reads_from: int


@define
class GroupState:
    """A group with its members, in the order in which they came."""

    id: GroupId
    epoch: int = 0
    name: str | None = None
    members: dict[ClientId, Member] = field(factory=dict)

    def snapshot(self) -> Group:
        return Group(self.id, self.epoch, self.name, {client: member.role for client, member in self.members.items()})

    def seen_by(self, client: ClientId) -> Membership:
        return Membership(self.id, self.epoch, self.members[client].role, len(self.members), self.name)


MessageKey = tuple[ClientId, DeviceId | None, MessageId]


@define
class MemoryState:
    boxes: dict[MailboxId, MemoryMailbox] = field(factory=dict)
    known_ids: dict[MessageKey, tuple[Envelope, bytes]] = field(factory=dict)
    """The envelopes that were accepted under an id, with the digest of the body."""
    archive: list[Archived] = field(factory=list)
    blocked: set[int] = field(factory=set)
    """Numbers in the archive that only their sender may read."""
    groups: dict[GroupId, GroupState] = field(factory=dict)
    blocks: dict[ClientId, set[ClientId]] = field(factory=dict)
    banned: set[ClientId] = field(factory=set)
    backups: dict[BackupName, tuple[ClientId, bytes]] = field(factory=dict)
    logs: dict[ClientId, DeviceLog] = field(factory=dict)
    next_mailbox: int = 1
    next_archived: int = 1
    next_member: int = 1


def boxes_of(state: MemoryState, client: ClientId) -> list[MemoryMailbox]:
    return [box for box in state.boxes.values() if box.client == client]


def log_of(state: MemoryState, client: ClientId) -> DeviceLog:
    return state.logs.get(client) or DeviceLog(PublicKey(bytes.fromhex(client)))


def groups_of(state: MemoryState, client: ClientId) -> list[GroupState]:
    return [group for group in state.groups.values() if client in group.members]


def recall(state: MemoryState, key: MessageKey | None, digest: bytes) -> Known | None:
    if key is None or key not in state.known_ids:
        return None
    envelope, known_digest = state.known_ids[key]
    if digest != known_digest:
        return IdTaken()
    return Duplicate(envelope.ts, GroupId(envelope.to) if is_group(envelope.to) else None)


def may_read(state: MemoryState, client: ClientId, peer: Address, archived: Archived) -> bool:
    """Whether it is in the client's history with a peer, or with a group of which the client was a member then."""
    envelope = archived.envelope
    if archived.number in state.blocked and envelope.sender != client:
        return False
    if not is_group(peer):
        return (envelope.sender, envelope.to) in {(client, peer), (peer, client)}
    group = state.groups.get(GroupId(peer))
    member = None if group is None else group.members.get(client)
    return envelope.to == peer and member is not None and archived.number >= member.reads_from


def losses(state: MemoryState, mailbox: MailboxId, first: int, last: int) -> list[Loss]:
    box = state.boxes.get(mailbox)
    return [] if box is None else losses_between(first, last, box.expired, box.lost_changes)


def newest_ms(state: MemoryState) -> int | None:
    seen = [box.seen_ms for box in state.boxes.values()]
    waiting = [entry.envelope.ts for box in state.boxes.values() for entry in box.entries.values()]
    known = [envelope.ts for envelope, _ in state.known_ids.values()]
    archived = [archived.envelope.ts for archived in state.archive]
    return max([*seen, *waiting, *known, *archived], default=None)


def expire(state: MemoryState, before_ms: int, archived_before_ms: int, quota: Quota) -> Expired:
    entries = 0
    for box in state.boxes.values():
        for seq in [seq for seq, entry in box.entries.items() if entry.envelope.ts < before_ms]:
            box.lose(seq, box.entries.pop(seq).envelope, quota)
            box.expired = max(box.expired, seq)
            entries += 1
    state.known_ids = {key: known for key, known in state.known_ids.items() if known[0].ts >= before_ms}
    state.archive = [archived for archived in state.archive if archived.envelope.ts >= archived_before_ms]
    unseen = [box.id for box in state.boxes.values() if box.seen_ms < before_ms]
    for mailbox in unseen:
        del state.boxes[mailbox]
    return Expired(entries, len(unseen))


def keep_backup(
    state: MemoryState, client: ClientId, name: BackupName, body: bytes, most_bytes: int
) -> BackupRefusal | None:
    others = {other: kept for other, kept in state.backups.items() if other != name}
    if state.backups.get(name, (client,))[0] != client:
        return "not_yours"
    if body and sum(owner == client for owner, _ in others.values()) >= BACKUPS_PER_CLIENT:
        return "too_many"
    if body and sum(len(kept) for _, kept in others.values()) + len(body) > most_bytes:
        return "no_room"
    state.backups = others | ({name: (client, body)} if body else {})
    return None


def erase(state: MemoryState, client: ClientId) -> Erased:
    def concerns(envelope: Envelope) -> bool:
        return client in (envelope.sender, envelope.to)

    boxes = boxes_of(state, client)
    for box in boxes:
        del state.boxes[box.id]
    state.backups = {name: kept for name, kept in state.backups.items() if kept[0] != client}
    archive = state.archive
    state.archive = [archived for archived in archive if not concerns(archived.envelope)]
    waiting = [entry.envelope for box in state.boxes.values() for entry in box.entries.values()]
    return Erased(
        devices=len(boxes),
        waiting=sum(len(box.entries) for box in boxes),
        archived=len(archive) - len(state.archive),
        blocks=len(state.blocks.pop(client, ())),
        log_entries=len(state.logs.pop(client, log_of(state, client)).entries),
        left_to_others=len({id(envelope) for envelope in waiting if concerns(envelope)}),
    )
