"""Trio's side of the chat window: what the client tells goes into the state, and what the person wants is done.

follow    the client's events: each makes what is shown stale, some say something besides
refresh   reads the list and the open conversation from the device's file whenever they are stale, and tells others
          what was delivered and read
act       effects of `update.py` in their order; what takes its time has a task of its own
tick      the countdown, the clock, who types
"""

import math
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from signal import SIGHUP, SIGTERM

import trio
from attrs import define, evolve, field

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat.completer import ChatCompleter
from ironwire.cli.chat.presence_view import OwnTyping
from ironwire.cli.chat.window.cells import steady
from ironwire.cli.chat.window.events import (
    Announced,
    Block,
    BookChanged,
    ConnectionChanged,
    Effect,
    Leave,
    Listed,
    Load,
    LoadBefore,
    Noted,
    Opened,
    Paged,
    PagedBefore,
    Reconnect,
    Save,
    Say,
    SendFile,
    ShowMembers,
    StatusChanged,
    Ticked,
    Typed,
)
from ironwire.cli.chat.window.files import Files
from ironwire.cli.chat.window.help import COMMANDS
from ironwire.cli.chat.window.model import Row, State, Thread
from ironwire.cli.chat.window.notify import Bell, notification
from ironwire.cli.chat.window.shell import Shell
from ironwire.cli.chat.window.store import Store
from ironwire.cli.chat.window.update import PAGE_ENTRIES
from ironwire.cli.chat.window.view import gist
from ironwire.cli.failures import refusal
from ironwire.cli.options import ANSWER_SECONDS
from ironwire.cli.render import change_told, incident, members, now
from ironwire.cli.terminal import err, printable_lines
from ironwire.client import (
    Client,
    ClientError,
    Connected,
    DeliveredFile,
    DeliveredText,
    Disconnected,
    Error,
    Event,
    GroupChanged,
    HistoryEntry,
    Lost,
    Missed,
    PresenceUpdate,
    Received,
    Refused,
    RelayedTyping,
    Said,
    conversation_of,
)
from ironwire.errors import ConfigError
from ironwire.ids import Address, ClientId, GroupId, MessageId, is_group
from ironwire.wire.messages import Receipt, ReceiptState, Text

_TICK_SECONDS = 0.5
_BOOK_SECONDS = 2.0
_REFRESH_SECONDS = 0.05
"""At most so often is the file read, however much comes."""
_MOST_LOADED = 1_000
"""Entries of the open conversation that are read again when something in it may have changed."""
_RECEIPT_IDS = 100


async def hold_window(
    client: Client,
    read_book: Callable[[], AddressBook],
    to: Address | None,
    *,
    is_visible: bool = False,
    is_quiet: bool = False,
) -> None:
    """Show the conversations of `client`, a device, and first the one with `to`, until the person leaves.

    Args:
        read_book: asked now and then, because other commands change the contacts.
        is_visible: let the other one see that this user is here, and types.
        is_quiet: no bell, no notification.

    Raises:
        LocalStoreError: the device's file cannot be used any more.
    """
    send, effects = trio.open_memory_channel[Effect](math.inf)
    token = trio.lowlevel.current_trio_token()
    # Always through the token, so that effects of both threads stay in the order of the events that had them.
    store = Store(
        State(client.client_id, read_book(), now(), trio.current_time(), str(client.address)),
        lambda effect: token.run_sync_soon(send.send_nowait, effect),
        lambda: shell.redraw(),
    )
    shell = Shell(store, ChatCompleter(COMMANDS, lambda: [*store.state.book.all()]))
    if to is not None:
        store.dispatch(Opened(to))
    controller = Controller(client, read_book, store, shell, is_visible, is_quiet)
    try:
        async with trio.open_nursery() as nursery:
            await controller.run(nursery, effects)
            nursery.cancel_scope.cancel()
    finally:
        for peer, draft in shell.drafts.items():
            whom = f" to {store.state.label(peer)}" if peer else ""
            for line in (f"not sent{whom}:", *printable_lines(draft)):
                err().print(line)
        if client.waiting:
            err().print(f"{client.waiting} queued; they go out when this device is connected again")


