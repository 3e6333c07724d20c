"""Transitions of the chat window: events of the keyboard, of the device's file and of the client. No I/O, no clock.

Rule: an event that belongs to one conversation names it, and changes no other.
"""

from collections.abc import Callable
from threading import Lock

from attrs import define, evolve, field

from ironwire.cli.chat.commands import SENDING, Remark, as_text, is_command, unknown
from ironwire.cli.chat.transfers import Transfer
from ironwire.cli.chat.window import events
from ironwire.cli.chat.window.history import scrolled
from ironwire.cli.chat.window.model import Announcement, Note, Thread, WindowState
from ironwire.cli.chat.window.view import HELP
from ironwire.client import HistoryEntry
from ironwire.errors import InvalidId
from ironwire.ids import Address

PAGE_ENTRIES = 100
TYPING_SECONDS = 10.0
"""The word that somebody has stopped may get lost (docs/protocol.md, section 7.3)."""

_Told = (
    events.Listed
    | events.Paged
    | events.PagedBefore
    | events.ConnectionChanged
    | events.Typed
    | events.StatusChanged
    | events.Transferred
    | events.GroupsNamed
    | events.BookChanged
    | events.Ticked
)


@define(eq=False)
class LiveState:
    """The one place of the window's state, for the two threads that it has: Trio's, and the one that draws.

    `state` is replaced whole, so that it can be read at any time from both threads."""

    state: WindowState
    act: Callable[[events.Effect], None]
    _changed: Callable[[], None]
    _turn: Lock = field(factory=Lock, init=False)

    def dispatch(self, event: events.Event) -> None:
        """Apply `event`: the state is changed when this returns, and its effects follow soon."""
        with self._turn:
            self.state, effects = update(self.state, event)
            for effect in effects:
                self.act(effect)
        self._changed()


def update(state: WindowState, event: events.Event) -> tuple[WindowState, list[events.Effect]]:
    """The state after `event`, and what is to be done."""
    if isinstance(event, _Told):
        return _told(state, event), []
    match event:
        case events.Noted(remark, peer):
            return _noted(state, remark, peer), []
        case events.Announced(text, peer):
            is_elsewhere = peer is None or peer != state.shown
            return (evolve(state, announcement=Announcement(text, peer)) if is_elsewhere else state), []
        case events.FocusReported(is_focused):
            return evolve(state, is_focused=is_focused), _load_open(state)
        case events.Resized(is_wide):
            return evolve(state, is_wide=is_wide), _load_open(state)
        case events.FocusMoved(to):
            return evolve(state, focus=to, selected=state.open or state.selected), _load_open(state)
        case events.HelpScrolled(lines):
            return evolve(state, help_top=_help_top(state, lines)), []
        case events.Moved(rows):
            return evolve(state, selected=_beside(state, state.selected, rows)), []
        case events.Chosen(index):
            peer = state.selected if index is None else _at(state, index)
            return _opened(state, peer)
        case events.Opened(peer):
            return _opened(state, peer)
        case events.Stepped(rows):
            return _opened(state, _beside(state, state.open, rows))
        case events.WentUnread():
            told = state.announcement
            return _opened(state, told.peer if told and told.peer else _next_unread(state))
        case events.Scrolled(lines, width, height):
            return _scrolled(state, lines, width, height)
        case events.LeavingAsked():
            return _asked_to_leave(state)
        case events.Entered(peer, text):
            return _entered(state, peer, text)


