"""The journal in the SQLite file: what batches have done to mailboxes and is not in the tables yet, a batch a row.

Most envelopes are acknowledged a moment after they were accepted. So a batch writes down in one row what it did, which
is one place on the disk instead of one in each of five B-trees, and the tables get what is left after a while
(docs/decisions/0010). Rule: tables and journal together are what was committed; to read the journal twice, or what the
tables have already, changes nothing.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from ironwire.errors import StoreError
from ironwire.ids import ClientId, DeviceId, MessageId, parse_recipient
from ironwire.record import record
from ironwire.store.contract.records import Envelope, MailboxId, RefusedSpan
from ironwire.store.sqlite.memtable import Box, refused_spans

_INSERT = "INSERT INTO journal (effects) VALUES (?)"
_SELECT = "SELECT number, effects FROM journal ORDER BY number"
_DELETE = "DELETE FROM journal WHERE number <= ?"

Place = tuple[MailboxId, int, bool]
"""Mailbox, seq, and whether it is the sender's own copy."""


@record
class KeptEnvelope:
    """An envelope got this number, and these places. With an empty digest its id is not remembered."""

    number: int
    envelope: Envelope
    digest: bytes
    is_archived: bool
    is_blocked: bool
    places: Sequence[Place]


@record
class Acknowledged:
    """Everything up to `upto` left the mailbox."""

    mailbox: MailboxId
    upto: int


@record
class Standing:
    """The mailbox gave out numbers up to `tail`, is full or is not, and its device was seen last at `seen_ms`, in this
    session.
    """

    mailbox: MailboxId
    tail: int
    is_full: bool
    seen_ms: int
    session: int


@record
class SentSoFar:
    """The highest number of a device that is settled (`store/contract/order.py`)."""

    mailbox: MailboxId
    sent: int
    refused: tuple[RefusedSpan, ...]


Effect = KeptEnvelope | Acknowledged | Standing | SentSoFar


class BatchLog:
    """The effects of a batch so far, until they are written. Effects are told apart by their length."""

    def __init__(self) -> None:
        self._effects: list[tuple[object, ...]] = []
        self._weight = 0

    def keep(
        self,
        number: int,
        envelope: Envelope,
        digest: bytes,
        is_archived: bool,
        is_blocked: bool,
        places: Sequence[Place],
    ) -> None:
        self._weight += _weight(envelope, places)
        self._effects.append(
            (
                number,
                envelope.verb,
                envelope.sender,
                envelope.device,
                envelope.to,
                envelope.id,
                envelope.ts,
                # Any bytes, in JSON a character each; none of what nobody will read.
                envelope.payload.decode("latin-1") if places or is_archived else "",
                digest.hex(),
                is_archived,
                is_blocked,
                places,
            )
        )

    def acknowledge(self, mailbox: MailboxId, upto: int) -> None:
        self._effects.append((mailbox, upto))

    def stand(self, box: Box) -> None:
        self._effects.append((box.id, box.tail, box.is_full, box.seen_ms, box.session))

    def settle(self, box: Box) -> None:
        self._effects.append((box.id, box.sent, [(span.first, span.last, span.code) for span in box.refused]))

    def clear(self) -> None:
        """Drop the effects: the tables have them, or the batch was undone."""
        self._effects.clear()
        self._weight = 0

    def write(self, connection: sqlite3.Connection) -> tuple[int, int] | None:
        """Add a row, within the transaction on `connection`; returns its number and weight. None: there was nothing to
        say.
        """
        if not self._effects:
            return None
        number = connection.execute(_INSERT, (orjson.dumps(self._effects),)).lastrowid or 0
        weight = len(self._effects) + self._weight
        self.clear()
        return number, weight


def _weight(envelope: Envelope, places: Sequence[Place]) -> int:
    """The weight that an envelope adds to a row: for its entries, and for its size."""
    return len(places) + len(envelope.payload) // 1024


def read_journal(connection: sqlite3.Connection) -> Iterator[tuple[int, int, list[Effect]]]:
    """Every row: its number, its weight and its effects, in their order.

    Raises:
        StoreError: it cannot be understood.
    """
    for number, text in connection.execute(_SELECT):
        try:
            effects = [_effect(columns) for columns in orjson.loads(text)]
        except (ValueError, TypeError) as error:
            raise StoreError(f"row {number} of the journal is damaged ({error}): restore a backup") from error
        weights = (_weight(effect.envelope, effect.places) for effect in effects if isinstance(effect, KeptEnvelope))
        yield number, len(effects) + sum(weights), effects


def shorten_journal(connection: sqlite3.Connection, upto: int) -> None:
    """Delete rows up to this number, within the transaction that brings what they say into the tables."""
    connection.execute(_DELETE, (upto,))


def _effect(columns: list[Any]) -> Effect:
    match columns:
        case [mailbox, upto]:
            return Acknowledged(mailbox, upto)
        case [mailbox, sent, refused]:
            return SentSoFar(mailbox, sent, refused_spans(refused))
        case [mailbox, tail, is_full, seen_ms, session]:
            return Standing(mailbox, tail, is_full, seen_ms, session)
        case _:
            return _kept(*columns)


def _kept(
    number: int,
    verb: str,
    sender: str,
    device: str | None,
    to: str,
    id: str | None,  # noqa: A002  # the frame's
    ts: int,
    payload: str,
    digest: str,
    is_archived: bool,
    is_blocked: bool,
    places: list[Place],
) -> KeptEnvelope:
    envelope = Envelope(
        verb=verb,
        sender=ClientId(sender),
        device=None if device is None else DeviceId(device),
        to=parse_recipient(to),
        id=None if id is None else MessageId(id),
        ts=ts,
        payload=payload.encode("latin-1"),
    )
    return KeptEnvelope(number, envelope, bytes.fromhex(digest), is_archived, is_blocked, places)
