"""The simplest thing that keeps the contract of `store/contract/store.py`, except that it does not survive the process.

It is the oracle that every other store is compared with, and what the server runs on in simulations. So it is written
to be read, as are its other parts, `state.py` and `operations.py`: nothing is counted that can be looked at.
"""

from collections.abc import Iterable, Sequence

import trio

from ironwire.counting import LATENCY_SECONDS, Histogram
from ironwire.ids import Address, BackupName, ClientId, DeviceId, GroupId, MessageId
from ironwire.store.contract.backups import BackupRefusal
from ironwire.store.contract.device_log import KeptEntry, LogPage
from ironwire.store.contract.directory import Group, Membership
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.maintenance import Erased, Expired, StoreStatistics
from ironwire.store.contract.operations import Known, Operation, Result
from ironwire.store.contract.order import apply_in_lanes
from ironwire.store.contract.records import Archived, Entry, Mailbox, MailboxId, Quota
from ironwire.store.memory import state as memory
from ironwire.store.memory.operations import apply


class MemoryGlance:
    """A glance that is as new as an exact read."""

    def __init__(self, state: memory.MemoryState) -> None:
        self._state = state

    def mailbox_count(self, client: ClientId) -> int:
        return len(memory.boxes_of(self._state, client))

    def mailbox_counts(self, clients: Iterable[ClientId]) -> list[int]:
        return [*map(self.mailbox_count, clients)]

    def group(self, group: GroupId) -> Group | None:
        found = self._state.groups.get(group)
        return None if found is None else found.snapshot()

    def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        return frozenset(self._state.blocks.get(client, ()))

    def is_banned(self, client: ClientId) -> bool:
        return client in self._state.banned


class MemoryStore:
    """A store for one process's lifetime."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._state = memory.MemoryState()
        self.glance = MemoryGlance(self._state)
        self._batches = 0
        self._operations = 0

    async def open(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        await trio.lowlevel.checkpoint()
        results = apply_in_lanes(batch, lambda _, operation: apply(self._state, operation, self._quota))
        self._batches += 1
        self._operations += len(batch)
        return results

    async def expire(self, *, before_ms: int, archived_before_ms: int) -> Expired:
        await trio.lowlevel.checkpoint()
        self._batches += 1
        return memory.expire(self._state, before_ms, archived_before_ms, self._quota)

    async def erase(self, client: ClientId) -> Erased:
        await trio.lowlevel.checkpoint()
        self._batches += 1
        return memory.erase(self._state, client)

    async def ban(self, client: ClientId, now_ms: int) -> bool:
        await trio.lowlevel.checkpoint()
        is_news = client not in self._state.banned
        self._state.banned.add(client)
        return is_news

    async def unban(self, client: ClientId) -> bool:
        await trio.lowlevel.checkpoint()
        is_news = client in self._state.banned
        self._state.banned.discard(client)
        return is_news

    async def keep_backup(self, client: ClientId, name: BackupName, body: bytes, now_ms: int) -> BackupRefusal | None:
        await trio.lowlevel.checkpoint()
        return memory.keep_backup(self._state, client, name, body, self._quota.backup_bytes)

    async def backup(self, name: BackupName) -> bytes | None:
        await trio.lowlevel.checkpoint()
        _, body = self._state.backups.get(name, (None, None))
        return body

    async def checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()

    async def scrub(self) -> None:
        await trio.lowlevel.checkpoint()

    async def newest_ms(self) -> int | None:
        await trio.lowlevel.checkpoint()
        return memory.newest_ms(self._state)

    async def mailboxes_of(self, client: ClientId) -> Sequence[Mailbox]:
        return [box.snapshot() for box in memory.boxes_of(self._state, client)]

    async def recall(self, sender: ClientId, device: DeviceId | None, id: MessageId, digest: bytes) -> Known | None:  # noqa: A002  # the frame's
        return memory.recall(self._state, (sender, device, id), digest)

    async def group(self, group: GroupId) -> Group | None:
        return self.glance.group(group)

    async def groups_of(self, client: ClientId) -> Sequence[Membership]:
        groups = memory.groups_of(self._state, client)
        return [group.seen_by(client) for group in sorted(groups, key=lambda group: group.members[client].number)]

    async def device_log(self, client: ClientId, *, first: int, limit: int) -> LogPage | None:
        log = memory.log_of(self._state, client)
        if log.head is None:
            return None
        some = log.entries[first : first + limit]
        return LogPage([KeptEntry(each.entry.encode(), each.signature) for each in some], log.head)

    async def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        return self.glance.blocks_of(client)

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        await trio.lowlevel.checkpoint()
        box = self._state.boxes.get(mailbox)
        if box is None:
            return []
        return [entry for seq, entry in sorted(box.entries.items()) if seq > after][:limit]

    async def losses(self, mailbox: MailboxId, first: int, last: int) -> Sequence[Loss]:
        return memory.losses(self._state, mailbox, first, last)

    async def read_history(self, client: ClientId, peer: Address, *, before: int | None, limit: int) -> list[Archived]:
        await trio.lowlevel.checkpoint()
        return [
            archived
            for archived in reversed(self._state.archive)
            if (before is None or archived.number < before) and memory.may_read(self._state, client, peer, archived)
        ][:limit]

    def statistics(self) -> StoreStatistics:
        waiting = [entry.envelope for box in self._state.boxes.values() for entry in box.entries.values()]
        return StoreStatistics(
            self._batches,
            self._operations,
            is_failing=False,
            commit_seconds=Histogram(LATENCY_SECONDS).statistics(),
            mailboxes=len(self._state.boxes),
            waiting_envelopes=len(waiting),
            waiting_bytes=sum(len(envelope.payload) for envelope in waiting),
            file_bytes=0,
        )
