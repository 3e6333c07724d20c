"""One conversation: what a user enters comes in, lines for a screen go out. It knows neither terminals nor pipes.

    lines ── _obey ──┬─ text ──────────── the device's store, which sends it
                     ├─ /file, /voice, … ─ _send_file: upload, then the store
                     └─ /save, /who ────── _save: download; _show_who
    events ─ _follow ──┬─ own lines: accepted, or why not
                       ├─ received lines, changes of the group, state of the connection
                       └─ receipts for what the other one said

Rules: what is entered is kept before anything else is read, with or without a server. What this user says is shown once
it is known what became of it, and is `pending` until then. Texts leave in the order in which they were entered.
"""

import os
import shlex
from collections import deque
from collections.abc import AsyncIterable, Callable
from datetime import datetime
from pathlib import Path

import trio
from attrs import define, field
from rich.text import Text

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat.presence_view import PresenceView
from ironwire.cli.failures import refusal
from ironwire.cli.options import ANSWER_SECONDS
from ironwire.cli.render import (
    elsewhere,
    group_change,
    incident,
    members,
    notice,
    now,
    own,
    received,
    remembered,
    sent_file,
    speaker,
    when,
)
from ironwire.cli.scripting.files import attach, destination, media_url
from ironwire.cli.scripting.outbound import queue_valid, wait_sent, waiting_line
from ironwire.client import (
    Accepted,
    Client,
    Connected,
    ConnectionFailed,
    DeliveredFile,
    DeliveredReceipt,
    DeliveredText,
    Disconnected,
    Error,
    GroupChanged,
    Lost,
    MediaError,
    Missed,
    PresenceUpdate,
    Queued,
    Received,
    Refused,
    RelayedTyping,
    Settled,
    TransferFailed,
    conversation_of,
    download,
)
from ironwire.client.store.records import Sendable
from ironwire.errors import InvalidId
from ironwire.ids import Address, ClientId, GroupId, MessageId, is_group
from ironwire.wire.messages import File, FileKind, Receipt, ReceiptState
from ironwire.wire.messages import Text as SentText

HELP = (
    "/file PATH           upload a file and send it; or as what it is:",
    "/image PATH          a picture",
    "/voice PATH          a voice message",
    "/circle PATH         a square film of a minute at most",
    "/save [URL [PATH]]   save a file; without a URL, the last one that came",
    "/to NAME             converse with somebody else",
    "/who                 who is in this conversation",
    "/help                this list",
    "/quit                leave, as Ctrl-D does",
    "//text               send a text that begins with a slash",
)
SENDING: dict[str, FileKind] = {"/file": "file", "/image": "image", "/voice": "voice", "/circle": "circle"}
COMMANDS = ("/to", *SENDING, "/save", "/who", "/help", "/quit")

_REMEMBERED_FILES = 100
"""Files whose names `/save` still knows."""


@define(eq=False)
class Pending:
    """Something that this user sent, and that nobody has answered for yet."""

    text: str
    at: datetime = field(factory=now)
    progress: str = ""
    """How far the upload is, for people."""


