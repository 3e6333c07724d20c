"""The panes of the chat window as lines of styled text: a function of the state and of how much room there is.

    ┌ list ──────┬ conversation ┐      Below `WIDE_CELLS` one of the two at a time: the one where the keyboard is.
    │            │ composer     │
    └ status ────┴──────────────┘

Every pane is as many lines as it is high, and every line as many cells as it is wide.
"""

from datetime import datetime

from ironwire.cli.addressbook import VERIFIED
from ironwire.cli.chat.commands import USAGE
from ironwire.cli.chat.transfers import leaving_drops
from ironwire.cli.chat.window.cells import Fragment, Line, cells, clipped, padded, steady, width_of, wrapped
from ironwire.cli.chat.window.history import speaker_style, visible_lines
from ironwire.cli.chat.window.model import ListRow, WindowState
from ironwire.cli.render import YOU, change_told, when
from ironwire.client import DeliveredFile, DeliveredText, GroupChanged
from ironwire.ids import Address, ClientId, is_group

HELP = (
    ("Enter", "send, or open from the list"),
    ("Alt-Enter", "a new line"),
    ("Tab, Esc", "to the list and back"),
    ("Ctrl-N Ctrl-P", "next, previous conversation"),
    ("Alt-1 … Alt-9", "that one of the list"),
    ("Ctrl-G", "to what is announced or unread"),
    ("PgUp PgDn", "older, newer messages"),
    ("Ctrl-End", "to the newest"),
    ("F5", "reconnect now (r in the list)"),
    ("F1", "this help (? in the list)"),
    ("Ctrl-C", "leave: what you sent is kept"),
    ("", ""),
    *USAGE,
    ("", ""),
    ("… queued", "goes out with the connection"),
    ("✓", "the server has it"),
    ("✓✓", "it was delivered"),
    ("✓✓ read", "it was read"),
    ("✗", "it was refused"),
    (f"{VERIFIED} at a name", "verified: `ironwire verify NAME`"),
)
"""A key, a command or a sign, and what it is for."""

LINES_PER_ROW = 2
_LEAST_LIST_CELLS, _MOST_LIST_CELLS = 22, 34
_WEEK_DAYS = 7
_KEY_CELLS = 14


