"""The line editor of `ironwire chat`: what is typed stands at the bottom of the terminal, everything else above it.

prompt-toolkit wants an asyncio loop of its own, so it runs in a thread from the first line to the last; Trio tells it
to redraw or to leave, and it hands over finished lines. Rule: however the conversation ends, the thread is waited for,
so the terminal is left as it was.
"""

import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

import trio
from attrs import define, field
from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter, WordCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style

from ironwire.cli.chat.commands import SENDING

_STYLE = Style.from_dict({"bottom-toolbar": "noreverse", "bottom-toolbar.text": ""})


@define
class LineEditor:
    """Lines from a person at a terminal. `prompt` and `toolbar` are asked at every redraw, from the editor's thread."""

    _prompt: Callable[[], StyleAndTextTuples]
    _toolbar: Callable[[], StyleAndTextTuples]
    _completer: Completer
    _session: PromptSession[None] | None = field(init=False, default=None)
    _is_leaving: bool = field(init=False, default=False)

    @asynccontextmanager
    async def lines(self) -> AsyncIterator[trio.MemoryReceiveChannel[str]]:
        """The lines as they are entered, until Ctrl-D or Ctrl-C on an empty one.

        Until the block is left, standard output appears above the editor.
        """
        # Unbounded, because what fills it is a person's typing.
        send, receive = trio.open_memory_channel[str](math.inf)
        with patch_stdout(raw=True):
            self._session = self._open(trio.lowlevel.current_trio_token(), send)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._edit, self._session, send)
                try:
                    yield receive
                finally:
                    self._leave(self._session.app)

    def redraw(self) -> None:
        """Ask `prompt` and `toolbar` again, soon."""
        if self._session is not None:
            self._session.app.invalidate()

    @property
    def text(self) -> str:
        """The line as it is being typed."""
        return "" if self._session is None else self._session.default_buffer.text

    async def _edit(self, session: PromptSession[None], send: trio.MemorySendChannel[str]) -> None:
        with send:
            await trio.to_thread.run_sync(self._run, session)

    def _run(self, session: PromptSession[None]) -> None:
        with suppress(EOFError):
            session.prompt(pre_run=self._leave_if_told)

    def _open(self, token: trio.lowlevel.TrioToken, send: trio.MemorySendChannel[str]) -> PromptSession[None]:
        def hand_over(line: str) -> None:
            # The conversation may have ended while the line was on its way.
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                send.send_nowait(line)

        keys = KeyBindings()

        @keys.add("enter")
        def enter(event: KeyPressEvent) -> None:
            # Leaving the application with every line, as prompt-toolkit would, loses what is printed between two lines.
            line = event.current_buffer.text
            event.current_buffer.append_to_history()
            event.current_buffer.reset()
            token.run_sync_soon(hand_over, line)

        @keys.add("c-c")
        def clear_or_leave(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            else:
                event.app.exit()

        return PromptSession(
            message=self._prompt,
            bottom_toolbar=self._toolbar,
            completer=self._completer,
            complete_while_typing=False,
            # What was said stays out of files.
            history=InMemoryHistory(),
            key_bindings=keys,
            style=_STYLE,
            erase_when_done=True,
        )

    def _leave_if_told(self) -> None:
        if self._is_leaving and self._session is not None:
            _exit(self._session.app)

    def _leave(self, app: Application[None]) -> None:
        self._is_leaving = True
        if app.loop is not None:
            # A loop that closes at this very moment has left already.
            with suppress(RuntimeError):
                app.loop.call_soon_threadsafe(_exit, app)


def _exit(app: Application[None]) -> None:
    if app.future is not None and not app.future.done():
        app.exit()


@define(eq=False)
class ChatCompleter(Completer):
    """Completes what begins with a slash, and nothing else: the rest is what people say."""

    _commands: Sequence[str]
    _names: Callable[[], Iterable[str]]
    _paths: PathCompleter = field(factory=lambda: PathCompleter(expanduser=True), init=False)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Completions of the text before the cursor."""
        command, space, argument = document.text_before_cursor.partition(" ")
        if not space:
            words = WordCompleter([*self._commands], sentence=True)
            return words.get_completions(document, complete_event) if command.startswith("/") else []
        if command == "/to":
            names = WordCompleter([*self._names()], sentence=True)
            return names.get_completions(Document(argument), complete_event)
        if command in SENDING:
            return self._paths.get_completions(Document(argument), complete_event)
        return []