@define(eq=False)
class Controller:
    """One run of the window."""

    _client: Client
    _read_book: Callable[[], AddressBook]
    _store: Store
    _shell: Shell
    _is_visible: bool
    _is_quiet: bool
    _files: Files = field(init=False)
    _stale: trio.Event = field(factory=trio.Event, init=False)
    _delivered: dict[ClientId, list[MessageId]] = field(factory=dict, init=False)
    """Messages whose senders have not been told that they came."""
    _read_early: set[tuple[Address, MessageId]] = field(factory=set, init=False)
    """Read out of the file, and perhaps still on their way as events."""
    _bell: Bell = field(factory=Bell, init=False)
    _watched: Address | None = field(default=None, init=False)
    _watching: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _typing: OwnTyping = field(init=False)
    _typing_to: Address | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._files = Files(self._client, self._store.dispatch)
        self._typing = OwnTyping(self._tell_typing)

    async def run(self, nursery: trio.Nursery, effects: trio.MemoryReceiveChannel[Effect]) -> None:
        """Until the person has left."""
        nursery.start_soon(self._follow)
        nursery.start_soon(self._refresh)
        nursery.start_soon(self._act, nursery, effects)
        nursery.start_soon(self._tick)
        nursery.start_soon(self._follow_book)
        nursery.start_soon(self._leave_when_told)
        self._stale.set()
        has_left = trio.Event()
        nursery.start_soon(self._draw, has_left)
        try:
            await has_left.wait()
        finally:
            # The thread cannot be cancelled, only told.
            self._shell.leave()

    async def _draw(self, has_left: trio.Event) -> None:
        await trio.to_thread.run_sync(self._shell.run)
        has_left.set()

    async def _leave_when_told(self) -> None:
        """Leave the terminal as it was, also where the program is told to end."""
        with trio.open_signal_receiver(SIGTERM, SIGHUP) as signals:
            async for _ in signals:
                self._shell.leave()

    # --- what comes --------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async for event in self._client:
            self._take(event)
            self._stale.set()

    def _take(self, event: Event) -> None:
        tell = self._store.dispatch
        match event:
            case Received(DeliveredText() | DeliveredFile() | GroupChanged() as message, message_id):
                self._came(message, message_id)
            case Received(RelayedTyping(sender, is_typing, group)):
                tell(Typed(group or sender, sender, is_typing))
            case Received(PresenceUpdate(client, status)):
                # Somebody who does not show it is said to be offline too.
                tell(StatusChanged(client, "" if status == "offline" else status))
            case Received(Error() as told) | (Missed() as told) | (Lost() as told):
                tell(Noted(incident(told).plain.strip(), "class:error"))
            case Connected() | Disconnected():
                tell(ConnectionChanged(self._client.connection))
            case _:
                pass  # it stands in the file, and is shown from there

    def _came(self, message: Said, message_id: MessageId | None) -> None:
        state = self._store.state
        own = state.own
        peer = conversation_of(message, own)
        by = message.by if isinstance(message, GroupChanged) else message.sender
        self._store.dispatch(Typed(peer, by, is_typing=False))
        if by == own:
            return
        # An unknown client learns nothing, unless this person is in conversation with it.
        is_told = peer == by and (state.is_known(by) or peer == state.open)
        if is_told and not isinstance(message, GroupChanged) and message.device and message_id:
            if (peer, message_id) in self._read_early:
                self._read_early.remove((peer, message_id))
            else:
                self._delivered.setdefault(by, []).append(message_id)
        self._announce(peer, by, message)

    def _announce(self, peer: Address, by: ClientId, message: Said) -> None:
        state = self._store.state
        place = "" if peer == by else f"{state.label(peer)}, "
        if isinstance(message, GroupChanged):
            text = f"{state.label(peer)}: {steady(change_told(message, state.book, state.own, peer))}"
        else:
            text = f"{place}{state.label(by)}: {gist(message)}"
        is_here = peer == state.shown
        self._store.dispatch(Announced(text, peer))
        # A terminal that says nothing of the user's attention is believed to have it.
        is_missed = not is_here if state.is_focused is None else not state.is_focused
        if is_missed and not self._is_quiet and self._bell.is_due(trio.current_time()):
            self._shell.emit(notification(text, os.environ))

    # --- what is shown -----------------------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        while True:
            await self._stale.wait()
            self._stale = trio.Event()
            await self._read_file()
            await trio.sleep(_REFRESH_SECONDS)

    async def _read_file(self) -> None:
        client, tell = self._client, self._store.dispatch
        peer = self._store.state.open
        entries: list[HistoryEntry] = []
        if peer is not None:
            limit = self._page_entries(self._store.state.threads[peer])
            entries = await client.history(peer, limit)
            tell(Paged(peer, tuple(entries), len(entries) < limit))
        rows = [Row(each.peer, each.last, each.unread) for each in await client.conversations()]
        if peer is not None and peer == self._store.state.open and self._store.state.is_read:
            unread = next((row.unread for row in rows if row.peer == peer), 0)
            rows = [evolve(row, unread=0) if row.peer == peer else row for row in rows]
            await self._note_read(peer, entries, unread)
        delivered, self._delivered = self._delivered, {}
        for sender, ids in delivered.items():
            await self._send_receipts(sender, ids, "delivered")
        listed = {row.peer for row in rows}
        others = dict.fromkeys([*([peer] if peer else []), *self._store.state.book.all().values()])
        rows += [Row(other) for other in others if other not in listed]
        tell(Listed(tuple(rows), client.waiting))

    def _page_entries(self, thread: Thread) -> int:
        """How many entries to read: all that are loaded, because what became of any may have changed, and all that are
        unread, because their senders are told.
        """
        row = self._store.state.row(thread.peer)
        loaded = len(thread.entries) + PAGE_ENTRIES if thread.position else PAGE_ENTRIES
        return min(max(loaded, row.unread if row else 0), _MOST_LOADED)

    async def _note_read(self, peer: Address, entries: list[HistoryEntry], unread: int) -> None:
        if not entries or not unread:
            return
        theirs = [
            entry
            for entry in entries
            if entry.message.device
            and isinstance(entry.message, DeliveredText | DeliveredFile)
            and entry.message.sender == peer
        ]
        ids = [entry.id for entry in theirs[-unread:] if entry.id is not None]
        if not is_group(peer):
            known = {*self._delivered.pop(ClientId(peer), [])}
            self._read_early.update((peer, message_id) for message_id in ids if message_id not in known)
            # A group is told nothing, because of each message everybody would tell one.
            await self._send_receipts(ClientId(peer), ids, "read")
        await self._client.mark_read(peer, entries[-1].number)

    async def _send_receipts(self, to: ClientId, ids: list[MessageId], state: ReceiptState) -> None:
        for start in range(0, len(ids), _RECEIPT_IDS):
            await self._client.queue(Receipt(to, ids[start : start + _RECEIPT_IDS], state))

    # --- what the person wants ---------------------------------------------------------------------------------------

    async def _act(self, nursery: trio.Nursery, effects: trio.MemoryReceiveChannel[Effect]) -> None:
        async for effect in effects:
            match effect:
                case Load(peer):
                    self._stale.set()
                    self._watch(nursery, peer)
                case LoadBefore(peer, before):
                    entries = await self._client.history(peer, PAGE_ENTRIES, before=before)
                    self._store.dispatch(PagedBefore(peer, before, tuple(entries), len(entries) < PAGE_ENTRIES))
                case Say(peer, text):
                    await self._say(peer, text)
                case SendFile():
                    nursery.start_soon(self._files.send, effect)
                case Save():
                    nursery.start_soon(self._files.save, effect, self._store.state)
                case ShowMembers(peer):
                    nursery.start_soon(self._asked, peer, partial(self._show_members, peer))
                case Block(peer):
                    nursery.start_soon(self._asked, peer, partial(self._block, peer))
                case Reconnect():
                    self._client.reconnect_now()
                case Leave():
                    self._shell.leave()

    async def _say(self, peer: Address, text: str) -> None:
        try:
            await self._client.queue(Text(peer, text))
        except Refused as refused:
            told = f"not sent: {refusal(refused)}; the Up key brings it back"
            self._store.dispatch(Noted(told, "class:error", peer))
        self._stale.set()

    async def _asked(self, peer: Address, ask: Callable[[], Awaitable[None]]) -> None:
        """Do what takes an answer of the server."""
        try:
            with trio.fail_after(ANSWER_SECONDS):
                await ask()
        except Refused as refused:
            self._store.dispatch(Noted(refusal(refused), "class:error", peer))
        except (ClientError, trio.TooSlowError) as error:
            self._store.dispatch(Noted(str(error) or "the server does not answer", "class:error", peer))

    async def _show_members(self, peer: Address) -> None:
        state = self._store.state
        if is_group(peer):
            lines = members(await self._client.groups.info(GroupId(peer)), state.book, state.own)
        else:
            status = state.statuses.get(ClientId(peer))
            lines = [f"{state.label(peer)} is {peer}{f', {status}' if status else ''}"]
        self._store.dispatch(Noted("\n".join(lines), "class:muted", peer))

    async def _block(self, peer: ClientId) -> None:
        await self._client.block(peer)
        told = f"nothing that {self._store.state.label(peer)} sends comes any more; `ironwire unblock` ends it"
        self._store.dispatch(Noted(told, "class:good", peer))

    def _watch(self, nursery: trio.Nursery, peer: Address) -> None:
        """See whether `peer` is there, and be seen by nobody else."""
        if is_group(peer) or peer == self._watched:
            return
        self._watching.cancel()
        self._watched, self._watching = peer, trio.CancelScope()
        nursery.start_soon(self._look_around, self._watching, ClientId(peer))

    async def _look_around(self, scope: trio.CancelScope, peer: ClientId) -> None:
        # A server that refuses shows nobody.
        with scope, suppress(ClientError):
            await self._client.presence.watch([peer])
            if self._is_visible:
                await self._client.presence.allow([peer])
                await self._client.presence.say("online")

    # --- the clock ---------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            state = self._store.state
            if self._client.connection != state.connection:
                self._store.dispatch(ConnectionChanged(self._client.connection))
            moment, is_counting = now(), state.typing or state.connection.state == "waiting"
            if is_counting or moment.minute != state.now.minute:
                self._store.dispatch(Ticked(moment, trio.current_time()))
            if state.open != self._typing_to:
                self._typing.look("")
                self._typing_to = state.open
            self._typing.look(self._shell.draft)
            await trio.sleep(_TICK_SECONDS)

    async def _follow_book(self) -> None:
        while True:
            await trio.sleep(_BOOK_SECONDS)
            # Contacts that cannot be read at the moment stay as they are.
            with suppress(ConfigError):
                book = await trio.to_thread.run_sync(self._read_book)
                if book != self._store.state.book:
                    self._store.dispatch(BookChanged(book))
                    self._stale.set()

    def _tell_typing(self, is_typing: bool) -> None:
        if self._is_visible and self._typing_to is not None:
            self._client.presence.typing(self._typing_to, is_typing)
