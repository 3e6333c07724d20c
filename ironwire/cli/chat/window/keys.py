"""The keys of the chat window, as events."""

from typing import TYPE_CHECKING

from prompt_toolkit.filters import Always, Condition, Filter, has_completions
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from ironwire.cli.chat.window.events import (
    Chosen,
    Entered,
    Event,
    FocusMoved,
    FocusReported,
    HelpScrolled,
    LeavingAsked,
    Moved,
    Reconnect,
    Stepped,
    WentUnread,
)
from ironwire.cli.chat.window.update import LiveState

if TYPE_CHECKING:
    from ironwire.cli.chat.window.shell import Shell

_BOTTOM = -1_000_000
_TOP = 1_000_000


def bindings(live: LiveState, shell: "Shell") -> KeyBindings:
    """Everything can be reached without a mouse."""
    keys = KeyBindings()
    in_help = Condition(lambda: live.state.help_top is not None)
    in_list = Condition(lambda: live.state.focus == "list") & ~in_help
    in_composer = ~in_list & ~in_help

    def tell(event: Event) -> None:
        live.dispatch(event)
        shell.follow_focus()

    def bind(names: str, event: Event, when: Filter) -> None:
        for name in names.split():
            keys.add(*name.split("+"), filter=when)(lambda _: tell(event))

    everywhere = ~in_help
    bind("c-n", Stepped(1), everywhere)
    bind("c-p", Stepped(-1), everywhere)
    bind("c-g", WentUnread(), everywhere)
    bind("f1", HelpScrolled(0), everywhere)
    for digit in range(1, 10):
        bind(f"escape+{digit}", Chosen(digit - 1), everywhere)

    bind("up", Moved(-1), in_list)
    bind("down", Moved(1), in_list)
    bind("home", Moved(_BOTTOM), in_list)
    bind("end", Moved(-_BOTTOM), in_list)
    bind("enter right", Chosen(), in_list)
    bind("tab escape", FocusMoved("composer"), in_list)
    bind("?", HelpScrolled(0), in_list)

    @keys.add("/", filter=in_list)
    def begin_command(event: KeyPressEvent) -> None:
        tell(FocusMoved("composer"))
        event.app.current_buffer.insert_text("/")

    bind("escape", FocusMoved("list"), in_composer)
    bind("up", HelpScrolled(-1), in_help)
    bind("down", HelpScrolled(1), in_help)
    bind("pageup", HelpScrolled(-10), in_help)
    bind("pagedown", HelpScrolled(10), in_help)

    # Keys that prompt-toolkit has a meaning for are not `any`.
    bind("escape enter tab f1", HelpScrolled(None), in_help)

    @keys.add("<any>", filter=in_help)
    def leave_help(_: KeyPressEvent) -> None:
        tell(HelpScrolled(None))

    # A line feed is an Enter that was typed before the window had the terminal.
    @keys.add("enter", filter=in_composer)
    @keys.add("c-j", filter=in_composer)
    def enter(_: KeyPressEvent) -> None:
        peer = live.state.open
        tell(Entered(peer, shell.take_line()))

    @keys.add("escape", "enter", filter=in_composer)
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("tab", filter=in_composer & ~has_completions)
    def complete_or_go(event: KeyPressEvent) -> None:
        if event.current_buffer.text.startswith("/"):
            event.current_buffer.start_completion(select_first=False, insert_common_part=True)
        else:
            tell(FocusMoved("list"))

    @keys.add("tab", filter=in_composer & has_completions)
    def next_completion(event: KeyPressEvent) -> None:
        event.current_buffer.complete_next()

    @keys.add("pageup", filter=everywhere)
    def page_up(_: KeyPressEvent) -> None:
        shell.scroll(shell.page_lines)

    @keys.add("pagedown", filter=everywhere)
    def page_down(_: KeyPressEvent) -> None:
        shell.scroll(-shell.page_lines)

    @keys.add("c-home", filter=everywhere)
    def top(_: KeyPressEvent) -> None:
        shell.scroll(_TOP)

    @keys.add("c-end", filter=everywhere)
    def bottom(_: KeyPressEvent) -> None:
        shell.scroll(_BOTTOM)

    @keys.add("f5", filter=everywhere)
    @keys.add("r", filter=in_list)
    def reconnect(_: KeyPressEvent) -> None:
        live.act(Reconnect())

    bind("c-c", LeavingAsked(), Always())

    @keys.add("c-d", filter=everywhere)
    def leave_unless_writing(event: KeyPressEvent) -> None:
        if live.state.focus == "list" or not event.current_buffer.text:
            tell(LeavingAsked())
        else:
            event.current_buffer.delete()

    @keys.add("c-z")
    def suspend(event: KeyPressEvent) -> None:
        event.app.suspend_to_background()

    # Reports of the terminal, asked for by `notify.FOCUS_REPORTS_ON`.
    bind("escape+[+I", FocusReported(is_focused=True), Always())
    bind("escape+[+O", FocusReported(is_focused=False), Always())
    return keys
