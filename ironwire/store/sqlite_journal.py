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
from ironwire.ids import ClientId, DeviceId, MessageId, parse_address
from ironwire.record import record
from ironwire.store.records import Envelope, MailboxId

_INSERT = "INSERT INTO journal (effects) VALUES (?)"
_SELECT = "SELECT number, effects FROM journal ORDER BY number"
_DELETE = "DELETE FROM journal"

Place = tuple[MailboxId, int, bool]
"""Mailbox, seq, and whether it is the sender's own copy."""


@record
class Kept:
    """An envelope got this number, and these places."""

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
    """The mailbox gave out numbers up to `tail`, is full or is not, and its device was seen last at `seen_ms`."""

    mailbox: MailboxId
    tail: int
    is_full: bool
    seen_ms: int


Effect = Kept | Acknowledged | Standing


class Page:
    """The effects of one batch, in their order, until they are written. What tells them apart is their length."""

    def __init__(self) -> None:
        self._effects: list[tuple[object, ...]] = []
        self.written = 0
        """Effects in the journal, since it was empty."""

    def keep(
        self,
        number: int,
        envelope: Envelope,
        digest: bytes,
        is_archived: bool,
        is_blocked: bool,
        places: Sequence[Place],
    ) -> None:
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

    def stand(self, mailbox: MailboxId, tail: int, is_full: bool, seen_ms: int) -> None:
        self._effects.append((mailbox, tail, is_full, seen_ms))

    def write(self, connection: sqlite3.Connection) -> None:
        """Add a row, if there is anything to say, within the transaction on `connection`."""
        if self._effects:
            connection.execute(_INSERT, (orjson.dumps(self._effects),))
            self.written += len(self._effects)
            self._effects.clear()

    def begin_anew(self, connection: sqlite3.Connection) -> None:
        """Empty the journal, within the transaction that brings all of it into the tables; and forget what was not
        written yet.
        """
        connection.execute(_DELETE)
        self.written = 0
        self._effects.clear()


def read_journal(connection: sqlite3.Connection) -> Iterator[Effect]:
    """All effects, in the order of their batches.

    Raises:
        StoreError: it cannot be understood.
    """
    for number, effects in connection.execute(_SELECT):
        try:
            yield from map(_effect, orjson.loads(effects))
        except (ValueError, TypeError) as error:
            raise StoreError(f"row {number} of the journal is damaged ({error}): restore a backup") from error


def _effect(columns: list[Any]) -> Effect:
    match columns:
        case [mailbox, upto]:
            return Acknowledged(mailbox, upto)
        case [mailbox, tail, is_full, seen_ms]:
            return Standing(mailbox, tail, is_full, seen_ms)
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
) -> Kept:
    envelope = Envelope(
        verb=verb,
        sender=ClientId(sender),
        device=None if device is None else DeviceId(device),
        to=parse_address(to),
        id=None if id is None else MessageId(id),
        ts=ts,
        payload=payload.encode("latin-1"),
    )
    return Kept(number, envelope, bytes.fromhex(digest), is_archived, is_blocked, places)
