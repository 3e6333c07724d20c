"""The state of the chat window, as a value; `update.py` changes it, `view.py` draws it.

    WindowState ─┬─ rows       the list: one `ListRow` for each conversation, and for each contact without one
                 ├─ threads    by peer: the entries that are loaded, what is said beside them, how far it is scrolled
                 └─ the rest   which one is open, where the keyboard is, the connection, who types, what was announced

Rule: everything that was said stands in the device's file, and comes here from there. Only what is worth nothing later
begins its life here: notes, transfers, who types.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from attrs import evolve, field, frozen

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat.commands import Remark
from ironwire.cli.chat.transfers import Transfer
from ironwire.cli.chat.window.cells import steady
from ironwire.client import Connection, HistoryEntry
from ironwire.ids import Address, ClientId

Focus = Literal["list", "composer"]

WIDE_CELLS = 70
"""From so many cells on, the list and a conversation stand side by side."""


@frozen
class ListRow:
    """A conversation in the list. `last` is None for a contact with whom nothing was said yet."""

    peer: Address
    last: HistoryEntry | None = None
    unread: int = 0


@frozen
class Note:
    """Something that the program says in a conversation, behind the entry `after`."""

    after: int
    remark: Remark


@frozen
class Position:
    """The scroll position of a conversation: the lowest line on the screen is `lines` above the last of block `key`."""

    key: tuple[int, int]
    lines: int


@frozen
class Thread:
    """A conversation, as far as it is loaded. Entries and notes are in their order."""

    peer: Address
    entries: tuple[HistoryEntry, ...] = ()
    notes: tuple[Note, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    is_whole: bool = False
    """There is nothing before the first entry."""
    is_loading: bool = False
    """A page before the first entry is on its way."""
    position: Position | None = None
    """None: at the bottom, and what comes is seen at once."""
    unseen: int = 0
    """Entries that came below `position`."""

    @property
    def last_number(self) -> int:
        return self.entries[-1].number if self.entries else 0


@frozen
class Announcement:
    """Something that came elsewhere, in the conversation with `peer`; or that concerns none."""

    text: str
    peer: Address | None = None


@frozen
class WindowState:
    """Everything that is shown, but for the text in the composer."""

    own: ClientId
    book: AddressBook
    now: datetime
    clock: float = 0.0
    """Trio's: for what lasts some seconds."""
    server: str = ""
    rows: tuple[ListRow, ...] = ()
    threads: Mapping[Address, Thread] = field(factory=dict)
    open: Address | None = None
    selected: Address | None = None
    focus: Focus = "list"
    connection: Connection = field(factory=lambda: Connection("connecting"))
    waiting: int = 0
    """Own messages that the server has not answered yet."""
    typing: Mapping[tuple[Address, ClientId], float] = field(factory=dict)
    """By conversation and client that types in it: until when on `clock` that is believed."""
    statuses: Mapping[ClientId, str] = field(factory=dict)
    announcement: Announcement | None = None
    dropping: frozenset[int] = frozenset()
    """Transfers that were on their way when the person asked to leave; to ask again drops them."""
    help_top: int | None = None
    """The first line of the help that is shown; None while there is none."""
    is_wide: bool = True
    """There is room for the list and a conversation at once."""
    is_focused: bool | None = None
    """Whether the terminal has the user's attention; None where it does not say."""

    @property
    def thread(self) -> Thread | None:
        """The open conversation."""
        return None if self.open is None else self.threads[self.open]

    def label(self, address: Address) -> str:
        """As `AddressBook.label` has it. An id is cut short with an ellipsis, which no contact's name contains."""
        return steady(self.book.label(address))

    def is_known(self, address: Address) -> bool:
        return self.book.is_known(address)

    def with_thread(self, thread: Thread) -> "WindowState":
        return evolve(self, threads={**self.threads, thread.peer: thread})

    def typists(self, peer: Address) -> list[ClientId]:
        """The clients that type in the conversation with `peer` now."""
        return [client for (where, client), until in self.typing.items() if where == peer and self.clock < until]

    @property
    def transfers(self) -> list[Transfer]:
        """All that are on their way, in whichever conversation."""
        return [transfer for thread in self.threads.values() for transfer in thread.transfers]

    @property
    def shown(self) -> Address | None:
        """Whose conversation is on the screen."""
        return self.open if self.is_wide or self.focus == "composer" else None

    @property
    def is_read(self) -> bool:
        """Somebody sees what comes in the open conversation."""
        is_at_bottom = self.thread is not None and self.thread.position is None
        return self.shown is not None and is_at_bottom and self.is_focused is not False

    def row(self, peer: Address | None) -> ListRow | None:
        return next((row for row in self.rows if row.peer == peer), None)
