"""How much waits in all mailboxes together: counted once, then kept up to date with every batch.

To ask the database each time would read every mailbox there is.
"""

import sqlite3

from attrs import define

_SELECT_DEPTH = "SELECT count(*), coalesce(sum(waiting), 0), coalesce(sum(waiting_bytes), 0) FROM mailbox"


@define
class Depth:
    """As it was committed last; what the transaction under way changes is kept apart until `commit`."""

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
