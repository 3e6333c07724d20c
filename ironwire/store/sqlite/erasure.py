"""Erasing a client from the SQLite file, for the operator.

Rule: nothing stays that is the client's own, and nothing goes that others are owed.
"""

import sqlite3

from ironwire.ids import ClientId
from ironwire.store.contract.maintenance import Erased
from ironwire.store.sqlite.device_log import erase_log

_OWN_MAILBOXES = "(SELECT id FROM mailbox WHERE client = :client)"
_CONCERNS = "(sender = :client OR recipient = :client)"
_RELEASE_OWN = f"""
    UPDATE envelope SET owed = owed - gone.places
    FROM (SELECT envelope AS id, count(*) AS places FROM entry WHERE mailbox IN {_OWN_MAILBOXES} GROUP BY 1) AS gone
    WHERE envelope.id = gone.id"""  # noqa: S608  # constants
_DELETE_ENTRIES = f"DELETE FROM entry WHERE mailbox IN {_OWN_MAILBOXES}"  # noqa: S608  # constants
_DELETE_MAILBOXES = "DELETE FROM mailbox WHERE client = :client"
_DELETE_BLOCKS = "DELETE FROM block WHERE client = :client"
_DELETE_BACKUPS = "DELETE FROM backup WHERE client = :client"
_COUNT_ENVELOPES = f"SELECT total(is_archived), total(owed > 0) FROM envelope WHERE {_CONCERNS}"  # noqa: S608  # constants
_UNARCHIVE = f"UPDATE envelope SET is_archived = 0 WHERE {_CONCERNS}"  # noqa: S608  # constants
_DELETE_ERASED = "DELETE FROM envelope WHERE owed = 0 AND is_archived = 0"


def erase_client(database: sqlite3.Connection, client: ClientId) -> Erased:
    """The changes of `Store.erase`, within a transaction. Reads every envelope: call it in a thread."""

    def run(statement: str) -> sqlite3.Cursor:
        return database.execute(statement, {"client": client})

    run(_RELEASE_OWN)
    waiting = run(_DELETE_ENTRIES).rowcount
    devices = run(_DELETE_MAILBOXES).rowcount
    run(_DELETE_BACKUPS)
    archived, left = map(int, run(_COUNT_ENVELOPES).fetchone())
    run(_UNARCHIVE)
    database.execute(_DELETE_ERASED)
    return Erased(devices, waiting, archived, run(_DELETE_BLOCKS).rowcount, left, erase_log(database, client))
