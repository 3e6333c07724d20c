"""Trio's side of the chat window: what the client tells goes into the state, and what the person wants is done.

follow    the client's events: each makes what is shown stale, some say something besides
read      the list and the open conversation, out of the device's file (`reader.py`)
act       effects of `update.py` in their order; what takes its time has a task of its own
tick      the countdown, the clock, who types
"""

import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from signal import SIGHUP, SIGTERM

import trio
from attrs import define, field

import ironwire.client as iw
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat.commands import COMMANDS, Remark, ask_server, words_of
from ironwire.cli.chat.editor import ChatCompleter
from ironwire.cli.chat.presence_view import OwnTyping
from ironwire.cli.chat.transfers import Transfer, Transfers, dropped_line
from ironwire.cli.chat.window import events
from ironwire.cli.chat.window.cells import steady
from ironwire.cli.chat.window.model import WindowState
from ironwire.cli.chat.window.notify import Bell, notification
from ironwire.cli.chat.window.reader import FileReader
from ironwire.cli.chat.window.shell import Shell
from ironwire.cli.chat.window.update import LiveState
from ironwire.cli.chat.window.view import gist
from ironwire.cli.device_news import NewsSource
from ironwire.cli.failures import refusal
from ironwire.cli.render import change_told, incident, now
from ironwire.cli.scripting.files import RemoteFile
from ironwire.cli.scripting.outbound import Outgoing
from ironwire.cli.secrets import secret_event
from ironwire.cli.terminal import err, printable, printable_lines
from ironwire.errors import ConfigError
from ironwire.ids import Address, ClientId, MessageId, is_group
from ironwire.wire.messages import Text

_TICK_SECONDS = 0.5
_BOOK_SECONDS = 2.0


async def hold_window(
    client: iw.Client,
    read_book: Callable[[], AddressBook],
    to: Address | None,
    *,
    news: NewsSource | None,
    is_visible: bool = False,
    is_quiet: bool = False,
) -> None:
    """Show the conversations of `client`, a device, and first the one with `to`, until the person leaves.

    Args:
        read_book: asked now and then, because other commands change the contacts.
        news: of the other devices of this identity.
        is_visible: let the other one see that this user is here, and types.
        is_quiet: no bell, no notification.

    Raises:
        LocalStoreError: the device's file cannot be used any more.
    """
    send, effects = trio.open_memory_channel[events.Effect](math.inf)
    token = trio.lowlevel.current_trio_token()
    # Always through the token, so that effects of both threads stay in the order of the events that had them.
    live = LiveState(
        WindowState(client.client_id, read_book(), now(), trio.current_time(), str(client.address)),
        lambda effect: token.run_sync_soon(send.send_nowait, effect),
        lambda: shell.redraw(),
    )
    shell = Shell(live, ChatCompleter(COMMANDS, lambda: [*live.state.book.all()]))
    if to is not None:
        live.dispatch(events.Opened(to))
    controller = Controller(client, read_book, news, live, shell, is_visible, is_quiet)
    try:
        async with trio.open_nursery() as nursery:
            await controller.run(nursery, effects)
            nursery.cancel_scope.cancel()
    finally:
        for line in controller.left_behind():
            err().print(line)


