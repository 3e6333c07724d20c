"""Message ids that are known: what was accepted under one, for whoever says it again."""

import sqlite3

from ironwire.ids import ClientId, DeviceId, MessageId, parse_address
from ironwire.store.operations import Duplicate, IdTaken, Known

SELECT_KNOWN = """
    SELECT ts, digest, recipient FROM envelope
    WHERE sender = ? AND device = ? AND message_id = ? AND is_id_known = 1"""


def read_known(
    connection: sqlite3.Connection,
    sender: ClientId,
    device: DeviceId | None,
    id: MessageId,  # noqa: A002  # the frame's
    digest: bytes,
) -> Known | None:
    return known_as(connection.execute(SELECT_KNOWN, (sender, device or "", id)).fetchone(), digest)


def known_as(row: tuple[int, bytes, str] | None, digest: bytes) -> Known | None:
    if row is None:
        return None
    ts, known_digest, recipient = row
    return Duplicate(ts, parse_address(recipient)) if known_digest == digest else IdTaken()
