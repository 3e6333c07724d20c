"""The mailboxes as the writer knows them: those in use, what is recent in them, and what a batch under way has changed.

Rule: what is not here is in the tables as it is. After a transaction that was undone nothing here holds, and everything
is read again before anything is answered.
"""

import sqlite3
from collections import deque
from collections.abc import Iterable

from attrs import frozen

from ironwire.ids import ClientId
from ironwire.store.contract.records import Entry, Mailbox, MailboxId, Quota
from ironwire.store.sqlite import journal
from ironwire.store.sqlite.memtable import Box, Depth, Memtable, Recent, key_of, read_boxes, read_boxes_of_all

CACHED_CLIENTS = 20_000
HIGH_WATERMARK = 4_500
LOW_WATERMARK = 4_250
"""When the journal weighs `HIGH_WATERMARK`, its oldest rows are checkpointed until it weighs `LOW_WATERMARK`: of a busy
server one row with each batch, which takes about as long as the batch does; of a quiet one several, now and then.
"""
YOUNG_ROWS = 2
"""The newest rows are not checkpointed: acks of their envelopes are on their way."""

_SELECT_OWNER = "SELECT client FROM mailbox WHERE id = ?"
_SELECT_LAST = """
    SELECT max(coalesce((SELECT max(id) FROM envelope), 0), coalesce((SELECT max(reads_from) FROM member), 0))"""


@frozen
class JournalRow:
    """A row of the journal: the last number given out when it was written, and the mailboxes that it has changed."""

    number: int
    weight: int
    last_envelope: int
    boxes: set[Box]