def _told(state: WindowState, event: _Told) -> WindowState:
    match event:
        case events.Listed(rows, waiting):
            selected = state.selected or state.open or (rows[0].peer if rows else None)
            return evolve(state, rows=rows, waiting=waiting, selected=selected)
        case events.Paged(peer, entries, is_whole):
            return _paged(state, peer, entries, is_whole)
        case events.PagedBefore(peer, before, entries, is_whole):
            thread = evolve(_thread(state, peer), is_loading=False)
            if thread.entries and thread.entries[0].number == before:
                thread = evolve(thread, entries=entries + thread.entries, is_whole=is_whole)
            return state.with_thread(thread)
        case events.ConnectionChanged(connection):
            state = evolve(state, connection=connection)
            # Nobody says what changes while there is no session.
            return state if connection.state == "connected" else evolve(state, typing={}, statuses={})
        case events.Typed(peer, client, is_typing):
            others = {key: until for key, until in state.typing.items() if key != (peer, client)}
            until = {(peer, client): state.clock + TYPING_SECONDS} if is_typing else {}
            return evolve(state, typing=others | until)
        case events.StatusChanged(client, status):
            return evolve(state, statuses={**state.statuses, client: status})
        case events.Transferred(transfer, is_over):
            thread = _thread(state, transfer.peer)
            return state.with_thread(evolve(thread, transfers=_transfers(thread, transfer, is_over)))
        case events.GroupsNamed(names):
            return evolve(state, book=evolve(state.book, group_names=names))
        case events.BookChanged(book):
            return evolve(state, book=evolve(book, group_names=state.book.group_names))
        case events.Ticked(now, clock):
            return evolve(state, now=now, clock=clock)


def _load_open(state: WindowState) -> list[events.Effect]:
    """The entries of the open conversation may be seen now, and count as read."""
    return [] if state.open is None else [events.Load(state.open)]


def _thread(state: WindowState, peer: Address) -> Thread:
    return state.threads.get(peer) or Thread(peer)


def _paged(state: WindowState, peer: Address, entries: tuple[HistoryEntry, ...], is_whole: bool) -> WindowState:
    thread = _thread(state, peer)
    first = entries[0].number if entries else 0
    is_joined = first <= thread.last_number
    if thread.position is None or not is_joined:
        # Older pages are loaded again when somebody looks for them; and there is never a hole between two.
        return state.with_thread(evolve(thread, entries=entries, is_whole=is_whole, position=None, unseen=0))
    older = tuple(entry for entry in thread.entries if entry.number < first)
    came = sum(entry.number > thread.last_number for entry in entries)
    return state.with_thread(
        evolve(
            thread,
            entries=older + entries,
            is_whole=is_whole or (thread.is_whole and bool(older)),
            unseen=thread.unseen + came,
        )
    )


def _transfers(thread: Thread, transfer: Transfer, is_over: bool) -> tuple[Transfer, ...]:
    if is_over:
        return tuple(other for other in thread.transfers if other.key != transfer.key)
    if any(other.key == transfer.key for other in thread.transfers):
        return tuple(transfer if other.key == transfer.key else other for other in thread.transfers)
    return (*thread.transfers, transfer)


def _noted(state: WindowState, remark: Remark, peer: Address | None) -> WindowState:
    where = peer or state.open
    if where is None:
        return evolve(state, announcement=Announcement(remark.text))
    thread = _thread(state, where)
    note = Note(thread.last_number, remark)
    return state.with_thread(evolve(thread, notes=(*thread.notes, note), position=None, unseen=0))


def _asked_to_leave(state: WindowState) -> tuple[WindowState, list[events.Effect]]:
    """Leave, unless that would drop files and was not asked for while the same ones were on their way."""
    running = frozenset(transfer.key for transfer in state.transfers)
    if running <= state.dropping:
        return state, [events.Leave()]
    return evolve(state, dropping=running), []


def _warned(state: WindowState, text: str, peer: Address | None = None) -> WindowState:
    return _noted(state, Remark(text, "warning"), peer)


def _help_top(state: WindowState, lines: int | None) -> int | None:
    if lines is None:
        return None
    return 0 if state.help_top is None else max(0, min(len(HELP) - 1, state.help_top + lines))


# --- to another conversation -----------------------------------------------------------------------------------------


