"""What comes to a device, on its way into the file: deliveries in the clear, messages that were encrypted, and how far
the mailbox has been dealt with. Everything here blocks, as `file.py` does.
"""

import sqlite3
from collections.abc import Sequence

from attrs import define, evolve

from ironwire.client.events import Event, Received
from ironwire.client.store import amendments, records
from ironwire.client.store.secrets import keep
from ironwire.e2e.bodies import FileBody, ReceiptBody, TextBody, TypingBody
from ironwire.e2e.content import encode_content
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.ids import Address, ClientId, GroupId, MessageId
from ironwire.wire import messages as msg
from ironwire.wire.base64url import to_base64url
from ironwire.wire.codec import encode, encode_payload, frame_text
from ironwire.wire.messages.conversations import MlsMessage

SAME_ID_MS = 30 * 24 * 3_600_000
"""A sender's id names one message for so long; after that it may name another (section 4)."""

_INSERT = """
    INSERT INTO entry (state, peer, sender, device, message_id, ts, frame, content, encrypted)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_KNOWN = """
    SELECT ts FROM entry WHERE sender = ? AND message_id = ? AND device = ? AND state IN ('unseen', 'seen')"""
_TAKE_PLACE = "DELETE FROM entry WHERE sender = ? AND message_id = ? AND peer = ? AND told_by IS NOT NULL"
"""What comes itself, instead of what another own device has told of it."""
_NOTE_RECEIPT = """
    UPDATE entry SET receipt = ? WHERE sender = ? AND message_id = ? AND peer = ? AND coalesce(receipt, '') <> 'read'"""
_NOTE_NEWEST = """
    INSERT INTO conversation (peer, newest) VALUES (?, last_insert_rowid())
    ON CONFLICT (peer) DO UPDATE SET newest = excluded.newest"""


def insert_entry(
    database: sqlite3.Connection,
    state: str,
    peer: Address | None,
    named: tuple[ClientId, str, MessageId | None],
    ts: int,
    frame: str,
    content: bytes | None = None,
    *,
    is_encrypted: bool = False,
) -> None:
    """`named` are sender, device and id."""
    sender, device, message_id = named
    database.execute(_INSERT, (state, peer, sender, device, message_id, ts, frame, content, is_encrypted))
    if peer is not None:
        database.execute(_NOTE_NEWEST, (peer,))


@define(eq=False)
class Arrivals:
    """The way into the file of one device."""

    _database: sqlite3.Connection
    _owner: records.Owner

    def arrive(self, arrival: records.Arrive) -> None:
        """A delivery in the clear, or a gap, of a device that encrypts nothing."""
        message = arrival.message
        stored = self._stored
        first = min(message.first, stored + 1) if isinstance(message, msg.Gap) else arrival.seq
        if arrival.seq > stored:
            self._pass(first, arrival.seq, stored)
            self._insert(arrival.id, message, arrival.seq, stored)

    def absorb(self, writes: Sequence[fx.Write]) -> None:
        """What the engine of a device wants kept."""
        stored = passed = self._stored
        for write in writes:
            if isinstance(write, fx.Passed) and write.seq > passed:
                self._pass(write.first, write.seq, passed)
                passed = write.seq
        for write in writes:
            match write:
                case fx.Passed():
                    pass
                case ev.OpenedMessage():
                    self._insert_opened(write)
                case fx.KeptFrame(frame):
                    if isinstance(frame.message, records.Delivery | msg.Gap):
                        self._insert(frame.id, frame.message, frame.seq or 0, stored)
                case _:
                    keep(self._database, write)

    # --- the mailbox -------------------------------------------------------------------------------------------------

    @property
    def _stored(self) -> int:
        (stored,) = self._database.execute("SELECT seq FROM mailbox").fetchone()
        return int(stored)

    def _pass(self, first: int, seq: int, stored: int) -> None:
        self._database.execute("UPDATE mailbox SET seq = ?", (seq,))
        if 0 < stored < first - 1:
            # Acknowledged, but not from this file: it was put back from a copy. Anything may have been there.
            self._insert_gap(msg.Gap(stored + 1, first - 1, "expired", more_groups=True))

    # --- entries -----------------------------------------------------------------------------------------------------

    def _insert(self, message_id: MessageId | None, message: records.Delivery | msg.Gap, seq: int, stored: int) -> None:
        if isinstance(message, msg.Gap):
            self._insert_gap(evolve(message, first=max(message.first, stored + 1)))
        elif not self._is_known(message_id, records.sender_of(message), message.device or "", message.ts or 0):
            self._insert_delivery(message_id, message, seq)

    def _insert_gap(self, gap: msg.Gap) -> None:
        named = (self._owner.client, "", None)
        insert_entry(self._database, "unseen", None, named, 0, encode(gap).decode())

    def _is_known(self, message_id: MessageId | None, sender: ClientId, device: str, at: int) -> bool:
        """Whether it came under another number: a server that was set back, and a sender that sent again."""
        if message_id is None:
            return False
        known = self._database.execute(_KNOWN, (sender, message_id, device))
        return any(abs(at - ts) < SAME_ID_MS for (ts,) in known)

    def _insert_delivery(
        self,
        message_id: MessageId | None,
        message: records.Delivery | MlsMessage,
        seq: int,
        content: bytes | None = None,
    ) -> None:
        own = self._owner.client
        frame = frame_text(message.verb, encode_payload(message), id=message_id, seq=seq).decode()
        peer: Address | None = None
        if isinstance(message, msg.DeliveredReceipt):
            noted = [(message.state, own, receipted, message.sender) for receipted in message.ids]
            self._database.executemany(_NOTE_RECEIPT, noted)
        elif isinstance(message, records.Said):
            peer = records.conversation_of(message, own)
        if peer is not None and message_id is not None:
            self._database.execute(_TAKE_PLACE, (records.sender_of(message), message_id, peer))
        named = (records.sender_of(message), message.device or "", message_id)
        is_encrypted = content is not None
        insert_entry(self._database, "unseen", peer, named, message.ts or 0, frame, content, is_encrypted=is_encrypted)

    def _insert_opened(self, opened: ev.OpenedMessage) -> None:
        content = opened.content
        peer: Address = GroupId(opened.conversation) if opened.peer is None else opened.peer
        amendments.note(self._database, peer, opened.sender, content)
        is_deleted = amendments.is_deleted(self._database, peer, opened.sender, content.id)
        if not is_deleted and not self._is_known(content.id, opened.sender, opened.device, opened.ts):
            self._insert_delivery(content.id, as_delivered(opened), opened.seq or 0, encode_content(content))


def as_told(event: ev.EngineEvent) -> Event | None:
    """What the program is told of an event of the engine; None: it reads that from the file."""
    match event:
        case ev.CallSignalled(message, content):
            return Received(message, content=content)
        case ev.OpenedMessage(seq=None):
            return Received(_as_signal(event) or as_delivered(event), content=event.content)
        case ev.OpenedMessage():
            return None
        case _:
            return event


def _as_signal(opened: ev.OpenedMessage) -> msg.RelayedTyping | None:
    if not isinstance(opened.content.body, TypingBody):
        return None
    group = GroupId(opened.conversation) if opened.peer is None else None
    return msg.RelayedTyping(opened.sender, opened.content.body.typing, group)


def as_delivered(
    opened: ev.OpenedMessage,
) -> msg.DeliveredText | msg.DeliveredFile | msg.DeliveredReceipt | MlsMessage:
    """An encrypted message in the form of one in the clear, where there is one; else its envelope, around what was in
    it.
    """
    peer, ts, device = opened.peer, opened.ts, opened.device
    group = GroupId(opened.conversation) if peer is None else None
    to = None if opened.sender == peer else peer
    match opened.content.body:
        case TextBody(text):
            return msg.DeliveredText(opened.sender, text, ts, device, to, group)
        case FileBody() as body:
            return _delivered_file(opened, body, to, group)
        case ReceiptBody(ids, state):
            return msg.DeliveredReceipt(opened.sender, ids, state, ts, device, to)
        case _:
            data = to_base64url(encode_content(opened.content))
            return MlsMessage(opened.sender, device, opened.conversation, *opened.place, ts, data)


def _delivered_file(
    opened: ev.OpenedMessage, body: FileBody, to: ClientId | None, group: GroupId | None
) -> msg.DeliveredFile:
    """The hash is that of the encrypted file, so it is left out: nobody is to take that for the content."""
    return msg.DeliveredFile(
        opened.sender,
        body.file.url,
        kind=body.kind,
        name=body.name,
        mime=body.mime,
        size=body.file.size,
        duration_ms=body.duration_ms,
        width=body.width,
        height=body.height,
        waveform=body.waveform,
        caption=body.caption,
        ts=opened.ts,
        device=opened.device,
        to=to,
        group=group,
    )
