"""The keys of the chat window, as events."""

from typing import TYPE_CHECKING

from attrs import define, field
from prompt_toolkit.filters import Always, Condition, Filter, has_completions
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from ironwire.cli.chat.window import events
from ironwire.cli.chat.window.update import LiveState

if TYPE_CHECKING:
    from ironwire.cli.chat.window.shell import Shell

_BOTTOM = -1_000_000
_TOP = 1_000_000


def bindings(live: LiveState, shell: "Shell") -> KeyBindings:
    """All key bindings: everything can be reached without a mouse."""
    keys = _Keys(live, shell)
    keys.bind_always()
    keys.bind_outside_help()
    keys.bind_in_list()
    keys.bind_in_composer()
    keys.bind_in_help()
    return keys.bindings


@define
class _Keys:
    """The bindings, by the place where they hold."""

    _live: LiveState
    _shell: "Shell"
    bindings: KeyBindings = field(init=False, factory=KeyBindings)
    _in_help: Filter = field(init=False)
    _in_list: Filter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._in_help = Condition(lambda: self._live.state.help_top is not None)
        self._in_list = Condition(lambda: self._live.state.focus == "list") & ~self._in_help

    def bind_always(self) -> None:
        self._bind("c-c", events.LeavingAsked(), Always())
        # Reports of the terminal, asked for by `notify.FOCUS_REPORTS_ON`.
        self._bind("escape+[+I", events.FocusReported(is_focused=True), Always())
        self._bind("escape+[+O", events.FocusReported(is_focused=False), Always())

        @self.bindings.add("c-z")
        def suspend(event: KeyPressEvent) -> None:
            event.app.suspend_to_background()

    def bind_outside_help(self) -> None:
        add, shell, outside = self.bindings.add, self._shell, ~self._in_help
        self._bind("c-n", events.Stepped(1), outside)
        self._bind("c-p", events.Stepped(-1), outside)
        self._bind("c-g", events.WentUnread(), outside)
        self._bind("f1", events.HelpScrolled(0), outside)
        for digit in range(1, 10):
            self._bind(f"escape+{digit}", events.Chosen(digit - 1), outside)
        add("pageup", filter=outside)(lambda _: shell.scroll(shell.page_lines))
        add("pagedown", filter=outside)(lambda _: shell.scroll(-shell.page_lines))
        add("c-home", filter=outside)(lambda _: shell.scroll(_TOP))
        add("c-end", filter=outside)(lambda _: shell.scroll(_BOTTOM))
        add("f5", filter=outside)(lambda _: self._live.act(events.Reconnect()))

        @add("c-d", filter=outside)
        def leave_unless_writing(event: KeyPressEvent) -> None:
            if self._live.state.focus == "list" or not event.current_buffer.text:
                self._tell(events.LeavingAsked())
            else:
                event.current_buffer.delete()

    def bind_in_list(self) -> None:
        self._bind("up", events.Moved(-1), self._in_list)
        self._bind("down", events.Moved(1), self._in_list)
        self._bind("home", events.Moved(_BOTTOM), self._in_list)
        self._bind("end", events.Moved(-_BOTTOM), self._in_list)
        self._bind("enter right", events.Chosen(), self._in_list)
        self._bind("tab escape", events.FocusMoved("composer"), self._in_list)
        self._bind("?", events.HelpScrolled(0), self._in_list)
        self.bindings.add("r", filter=self._in_list)(lambda _: self._live.act(events.Reconnect()))

        @self.bindings.add("/", filter=self._in_list)
        def begin_command(event: KeyPressEvent) -> None:
            self._tell(events.FocusMoved("composer"))
            event.app.current_buffer.insert_text("/")

    def bind_in_composer(self) -> None:
        add, in_composer = self.bindings.add, ~self._in_list & ~self._in_help
        self._bind("escape", events.FocusMoved("list"), in_composer)

        # A line feed is an Enter that was typed before the window had the terminal.
        @add("enter", filter=in_composer)
        @add("c-j", filter=in_composer)
        def enter(_: KeyPressEvent) -> None:
            peer = self._live.state.open
            self._tell(events.Entered(peer, self._shell.take_line()))

        @add("escape", "enter", filter=in_composer)
        def new_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @add("tab", filter=in_composer & ~has_completions)
        def complete_or_go(event: KeyPressEvent) -> None:
            if event.current_buffer.text.startswith("/"):
                event.current_buffer.start_completion(select_first=False, insert_common_part=True)
            else:
                self._tell(events.FocusMoved("list"))

        @add("tab", filter=in_composer & has_completions)
        def next_completion(event: KeyPressEvent) -> None:
            event.current_buffer.complete_next()

    def bind_in_help(self) -> None:
        self._bind("up", events.HelpScrolled(-1), self._in_help)
        self._bind("down", events.HelpScrolled(1), self._in_help)
        self._bind("pageup", events.HelpScrolled(-10), self._in_help)
        self._bind("pagedown", events.HelpScrolled(10), self._in_help)
        # Keys that prompt-toolkit has a meaning for are not `any`.
        self._bind("escape enter tab f1 <any>", events.HelpScrolled(None), self._in_help)

    def _bind(self, names: str, event: events.Event, when: Filter) -> None:
        """Bind each of these keys, or sequences of keys, to the event."""
        for name in names.split():
            self.bindings.add(*name.split("+"), filter=when)(lambda _: self._tell(event))

    def _tell(self, event: events.Event) -> None:
        self._live.dispatch(event)
        self._shell.follow_focus()
