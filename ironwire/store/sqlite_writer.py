"""What an operation does to the SQLite file: the half of `sqlite.py` that knows rows, and neither Trio nor threads.

A batch changes the mailboxes in memory, and writes down in the journal what it did; once in a while what is left of
that goes into the tables. What is in the tables already is changed there. Mailboxes are cached; the cache includes the
batch under way, and holds at least those of which the tables do not know all.
"""

import sqlite3
from collections.abc import Sequence

from ironwire.ids import ClientId, DeviceId, GroupId, is_group
from ironwire.store.operations import (
    Ack,
    Acked,
    Append,
    Block,
    ChangeGroup,
    EpochPassed,
    Forget,
    Forgotten,
    Known,
    MailboxFull,
    NoSuchDevice,
    NotMember,
    Operation,
    Placed,
    Register,
    Remove,
    Removed,
    Result,
    Stored,
    TooManyDevices,
    TooManyGroups,
    Touch,
    Touched,
    Unblock,
    Undeliverable,
)
from ironwire.store.records import (
    Entry,
    Erased,
    Expired,
    Mailbox,
    MailboxId,
    Quota,
)
from ironwire.store.sqlite_admin import erase_client
from ironwire.store.sqlite_boxes import Box, read_boxes
from ironwire.store.sqlite_depth import Depth
from ironwire.store.sqlite_expiry import drop_old_entries, let_go, unseen_mailboxes
from ironwire.store.sqlite_groups import GroupWriter
from ironwire.store.sqlite_ids import Row, find_known, key_of, known_as, message_key, read_known
from ironwire.store.sqlite_journal import Acknowledged, Effect, Kept, Page, Standing, read_journal
from ironwire.store.sqlite_recent import Recent, Recents

CACHED_CLIENTS = 20_000
MOST_CHANGED = 5_000
MOST_EFFECTS = 10_000
"""How many mailboxes may differ from the tables, and how much may stand in the journal, before what is left of it goes
into the tables.
"""

_SELECT_OWNER = "SELECT client FROM mailbox WHERE id = ?"
_INSERT_BOX = "INSERT INTO mailbox (client, device, created_ms, seen_ms) VALUES (?, ?, ?, ?)"
_DELETE_BOX = "DELETE FROM mailbox WHERE id = ?"
_TAKE_FROM_BOX = """
    UPDATE mailbox SET acked = ?, waiting = waiting - ?, waiting_bytes = waiting_bytes - ? WHERE id = ?"""
_SELECT_LAST = """
    SELECT max(coalesce((SELECT max(id) FROM envelope), 0), coalesce((SELECT max(reads_from) FROM member), 0))"""
_FORGET_ID = "DELETE FROM known WHERE key = ? RETURNING envelope"
_UNARCHIVE = "UPDATE envelope SET is_archived = 0 WHERE id = ? AND sender = ? AND message_id = ?"

# An entry leaves a mailbox: whoever it points at is owed once less, and goes when nobody is owed it any more.
_SELECT_ENTRIES = "SELECT envelope, size FROM entry WHERE mailbox = ? AND seq > ? AND seq <= ?"
_DELETE_ENTRIES = "DELETE FROM entry WHERE mailbox = ? AND seq > ? AND seq <= ?"
_RELEASE = "UPDATE envelope SET owed = owed - 1 WHERE id = ?"
_DELETE_ERASED = "DELETE FROM envelope WHERE owed = 0 AND is_archived = 0"


