"""`ironwire chat`: a conversation for a person at a terminal, or for a script at both ends of a pipe."""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import click
import trio
from attrs import define, field
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter, WordCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.company import OwnTyping
from ironwire.cli.conversation import COMMANDS, SENDING, Conversation
from ironwire.cli.editor import LineEditor
from ironwire.cli.exits import ExitCode
from ironwire.cli.options import key_option, open_identity, server_option, this_device_option
from ironwire.cli.piped import piped_lines
from ironwire.cli.render import YOU, notice
from ironwire.cli.terminal import err, out, printable_lines
from ironwire.client import Client, ClientError, Identity, ServerAddress, connect
from ironwire.ids import Address, ClientId, DeviceId, is_group

_TICK_SECONDS = 0.5


@click.command()
@click.argument("to")
@click.option("--visible", is_flag=True, help="On a terminal: let TO see that you are here, and when you type.")
@this_device_option
@server_option
@key_option
def chat(to: str, device: DeviceId, server: str, key: Path, *, visible: bool) -> None:
    """Converse with TO, a person or a group.

    On a terminal, messages appear above the line that you type; /help shows what else there is. Otherwise every line of
    standard input is sent, messages are printed, and the end of the input ends the conversation once everything is
    answered for. What came while this device was away comes first, and a person learns what you have read.
    """
    book = AddressBook.beside(key)
    recipient = book.address(to)
    identity = open_identity(key)
    is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
    address = ServerAddress.parse(server)
    if is_interactive:
        trio.run(_at_terminal, address, identity, device, book, recipient, visible)
    elif trio.run(_through_pipes, address, identity, device, book, recipient):
        sys.exit(ExitCode.REFUSED)


async def _through_pipes(
    address: ServerAddress, identity: Identity, device: DeviceId, book: AddressBook, to: Address
) -> int:
    async with connect(address, identity, device=device) as client:
        conversation = Conversation(to, client, book, out().print, err().print, lambda: None)
        err().print(notice(f"connected; you are {client.client_id}"))
        async with piped_lines() as lines:
            await conversation.hold(lines)
        return conversation.failures


async def _at_terminal(
    address: ServerAddress, identity: Identity, device: DeviceId, book: AddressBook, to: Address, is_visible: bool
) -> None:
    console = out()
    async with connect(address, identity, device=device) as client:
        tell: Callable[[bool], None] = partial(client.presence.typing, to) if is_visible else _tell_nobody
        screen = Screen(client, book, to, OwnTyping(tell))
        conversation = Conversation(
            to, client, book, console.print, console.print, lambda: screen.draw(conversation), receipts="read"
        )
        async with screen.editor.lines() as lines, trio.open_nursery() as nursery:
            console.print(notice(f"{book.label(to)} is {to}"))
            console.print(notice(f"you are {client.client_id}, on {client.device}"))
            console.print(notice("/help lists the commands, Ctrl-D leaves"))
            nursery.start_soon(screen.keep_current, conversation)
            if not is_group(to):
                nursery.start_soon(_look_around, client, ClientId(to), is_visible)
            await conversation.hold(lines)
            nursery.cancel_scope.cancel()


async def _look_around(client: Client, to: ClientId, is_visible: bool) -> None:
    """See whether `to` is there, and be seen."""
    # A server that refuses shows nobody; if the client has stopped, the conversation says so.
    with suppress(ClientError):
        await client.presence.watch([to])
        if is_visible:
            await client.presence.allow([to])
            await client.presence.say("online")


def _tell_nobody(_: bool) -> None:
    """That this user types, who does not want it known."""


@define(eq=False)
class Screen:
    """The bottom of the terminal: lines that nobody has answered for, the line being typed, the connection's state, and
    who is there.

    Trio's side replaces `_prompt` and `_toolbar` whole; the editor's thread only reads them.
    """

    _client: Client
    _book: AddressBook
    _to: Address
    _own_typing: OwnTyping
    editor: LineEditor = field(init=False)
    _prompt: StyleAndTextTuples = field(factory=list, init=False)
    _toolbar: StyleAndTextTuples = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.editor = LineEditor(lambda: self._prompt, lambda: self._toolbar, ChatCompleter())

    async def keep_current(self, conversation: Conversation) -> None:
        """Count down to the next attempt to connect, and tell who types."""
        while True:
            self._own_typing.look(self.editor.text)
            self.draw(conversation)
            await trio.sleep(_TICK_SECONDS)

    def draw(self, conversation: Conversation) -> None:
        """Show the conversation as it is now."""
        prompt: StyleAndTextTuples = []
        state = "on its way" if conversation.retry_at is None else "waits for the connection"
        for pending in conversation.pending:
            first, *more = printable_lines(pending.text)
            prompt.append(("ansibrightblack", f"{pending.at:%H:%M} {YOU} {first}{' …' if more else ''}  "))
            prompt.append(("ansiyellow", f"{pending.progress or state}\n"))
        prompt.append(("ansigreen bold", "> "))
        self._prompt = prompt
        self._toolbar = [
            *self._state(conversation),
            ("ansibrightblack", f"  ·  {self._client.address}  ·  to {self._book.label(self._to)}"),
            *(
                ("ansibrightblack", f"  ·  {word}")
                for word in (conversation.company.describe(self._book), conversation.receipt)
                if word
            ),
        ]
        self.editor.redraw()

    def _state(self, conversation: Conversation) -> StyleAndTextTuples:
        if conversation.retry_at is None:
            return [("ansigreen", "● connected")]
        seconds = max(0, conversation.retry_at - trio.current_time())
        return [("ansiyellow", f"○ reconnecting in {seconds:.0f} s" if seconds >= 1 else "○ reconnecting")]


class ChatCompleter(Completer):
    """Completes commands, and the paths of files."""

    def __init__(self) -> None:
        self._commands = WordCompleter(list(COMMANDS), sentence=True)
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What the text before the cursor may become."""
        command, space, argument = document.text_before_cursor.partition(" ")
        if not space:
            return self._commands.get_completions(document, complete_event) if command.startswith("/") else []
        if command in SENDING:
            return self._paths.get_completions(Document(argument), complete_event)
        return []
