"""`ironwire chat --plain`: one conversation over a line editor, for narrow, slow and speaking terminals."""

from contextlib import suppress
from functools import partial
from typing import Self

import trio
from attrs import define, field
from prompt_toolkit.formatted_text import StyleAndTextTuples

from ironwire.cli.addressbook import VERIFIED, AddressBook
from ironwire.cli.chat.commands import COMMANDS
from ironwire.cli.chat.conversation import LineChat
from ironwire.cli.chat.editor import ChatCompleter, LineEditor
from ironwire.cli.chat.presence_view import OwnTyping
from ironwire.cli.device_news import NewsSource
from ironwire.cli.render import YOU, notice
from ironwire.cli.terminal import out, printable, printable_lines
from ironwire.client import Client, ClientError
from ironwire.ids import Address, ClientId, is_group

_TICK_SECONDS = 0.5
_OTHER_LINES = 8
"""On the screen beside the last lines of a conversation when it opens: what is said first, and the prompt."""


async def hold_lines(client: Client, book: AddressBook, news: NewsSource, to: Address, *, is_visible: bool) -> None:
    """Converse with `to` until the person leaves."""
    console = out()
    say = partial(console.print, soft_wrap=False, overflow="fold")
    screen = Screen(client, book)
    conversation = LineChat(
        to,
        client,
        book,
        say,
        say,
        lambda: screen.draw(conversation),
        receipts="read",
        recalls=max(1, console.height - _OTHER_LINES),
        news=news,
    )
    async with screen.editor.lines() as lines, trio.open_nursery() as nursery:
        say(notice(f"{book.label(to)} is {to}"))
        say(notice(f"you are {client.client_id}, on {client.device}"))
        say(notice("/help lists the commands, Ctrl-D leaves"))
        nursery.start_soon(screen.keep_current, conversation)
        nursery.start_soon(_look_around, client, conversation, screen.editor, is_visible)
        await conversation.hold(_OneByOne(lines))
        nursery.cancel_scope.cancel()


@define
class _OneByOne:
    """Lines as a conversation wants them: in batches."""

    _lines: trio.MemoryReceiveChannel[str]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[str]:
        return [await self._lines.__anext__()]


async def _look_around(client: Client, conversation: LineChat, editor: LineEditor, is_visible: bool) -> None:
    """See whether the other one is there; and be seen, and seen typing, by them alone."""
    while True:
        to = conversation.to
        async with trio.open_nursery() as nursery:
            if not is_group(to):
                nursery.start_soon(_see, client, ClientId(to), is_visible)
            await _tell_typing(client, conversation, editor, is_visible)
            nursery.cancel_scope.cancel()


async def _tell_typing(client: Client, conversation: LineChat, editor: LineEditor, is_visible: bool) -> None:
    """As long as it is the same conversation."""
    to = conversation.to
    typing = OwnTyping(partial(client.presence.typing, to) if is_visible else _tell_nobody)
    while True:
        await trio.sleep(_TICK_SECONDS)
        if conversation.to != to:
            typing.look("")
            return
        typing.look(editor.text)


async def _see(client: Client, to: ClientId, is_visible: bool) -> None:
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
    editor: LineEditor = field(init=False)
    _prompt: StyleAndTextTuples = field(factory=list, init=False)
    _toolbar: StyleAndTextTuples = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.editor = LineEditor(lambda: self._prompt, lambda: self._toolbar, ChatCompleter(COMMANDS, self._book.all))

    async def keep_current(self, conversation: LineChat) -> None:
        """Count down to the next attempt to connect, and forget who typed."""
        while True:
            self.draw(conversation)
            await trio.sleep(_TICK_SECONDS)

    def draw(self, conversation: LineChat) -> None:
        """Show the conversation as it is now."""
        prompt: StyleAndTextTuples = []
        state = "on its way" if self._client.connected else "waits for the connection"
        for pending in conversation.pending:
            first, *more = printable_lines(pending.text)
            prompt.append(("ansibrightblack", f"{pending.at:%H:%M} {YOU} {first}{' …' if more else ''}  "))
            prompt.append(("ansimagenta", f"{pending.progress or state}\n"))
        prompt.append(("bold", "> "))
        self._prompt = prompt
        facts = (
            f"to {self._book.label(conversation.to)}",
            f"{VERIFIED} verified" if self._book.is_verified(conversation.to) else "",
            conversation.presence_view.describe(self._book),
            conversation.receipt,
            str(self._client.address),
        )
        self._toolbar = [*self._state(), *(("ansibrightblack", f"  ·  {fact}") for fact in facts if fact)]
        self.editor.redraw()

    def _state(self) -> StyleAndTextTuples:
        connection = self._client.connection
        match connection.state:
            case "connected":
                return [("ansibrightblue", "● connected")]
            case "waiting" if connection.retry_at is not None:
                seconds = max(0, connection.retry_at - trio.current_time())
                return [("ansimagenta", f"○ reconnecting in {seconds:.0f} s" if seconds >= 1 else "○ reconnecting")]
            case "stopped":
                return [("ansired", f"○ {printable(connection.reason)}")]
            case _:
                return [("ansimagenta", "○ connecting")]