class MailboxCache:
    """`lookups` is a connection that sees what is committed."""

    def __init__(self, lookups: sqlite3.Connection, quota: Quota) -> None:
        self._lookups = lookups
        self._quota = quota
        self.cached: dict[ClientId, list[Box]] = {}
        """An empty list stands for a client that has no mailbox."""
        self._by_id: dict[MailboxId, Box] = {}
        self._rows: deque[JournalRow] = deque()
        """The journal. Mailboxes that no row names are in the tables as they are."""
        self._weight = 0
        self._changed: set[Box] = set()
        """Dirty mailboxes of the current batch; cleared by a checkpoint inside the batch."""
        self._counted: set[Box] = set()
        """Mailboxes whose device had a number settled in the current batch; cleared in the same way."""
        self._before: dict[Box, Mailbox] = {}
        """Mailboxes that the current batch has changed, as they were before."""
        self._dropped: set[MailboxId] = set()
        """Mailboxes that the current batch has deleted."""
        self.memtable = Memtable()
        self.batch_log = journal.BatchLog()
        self.last_envelope = 0
        """The last number that was given out."""
        self.depth = Depth()
        self._must_recover = False

    @property
    def is_checkpointed(self) -> bool:
        """Whether the tables are known to have everything."""
        return not self._rows and not self._must_recover

    # --- within a batch ----------------------------------------------------------------------------------------------

    def of(self, client: ClientId) -> list[Box]:
        """The client's mailboxes, the batch under way included."""
        self.ready()
        boxes = self.cached.get(client)
        if boxes is None:
            boxes = self.cached[client] = read_boxes(self._lookups, client)
            self._by_id.update((box.id, box) for box in boxes)
        return boxes

    def of_all(self, clients: Iterable[ClientId]) -> list[list[Box]]:
        """As `of`, for each of these clients."""
        self.ready()
        clients = [*clients]
        found = read_boxes_of_all(self._lookups, (client for client in clients if client not in self.cached))
        self.cached.update(found)
        self._by_id.update((box.id, box) for boxes in found.values() for box in boxes)
        return [self.cached[client] for client in clients]

    def by_id(self, mailbox: MailboxId) -> Box | None:
        self.ready()
        if mailbox not in self._by_id:
            row = self._lookups.execute(_SELECT_OWNER, (mailbox,)).fetchone()
            if row is not None:
                self.of(row[0])
        return self._by_id.get(mailbox)

    def add(self, box: Box) -> None:
        """A mailbox that the transaction has made."""
        self.of(box.client).append(box)
        self._by_id[box.id] = box
        self.depth.change(mailboxes=1)

    def drop(self, box: Box) -> None:
        """A mailbox that the transaction has deleted, with whatever waits in it."""
        self.change(box)
        box.waiting = box.waiting_bytes = 0
        self.of(box.client).remove(box)
        del self._by_id[box.id]
        self._dropped.add(box.id)
        self._changed.discard(box)
        self._counted.discard(box)
        self.depth.change(mailboxes=-1)

    def change(self, box: Box) -> None:
        """The batch is about to change the mailbox."""
        self._changed.add(box)
        if box not in self._before:
            self._before[box] = box.snapshot()

    def admit(self, box: Box, size: int) -> bool:
        """Whether there is room for `size` bytes more."""
        was_full = box.is_full
        has_room = box.admits(size, self._quota)
        if box.is_full != was_full:
            self.change(box)
            self._stand(box)
        return has_room

    def skip(self, box: Box) -> None:
        """Give out a number without an entry."""
        self.change(box)
        box.tail += 1
        self._stand(box)

    def see(self, box: Box, now_ms: int) -> None:
        if now_ms > box.seen_ms:
            self.change(box)
            box.seen_ms = now_ms
            self._stand(box)

    def begin_session(self, box: Box, now_ms: int) -> None:
        self.change(box)
        box.session += 1
        box.seen_ms = max(box.seen_ms, now_ms)
        self._stand(box)

    def count(self, box: Box) -> None:
        """The batch is about to settle a number of the device."""
        self.change(box)
        self._counted.add(box)

    def place(self, box: Box, recent: Recent, *, is_own: bool) -> None:
        """Add an entry for the envelope under the next number."""
        self.change(box)
        box.tail += 1
        _hold(box, box.tail, recent, is_own=is_own)

    def acknowledge(self, box: Box, upto: int) -> None:
        """Everything up to `upto` that is not in the tables leaves the mailbox; what is there has left before."""
        self.change(box)
        if upto > box.checkpointed:
            self._let_go(box, upto)
            self.batch_log.acknowledge(box.id, upto)
        box.acked = upto

    def write(self, changes: sqlite3.Connection) -> None:
        """Bring the batch into the transaction on `changes`, as a row of the journal; checkpoint the oldest rows first
        if the journal is heavy. Pages of the file that they leave are taken again at once, and written once.
        """
        if self._weight >= HIGH_WATERMARK:
            boxes: set[Box] = set()
            checkpointed = None
            while self._weight >= LOW_WATERMARK and len(self._rows) > YOUNG_ROWS:
                checkpointed = self._rows.popleft()
                self._weight -= checkpointed.weight
                boxes |= checkpointed.boxes
            if checkpointed is not None:
                self.memtable.checkpoint(changes, boxes, checkpointed.last_envelope)
                journal.shorten_journal(changes, checkpointed.number)
        for box in self._counted:
            self.batch_log.settle(box)
        self._counted.clear()
        written = self.batch_log.write(changes)
        if written is not None:
            self._add_row(*written)

    def checkpoint(self, changes: sqlite3.Connection) -> None:
        """Bring into the tables, within the transaction on `changes`, what only the journal and the batch know."""
        self.ready()
        self.memtable.checkpoint(changes, self._changed.union(*(row.boxes for row in self._rows)), self.last_envelope)
        if self._rows:
            journal.shorten_journal(changes, self._rows[-1].number)
        self._rows.clear()
        self._weight = 0
        self._changed = set()
        self._counted.clear()
        self.batch_log.clear()

    def _add_row(self, number: int, weight: int) -> None:
        self._rows.append(JournalRow(number, weight, self.last_envelope, self._changed))
        self._weight += weight
        self._changed = set()

    def _stand(self, box: Box) -> None:
        self.batch_log.stand(box)

    def _let_go(self, box: Box, upto: int) -> None:
        recent = box.recent
        while recent and recent[0][0] <= upto:
            seq, number, size, _ = recent.popleft()
            if seq > box.checkpointed:
                self.memtable.release(number)
                box.waiting -= 1
                box.waiting_bytes -= size

    # --- what is committed -------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Take over the changes of the batch: its transaction is on the disk."""
        self.memtable.commit(self.last_envelope)
        self._changed = set()
        for box, before in self._before.items():
            self.depth.change(
                waiting=box.waiting - before.waiting, waiting_bytes=box.waiting_bytes - before.waiting_bytes
            )
        self._before.clear()
        self._dropped.clear()
        self.depth.commit()

    def is_in_doubt(self, mailbox: MailboxId) -> bool:
        """Whether the current batch has deleted the mailbox: its entries can be read again if that batch fails."""
        return mailbox in self._dropped

    def committed(self, client: ClientId) -> list[Mailbox]:
        """As `of`, without what the batch under way has done."""
        self.ready()
        boxes = [self._by_id.get(box.id, box) for box in read_boxes(self._lookups, client)]
        return [self._before.get(box) or box.snapshot() for box in boxes]

    def committed_entries(self, mailbox: MailboxId, after: int) -> list[Entry]:
        """Committed entries of the mailbox behind `after` that may not be in the tables yet."""
        box = self.by_id(mailbox)
        return [] if box is None else [*self.memtable.entries(box, after)]

    def trim(self) -> None:
        """Keep the cache in bounds. Not while a batch is under way."""
        if len(self.cached) > CACHED_CLIENTS:
            self.cached = {box.client: self.cached[box.client] for row in self._rows for box in row.boxes}
            self._by_id = {box.id: box for boxes in self.cached.values() for box in boxes}

    def ready(self) -> None:
        """Raises:
        sqlite3.Error, StoreError: what is committed is not known, and cannot be read.
        """
        if self._must_recover:
            self.recover()

    def recover(self) -> None:
        """Read the committed state anew: the transaction is undone, or the tables were changed beside this.

        Raises:
            sqlite3.Error, StoreError: it cannot be read; whatever is asked next tries again.
        """
        self._must_recover = True
        for known in (self.cached, self._by_id, self._rows, self._counted, self._before, self._dropped):
            known.clear()
        self._changed = set()
        self._weight = 0
        self.memtable = Memtable()
        self.batch_log = journal.BatchLog()
        self.last_envelope = self._lookups.execute(_SELECT_LAST).fetchone()[0]
        self.depth.recount(self._lookups)
        rows = list(journal.read_journal(self._lookups))
        self._must_recover = False  # `by_id` is asked for what the tables have
        try:
            for number, weight, effects in rows:
                for effect in effects:
                    self._replay(effect)
                self._add_row(number, weight)
        except BaseException:
            self._must_recover = True
            raise
        self.commit()

    def _replay(self, effect: journal.Effect) -> None:
        """Replay the effects of a batch. The tables may have them already, or later ones."""
        box: Box | None
        match effect:
            case journal.KeptEnvelope(number, envelope, digest, is_archived, is_blocked, places):
                recent = Recent(number, key_of(envelope, digest), envelope, digest, 0, is_archived, is_blocked)
                for mailbox, seq, is_own in places:
                    box = self.by_id(mailbox)
                    if box is not None:
                        self.change(box)
                        box.tail = max(box.tail, seq)
                        if seq > box.acked:
                            box.checkpointed = min(box.checkpointed, seq - 1)
                            _hold(box, seq, recent, is_own=is_own)
                self.memtable.keep(recent)
                self.last_envelope = max(self.last_envelope, number)
            case journal.Acknowledged(mailbox, upto):
                box = self.by_id(mailbox)
                if box is not None and upto > box.acked:
                    self.change(box)
                    self._let_go(box, upto)
                    box.acked = upto
            case journal.Standing(mailbox, tail, is_full, seen_ms, session):
                box = self.by_id(mailbox)
                if box is not None:
                    self.change(box)
                    box.tail, box.is_full, box.seen_ms = max(box.tail, tail), is_full, max(box.seen_ms, seen_ms)
                    box.session = max(box.session, session)
            case journal.SentSoFar(mailbox, sent, refused):
                box = self.by_id(mailbox)
                if box is not None and sent >= box.sent:
                    self.change(box)
                    box.sent, box.refused = sent, refused


def _hold(box: Box, seq: int, recent: Recent, *, is_own: bool) -> None:
    size = len(recent.envelope.payload)
    recent.owed += 1
    box.recent.append((seq, recent.number, size, is_own))
    box.waiting += 1
    box.waiting_bytes += size
