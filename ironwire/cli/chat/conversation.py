"""One conversation, line by line: a user's lines come in, lines for a screen go out. It knows neither terminals nor
pipes.

    lines ── _obey ──┬─ text ──────────── `own_lines.py`: the device's store, which sends it
                     ├─ /file, /save, … ── `transfers.py`
                     └─ /who, /block, … ── the server (`commands.py`)
    events ─ _follow ──┬─ own lines: accepted, or why not
                       ├─ received lines, changes of the group, state of the connection
                       └─ receipts for what the other one said
"""

from collections import deque
from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import suppress
from datetime import datetime

import trio
from attrs import define, field
from rich.text import Text

import ironwire.client as iw
from ironwire.cli import render
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat import commands
from ironwire.cli.chat.group_names import GroupNames
from ironwire.cli.chat.own_lines import OwnLines, PendingLine
from ironwire.cli.chat.presence_view import PresenceView
from ironwire.cli.chat.transfers import dropped_line, leaving_drops
from ironwire.cli.device_news import NewsSource
from ironwire.cli.scripting.files import RemoteFile, media_url
from ironwire.cli.scripting.outbound import wait_sent, waiting_line
from ironwire.cli.secrets import SecrecyNotices, secret_event
from ironwire.errors import ConfigError, InvalidId
from ironwire.ids import Address, ClientId, GroupId, MessageId, is_group
from ironwire.wire.messages import File, Receipt, ReceiptState
from ironwire.wire.messages import Text as SentText

_REMEMBERED_FILES = 100
"""Files whose names `/save` still knows."""

_USAGE_CHARS = 14
_TONES = {"muted": "dim", "good": "bright_blue", "warning": "magenta", "error": "red"}


