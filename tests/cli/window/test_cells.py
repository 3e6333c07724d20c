"""Text by the cells that it takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironwire.cli.chat.window.cells import cells, clipped, padded, steady, steady_lines, width_of, wrapped

WIDE = "漢"
COMBINED = "e\u0301"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[2J\x07", "␛[2J␇"),
        ("\u202egnp.exe", "�gnp.exe"),
        ("👨\u200d👩\u200d👧 👍🏽 ❤\ufe0f", "👨👩👧 👍 ❤"),
        ("🇩🇪", "DE"),
        ("\u0301x", "\u25cc\u0301x"),
        ("a\tb", "a    b"),
        ("z" + "\u0335" * 300, "z" + "\u0335" * 4),
        ("नम\u094dस", "नम\u094dस"),
    ],
)
def test_every_character_has_one_width_on_all_terminals(text: str, shown: str) -> None:
    assert steady(text) == shown


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("one two three", 7, ("one two", "three")),
        ("one two three", 8, ("one two", "three")),
        ("Donaudampfschiff", 6, ("Donaud", "ampfsc", "hiff")),
        (WIDE * 5, 5, (WIDE * 2, WIDE * 2, WIDE)),
        (COMBINED * 4, 2, (COMBINED * 2, COMBINED * 2)),
        ("", 5, ("",)),
        ("    indented text", 10, ("    indent", "ed text")),
        ("😀 😀 😀", 5, ("😀 😀", "😀")),
    ],
)
def test_lines_are_broken_between_words(text: str, width: int, lines: tuple[str, ...]) -> None:
    assert wrapped(text, width) == lines


def test_the_first_line_may_have_less_room() -> None:
    assert wrapped("one two three", 9, 5) == ("one", "two three")


@given(st.text(), st.integers(2, 30), st.integers(0, 30))
def test_nothing_is_wider_than_its_room_and_nothing_is_lost(text: str, width: int, taken: int) -> None:
    shown = steady(text)
    lines = wrapped(shown, width, taken)
    assert all(cells(line) <= width for line in lines)
    assert cells(lines[0]) <= max(0, width - taken)
    assert "".join(lines).replace(" ", "") == shown.replace(" ", "")


@given(st.text(), st.integers(0, 30))
def test_what_is_cut_short_says_so(text: str, width: int) -> None:
    shown = steady(text)
    short = clipped(shown, width)
    assert cells(short) <= width
    assert short == shown or short.endswith("…") or width == 0


@given(st.lists(st.text()), st.integers(0, 40))
def test_a_padded_line_is_exactly_as_wide_as_its_pane(texts: list[str], width: int) -> None:
    assert width_of(padded([("", steady(text)) for text in texts], width)) == width


def test_lines_of_a_text_are_apart() -> None:
    assert steady_lines("one\r\ntwo\n") == ("one", "two", "")