def list_cells(columns: int) -> int:
    """How wide the list is beside a conversation."""
    return min(_MOST_LIST_CELLS, max(_LEAST_LIST_CELLS, columns // 3))


def list_pane(state: WindowState, width: int, height: int) -> list[Line]:
    """The conversations; the selected one is always among those that are seen."""
    head = padded([("class:title", " Conversations")], width, "class:title")
    room = max(1, (height - 1) // LINES_PER_ROW)
    first = first_row(state, room)
    lines = [head]
    for index, row in enumerate(state.rows[first : first + room], first):
        lines += _row(state, row, index, width)
    if not state.rows:
        lines += _hint("Nobody yet. /to NAME writes to somebody.", width)
    return _filled(lines, width, height)


def first_row(state: WindowState, room: int) -> int:
    """The first row of the list that is seen where there is room for so many."""
    index = next((index for index, row in enumerate(state.rows) if row.peer == state.selected), 0)
    return max(0, min(index - room // 2, len(state.rows) - room))


def conversation_pane(state: WindowState, width: int, height: int) -> list[Line]:
    """The open conversation under its name, the newest at the bottom."""
    thread = state.thread
    if thread is None:
        hint = _hint("Choose a conversation with the arrow keys and Enter, or write /to NAME. F1 helps.", width)
        return _filled([padded([], width, "class:title"), [], *hint], width, height)
    lines = visible_lines(state, thread, width, height - 1)
    above: list[Line] = [[]] * (height - 1 - len(lines))
    return _filled([padded(_title(state, thread.peer), width, "class:title"), *above, *lines], width, height)


def rule_pane(state: WindowState, width: int) -> Line:
    """Between a conversation and its composer: what came elsewhere, or below."""
    thread = state.thread
    if state.announcement is not None:
        hint = " ── Ctrl-G " if state.announcement.peer is not None else " "
        told = steady(" ".join(state.announcement.text.split()))
        text = clipped(told, max(0, width - len("── ") - len(hint)))
        line: Line = [("class:muted", "── "), ("class:announcement", text), ("class:muted", hint)]
    elif thread is not None and thread.position is not None and state.shown is not None:
        below = f"{thread.unseen} new below" if thread.unseen else "older"
        line = [("class:muted", "── "), ("class:announcement", below), ("class:muted", " ── Ctrl-End ")]
    else:
        line = []
    return padded([*line, ("class:muted", "─" * max(0, width - width_of(line)))], width)


def status_pane(state: WindowState, width: int) -> Line:
    """The connection, what waits for it, and who is typing."""
    facts: Line = [_connection(state)]
    if state.dropping and state.transfers:
        facts.insert(0, ("class:warning", leaving_drops(len(state.transfers))))
    # Receipts are among them: with a connection they come and go by the second.
    if state.waiting and state.connection.state != "connected":
        facts.append(("class:warning", f"{state.waiting} queued"))
    typing = [state.label(client) for client in state.typists(state.open)] if state.open is not None else []
    if typing:
        facts.append(("class:typing", _are_typing(typing)))
    unread = sum(row.unread for row in state.rows if row.peer != state.open)
    if unread:
        facts.append(("class:unread", f"{unread} unread"))
    facts.append(("class:muted", "F1 help"))
    facts.append(("class:muted", steady(state.connection.reason) or state.server))
    line: Line = [("", " ")]
    for index, fact in enumerate(facts):
        line += [("class:muted", " · "), fact] if index else [fact]
    return padded(line, width)


def help_pane(state: WindowState, width: int, height: int) -> list[Line]:
    """Keys, commands and signs; Up and Down move in it where there is less room."""
    lines: list[Line] = []
    for key, meaning in HELP:
        for index, part in enumerate(wrapped(meaning, max(2, width - _KEY_CELLS - 1))):
            lines.append([("class:own", f" {'' if index else key}".ljust(_KEY_CELLS)), ("", f" {part}")])
    top = max(0, min(state.help_top or 0, len(lines) - height + 1))
    shown = lines[top : top + height - 1]
    return _filled([*shown, [("class:muted", " Up and Down; any other key goes back")]], width, height)


# --- parts -----------------------------------------------------------------------------------------------------------


def _hint(text: str, width: int) -> list[Line]:
    return [[("class:muted", f" {line}")] for line in wrapped(text, max(2, width - 2))]


def _row(state: WindowState, row: ListRow, index: int, width: int) -> list[Line]:
    is_selected = row.peer == state.selected and state.focus == "list"
    base = "class:selected" if is_selected else "class:open" if row.peer == state.open else ""
    weight = " class:unread" if row.unread else ""
    muted = base or "class:muted"
    at = _short_time(row, state.now)
    mark = "▌" if row.peer == state.open else ">" if is_selected else " "
    room = max(1, width - len(mark) - cells(at) - 2)
    sign = f" {VERIFIED}" if state.book.is_verified(row.peer) else ""
    name = clipped(state.label(row.peer), max(1, room - cells(sign)), "~") + sign
    style = "" if base else _name_style(state, row.peer)
    head: Line = [(base, mark), (f"{base}{style}{weight}", name), (base, " " * (room - cells(name) + 1)), (muted, at)]
    count = f" {row.unread}" if row.unread else ""
    preview = clipped(_preview(state, row), max(0, width - 3 - cells(count)))
    gap = " " * max(0, width - 3 - cells(preview) - cells(count))
    below: Line = [(base, mark if mark == "▌" else " "), (muted, f" {preview}{gap}"), (f"{base}{weight}", count)]
    return [padded(head, width, base), padded(below, width, base)]


def _name_style(state: WindowState, peer: Address) -> str:
    return "" if is_group(peer) else speaker_style(state, ClientId(peer))


def _preview(state: WindowState, row: ListRow) -> str:
    typing = [state.label(client) for client in state.typists(row.peer)]
    if typing:
        return "typing…"
    if row.last is None:
        return "nothing said yet"
    message = row.last.message
    if isinstance(message, GroupChanged):
        return steady(change_told(message, state.book, state.own, row.peer))
    speaker = f"{YOU}: " if message.sender == state.own else f"{state.label(message.sender)}: " if message.group else ""
    return speaker + gist(message)


def gist(message: DeliveredText | DeliveredFile) -> str:
    """A message in one line."""
    if isinstance(message, DeliveredText):
        return steady(" ".join(message.text.split()))
    name = f" {steady(message.name)}" if message.name else ""
    return f"{message.kind or 'file'}{name}"


def _short_time(row: ListRow, now: datetime) -> str:
    if row.last is None:
        return ""
    at = when(row.last.message.ts)
    days = (now.date() - at.date()).days
    if days == 0:
        return f"{at:%H:%M}"
    return f"{at:%a}" if 0 < days < _WEEK_DAYS else f"{at.day} {at:%b}" if at.year == now.year else f"{at.year}"


def _title(state: WindowState, peer: Address) -> Line:
    title: Line = [("class:title", f" {state.label(peer)}")]
    status = "" if is_group(peer) else state.statuses.get(ClientId(peer), "")
    facts = [f"{VERIFIED} verified"] if state.book.is_verified(peer) else []
    facts += ["not encrypted"] if _is_plain(state, peer) else []
    facts += [status] if status else []
    if not state.is_known(peer):
        facts.append("not a contact, /who shows the id")
    return [*title, *(("class:title", f"  {fact}") for fact in facts)]


def _is_plain(state: WindowState, peer: Address) -> bool:
    """Whether what was said last went in the clear."""
    thread = state.threads.get(peer)
    said = [each for each in thread.entries if not isinstance(each.message, GroupChanged)] if thread else []
    return bool(said) and not said[-1].is_encrypted


def _connection(state: WindowState) -> Fragment:
    match state.connection.state:
        case "connected":
            return "class:good", "● connected"
        case "connecting":
            return "class:warning", "○ connecting"
        case "stopped":
            return "class:error", "✗ not connected, F5 tries again"
        case "waiting":
            seconds = (state.connection.retry_at or 0) - state.clock
            return "class:warning", f"○ reconnecting in {seconds:.0f} s, F5 now" if seconds >= 1 else "○ reconnecting"


def _are_typing(names: list[str]) -> str:
    if len(names) > 2:
        return f"{len(names)} are typing…"
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} typing…"


def _filled(lines: list[Line], width: int, height: int) -> list[Line]:
    """Exactly `height` lines of `width` cells."""
    return [padded(line, width) for line in [*lines, *([[]] * height)][: max(0, height)]]
