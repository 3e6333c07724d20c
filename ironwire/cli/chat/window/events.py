"""Events and effects of the chat window: plain values, from and to `update.py`."""

from collections.abc import Mapping
from datetime import datetime

from attrs import frozen

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat.commands import Question, Remark
from ironwire.cli.chat.transfers import Transfer
from ironwire.cli.chat.window.model import Focus, ListRow
from ironwire.client import Connection, HistoryEntry
from ironwire.ids import Address, ClientId, GroupId
from ironwire.wire.messages import FileKind

# --- events of the device and the client -----------------------------------------------------------------------------


@frozen
class Listed:
    """The conversations as they are now, and the contacts."""

    rows: tuple[ListRow, ...]
    waiting: int


@frozen
class Paged:
    """The newest entries with `peer`, oldest first; all of them if `is_whole`."""

    peer: Address
    entries: tuple[HistoryEntry, ...]
    is_whole: bool


@frozen
class PagedBefore:
    """The entries before the one with the number `before`, which was the first that was loaded."""

    peer: Address
    before: int
    entries: tuple[HistoryEntry, ...]
    is_whole: bool


@frozen
class Noted:
    """The program has to say something in the conversation with `peer`, or in the open one."""

    remark: Remark
    peer: Address | None = None


@frozen
class Announced:
    """Something came in the conversation with `peer`, or concerns none."""

    text: str
    peer: Address | None = None


@frozen
class ConnectionChanged:
    connection: Connection


@frozen
class Typed:
    peer: Address
    client: ClientId
    is_typing: bool


@frozen
class StatusChanged:
    client: ClientId
    status: str


@frozen
class Transferred:
    """How far a transfer is; `is_over` when it has ended."""

    transfer: Transfer
    is_over: bool = False


@frozen
class GroupsNamed:
    """The names that groups have of their own, as far as they are known."""

    names: Mapping[GroupId, str]


@frozen
class BookChanged:
    """Another command has changed the contacts."""

    book: AddressBook


@frozen
class Ticked:
    """Time has passed; `clock` is Trio's."""

    now: datetime
    clock: float


@frozen
class FocusReported:
    """The terminal has the user's attention, or has it no longer."""

    is_focused: bool


@frozen
class Resized:
    is_wide: bool


# --- events of the keyboard ------------------------------------------------------------------------------------------


@frozen
class Moved:
    """The selection in the list, by so many rows."""

    rows: int


@frozen
class Chosen:
    """The selected conversation, or the one in this row of the list."""

    index: int | None = None


@frozen
class Opened:
    """The conversation with `peer` is wanted."""

    peer: Address


@frozen
class Stepped:
    """To the next conversation of the list, or back."""

    rows: int


@frozen
class WentUnread:
    """To what is announced, else to the next conversation with something unread."""


@frozen
class FocusMoved:
    to: Focus


@frozen
class Scrolled:
    """Up by so many lines, in a conversation that is drawn with `width` cells and `height` lines; down if negative."""

    lines: int
    width: int
    height: int


@frozen
class HelpScrolled:
    """Show the help, or move in it; None puts it away."""

    lines: int | None


@frozen
class LeavingAsked:
    """The person wants to leave."""


@frozen
class Entered:
    """A line was entered in the composer of the conversation with `peer`."""

    peer: Address | None
    text: str


Event = (
    Listed
    | Paged
    | PagedBefore
    | Noted
    | Announced
    | ConnectionChanged
    | Typed
    | StatusChanged
    | Transferred
    | GroupsNamed
    | BookChanged
    | Ticked
    | FocusReported
    | Resized
    | Moved
    | Chosen
    | Opened
    | Stepped
    | WentUnread
    | FocusMoved
    | Scrolled
    | HelpScrolled
    | LeavingAsked
    | Entered
)

# --- effects ---------------------------------------------------------------------------------------------------------


@frozen
class Load:
    """Read the newest page of the conversation with `peer`."""

    peer: Address


@frozen
class LoadBefore:
    peer: Address
    before: int


@frozen
class Say:
    peer: Address
    text: str


@frozen
class SendFile:
    peer: Address
    kind: FileKind
    path: str


@frozen
class Save:
    """A file that came: the one that `argument` names, else the last."""

    peer: Address
    argument: str


@frozen
class Ask:
    """Have the server answer `question`."""

    peer: Address
    question: Question


@frozen
class Reconnect:
    pass


@frozen
class Leave:
    pass


Effect = Load | LoadBefore | Say | SendFile | Save | Ask | Reconnect | Leave
