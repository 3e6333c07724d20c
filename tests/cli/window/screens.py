"""A chat window without a terminal: a state, what happens to it, and the screen as text."""

from datetime import datetime, timedelta
from pathlib import Path

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat.window.cells import Line, padded
from ironwire.cli.chat.window.events import Effect, Event, Listed, Opened, Paged
from ironwire.cli.chat.window.model import WIDE_CELLS, ListRow, WindowState
from ironwire.cli.chat.window.update import update
from ironwire.cli.chat.window.view import conversation_pane, help_pane, list_cells, list_pane, rule_pane, status_pane
from ironwire.client import Connection, DeliveredFile, DeliveredText, GroupChanged, HistoryEntry
from ironwire.ids import Address, ClientId, DeviceId, MessageId
from tests.cli.table import ALICE, BOB, CAROL, FRIENDS

NOW = datetime(2026, 11, 28, 12, 30).astimezone()
DESK = DeviceId("desk")
UNKNOWN = ClientId("e0" * 32)


def new_state(tmp_path: Path, *, is_wide: bool = True) -> WindowState:
    """Alice's, who knows Bob, Carol and a group."""
    book = AddressBook.beside(tmp_path / "key")
    book.add("bob", BOB)
    book.add("carol", CAROL)
    book.add("friends", FRIENDS)
    return WindowState(
        ALICE, book, NOW, server="http://localhost:8080", connection=Connection("connected"), is_wide=is_wide
    )


def after(state: WindowState, *events: Event) -> WindowState:
    for event in events:
        state, _ = update(state, event)
    return state


def effects_of(state: WindowState, *events: Event) -> list[Effect]:
    found: list[Effect] = []
    for event in events:
        state, effects = update(state, event)
        found += effects
    return found


def at(minutes: int) -> int:
    """So many minutes after noon, in Unix ms."""
    return int((NOW.replace(hour=12, minute=0) + timedelta(minutes=minutes)).timestamp() * 1000)


def theirs(number: int, text: str, sender: ClientId = BOB, **more: object) -> HistoryEntry:
    message = DeliveredText(sender, text, **{"ts": at(number), "device": DESK, **more})  # type: ignore[arg-type]  # kwargs
    return HistoryEntry(number, message, MessageId(str(number)), "received", is_encrypted=True)


def ours(number: int, text: str, to: Address = BOB, **fate: object) -> HistoryEntry:
    said = DeliveredText(ALICE, text, ts=at(number), device=DESK, to=to)
    return HistoryEntry(number, said, MessageId(str(number)), **{"state": "accepted", "is_encrypted": True, **fate})  # type: ignore[arg-type]  # kwargs


def said(number: int, message: DeliveredFile | GroupChanged) -> HistoryEntry:
    return HistoryEntry(number, message, MessageId(str(number)), "received", is_encrypted=True)


def conversing(state: WindowState, peer: Address, *entries: HistoryEntry, is_whole: bool = True) -> WindowState:
    """The conversation with `peer` is open, and this is in it."""
    rows = (ListRow(peer, entries[-1] if entries else None), *(row for row in state.rows if row.peer != peer))
    return after(state, Opened(peer), Paged(peer, entries, is_whole), Listed(rows, 0))


def text_of(lines: list[Line]) -> str:
    return "\n".join("".join(text for _, text in line).rstrip() for line in lines)


def screen(state: WindowState, width: int, height: int, draft: str = "") -> str:
    """The window as the terminal shows it, with `draft` in the composer."""
    body = height - 1
    if state.help_top is not None:
        lines = help_pane(state, width, body)
    elif width >= WIDE_CELLS:
        beside = list_cells(width)
        left = list_pane(state, beside, body)
        lines = [
            [*row, ("", "│"), *line]
            for row, line in zip(left, _right(state, width - beside - 1, body, draft), strict=True)
        ]
    elif state.focus == "list":
        lines = [*list_pane(state, width, body - 1), rule_pane(state, width)]
    else:
        lines = _right(state, width, body, draft)
    return text_of([*lines, status_pane(state, width)])


def _right(state: WindowState, width: int, height: int, draft: str) -> list[Line]:
    above = conversation_pane(state, width, height - 2)
    return [*above, rule_pane(state, width), padded([("", f"> {draft}")], width)]