class Writer:
    """Operations on the database behind `changes`, within the transaction that the caller has begun.

    `lookups` is another connection, which sees what is committed.
    """

    def __init__(self, changes: sqlite3.Connection, lookups: sqlite3.Connection, quota: Quota) -> None:
        self._changes = changes
        self._lookups = lookups
        self._quota = quota
        self._groups = GroupWriter(changes, quota)
        self.boxes: dict[ClientId, list[Box]] = {}
        """The cache. An empty list stands for a client that has no mailbox."""
        self._box_by_id: dict[MailboxId, Box] = {}
        self._changed: set[Box] = set()
        """Mailboxes of which the tables do not know all."""
        self._before: dict[Box, Mailbox] = {}
        """Mailboxes that the batch under way has changed, as they were."""
        self.recents = Recents()
        self._page = Page()
        self._known_ids: dict[bytes, Row] = {}
        """Of the batch under way, those that the tables know."""
        self._released: list[tuple[int]] = []
        """Envelopes of the tables that are owed once less."""
        self._last_envelope = 0
        self._carried_behind = 0
        """What was accepted after this number waits for its ack a little longer before it goes into the tables."""
        self._must_recover = False
        self.depth = Depth()
        self.recover()

    def apply(self, batch: Sequence[Operation]) -> list[Result]:
        """Bring the whole batch into the transaction."""
        if self._must_recover:
            self.recover()
        keys = [_key_of(operation) for operation in batch]
        self._known_ids = find_known(self._changes, filter(None, keys))
        carried_behind = self._last_envelope
        results = [self._apply(operation, key) for operation, key in zip(batch, keys, strict=True)]
        if self.recents.are_many or len(self._changed) >= MOST_CHANGED or self._page.written >= MOST_EFFECTS:
            self.settle(self._carried_behind)
        self._page.write(self._changes)
        self._release()
        self._carried_behind = carried_behind
        return results

    @property
    def is_settled(self) -> bool:
        """Whether the tables know everything."""
        return not self._page.written

    def settle(self, upto: int | None = None) -> None:
        """Bring into the tables what only the journal knows: all, or envelopes up to number `upto`."""
        upto = self._last_envelope if upto is None else upto
        self.recents.settle(self._changes, self._changed, upto, self._page)
        self._changed = {box for box in self._changed if box.settled < box.tail}

    def expire(self, before_ms: int, archived_before_ms: int) -> Expired:
        """The changes of `Store.expire`. The cache no longer holds after them."""
        self.settle()
        entries = drop_old_entries(self._changes, before_ms)
        unseen = unseen_mailboxes(self._changes, before_ms)
        for mailbox, acked, tail in unseen:
            self._take_out(mailbox, acked, tail)
            self._changes.execute(_DELETE_BOX, (mailbox,))
        self._release()
        let_go(self._changes, before_ms, archived_before_ms)
        self._changes.execute(_DELETE_ERASED)
        return Expired(entries, len(unseen))

    def erase(self, client: ClientId) -> Erased:
        """The changes of `Store.erase`. The cache no longer holds after them."""
        self.settle()
        return erase_client(self._changes, client)

    def committed(self) -> None:
        """The transaction is on the disk."""
        self.recents.commit(self._last_envelope)
        for box, before in self._before.items():
            self.depth.change(
                waiting=box.waiting - before.waiting, waiting_bytes=box.waiting_bytes - before.waiting_bytes
            )
        self._before.clear()
        self.depth.commit()

    def recover(self) -> None:
        """Know what is committed and nothing else: the transaction is undone, or the tables were changed beside the
        cache.

        Raises:
            sqlite3.Error, StoreError: the journal cannot be read; whatever is asked next tries again.
        """
        self._must_recover = True
        for known in (self.boxes, self._box_by_id, self._changed, self._before, self._released):
            known.clear()
        self.recents = Recents()
        self._page = Page()
        self._groups.forget()
        self._last_envelope = self._lookups.execute(_SELECT_LAST).fetchone()[0]
        self.depth.recount(self._lookups)
        self._must_recover = False  # while mailboxes are read
        try:
            for effect in read_journal(self._lookups):
                self._replay(effect)
                self._page.written += 1
        except BaseException:
            self._must_recover = True
            raise
        self.committed()

    def _replay(self, effect: Effect) -> None:
        """Bring what a batch did to mind again. The tables may know of it, or of what came after it."""
        match effect:
            case Kept(number, envelope, digest, is_archived, is_blocked, places):
                recent = Recent(number, key_of(envelope), envelope, digest, 0, is_archived, is_blocked)
                for mailbox, seq, is_own in places:
                    box = self._box(mailbox)
                    if box is not None:
                        self._change(box)
                        box.tail = max(box.tail, seq)
                        if seq > box.acked:
                            box.settled = min(box.settled, seq - 1)
                            self._place(box, seq, recent, is_own=is_own)
                self.recents.keep(recent)
                self._last_envelope = max(self._last_envelope, number)
            case Acknowledged(mailbox, upto):
                box = self._box(mailbox)
                if box is not None and upto > box.acked:
                    self._change(box)
                    self._forget_recent(box, upto)
                    box.acked = upto
            case Standing(mailbox, tail, is_full, seen_ms):
                box = self._box(mailbox)
                if box is not None:
                    self._change(box)
                    box.tail, box.is_full, box.seen_ms = max(box.tail, tail), is_full, max(box.seen_ms, seen_ms)

    def trim(self) -> None:
        """Keep the cache in bounds. Not while a batch is under way."""
        if len(self.boxes) > CACHED_CLIENTS:
            self.boxes = {box.client: self.boxes[box.client] for box in self._changed}
            self._box_by_id = {box.id: box for boxes in self.boxes.values() for box in boxes}
            self._groups.forget()

    def _apply(self, operation: Operation, key: bytes | None) -> Result:
        match operation:
            case Append():
                return self._append(operation, key)
            case Ack(mailbox, upto):
                return self._ack(mailbox, upto)
            case Register():
                return self._register(operation)
            case Touch(mailbox, now_ms):
                return self._touch(mailbox, now_ms)
            case Remove(client, device):
                return self._remove(client, device)
            case Forget():
                return self._forget(operation)
            case ChangeGroup():
                return self._change_group(operation, key)
            case Block():
                return self._groups.block(operation)
            case Unblock():
                return self._groups.unblock(operation)

    def _append(self, append: Append, key: bytes | None) -> Stored | Known | MailboxFull | Undeliverable | NotMember:
        envelope = append.envelope
        known = self._known(key, append.digest)
        if known is not None:
            return known
        if is_group(envelope.to):
            return self._append_to_group(append, key)
        owed = [(box, False) for box in self.boxes_of(ClientId(envelope.to))]
        if not owed and not append.is_live:
            return Undeliverable()
        if envelope.sender != envelope.to:
            device = envelope.device or ""
            owed += [(box, True) for box in self.boxes_of(envelope.sender) if box.device != device]
        size = len(envelope.payload)
        admitted = [self._admits(box, size) for box, _ in owed]
        if not all(admitted):
            return MailboxFull()
        if append.is_blocked:
            owed = [(box, is_own) for box, is_own in owed if box.client != envelope.to]
        return Stored(self._keep(append, key, owed, is_archived=append.is_archived, is_blocked=append.is_blocked))

    def _append_to_group(self, append: Append, key: bytes | None) -> Stored | NotMember:
        envelope = append.envelope
        members = self._groups.members_of(GroupId(envelope.to))
        if envelope.sender not in members:
            return NotMember()
        sending = (envelope.sender, envelope.device or "")
        boxes = [box for client in members for box in self.boxes_of(client) if (client, box.device) != sending]
        return Stored(self._spread(append, key, boxes, is_archived=append.is_archived), owed_live=members)

    def _change_group(self, change: ChangeGroup, key: bytes | None) -> Stored | Known | EpochPassed | TooManyGroups:
        known = self._known(key, change.digest)
        if known is not None:
            return known
        everyone = self._groups.change(change, self._last_envelope)
        if not isinstance(everyone, tuple):
            return everyone
        boxes = [box for client in everyone for box in self.boxes_of(client)]
        return Stored(self._spread(change, key, boxes, is_archived=False), owed_live=everyone)

    def _spread(
        self, what: Append | ChangeGroup, key: bytes | None, boxes: list[Box], *, is_archived: bool
    ) -> tuple[Placed, ...]:
        """Into all these mailboxes of a group; one that is full gives the number out and holds nothing under it."""
        size = len(what.envelope.payload)
        owed = []
        for box in boxes:
            if self._admits(box, size):
                owed.append((box, False))
            else:
                self._change(box)
                box.tail += 1
                self._page.stand(box.id, box.tail, box.is_full, box.seen_ms)
        return self._keep(what, key, owed, is_archived=is_archived)

    def _keep(
        self,
        what: Append | ChangeGroup,
        key: bytes | None,
        owed: list[tuple[Box, bool]],
        *,
        is_archived: bool,
        is_blocked: bool = False,
    ) -> tuple[Placed, ...]:
        """The envelope once, and a place in each mailbox that it is owed to."""
        self._last_envelope += 1
        envelope = what.envelope
        if not owed and not is_archived and key is None:
            return ()
        recent = Recent(self._last_envelope, key, envelope, what.digest, 0, is_archived, is_blocked)
        placed, places = [], []
        for box, is_own in owed:
            self._change(box)
            box.tail += 1
            self._place(box, box.tail, recent, is_own=is_own)
            places.append((box.id, box.tail, is_own))
            placed.append(Placed(box.id, box.client, box.device, box.tail, is_own))
        self.recents.keep(recent)
        self._page.keep(recent.number, envelope, what.digest, is_archived, is_blocked, places)
        return tuple(placed)

    def _place(self, box: Box, seq: int, recent: Recent, *, is_own: bool) -> None:
        size = len(recent.envelope.payload)
        recent.owed += 1
        box.recent.append((seq, recent.number, size, is_own))
        box.waiting += 1
        box.waiting_bytes += size

    def _admits(self, box: Box, size: int) -> bool:
        was_full = box.is_full
        admits = box.admits(size, self._quota)
        if box.is_full != was_full:
            self._change(box)
            self._page.stand(box.id, box.tail, box.is_full, box.seen_ms)
        return admits

    def _known(self, key: bytes | None, digest: bytes) -> Known | None:
        if key is None:
            return None
        return known_as(self.recents.known(key) or self._known_ids.get(key), digest)

    def _forget(self, forget: Forget) -> Forgotten:
        key = message_key(forget.sender, forget.device, forget.id)
        self.settle()
        for (number,) in self._changes.execute(_FORGET_ID, (key,)).fetchall():
            self._changes.execute(_UNARCHIVE, (number, forget.sender, forget.id))
        self._changes.execute(_DELETE_ERASED)
        self.recents.forget_id(key)
        self._known_ids.pop(key, None)
        return Forgotten()

    def _ack(self, mailbox: MailboxId, upto: int) -> Acked:
        box = self._box(mailbox)
        if box is not None and upto > box.acked:
            self._erase(box, min(upto, box.tail))
        return Acked()

    def _register(self, register: Register) -> Mailbox | TooManyDevices:
        boxes = self.boxes_of(register.client)
        for box in boxes:
            if box.device == register.device:
                self._see(box, register.now_ms)
                return box.snapshot()
        if len(boxes) >= self._quota.devices_per_client:
            return TooManyDevices()
        row = (register.client, register.device, register.now_ms, register.now_ms)
        number = MailboxId(self._changes.execute(_INSERT_BOX, row).lastrowid or 0)
        self.depth.change(mailboxes=1)
        box = Box(number, register.client, register.device, 0, 0, 0, 0, False, register.now_ms, register.now_ms)
        boxes.append(box)
        self._box_by_id[number] = box
        return box.snapshot()

    def _touch(self, mailbox: MailboxId, now_ms: int) -> Touched:
        box = self._box(mailbox)
        if box is not None:
            self._see(box, now_ms)
        return Touched()

    def _see(self, box: Box, now_ms: int) -> None:
        if now_ms > box.seen_ms:
            self._change(box)
            box.seen_ms = now_ms
            self._page.stand(box.id, box.tail, box.is_full, now_ms)

    def _remove(self, client: ClientId, device: DeviceId) -> Removed | NoSuchDevice:
        boxes = self.boxes_of(client)
        for box in boxes:
            if box.device == device:
                self.settle()
                self._erase(box, box.tail)
                self._changes.execute(_DELETE_BOX, (box.id,))
                self.depth.change(mailboxes=-1)
                boxes.remove(box)
                del self._box_by_id[box.id]
                self._changed.discard(box)
                return Removed()
        return NoSuchDevice()

    def _erase(self, box: Box, upto: int) -> None:
        """Everything up to `upto`, which was given out, leaves the mailbox."""
        self._change(box)
        if box.acked < box.settled:
            count, size = self._take_out(box.id, box.acked, min(upto, box.settled))
            box.waiting -= count
            box.waiting_bytes -= size
            self._changes.execute(_TAKE_FROM_BOX, (upto, count, size, box.id))
        if upto > box.settled:
            self._forget_recent(box, upto)
            self._page.acknowledge(box.id, upto)
        box.acked = upto

    def _forget_recent(self, box: Box, upto: int) -> None:
        """Everything up to `upto` that is not in the tables leaves the mailbox."""
        recent = box.recent
        while recent and recent[0][0] <= upto:
            seq, number, size, _ = recent.popleft()
            if seq > box.settled:
                self.recents.release(number)
                box.waiting -= 1
                box.waiting_bytes -= size

    def _take_out(self, mailbox: MailboxId, after: int, upto: int) -> tuple[int, int]:
        """Delete entries from the tables; returns how many they were, and their bytes."""
        place = (mailbox, after, upto)
        rows = self._changes.execute(_SELECT_ENTRIES, place).fetchall()
        if rows:
            self._changes.execute(_DELETE_ENTRIES, place)
            self._released += [(number,) for number, _ in rows]
        return len(rows), sum(size for _, size in rows)

    def _release(self) -> None:
        """Let go of the envelopes whose places were taken out."""
        if self._released:
            self._changes.executemany(_RELEASE, self._released)
            self._changes.execute(_DELETE_ERASED)
            self._released.clear()

    def _change(self, box: Box) -> None:
        """The batch under way is about to change the mailbox."""
        self._changed.add(box)
        if box not in self._before:
            self._before[box] = box.snapshot()

    def boxes_of(self, client: ClientId) -> list[Box]:
        """The client's mailboxes. Those of a client that is not cached are in the tables as they are."""
        if self._must_recover:
            self.recover()
        boxes = self.boxes.get(client)
        if boxes is None:
            boxes = self.boxes[client] = read_boxes(self._lookups, client)
            self._box_by_id.update((box.id, box) for box in boxes)
        return boxes

    def recall(self, key: bytes, digest: bytes) -> Known | None:
        """What was accepted under this id, without the batch under way."""
        if self._must_recover:
            self.recover()
        return known_as(self.recents.known_before(key) or read_known(self._lookups, key), digest)

    def committed_boxes_of(self, client: ClientId) -> list[Mailbox]:
        """As `boxes_of`, without what the batch under way has done."""
        if self._must_recover:
            self.recover()
        boxes = [self._box_by_id.get(box.id, box) for box in read_boxes(self._lookups, client)]
        return [self._before.get(box) or box.snapshot() for box in boxes]

    def committed_entries(self, mailbox: MailboxId, after: int) -> list[Entry]:
        """What waits in the mailbox behind `after`, is committed, and may not be in the tables yet."""
        if self._must_recover:
            self.recover()
        box = self._box(mailbox)
        return [] if box is None else [*self.recents.entries(box, after)]

    def _box(self, mailbox: MailboxId) -> Box | None:
        if mailbox not in self._box_by_id:
            row = self._lookups.execute(_SELECT_OWNER, (mailbox,)).fetchone()
            if row is not None:
                self.boxes_of(row[0])
        return self._box_by_id.get(mailbox)


def _key_of(operation: Operation) -> bytes | None:
    return key_of(operation.envelope) if isinstance(operation, Append | ChangeGroup) else None
