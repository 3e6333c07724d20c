"""The simplest thing that keeps the contract of `base.py`, except that it does not survive the process.

It is the oracle that every other store is compared with, and what the server runs on in simulations. So it is written
to be read: nothing is counted that can be looked at.
"""

from collections.abc import Sequence

import trio
from attrs import define, field

from ironwire.ids import Address, ClientId, DeviceId, MessageId
from ironwire.store.base import (
    Ack,
    Acked,
    Append,
    Archived,
    Block,
    ChangeGroup,
    Duplicate,
    Entry,
    Envelope,
    Expired,
    Forget,
    Forgotten,
    IdTaken,
    Mailbox,
    MailboxFull,
    MailboxId,
    NoSuchDevice,
    Operation,
    Placed,
    Quota,
    Register,
    Remove,
    Removed,
    Result,
    Stored,
    StoreStatistics,
    TooManyDevices,
    Touch,
    Touched,
    Unblock,
    Undeliverable,
)


@define
class _Box:
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
        )


_Key = tuple[ClientId, DeviceId | None, MessageId]


@define
class _State:
    boxes: dict[MailboxId, _Box] = field(factory=dict)
    known_ids: dict[_Key, tuple[Envelope, bytes]] = field(factory=dict)
    """What was accepted under an id, and the digest of its body."""
    archive: list[Archived] = field(factory=list)
    next_mailbox: int = 1
    next_archived: int = 1


class MemoryStore:
    """A store for one process's lifetime."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._state = _State()
        self._batches = 0
        self._operations = 0

    async def open(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        await trio.lowlevel.checkpoint()
        results = [_apply(self._state, operation, self._quota) for operation in batch]
        self._batches += 1
        self._operations += len(batch)
        return results

    async def expire(self, *, before_ms: int, archived_before_ms: int) -> Expired:
        await trio.lowlevel.checkpoint()
        self._batches += 1
        return _expire(self._state, before_ms, archived_before_ms)

    async def scrub(self) -> None:
        await trio.lowlevel.checkpoint()

    def has_mailboxes(self, client: ClientId) -> bool:
        return bool(_boxes_of(self._state, client))

    def mailboxes_of(self, client: ClientId) -> Sequence[Mailbox]:
        return [box.snapshot() for box in _boxes_of(self._state, client)]

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        await trio.lowlevel.checkpoint()
        box = self._state.boxes.get(mailbox)
        if box is None:
            return []
        return [entry for seq, entry in sorted(box.entries.items()) if seq > after][:limit]

    async def read_history(self, client: ClientId, peer: Address, *, before: int | None, limit: int) -> list[Archived]:
        await trio.lowlevel.checkpoint()
        return [
            archived
            for archived in reversed(self._state.archive)
            if (before is None or archived.number < before)
            and (archived.envelope.sender, archived.envelope.to) in {(client, peer), (peer, client)}
        ][:limit]

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(self._batches, self._operations, is_failing=False)


def _boxes_of(state: _State, client: ClientId) -> list[_Box]:
    return [box for box in state.boxes.values() if box.client == client]


def _apply(state: _State, operation: Operation, quota: Quota) -> Result:
    match operation:
        case Register():
            return _register(state, operation, quota)
        case Touch(mailbox, now_ms):
            if mailbox in state.boxes:
                box = state.boxes[mailbox]
                box.seen_ms = max(box.seen_ms, now_ms)
            return Touched()
        case Remove(client, device):
            for box in _boxes_of(state, client):
                if box.device == device:
                    del state.boxes[box.id]
                    return Removed()
            return NoSuchDevice()
        case Append():
            return _append(state, operation, quota)
        case Ack(mailbox, upto):
            if mailbox in state.boxes:
                _ack(state.boxes[mailbox], upto)
            return Acked()
        case Forget(sender, device, message):
            envelope, _ = state.known_ids.pop((sender, device, message), (None, b""))
            state.archive = [archived for archived in state.archive if archived.envelope is not envelope]
            return Forgotten()
        case ChangeGroup() | Block() | Unblock():
            raise NotImplementedError


def _register(state: _State, register: Register, quota: Quota) -> Mailbox | TooManyDevices:
    boxes = _boxes_of(state, register.client)
    for box in boxes:
        if box.device == register.device:
            box.seen_ms = max(box.seen_ms, register.now_ms)
            return box.snapshot()
    if len(boxes) >= quota.devices_per_client:
        return TooManyDevices()
    box = _Box(
        id=MailboxId(state.next_mailbox),
        client=register.client,
        device=register.device,
        epoch=state.next_mailbox,
        created_ms=register.now_ms,
        seen_ms=register.now_ms,
    )
    state.next_mailbox += 1
    state.boxes[box.id] = box
    return box.snapshot()


def _append(state: _State, append: Append, quota: Quota) -> Stored | Duplicate | IdTaken | MailboxFull | Undeliverable:
    envelope, digest = append.envelope, append.digest
    key = None if envelope.id is None else (envelope.sender, envelope.device, envelope.id)
    if key is not None and key in state.known_ids:
        known, known_digest = state.known_ids[key]
        return Duplicate(known.ts, known.to) if digest == known_digest else IdTaken()
    owed = [(box, False) for box in state.boxes.values() if box.client == envelope.to]
    if not owed and not append.is_live:
        return Undeliverable()
    if envelope.sender != envelope.to:
        own = _boxes_of(state, envelope.sender)
        owed += [(box, True) for box in own if box.device != envelope.device]
    admitted = [box.admits(len(envelope.payload), quota) for box, _ in owed]
    if not all(admitted):
        return MailboxFull()
    if key is not None:
        state.known_ids[key] = (envelope, digest)
    if append.is_archived:
        state.archive.append(Archived(state.next_archived, envelope))
        state.next_archived += 1
    placed = []
    for box, is_own in owed:
        box.tail += 1
        box.entries[box.tail] = Entry(box.tail, envelope, is_own)
        placed.append(Placed(box.id, box.client, box.device, box.tail, is_own))
    return Stored(tuple(placed))


def _ack(box: _Box, upto: int) -> None:
    box.acked = max(box.acked, min(upto, box.tail))
    for seq in [seq for seq in box.entries if seq <= box.acked]:
        del box.entries[seq]


def _expire(state: _State, before_ms: int, archived_before_ms: int) -> Expired:
    entries = 0
    for box in state.boxes.values():
        for seq in [seq for seq, entry in box.entries.items() if entry.envelope.ts < before_ms]:
            del box.entries[seq]
            entries += 1
    state.known_ids = {key: known for key, known in state.known_ids.items() if known[0].ts >= before_ms}
    state.archive = [archived for archived in state.archive if archived.envelope.ts >= archived_before_ms]
    unseen = [box.id for box in state.boxes.values() if box.seen_ms < before_ms]
    for mailbox in unseen:
        del state.boxes[mailbox]
    return Expired(entries, len(unseen))