def _opened(state: WindowState, peer: Address | None) -> tuple[WindowState, list[events.Effect]]:
    if peer is None:
        return state, []
    state = _closed(state)
    told = state.announcement
    opened = evolve(
        state.with_thread(_thread(state, peer)),
        open=peer,
        selected=peer,
        focus="composer",
        announcement=None if told is None or told.peer in (peer, None) else told,
    )
    return opened, [events.Load(peer)]


def _closed(state: WindowState) -> WindowState:
    """The state without an open conversation; the newest page of the one before stays in memory."""
    thread = state.thread
    if thread is None:
        return state
    kept = thread.entries[-PAGE_ENTRIES:]
    is_whole = thread.is_whole and len(kept) == len(thread.entries)
    return state.with_thread(evolve(thread, entries=kept, is_whole=is_whole, position=None, unseen=0))


def _at(state: WindowState, index: int) -> Address | None:
    return state.rows[index].peer if index < len(state.rows) else None


def _beside(state: WindowState, peer: Address | None, rows: int) -> Address | None:
    if not state.rows:
        return peer
    peers = [row.peer for row in state.rows]
    if peer not in peers:
        return peers[0]
    return peers[max(0, min(len(peers) - 1, peers.index(peer) + rows))]


def _next_unread(state: WindowState) -> Address | None:
    peers = [row.peer for row in state.rows]
    start = peers.index(state.open) + 1 if state.open in peers else 0
    return next((row.peer for row in (*state.rows[start:], *state.rows[:start]) if row.unread), None)


def _scrolled(state: WindowState, lines: int, width: int, height: int) -> tuple[WindowState, list[events.Effect]]:
    thread = state.thread
    if thread is None:
        return state, []
    position, is_near_top = scrolled(state, thread, lines, width, height)
    is_back = position is None and thread.position is not None
    thread = evolve(thread, position=position, unseen=thread.unseen if position else 0)
    if is_back:
        return state.with_thread(thread), _load_open(state)
    if is_near_top and not (thread.is_whole or thread.is_loading) and thread.entries:
        before = thread.entries[0].number
        return state.with_thread(evolve(thread, is_loading=True)), [events.LoadBefore(thread.peer, before)]
    return state.with_thread(thread), []


# --- what is entered -------------------------------------------------------------------------------------------------


def _entered(state: WindowState, peer: Address | None, text: str) -> tuple[WindowState, list[events.Effect]]:
    command, _, argument = text.strip().partition(" ")
    argument = argument.strip()
    match command:
        case "":
            return state, []
        case "/quit":
            return _asked_to_leave(state)
        case "/help":
            return evolve(state, help_top=0), []
        case "/reconnect":
            return state, [events.Reconnect()]
        case "/to":
            return _to(state, argument)
        case _ if peer is None:
            return evolve(state, announcement=Announcement("no conversation is open: /to NAME opens one")), []
        case _:
            return _entered_to(state, peer, text.strip(), command, argument)


def _entered_to(
    state: WindowState, peer: Address, said: str, command: str, argument: str
) -> tuple[WindowState, list[events.Effect]]:
    match command:
        case "/who" | "/block" | "/unblock":
            return state, [events.Ask(peer, command)]
        case "/save":
            return state, [events.Save(peer, argument)]
        case _ if command in SENDING and not argument:
            return _warned(state, f"{command} PATH: which file?", peer), []
        case _ if command in SENDING:
            return state, [events.SendFile(peer, SENDING[command], argument)]
        case _ if is_command(command):
            return _noted(state, unknown(command), peer), []
        case _:
            thread = evolve(_thread(state, peer), position=None, unseen=0)
            return state.with_thread(thread), [events.Say(peer, as_text(said))]


def _to(state: WindowState, name: str) -> tuple[WindowState, list[events.Effect]]:
    if not name:
        return _warned(state, "/to NAME: to whom?"), []
    try:
        peer = state.book.address(name)
    except InvalidId as error:
        return _warned(state, str(error)), []
    return _opened(state, peer)
