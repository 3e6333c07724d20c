"""One conversation: what a user enters comes in, lines for a screen go out. It knows neither terminals nor pipes.

    lines ── _obey ──┬─ text ──────────── outgoing ── _deliver ── own line: accepted, or why not
                     ├─ /file, /voice, … ─ _send_file: upload, then outgoing
                     └─ /save, /who ────── _save: download; _show_who
    events ─ _follow ──┬─────────── received lines, changes of the group, state of the connection
                       └─────────── receipts for what the other one said

Rule: what this user says is shown once it is known what became of it, and is `pending` until then. Texts leave in the
order in which they were entered.
"""

import math
import os
import shlex
from collections import deque
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import trio
from attrs import define, field
from rich.text import Text

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.company import Company
from ironwire.cli.exits import refusal
from ironwire.cli.files import Attachment, attach, destination, media_url
from ironwire.cli.options import ANSWER_SECONDS, answer_deadline
from ironwire.cli.render import group_change, incident, notice, now, own, received, roster, sent_file, speaker, when
from ironwire.client import (
    Client,
    ClientError,
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
    Received,
    Refused,
    RelayedTyping,
    Settled,
    TransferFailed,
    conversation_of,
    download,
)
from ironwire.ids import Address, ClientId, GroupId, MessageId, is_group
from ironwire.wire.messages import File, FileKind, ReceiptState
from ironwire.wire.messages import Text as SentText

HELP = (
    "/file PATH           upload a file and send it; or as what it is:",
    "/image PATH          a picture",
    "/voice PATH          a voice message",
    "/circle PATH         a square film of a minute at most",
    "/save [URL [PATH]]   save a file; without a URL, the last one that came",
    "/who                 who is in this conversation",
    "/help                this list",
    "/quit                leave, as Ctrl-D does",
    "//text               send a text that begins with a slash",
)
SENDING: dict[str, FileKind] = {"/file": "file", "/image": "image", "/voice": "voice", "/circle": "circle"}
COMMANDS = (*SENDING, "/save", "/who", "/help", "/quit")

_REMEMBERED_FILES = 100
"""Files whose names `/save` still knows."""


@define(eq=False)
class Pending:
    """Something that this user sent, and that nobody has answered for yet."""

    text: str
    at: datetime = field(factory=now)
    attachment: Attachment | None = None
    """Of a file, once it is uploaded."""
    progress: str = ""
    """How far the upload is, for people."""