@define(eq=False)
class Controller:
    """One run of the window."""

    _client: iw.Client
    _read_book: Callable[[], AddressBook]
    _news: NewsSource | None
    _live: LiveState
    _shell: Shell
    _is_visible: bool
    _is_quiet: bool
    _reader: FileReader = field(init=False)
    _transfers: Transfers = field(init=False)
    _bell: Bell = field(factory=Bell, init=False)
    _watched: Address | None = field(default=None, init=False)
    _watching: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _typing: OwnTyping = field(init=False)
    _typing_to: Address | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._reader = FileReader(self._client, self._live)
        self._transfers = Transfers(self._client, self._queue_file, self._note_transfer)
        self._typing = OwnTyping(self._tell_typing)

    async def run(self, nursery: trio.Nursery, effects: trio.MemoryReceiveChannel[events.Effect]) -> None:
        """Until the person has left."""
        await self._reader.begin()
        nursery.start_soon(self._follow, nursery)
        nursery.start_soon(self._reader.run, nursery)
        nursery.start_soon(self._act, nursery, effects)
        nursery.start_soon(self._tick)
        nursery.start_soon(self._follow_book)
        nursery.start_soon(self._leave_when_told)
        has_left = trio.Event()
        nursery.start_soon(self._draw, has_left)
        try:
            await has_left.wait()
        finally:
            # The thread cannot be cancelled, only told.
            self._shell.leave()

    def left_behind(self) -> list[str]:
        """Lines about everything that was not sent, once the window is gone."""
        label = self._live.state.label
        lines = []
        for peer, draft in self._shell.drafts.items():
            lines += [f"not sent{f' to {label(peer)}' if peer else ''}:", *printable_lines(draft)]
        lines += [printable(dropped_line(transfer, label(transfer.peer))) for transfer in self._transfers.dropped]
        if self._client.waiting:
            lines.append(f"{self._client.waiting} queued; they go out when this device is connected again")
        return lines

    async def _draw(self, has_left: trio.Event) -> None:
        await trio.to_thread.run_sync(self._shell.run)
        has_left.set()

    async def _leave_when_told(self) -> None:
        """Leave the terminal as it was, also where the program is told to end."""
        with trio.open_signal_receiver(SIGTERM, SIGHUP) as signals:
            async for _ in signals:
                self._shell.leave()

    # --- what comes --------------------------------------------------------------------------------------------------

    async def _follow(self, nursery: trio.Nursery) -> None:
        async for event in self._client:
            self._reader.names.note(event)
            self._take(event)
            if isinstance(event, iw.Connected) or (
                isinstance(event, iw.Received) and isinstance(event.message, iw.DeviceLogChanged)
            ):
                nursery.start_soon(self._tell_of_devices, isinstance(event, iw.Received))
            self._reader.note_stale()

    def _take(self, event: iw.Event) -> None:
        tell = self._live.dispatch
        match event:
            case iw.Received(iw.DeliveredText() | iw.DeliveredFile() | iw.GroupChanged() as message, message_id):
                self._came(message, message_id)
            case iw.Received(iw.RelayedTyping(sender, is_typing, group)):
                tell(events.Typed(group or sender, sender, is_typing))
            case iw.Received(iw.PresenceUpdate(client, status)):
                # Somebody who does not show it is said to be offline too.
                tell(events.StatusChanged(client, "" if status == "offline" else status))
            case iw.Received(iw.Error() as told) | (iw.Missed() as told) | (iw.Lost() as told):
                tell(events.Noted(Remark(incident(told).plain.strip(), "error")))
            case iw.Connected() | iw.Disconnected():
                tell(events.ConnectionChanged(self._client.connection))
            case iw.Received() | iw.Queued() | iw.Settled():
                pass  # it stands in the file, and is shown from there
            case secret:
                line = secret_event(secret, self._live.state.book)
                if line is not None:
                    tell(events.Noted(Remark(line.plain.strip(), "warning")))

    def _came(self, message: iw.Said, message_id: MessageId | None) -> None:
        state = self._live.state
        own = state.own
        peer = iw.conversation_of(message, own)
        by = message.by if isinstance(message, iw.GroupChanged) else message.sender
        self._live.dispatch(events.Typed(peer, by, is_typing=False))
        if by == own:
            return
        # An unknown client learns nothing, unless this person is in conversation with it.
        is_told = peer == by and (state.is_known(by) or peer == state.open)
        if is_told and not isinstance(message, iw.GroupChanged) and message.device and message_id:
            self._reader.note_delivered(by, message_id)
        self._announce(peer, by, message)

    async def _tell_of_devices(self, is_changed: bool) -> None:
        """In the open conversation and above the composer, and with the bell: it matters wherever the person looks."""
        lines = [] if self._news is None else await self._news.take(is_changed=is_changed)
        for line in lines:
            self._live.dispatch(events.Noted(Remark(line, "error")))
            self._live.dispatch(events.Announced(line, None))
            if not self._is_quiet:
                self._shell.emit(notification(line, os.environ))

    def _announce(self, peer: Address, by: ClientId, message: iw.Said) -> None:
        state = self._live.state
        place = "" if peer == by else f"{state.label(peer)}, "
        if isinstance(message, iw.GroupChanged):
            text = f"{state.label(peer)}: {steady(change_told(message, state.book, state.own, peer))}"
        else:
            text = f"{place}{state.label(by)}: {gist(message)}"
        is_here = peer == state.shown
        self._live.dispatch(events.Announced(text, peer))
        # A terminal that says nothing of the user's attention is believed to have it.
        is_missed = not is_here if state.is_focused is None else not state.is_focused
        if is_missed and not self._is_quiet and self._bell.is_due(trio.current_time()):
            self._shell.emit(notification(text, os.environ))

    # --- what the person wants ---------------------------------------------------------------------------------------

    async def _act(self, nursery: trio.Nursery, effects: trio.MemoryReceiveChannel[events.Effect]) -> None:
        async for effect in effects:
            match effect:
                case events.Load(peer):
                    self._reader.note_stale()
                    self._watch(nursery, peer)
                case events.LoadBefore(peer, before):
                    await self._reader.read_before(peer, before)
                case events.Say(peer, text):
                    await self._say(peer, text)
                case events.SendFile():
                    self._transfers.send(nursery, effect.peer, effect.kind, effect.path, self._note_sent)
                case events.Save():
                    self._save(nursery, effect)
                case events.Ask():
                    nursery.start_soon(self._ask, effect)
                case events.Reconnect():
                    self._client.reconnect_now()
                case events.Leave():
                    self._shell.leave()

    def _note_transfer(self, transfer: Transfer, is_over: bool) -> None:
        self._live.dispatch(events.Transferred(transfer, is_over))

    def _note(self, remark: Remark, peer: Address) -> None:
        self._live.dispatch(events.Noted(remark, peer))

    async def _queue_file(self, file: Outgoing) -> None:
        await self._client.queue(file.message, body=file.body)

    async def _say(self, peer: Address, text: str) -> None:
        try:
            await self._client.queue(Text(peer, text))
        except iw.Refused as refused:
            self._note(Remark(f"not sent: {refusal(refused)}; the Up key brings it back", "error"), peer)
        self._reader.note_stale()

    def _note_sent(self, transfer: Transfer, problem: str | None) -> None:
        if problem is not None:
            self._note(Remark(f"{transfer.name} is not sent: {problem}", "error"), transfer.peer)

    def _save(self, nursery: trio.Nursery, order: events.Save) -> None:
        words = words_of(order.argument)
        file = _wanted(self._live.state, order.peer, words[0] if words else None)
        if file is None:
            reason = f"there is no file {words[0]} here" if words else "no file has come yet"
            self._note(Remark(f"/save: {reason}", "warning"), order.peer)
            return
        path = words[1] if len(words) > 1 else None
        self._transfers.save(nursery, order.peer, file, path, partial(self._note, peer=order.peer))

    async def _ask(self, order: events.Ask) -> None:
        state = self._live.state
        status = "" if is_group(order.peer) else state.statuses.get(ClientId(order.peer), "")
        self._note(await ask_server(self._client, order.question, order.peer, state.book, status), order.peer)

    def _watch(self, nursery: trio.Nursery, peer: Address) -> None:
        """See whether `peer` is there, and be seen by nobody else."""
        if is_group(peer) or peer == self._watched:
            return
        self._watching.cancel()
        self._watched, self._watching = peer, trio.CancelScope()
        nursery.start_soon(self._look_around, self._watching, ClientId(peer))
        nursery.start_soon(self._tell_of_peer, ClientId(peer))

    async def _look_around(self, scope: trio.CancelScope, peer: ClientId) -> None:
        # A server that refuses shows nobody.
        with scope, suppress(iw.ClientError):
            await self._client.presence.watch([peer])
            if self._is_visible:
                await self._client.presence.allow([peer])
                await self._client.presence.say("online")

    async def _tell_of_peer(self, peer: ClientId) -> None:
        if self._news is None:
            return
        try:
            for line in await self._news.take_of(peer, self._live.state.label(peer)):
                self._note(Remark(line), peer)
        except (iw.DeviceLogDisputed, ConfigError) as error:
            self._note(Remark(str(error), "error"), peer)
        except iw.ClientError:
            pass  # the server shows no log, or does not answer: there is nothing to tell

    # --- the clock ---------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            state = self._live.state
            if self._client.connection != state.connection:
                self._live.dispatch(events.ConnectionChanged(self._client.connection))
            moment, is_counting = now(), state.typing or state.connection.state == "waiting"
            if is_counting or moment.minute != state.now.minute:
                self._live.dispatch(events.Ticked(moment, trio.current_time()))
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
                if book.differs(self._live.state.book):
                    self._live.dispatch(events.BookChanged(book))
                    self._reader.note_stale()

    def _tell_typing(self, is_typing: bool) -> None:
        if self._is_visible and self._typing_to is not None:
            self._client.presence.typing(self._typing_to, is_typing)


def _wanted(state: WindowState, peer: Address, number: str | None) -> RemoteFile | None:
    """The file of the conversation with `peer` that has this number, or the last that came."""
    found: RemoteFile | None = None
    for entry in state.threads[peer].entries:
        message = entry.message
        if isinstance(message, iw.DeliveredFile):
            is_wanted = message.sender != state.own if number is None else str(entry.number) == number
            found = RemoteFile.of(message, entry.content) if is_wanted else found
    return found