@define(eq=False)
class Conversation:
    """With `to`, a client or a group, over the device `client`, for one run of `hold`.

    `show` prints what was said, `say` what the program has to add; `changed` is called when `pending`, `receipt` or
    `presence_view` is another. `receipts` is what the other one is told about what was shown; a group is told
    nothing, because of each message everybody would tell one. So many of the last lines as `recalls` are shown when a
    conversation opens. What comes elsewhere is said with its name, and never shown among what is said here.
    """

    to: Address
    _client: Client
    _book: AddressBook
    _show: Callable[[Text], None]
    _say: Callable[[Text], None]
    _changed: Callable[[], None]
    _receipts: ReceiptState = "delivered"
    _recalls: int = 0
    _recalled: set[tuple[ClientId, MessageId]] = field(factory=set, init=False)
    """Shown already as the last lines, and perhaps still on their way as events."""
    _uploads: list[Pending] = field(factory=list, init=False)
    _queued: dict[MessageId, Pending] = field(factory=dict, init=False)
    _own: set[MessageId] = field(factory=set, init=False)
    """What was entered here, until it is shown what became of it."""
    _earlier: int = field(default=0, init=False)
    """How many others waited when this began: of earlier runs, and of other commands."""
    _is_away: bool = field(default=False, init=False)
    receipt: ReceiptState | None = field(default=None, init=False)
    """What became of the last message with the other one, as far as their devices say."""
    failures: int = field(default=0, init=False)
    """Messages and files that did not get across."""
    presence_view: PresenceView = field(init=False)
    _files: deque[DeliveredFile] = field(factory=lambda: deque(maxlen=_REMEMBERED_FILES), init=False)

    def __attrs_post_init__(self) -> None:
        self.presence_view = PresenceView(self.to)

    async def hold(self, batches: AsyncIterable[list[str]]) -> None:
        """Converse until `lines` end or one of them is `/quit`; then wait as long as messages get across.

        What has not is kept, and goes out in a later run.

        Raises:
            ClientError: the server does not want this client, or the device's store fails.
        """
        self._earlier = self._client.waiting
        await self._recall()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            async with trio.open_nursery() as errands:
                # Not in this task, which may be the one that Ctrl-C goes to, whatever it is doing.
                errands.start_soon(self._obey, batches, errands)
            await wait_sent(self._client, lambda: bool(self._own) or self._earlier > 0)
            nursery.cancel_scope.cancel()
        if self._client.waiting:
            self._say(notice(waiting_line(self._client.waiting, self._client.connection.reason), "yellow"))
        if self._client.connection.error is not None:
            raise self._client.connection.error

    @property
    def pending(self) -> tuple[Pending, ...]:
        """What is under way, in the order in which it was entered."""
        return (*self._queued.values(), *self._uploads)

    # --- what is entered ---------------------------------------------------------------------------------------------

    async def _obey(self, batches: AsyncIterable[list[str]], errands: trio.Nursery) -> None:
        async for lines in batches:
            texts: list[SentText] = []
            for line in map(str.strip, lines):
                if is_command(line):
                    await self._queue(*texts)
                    texts.clear()
                    if line == "/quit":
                        return
                    await self._do(*line.split(maxsplit=1), errands=errands)
                elif line:
                    texts.append(SentText(self.to, as_text(line)))
            await self._queue(*texts)

    async def _do(self, command: str, argument: str = "", *, errands: trio.Nursery) -> None:
        match command:
            case "/to":
                await self._turn(argument)
            case "/help":
                for entry in HELP:
                    self._say(notice(entry))
            case "/who":
                errands.start_soon(self._show_who)
            case "/save":
                errands.start_soon(self._save, argument)
            case _ if command in SENDING:
                errands.start_soon(self._send_file, command, argument)
            case _:
                self._say(notice(f"there is no {command}; /help lists what there is, //… sends a slash", "yellow"))

    async def _turn(self, name: str) -> None:
        try:
            self.to = self._book.address(name)
        except InvalidId as error:
            self._say(notice(str(error), "yellow"))
            return
        self.presence_view, self.receipt = PresenceView(self.to), None
        self._say(notice(f"to {self._book.label(self.to)}, {self.to}"))
        await self._recall()
        self._changed()

    async def _recall(self) -> None:
        """Show how the conversation ended last."""
        if not self._recalls:
            return
        own_id = self._client.client_id
        for entry in await self._client.history(self.to, self._recalls):
            self._show(remembered(entry, self._book, own_id, self.to))
            if isinstance(entry.message, DeliveredFile):
                self._files.append(entry.message)
            if entry.id is not None and not isinstance(entry.message, GroupChanged):
                self._recalled.add((entry.message.sender, entry.id))
        await self._note_read()

    async def _note_read(self) -> None:
        if self._receipts == "read" and (latest := await self._client.history(self.to, 1)):
            await self._client.mark_read(self.to, latest[-1].number)

    async def _queue(self, *messages: SentText | File) -> None:
        if not messages:
            return
        # An interrupt waits until what was read is kept.
        with trio.CancelScope(shield=True):
            await queue_valid(self._queue_own, messages, self._refuse)

    async def _queue_own(self, *messages: Sendable) -> None:
        self._own.update(await self._client.queue(*messages))

    def _refuse(self, message: Sendable, refused: Refused) -> None:
        """No server would take it: it was not even kept."""
        self.failures += 1
        if not isinstance(message, Receipt):
            self._show_own(self._said(message), now(), refusal(refused), message.to)

    async def _send_file(self, command: str, argument: str) -> None:
        if not argument:
            self._say(notice(f"{command} PATH: which file?", "yellow"))
            return
        path = path_of(" ".join(words_of(argument)))
        to, pending = self.to, Pending(sent_file(path.name), progress="0 %")
        self._uploads.append(pending)

        def report(done: int, total: int) -> None:
            pending.progress = f"{100 * done // total} %" if total else ""
            self._changed()

        try:
            attachment = await attach(self._client, path, SENDING[command], report)
            await self._queue(File(to, attachment.url, **attachment.metadata))
        except (ConnectionFailed, MediaError, TransferFailed) as failed:
            self.failures += 1
            self._show_own(pending.text, pending.at, str(failed), to)
        finally:
            self._uploads.remove(pending)
            self._changed()

    async def _save(self, argument: str) -> None:
        words = words_of(argument)
        if not words and not self._files:
            self._say(notice("/save: no file has come yet", "yellow"))
            return
        url = media_url(self._client.address, words[0]) if words else self._files[-1].url
        announced = {file.url: file for file in self._files}.get(url)
        name = (announced.name if announced else None) or url.rpartition("/")[2]
        target = destination(path_of(words[1]) if len(words) > 1 else None, name)
        try:
            await download(
                self._client.address,
                url,
                target,
                expected_size=announced.size if announced else None,
                expected_sha256=announced.sha256 if announced else None,
            )
        except (ConnectionFailed, TransferFailed) as failed:
            self.failures += 1
            self._say(notice(str(failed), "red"))
        else:
            self._say(notice(f"saved as {target}", "green"))

    async def _show_who(self) -> None:
        if not is_group(self.to):
            status = f", {self.presence_view.status}" if self.presence_view.status else ""
            self._say(notice(f"{self._book.label(self.to)} is {self.to}{status}"))
            return
        try:
            with trio.fail_after(ANSWER_SECONDS):
                group = await self._client.groups.info(GroupId(self.to))
        except Refused as refused:
            self._say(notice(refusal(refused), "red"))
        except trio.TooSlowError:
            self._say(notice("the server does not answer", "red"))
        else:
            for line in members(group, self._book, self._client.client_id):
                self._say(notice(line))

    def _show_own(self, text: str, at: datetime, problem: str | None, to: Address) -> None:
        self.receipt = None
        show = self._show if to == self.to else self._say
        show(own(text, at, problem))
        self._changed()

    # --- what comes --------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async for event in self._client:
            match event:
                case Received(DeliveredText() | DeliveredFile() as message, message_id):
                    await self._receive(message, message_id)
                    if self._wants_receipt(message) and message_id is not None:
                        receipt = Receipt(message.sender, [message_id], self._receipts)
                        await self._queue_own(receipt)
                case Received(GroupChanged() as change):
                    at = when(change.ts)
                    show = self._show if change.group == self.to else self._say
                    show(group_change(change, self._book, self._client.client_id, at, self.to))
                case Received(RelayedTyping() | PresenceUpdate() as news):
                    self.presence_view.note(news)
                case Received(DeliveredReceipt(sender)) if sender == self.to:
                    await self._note_receipt()
                case Received(Error() as error):
                    self._say(incident(error))
                case Received():
                    pass  # what other devices read, and that everything has come
                case Queued(message_id, message):
                    self._queued[message_id] = Pending(self._said(message))
                case Settled(message_id, SentText() | File() as message, reply):
                    self._settle(message_id, message, reply)
                case Settled(message_id):
                    self._note_settled(message_id)
                case Connected():
                    self._say(notice("connected again" if self._is_away else "connected", "green"))
                    self._is_away = False
                case Disconnected(reason, retry_seconds):
                    # Said once; how long it takes is for the state of the connection to show.
                    if not self._is_away or retry_seconds is None:
                        self._say(notice(reason if retry_seconds is None else f"{reason}; trying again", "yellow"))
                    self._is_away = True
                    self.presence_view.forget()
                case Missed() | Lost() as missed:
                    self._say(incident(missed))
            self._changed()

    def _wants_receipt(self, message: DeliveredText | DeliveredFile) -> bool:
        return message.sender == self.to and message.group is None and message.device is not None

    def _settle(self, message_id: MessageId, message: SentText | File, reply: Accepted | Error) -> None:
        """Show what became of a message: of this conversation, of an earlier run, or of another command."""
        pending = self._queued.pop(message_id, None)
        problem = refusal(Refused(reply.msg, reply.detail)) if isinstance(reply, Error) else None
        self._show_own(self._said(message), now() if pending is None else pending.at, problem, message.to)
        self.failures += problem is not None and message_id in self._own
        self._note_settled(message_id)

    def _note_settled(self, message_id: MessageId) -> None:
        if message_id in self._own:
            self._own.remove(message_id)
        elif self._earlier:
            self._earlier -= 1

    def _said(self, message: SentText | File) -> str:
        said = message.text if isinstance(message, SentText) else sent_file(message.name)
        return said if message.to == self.to else f"→ {self._book.label(message.to)} {said}"

    async def _note_receipt(self) -> None:
        latest = await self._client.history(self.to, 1)
        self.receipt = latest[0].receipt if latest else None

    async def _receive(self, message: DeliveredText | DeliveredFile, message_id: MessageId | None) -> None:
        if isinstance(message, DeliveredFile):
            self._files.append(message)
        self.presence_view.stop(message.sender)
        peer = conversation_of(message, self._client.client_id)
        name = speaker(message, self._book, self._client.client_id, self.to)
        if peer != self.to:
            self._say(elsewhere(message, name, self._book.entry(peer)))
        elif message_id is None or (message.sender, message_id) not in self._recalled:
            self._show(received(message, name, when(message.ts)))
            await self._note_read()


def is_command(line: str) -> bool:
    return line.startswith("/") and not line.startswith("//")


def as_text(line: str) -> str:
    """What is sent for a line that is no command."""
    return line[1:] if line.startswith("//") else line


def path_of(text: str) -> Path:
    """What a person means by `text`; unlike `Path.expanduser` this takes any text."""
    return Path(os.path.expanduser(text))


def words_of(argument: str) -> list[str]:
    """The words of a command, as a shell would split them; where quotes do not match, the whole is one word."""
    try:
        return shlex.split(argument)
    except ValueError:
        return [argument.strip()]