@define(eq=False)
class Conversation:
    """With `to`, a client or a group, over `client`, for one run of `hold`.

    `show` prints what was said, `say` what the program has to add; `changed` is called when `pending`, `retry_at`,
    `receipt` or `company` is another. `receipts` is what the other one is told about what was shown; a group is told
    nothing, because of each message everybody would tell one.
    """

    to: Address
    _client: Client
    _book: AddressBook
    _show: Callable[[Text], None]
    _say: Callable[[Text], None]
    _changed: Callable[[], None]
    _receipts: ReceiptState = "delivered"
    pending: tuple[Pending, ...] = field(default=(), init=False)
    retry_at: float | None = field(default=None, init=False)
    """On Trio's clock: when the client tries to connect again. None while there is a session."""
    receipt: ReceiptState | None = field(default=None, init=False)
    """What became of the last message with the other one, as far as their devices say."""
    failures: int = field(default=0, init=False)
    """Messages and files that did not get across."""
    company: Company = field(init=False)
    _files: deque[DeliveredFile] = field(factory=lambda: deque(maxlen=_REMEMBERED_FILES), init=False)

    def __attrs_post_init__(self) -> None:
        self.company = Company(self.to)

    async def hold(self, lines: AsyncIterable[str]) -> None:
        """Converse until `lines` end or one of them is `/quit`, and everything that was entered is answered for.

        Raises:
            ClientError: the client has stopped, or did not get an answer in time.
        """
        outgoing, queued = trio.open_memory_channel[Pending](math.inf)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, nursery)
            delivered = trio.Event()
            nursery.start_soon(self._deliver, queued, delivered)
            async with outgoing, trio.open_nursery() as errands:
                await self._obey(lines, outgoing, errands)
            with answer_deadline():
                await delivered.wait()
            nursery.cancel_scope.cancel()

    # --- what is entered ---------------------------------------------------------------------------------------------

    async def _obey(
        self, lines: AsyncIterable[str], outgoing: trio.MemorySendChannel[Pending], errands: trio.Nursery
    ) -> None:
        async for line in lines:
            command, _, argument = line.strip().partition(" ")
            match command:
                case "":
                    pass
                case "/quit":
                    return
                case "/help":
                    for entry in HELP:
                        self._say(notice(entry))
                case "/who":
                    errands.start_soon(self._show_who)
                case "/save":
                    errands.start_soon(self._save, argument)
                case _ if command in SENDING:
                    errands.start_soon(self._send_file, command, argument.strip(), outgoing)
                case _ if command.startswith("/") and not command.startswith("//"):
                    self._say(notice(f"there is no {command}; /help lists what there is, //… sends a slash", "yellow"))
                case _:
                    text = line.strip()
                    outgoing.send_nowait(self._add(Pending(text[1:] if text.startswith("//") else text)))

    async def _deliver(self, queued: trio.MemoryReceiveChannel[Pending], delivered: trio.Event) -> None:
        async for pending in queued:
            try:
                if pending.attachment is not None:
                    await self._client.send_file(self.to, pending.attachment.url, **pending.attachment.metadata)
                else:
                    await self._client.send_text(self.to, pending.text)
            except Refused as refused:
                self._settle(pending, refusal(refused))
            else:
                self._settle(pending)
        delivered.set()

    async def _send_file(self, command: str, argument: str, outgoing: trio.MemorySendChannel[Pending]) -> None:
        if not argument:
            self._say(notice(f"{command} PATH: which file?", "yellow"))
            return
        path = path_of(" ".join(words_of(argument)))
        pending = self._add(Pending(sent_file(path.name), progress="0 %"))

        def report(done: int, total: int) -> None:
            pending.progress = f"{100 * done // total} %" if total else ""
            self._changed()

        try:
            pending.attachment = await attach(self._client, path, SENDING[command], report)
        except (ConnectionFailed, MediaError, TransferFailed) as failed:
            self._settle(pending, str(failed))
            return
        pending.progress = ""
        outgoing.send_nowait(pending)

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
            status = f", {self.company.status}" if self.company.status else ""
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
            for line in roster(group, self._book, self._client.client_id):
                self._say(line)

    def _add(self, pending: Pending) -> Pending:
        self.pending = (*self.pending, pending)
        self._changed()
        return pending

    def _settle(self, pending: Pending, problem: str | None = None) -> None:
        self.failures += problem is not None
        self.receipt = None
        self.pending = tuple(other for other in self.pending if other is not pending)
        self._show(own(pending.text, pending.at, problem))
        self._changed()

    # --- what comes --------------------------------------------------------------------------------------------------

    async def _follow(self, nursery: trio.Nursery) -> None:
        async for event in self._client:
            match event:
                case Received(DeliveredText() | DeliveredFile() as message, message_id):
                    self._receive(message)
                    if self._wants_receipt(message) and message_id is not None:
                        nursery.start_soon(self._send_receipt, message.sender, message_id)
                case Received(GroupChanged() as change):
                    at = when(change.ts)
                    self._show(group_change(change, self._book, self._client.client_id, at, self.to))
                case Received(RelayedTyping() | PresenceUpdate() as news):
                    self.company.note(news)
                case Received(DeliveredReceipt(sender)) if sender == self.to:
                    await self._note_receipt()
                case Received(Error() as error):
                    self._say(incident(error))
                case Received():
                    pass  # what other devices read, and that everything has come
                case Settled(_, SentText() | File() as message, reply):
                    # From an earlier conversation, maybe with somebody else.
                    said = message.text if isinstance(message, SentText) else sent_file(message.name)
                    problem = refusal(Refused(reply.msg, reply.detail)) if isinstance(reply, Error) else None
                    self._show(own(said, now(), problem))
                case Settled():
                    pass  # receipts
                case Connected():
                    if self.retry_at is not None:
                        self._say(notice("connected again", "green"))
                    self.retry_at = None
                case Disconnected(reason, retry_seconds):
                    # Said once; how long it takes is for the state of the connection to show.
                    if self.retry_at is None:
                        self._say(notice(f"{reason}; trying again", "yellow"))
                    self.retry_at = trio.current_time() + retry_seconds
                    self.company.forget()
                case Missed() | Lost() as missed:
                    self._say(incident(missed))
            self._changed()

    def _wants_receipt(self, message: DeliveredText | DeliveredFile) -> bool:
        return message.sender == self.to and message.group is None and message.device is not None

    async def _send_receipt(self, to: ClientId, message_id: MessageId) -> None:
        # If it is refused, the other one learns nothing; if the client has stopped, `_follow` says so.
        with suppress(ClientError):
            await self._client.send_receipt(to, [message_id], self._receipts)

    async def _note_receipt(self) -> None:
        latest = await self._client.history(self.to, 1)
        self.receipt = latest[0].receipt if latest else None

    def _receive(self, message: DeliveredText | DeliveredFile) -> None:
        if isinstance(message, DeliveredFile):
            self._files.append(message)
        self.company.stop(message.sender)
        is_here = conversation_of(message, self._client.client_id) == self.to
        name = speaker(message, self._book, self._client.client_id, self.to)
        self._show(received(message, name, when(message.ts), style="bold cyan" if is_here else "bold magenta"))


def path_of(text: str) -> Path:
    """What a person means by `text`; unlike `Path.expanduser` this takes any text."""
    return Path(os.path.expanduser(text))


def words_of(argument: str) -> list[str]:
    """The words of a command, as a shell would split them; where quotes do not match, the whole is one word."""
    try:
        return shlex.split(argument)
    except ValueError:
        return [argument.strip()]