@define(eq=False)
class LineChat:
    """With `to`, a client or a group, over the device `client`, for one run of `hold`.

    `show` prints what was said, `say` what the program has to add; `changed` is called when `pending`, `receipt` or
    `presence_view` is another. `receipts` is what the other one is told about what was shown; a group is told
    nothing, because of each message everybody would tell one. So many of the last lines as `recalls` are shown when a
    conversation opens. What comes elsewhere is said with its name, and never shown among what is said here.
    """

    to: Address
    _client: iw.Client
    _book: AddressBook
    _show: Callable[[Text], None]
    _say: Callable[[Text], None]
    _changed: Callable[[], None]
    _receipts: ReceiptState = "delivered"
    _recalls: int = 0
    _news: NewsSource | None = None
    _recalled: set[tuple[ClientId, MessageId]] = field(factory=set, init=False)
    """Shown already as the last lines, and perhaps still on their way as events."""
    _own: OwnLines = field(init=False)
    _names: GroupNames = field(init=False)
    _is_away: bool = field(default=False, init=False)
    receipt: ReceiptState | None = field(default=None, init=False)
    """The state of the last message with the other one, as far as their devices say."""
    presence_view: PresenceView = field(init=False)
    _files: deque[RemoteFile] = field(factory=lambda: deque(maxlen=_REMEMBERED_FILES), init=False)
    _unsaved: int = field(default=0, init=False)
    _secrecy: SecrecyNotices = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.presence_view = PresenceView(self.to)
        self._own = OwnLines(self._client, self._said, self._show_own, self._changed)
        self._names = GroupNames(self._client, self._note_names)
        self._secrecy = SecrecyNotices(self._book)

    @property
    def pending(self) -> tuple[PendingLine, ...]:
        """Own lines under way, in the order in which they were entered."""
        return self._own.pending

    @property
    def failures(self) -> int:
        """Messages and files that did not get across."""
        return self._own.failures + self._unsaved

    async def hold(self, batches: AsyncIterable[list[str]]) -> None:
        """Converse until the lines end or one of them is `/quit`; then wait for files on their way, and as long as
        messages get across.

        A message that does not is kept, and goes out in a later run. A file that is cancelled is named.

        Raises:
            ClientError: the server does not want this client, or the device's store fails.
        """
        await self._names.restore()
        await self._recall()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, nursery)
                async with trio.open_nursery() as errands:
                    # Not in this task, which may be the one that Ctrl-C goes to, whatever it is doing.
                    errands.start_soon(self._obey, batches, errands)
                await wait_sent(self._client, lambda: self._own.is_any_unsettled)
                nursery.cancel_scope.cancel()
        finally:
            for transfer in self._own.transfers.dropped:
                self._remark(commands.Remark(dropped_line(transfer, self._book.label(transfer.peer)), "warning"))
        if self._client.waiting:
            self._remark(commands.Remark(waiting_line(self._client.waiting, self._client.connection.reason), "warning"))
        if self._client.connection.error is not None:
            raise self._client.connection.error

    # --- what is entered ---------------------------------------------------------------------------------------------

    async def _obey(self, batches: AsyncIterable[list[str]], errands: trio.Nursery) -> None:
        await self._obey_lines(batches, errands)
        if running := len(self._own.transfers.running):
            self._remark(commands.Remark(leaving_drops(running, "Ctrl-C drops"), "warning"))

    async def _obey_lines(self, batches: AsyncIterable[list[str]], errands: trio.Nursery) -> None:
        async for lines in batches:
            texts: list[SentText] = []
            for line in map(str.strip, lines):
                if commands.is_command(line):
                    await self._own.queue(texts)
                    texts = []
                    if line == "/quit":
                        return
                    await self._do(*line.split(maxsplit=1), errands=errands)
                elif line:
                    texts.append(SentText(self.to, commands.as_text(line)))
            await self._own.queue(texts)

    async def _do(self, command: str, argument: str = "", *, errands: trio.Nursery) -> None:
        match command:
            case "/to":
                await self._turn(argument)
                if self._client.connected:
                    errands.start_soon(self._tell_of_secrecy, self.to)
            case "/help":
                for usage, meaning in commands.USAGE:
                    self._say(render.notice(f"{usage.ljust(_USAGE_CHARS)}{meaning}"))
            case "/who" | "/block" | "/unblock":
                errands.start_soon(self._ask_server, command, self.to)
            case "/reconnect":
                self._client.reconnect_now()
            case "/save":
                self._save(argument, errands)
            case _ if command in commands.SENDING and not argument:
                self._remark(commands.Remark(f"{command} PATH: which file?", "warning"))
            case _ if command in commands.SENDING:
                self._own.send_file(errands, self.to, commands.SENDING[command], argument)
            case _:
                self._remark(commands.unknown(command))

    def _remark(self, remark: commands.Remark) -> None:
        for line in remark.text.splitlines():
            self._say(render.notice(line, _TONES[remark.tone]))

    async def _turn(self, name: str) -> None:
        try:
            self.to = self._book.address(name)
        except InvalidId as error:
            self._remark(commands.Remark(str(error), "warning"))
            return
        self.presence_view, self.receipt = PresenceView(self.to), None
        self._remark(commands.Remark(f"to {self._book.label(self.to)}, {self.to}"))
        await self._recall()
        self._changed()

    async def _recall(self) -> None:
        """Show how the conversation ended last."""
        if not self._recalls:
            return
        own_id = self._client.client_id
        for entry in await self._client.history(self.to, self._recalls):
            self._show(render.remembered(entry, self._book, own_id, self.to))
            if isinstance(entry.message, iw.DeliveredFile):
                self._files.append(RemoteFile.of(entry.message, entry.content))
            if entry.id is not None and not isinstance(entry.message, iw.GroupChanged):
                self._recalled.add((entry.message.sender, entry.id))
        await self._note_read()

    async def _note_read(self) -> None:
        if self._receipts == "read" and (latest := await self._client.history(self.to, 1)):
            await self._client.mark_read(self.to, latest[-1].number)

    def _save(self, argument: str, errands: trio.Nursery) -> None:
        words = commands.words_of(argument)
        if not words and not self._files:
            self._remark(commands.Remark("/save: no file has come yet", "warning"))
            return
        typed = RemoteFile.named(media_url(self._client.address, words[0])) if words else self._files[-1]
        file = next((file for file in self._files if file.url == typed.url), typed)
        path = words[1] if len(words) > 1 else None
        self._own.transfers.save(errands, self.to, file, path, self._note_saved)

    def _note_saved(self, remark: commands.Remark) -> None:
        self._unsaved += remark.tone == "error"
        self._remark(remark)

    async def _ask_server(self, question: commands.Question, peer: Address) -> None:
        self._remark(await commands.ask_server(self._client, question, peer, self._book, self.presence_view.status))

    # --- what became of it -------------------------------------------------------------------------------------------

    def _said(self, message: SentText | File) -> str:
        said = message.text if isinstance(message, SentText) else render.sent_file(message.name)
        return said if message.to == self.to else f"→ {self._book.label(message.to)} {said}"

    def _show_own(self, text: str, at: datetime, problem: str | None, to: Address) -> None:
        self.receipt = None
        show = self._show if to == self.to else self._say
        show(render.own(text, at, problem))
        self._changed()

    # --- what comes --------------------------------------------------------------------------------------------------

    async def _follow(self, nursery: trio.Nursery) -> None:
        async for event in self._client:
            self._names.note(event)
            peers = [peer for peer in (self.to, *_groups_of(event)) if not self._book.is_known(peer)]
            nursery.start_soon(self._names.look_up, peers)
            match event:
                case iw.Received(iw.DeliveredText() | iw.DeliveredFile() as message, message_id, _, content):
                    await self._receive(message, message_id, content)
                case iw.Received(iw.GroupChanged() as change):
                    at = render.when(change.ts)
                    show = self._show if change.group == self.to else self._say
                    show(render.group_change(change, self._book, self._client.client_id, at, self.to))
                case iw.Received(iw.MlsMessage() as said, _, _, iw.Content() as content):
                    if isinstance(content.body, iw.Amendment):
                        at, own = render.when(said.ts), self._client.client_id
                        self._say(render.amendment(content.body, said.sender, self._book, own, at))
                case iw.Received(iw.RelayedTyping() | iw.PresenceUpdate() as news):
                    self.presence_view.note(news)
                case iw.Received(iw.DeliveredReceipt(sender)) if sender == self.to:
                    await self._note_receipt()
                case iw.Received(iw.DeviceLogChanged()):
                    nursery.start_soon(self._tell_of_devices, True)
                case iw.Received(iw.Error() as error):
                    self._say(render.incident(error))
                case iw.Received():
                    pass  # what other devices read, and that everything has come
                case iw.Queued(message_id, message):
                    self._own.note_queued(message_id, message)
                case iw.Settled(message_id, sent, reply):
                    self._own.settle(message_id, sent, reply)
                case iw.Connected():
                    self._remark(commands.Remark("connected again" if self._is_away else "connected", "good"))
                    self._is_away = False
                    nursery.start_soon(self._tell_of_devices, False)
                    nursery.start_soon(self._tell_of_secrecy, self.to)
                    if not is_group(self.to):
                        nursery.start_soon(self._tell_of_peer, ClientId(self.to))
                case iw.Disconnected(reason, retry_seconds):
                    self._note_disconnected(reason, is_final=retry_seconds is None)
                case iw.Missed() | iw.Lost() as missed:
                    self._say(render.incident(missed))
                case iw.OwnRecordsChanged() if self._news is not None:
                    await self._news.take_names(self._book)
                case secret:
                    line = secret_event(secret, self._book)
                    if line is not None:
                        self._say(line)
            self._changed()

    async def _tell_of_devices(self, is_changed: bool) -> None:
        if self._news is not None:
            for line in await self._news.take(is_changed=is_changed):
                self._remark(commands.Remark(line, "error"))

    async def _tell_of_secrecy(self, peer: Address) -> None:
        with suppress(iw.ClientError):  # the server does not say whether the other one has devices
            self._note_secrecy(peer, is_encrypted=await self._client.will_encrypt(peer))

    def _note_secrecy(self, peer: Address, *, is_encrypted: bool) -> None:
        line = self._secrecy.of(peer, is_encrypted=is_encrypted)
        if line is not None:
            self._say(line)

    async def _tell_of_peer(self, peer: ClientId) -> None:
        if self._news is None:
            return
        try:
            for line in await self._news.take_of(peer, self._book.label(peer)):
                self._remark(commands.Remark(line))
        except (iw.DeviceLogDisputed, ConfigError) as error:
            self._remark(commands.Remark(str(error), "error"))
        except iw.ClientError:
            pass  # the server shows no log, or does not answer: there is nothing to tell

    def _note_disconnected(self, reason: str, *, is_final: bool) -> None:
        """Say it once; how long it takes is for the state of the connection to show."""
        if not self._is_away or is_final:
            self._remark(commands.Remark(reason if is_final else f"{reason}; trying again", "warning"))
        self._is_away = True
        self.presence_view.forget()

    async def _receive(
        self, message: iw.DeliveredText | iw.DeliveredFile, message_id: MessageId | None, content: iw.Content | None
    ) -> None:
        if isinstance(message, iw.DeliveredFile):
            self._files.append(RemoteFile.of(message, content))
        self.presence_view.stop(message.sender)
        peer = iw.conversation_of(message, self._client.client_id)
        name = render.speaker(message, self._book, self._client.client_id, self.to)
        self._note_secrecy(peer, is_encrypted=content is not None)
        if peer != self.to:
            self._say(render.elsewhere(message, name, self._book.entry(peer)))
        elif message_id is None or (message.sender, message_id) not in self._recalled:
            self._show(render.received(message, name, render.when(message.ts)))
            await self._note_read()
        is_theirs = message.sender == self.to and message.group is None
        if is_theirs and message.device is not None and message_id is not None:
            await self._own.queue_receipt(Receipt(message.sender, [message_id], self._receipts))

    async def _note_receipt(self) -> None:
        latest = await self._client.history(self.to, 1)
        self.receipt = latest[0].receipt if latest else None

    def _note_names(self, names: Mapping[GroupId, str]) -> None:
        self._book.group_names = names
        self._changed()


def _groups_of(event: iw.Event) -> list[GroupId]:
    """The group in which something happened, if it was in one."""
    match event:
        case iw.Received(
            iw.DeliveredText(group=group) | iw.DeliveredFile(group=group) | iw.GroupChanged(group=group)
        ) if group:
            return [group]
        case _:
            return []
