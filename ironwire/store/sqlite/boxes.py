"""A mailbox as the writer knows it: its row with the effects of the journal and the current batch. And their sum."""

import sqlite3
from collections import deque
from collections.abc import Iterable

import orjson
from attrs import define, field, setters

from ironwire.ids import ClientId, DeviceId
from ironwire.store.contract.records import Mailbox, MailboxId, Quota, RefusedSpan
from ironwire.wire.messages import ErrorCode

_COLUMNS = """
    id, client, device, acked, tail, waiting, waiting_bytes, is_full, created_ms, seen_ms,
    EXISTS (SELECT 1 FROM lost_change WHERE mailbox = mailbox.id), session, sent, refused, device_key"""
_SELECT_BOXES = f"SELECT {_COLUMNS} FROM mailbox WHERE client = ? ORDER BY id"  # noqa: S608  # a constant
_SELECT_BOXES_OF_ALL = f"""
    SELECT {_COLUMNS} FROM mailbox WHERE client IN (SELECT value FROM json_each(?)) ORDER BY id"""  # noqa: S608  # as above
_SELECT_DEPTH = "SELECT count(*), coalesce(sum(waiting), 0), coalesce(sum(waiting_bytes), 0) FROM mailbox"

Waiting = tuple[int, int, int, bool]
"""A place that waits for its ack: seq, number of the envelope, size, and whether it is the sender's own copy."""


def refused_spans(columns: Iterable[tuple[int, int, ErrorCode]]) -> tuple[RefusedSpan, ...]:
    return tuple(RefusedSpan(*span) for span in columns)


def _read_refused(text: str) -> tuple[RefusedSpan, ...]:
    return refused_spans(orjson.loads(text))


@define(eq=False, on_setattr=setters.NO_OP)
class Box:
    """A mailbox as the writer knows it, the batch under way included. It counts what waits in the tables and what is
    recent (`memtable.py`).
    """

    id: MailboxId
    client: ClientId
    device: DeviceId
    acked: int
    tail: int
    waiting: int
    waiting_bytes: int
    is_full: bool = field(converter=bool)
    created_ms: int
    seen_ms: int
    has_lost_changes: bool = field(converter=bool)
    """There are rows of the mailbox in the table of lost changes."""
    session: int = 1
    sent: int = 0
    refused: tuple[RefusedSpan, ...] = field(default="[]", converter=_read_refused)
    device_key: bytes | None = None
    checkpointed: int = field(init=False)
    """Entries up to this seq are in the tables, if they still wait; those behind it are recent."""
    recent: deque[Waiting] = field(init=False, factory=deque)
    """In the order of their seq. Some at the front may be checkpointed, until that is committed."""

    @checkpointed.default
    def _tail_when_read(self) -> int:
        return self.tail

    def admits(self, size: int, quota: Quota) -> bool:
        """Whether there is room for `size` bytes more; a mailbox that was full has room again at half (section 5)."""
        if self.is_full:
            self.is_full = self.waiting * 2 > quota.mailbox_envelopes or self.waiting_bytes * 2 > quota.mailbox_bytes
        if self.waiting >= quota.mailbox_envelopes or self.waiting_bytes + size > quota.mailbox_bytes:
            self.is_full = True
        return not self.is_full

    def snapshot(self) -> Mailbox:
        return Mailbox(
            id=self.id,
            client=self.client,
            device=self.device,
            epoch=self.id,
            acked=self.acked,
            tail=self.tail,
            waiting=self.waiting,
            waiting_bytes=self.waiting_bytes,
            created_ms=self.created_ms,
            seen_ms=self.seen_ms,
            session=self.session,
            sent=self.sent,
            refused=self.refused,
            device_key=self.device_key,
        )

    def refused_text(self) -> str:
        """What the column `refused` holds."""
        return orjson.dumps([(span.first, span.last, span.code) for span in self.refused]).decode()


def read_boxes(connection: sqlite3.Connection, client: ClientId) -> list[Box]:
    return [Box(*row) for row in connection.execute(_SELECT_BOXES, (client,))]


def read_boxes_of_all(connection: sqlite3.Connection, clients: Iterable[ClientId]) -> dict[ClientId, list[Box]]:
    """The mailboxes of each of many clients, in a tenth of the time that one statement for each takes."""
    boxes: dict[ClientId, list[Box]] = {client: [] for client in clients}
    for row in connection.execute(_SELECT_BOXES_OF_ALL, (orjson.dumps([*boxes]).decode(),)):
        box = Box(*row)
        boxes[box.client].append(box)
    return boxes


@define
class Depth:
    """How much waits in all mailboxes together, as it was committed last: counted once, which reads every mailbox, and
    kept up to date from then on. Changes of the current transaction are kept apart until `commit`.
    """

    mailboxes: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    _changed_mailboxes: int = 0
    _changed_waiting: int = 0
    _changed_bytes: int = 0

    def change(self, *, mailboxes: int = 0, waiting: int = 0, waiting_bytes: int = 0) -> None:
        """The transaction adds so much, or takes it away."""
        self._changed_mailboxes += mailboxes
        self._changed_waiting += waiting
        self._changed_bytes += waiting_bytes

    def recount(self, connection: sqlite3.Connection) -> None:
        """The transaction on `connection` changed many mailboxes: look what it made of them."""
        mailboxes, waiting, waiting_bytes = connection.execute(_SELECT_DEPTH).fetchone()
        self.roll_back()
        self.change(
            mailboxes=mailboxes - self.mailboxes,
            waiting=waiting - self.waiting,
            waiting_bytes=waiting_bytes - self.waiting_bytes,
        )

    def commit(self) -> None:
        self.mailboxes += self._changed_mailboxes
        self.waiting += self._changed_waiting
        self.waiting_bytes += self._changed_bytes
        self.roll_back()

    def roll_back(self) -> None:
        self._changed_mailboxes = self._changed_waiting = self._changed_bytes = 0
