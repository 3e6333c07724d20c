"""A bell everywhere, a desktop notification where the terminal is known to have one."""

import pytest

from ironwire.cli.chat.window.cells import cells
from ironwire.cli.chat.window.notify import Bell, notification


@pytest.mark.parametrize(
    ("environment", "sequence"),
    [
        ({"TERM": "xterm-256color"}, "\x07"),
        ({}, "\x07"),
        ({"TERM": "xterm-kitty"}, "\x07\x1b]9;IronWire: bob: hi; you\x1b\\"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "\x07\x1b]9;IronWire: bob: hi; you\x1b\\"),
        ({"TERM": "foot"}, "\x07\x1b]777;notify;IronWire;bob: hi, you\x1b\\"),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7006"}, "\x07\x1b]777;notify;IronWire;bob: hi, you\x1b\\"),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "WezTerm"}, "\x07"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, "\x07"),
    ],
)
def test_each_terminal_gets_what_it_understands(environment: dict[str, str], sequence: str) -> None:
    assert notification("bob: hi; you", environment) == sequence


@pytest.mark.parametrize("text", ["a\x1b\\\x07b", "\x9c\x9d", "x" * 10_000, "\u202e\n\r"])
def test_nothing_that_somebody_wrote_ends_the_sequence(text: str) -> None:
    body = notification(text, {"TERM": "foot"}).removeprefix("\x07\x1b]777;notify;IronWire;").removesuffix("\x1b\\")
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in body)
    assert cells(body) <= 120


def test_a_flood_does_not_ring_for_each_message() -> None:
    bell = Bell()
    rung = [clock / 10 for clock in range(100) if bell.is_due(clock / 10)]
    assert rung == [0.0, 2.0, 4.0, 6.0, 8.0]
