"""The terminal of the chat window: prompt-toolkit in a thread of its own, around the panes of `view.py`.

Keys become events, which are in force before the next key is looked at: what is typed after a change of conversation
goes to the new one. Each conversation has its own composer, with its draft and its lines.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from attrs import define, field
from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import Completer
from prompt_toolkit.data_structures import Point
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import AnyFormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    Container,
    Dimension,
    DynamicContainer,
    Float,
    FloatContainer,
    HSplit,
    Layout,
    UIContent,
    UIControl,
    VSplit,
    Window,
)
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.mouse_events import MouseEvent, MouseEventType
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from ironwire.cli.chat.window import view
from ironwire.cli.chat.window.cells import Line
from ironwire.cli.chat.window.events import Chosen, Moved, Resized, Scrolled
from ironwire.cli.chat.window.keys import bindings
from ironwire.cli.chat.window.model import WIDE_CELLS, WindowState
from ironwire.cli.chat.window.notify import FOCUS_REPORTS_OFF, FOCUS_REPORTS_ON
from ironwire.cli.chat.window.update import LiveState
from ironwire.ids import Address

_ESCAPE_SECONDS = 0.1
"""A lone Esc is told from Alt and a key by what follows within this time."""
_RESIZE_SECONDS = 0.2
_COMPOSER_LINES = 6
_WHEEL_LINES = 3

_STYLE = Style.from_dict(
    {
        "title": "reverse",
        "selected": "reverse",
        "unread": "bold",
        "muted": "ansibrightblack",
        "own": "bold",
        "speaker0": "ansired bold",
        "speaker1": "ansimagenta bold",
        "speaker2": "ansibrightblue bold",
        "unknown": "underline",
        "typing": "italic",
        "announcement": "ansimagenta bold",
        "good": "ansibrightblue",
        "warning": "ansimagenta",
        "error": "ansired bold",
        "read": "ansibrightblue",
        "wave": "ansibrightblue",
        "prompt": "bold",
    }
)
"""Colours that are legible on white and on black. Green, yellow and cyan vanish on a light background."""


@define(eq=False)
class Pane(UIControl):
    """Lines that `draw` makes for the room that there is: `width` and `height` when they were last drawn."""

    _draw: Callable[[int, int], list[Line]]
    _wheel: Callable[[int], None]
    _click: Callable[[int], None]
    _is_focusable: bool = False
    width: int = field(default=1, init=False)
    height: int = field(default=1, init=False)

    def create_content(self, width: int, height: int) -> UIContent:
        self.width, self.height = width, height
        lines = self._draw(width, height)
        return UIContent(lambda number: [*lines[number]], len(lines), Point(0, 0), show_cursor=False)

    def is_focusable(self) -> bool:
        return self._is_focusable

    def mouse_handler(self, mouse_event: MouseEvent) -> object:
        match mouse_event.event_type:
            case MouseEventType.SCROLL_UP:
                self._wheel(1)
            case MouseEventType.SCROLL_DOWN:
                self._wheel(-1)
            case MouseEventType.MOUSE_UP:
                self._click(mouse_event.position.y)
            case _:
                return NotImplemented
        return None


@define(eq=False)
class Shell:
    """Draws `live.state` and turns keys into its events. `run` blocks, in a thread of its own."""

    _live: LiveState
    _completer: Completer
    _buffers: dict[Address | None, Buffer] = field(factory=dict, init=False)
    _list: Pane = field(init=False)
    _conversation: Pane = field(init=False)
    _composer: BufferControl = field(init=False)
    _app: Application[None] = field(init=False)
    _is_leaving: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        live = self._live
        self._list = Pane(
            lambda width, height: view.list_pane(live.state, width, height),
            lambda up: live.dispatch(Moved(-up)),
            self._click_list,
            is_focusable=True,
        )
        self._conversation = Pane(
            lambda width, height: view.conversation_pane(live.state, width, height),
            lambda up: self.scroll(up * _WHEEL_LINES),
            lambda _: None,
        )
        self._composer = BufferControl(self._buffer(), include_default_input_processors=True)
        self._app = Application(
            Layout(self._panes()),
            style=_STYLE,
            key_bindings=bindings(live, self),
            full_screen=True,
            mouse_support=True,
            color_depth=ColorDepth.DEPTH_1_BIT if os.environ.get("NO_COLOR") else ColorDepth.DEPTH_4_BIT,
            before_render=lambda _: self._follow_state(),
            # A thread hears of no SIGWINCH.
            terminal_size_polling_interval=_RESIZE_SECONDS,
        )
        self._app.ttimeoutlen = self._app.timeoutlen = _ESCAPE_SECONDS

    # --- for Trio's side ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until the person leaves, or `leave` is called."""
        try:
            self._app.run(pre_run=self._begin)
        finally:
            self._write(FOCUS_REPORTS_OFF)

    def leave(self) -> None:
        self._is_leaving = True
        self._in_loop(self.quit)

    def redraw(self) -> None:
        self._app.invalidate()

    def emit(self, sequence: str) -> None:
        """Send a control sequence to the terminal, such as the bell."""
        self._in_loop(lambda: self._write(sequence))

    @property
    def draft(self) -> str:
        """The text in the composer."""
        return self._buffer().text

    @property
    def drafts(self) -> Mapping[Address | None, str]:
        """The texts that were written and not sent."""
        return {peer: buffer.text for peer, buffer in self._buffers.items() if buffer.text.strip()}

    # --- for the keys ------------------------------------------------------------------------------------------------

    def quit(self) -> None:
        if self._app.future is not None and not self._app.future.done():
            self._app.exit()

    def take_line(self) -> str:
        """Empty the composer, and return the text that stood in it."""
        buffer = self._buffer()
        text = buffer.text
        if text.strip():
            buffer.append_to_history()
        buffer.reset()
        return text

    def scroll(self, lines: int) -> None:
        """Scroll the conversation up by so many lines."""
        pane = self._conversation
        self._live.dispatch(Scrolled(lines, pane.width, max(1, pane.height - 1)))

    @property
    def page_lines(self) -> int:
        return max(1, self._conversation.height - 2)

    def follow_focus(self) -> None:
        """Focus the pane that the state names, or the composer of its conversation."""
        self._composer.buffer = self._buffer()
        target = self._list if self._live.state.focus == "list" else self._composer
        # In a terminal that has just become narrow, the target may not be in the layout before the next redraw.
        with suppress(ValueError):
            self._app.layout.focus(target)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._write(FOCUS_REPORTS_ON)
        if self._is_leaving:
            self.quit()

    def _write(self, sequence: str) -> None:
        self._app.output.write_raw(sequence)
        self._app.output.flush()

    def _in_loop(self, work: Callable[[], None]) -> None:
        loop = self._app.loop
        if loop is not None:
            # A loop that closes at this very moment has left already.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(work)

    def _buffer(self) -> Buffer:
        peer = self._live.state.open
        if peer not in self._buffers:
            # What was said stays out of files.
            self._buffers[peer] = Buffer(completer=self._completer, history=InMemoryHistory(), multiline=True)
        return self._buffers[peer]

    def _follow_state(self) -> None:
        is_wide = self._columns >= WIDE_CELLS
        if is_wide != self._live.state.is_wide:
            self._live.dispatch(Resized(is_wide))
        self.follow_focus()

    @property
    def _columns(self) -> int:
        return self._app.output.get_size().columns

    def _click_list(self, y: int) -> None:
        room = max(1, (self._list.height - 1) // view.LINES_PER_ROW)
        index = view.first_row(self._live.state, room) + (y - 1) // view.LINES_PER_ROW
        if y > 0:
            self._live.dispatch(Chosen(index))

    def _panes(self) -> Container:
        def state() -> WindowState:
            return self._live.state

        def list_width() -> Dimension:
            return Dimension.exact(view.list_cells(self._columns))

        prompt = Window(self._composer, wrap_lines=True, dont_extend_height=True, get_line_prefix=_prompt)
        prompt.height = Dimension(min=1, max=_COMPOSER_LINES)
        rule = Window(_static(lambda width, _: [view.rule_pane(state(), width)]), height=1)
        listing = Window(self._list)
        conversation = HSplit([Window(self._conversation), rule, prompt])
        both = VSplit(
            [HSplit([listing], width=list_width), Window(width=1, char="│", style="class:muted"), conversation]
        )

        def main() -> Container:
            if state().is_wide:
                return both
            return HSplit([listing, rule]) if state().focus == "list" else conversation

        help_shown = Condition(lambda: state().help_top is not None)
        status = Window(_static(lambda width, _: [view.status_pane(state(), width)]), height=1)
        return FloatContainer(
            HSplit(
                [
                    ConditionalContainer(DynamicContainer(main), ~help_shown),
                    ConditionalContainer(Window(_static(lambda w, h: view.help_pane(state(), w, h))), help_shown),
                    status,
                ]
            ),
            [Float(CompletionsMenu(max_height=8), xcursor=True, ycursor=True)],
        )


def _static(draw: Callable[[int, int], list[Line]]) -> Pane:
    return Pane(draw, lambda _: None, lambda _: None)


def _prompt(number: int, wrap_count: int) -> AnyFormattedText:
    return [("class:prompt", "> " if number == 0 and wrap_count == 0 else "  ")]
