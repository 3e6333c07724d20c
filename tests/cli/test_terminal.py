"""A peer decides what its text says, never what the terminal or the file system does."""

import io
import unicodedata
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from ironwire.cli.table import show_table
from ironwire.cli.terminal import (
    FILE_NAME_BYTES,
    counted,
    free_path,
    out,
    printable,
    printable_lines,
    safe_file_name,
    short_id,
)
from ironwire.ids import ClientId

ANYTHING = st.text(st.characters())
"""Every code point, surrogates and unassigned ones too."""
MOSTLY_HOSTILE = st.text(
    st.sampled_from("a é😀\x1b[]0;m\x07\x9b\r\n\t\x08\x7f\u202e\u2066\u200f\u2028\ufeff\ue000\ud800/\\.-~\0")
)


@given(ANYTHING | MOSTLY_HOSTILE)
@example("\x1b]0;title\x07\x1b[2J")
@example("\x9b31m")
@example("safe \u202etxt.exe")
@example("\U000e0041")
def test_nothing_is_left_that_a_terminal_could_obey(text: str) -> None:
    shown = printable(text)
    categories = {unicodedata.category(character) for character in shown if character not in "\u200c\u200d"}
    assert categories.isdisjoint({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
    assert len(shown.splitlines()) <= 1
    shown.encode()


@given(ANYTHING | MOSTLY_HOSTILE)
def test_every_character_has_one_in_its_place(text: str) -> None:
    assert len(printable(text)) == len(text)
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize(
    "text", ["Hello, world!", "Grüße aus Köln", "שלום", "你好", "👨\u200d👩\u200d👧 e\u0301", "[bold]not markup[/]"]
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_controls_are_shown() -> None:
    assert printable("\x1b[31m\x7f\n\x85") == "␛[31m␡␊\ufffd"


@given(st.lists(st.text(st.characters(exclude_characters="\r\n")), min_size=1))
def test_lines_are_those_that_were_written(lines: list[str]) -> None:
    assert printable_lines("\n".join(lines)) == [printable(line) for line in lines]
    assert printable_lines("\r\n".join(lines)) == [printable(line) for line in lines]


def test_a_lone_carriage_return_cannot_overwrite_a_line() -> None:
    assert printable_lines("harmless\rforged") == ["harmless␍forged"]


@given(ANYTHING | MOSTLY_HOSTILE)
@example("../../etc/passwd")
@example("..")
@example("-rf")
@example(".bashrc")
@example("C:\\Windows\\evil.exe")
@example("x" * 300 + ".tar.gz")
@example("x." + "y" * 300)
@example("." * 300)
def test_a_file_name_stays_one_plain_name_in_its_folder(name: str) -> None:
    safe = safe_file_name(name, "file.bin")
    assert Path("folder", safe).parent == Path("folder")
    assert Path(safe).name == safe
    assert safe not in ("", ".", "..")
    assert safe[0] not in ".-~ "
    assert len(safe.encode()) <= FILE_NAME_BYTES
    assert printable(safe) == safe


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("holiday.jpg", "holiday.jpg"),
        ("Grüße aus Köln.pdf", "Grüße aus Köln.pdf"),
        ("/tmp/a b.txt", "a b.txt"),
        ("..\\..\\x.exe", "x.exe"),
        ("photo\x1b[2J.png", "photo_[2J.png"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("", "file.bin"),
        ("...", "file.bin"),
        ("folder/", "file.bin"),
    ],
)
def test_file_names_stay_as_near_as_is_safe(name: str, safe: str) -> None:
    assert safe_file_name(name, "file.bin") == safe


def test_a_long_name_keeps_its_suffix() -> None:
    safe = safe_file_name("ü" * 200 + ".jpeg", "file.bin")
    assert safe.endswith("ü.jpeg")
    assert FILE_NAME_BYTES - 1 <= len(safe.encode()) <= FILE_NAME_BYTES


def test_nothing_is_replaced(tmp_path: Path) -> None:
    assert free_path(tmp_path, "a.txt") == tmp_path / "a.txt"
    (tmp_path / "a.txt").touch()
    (tmp_path / "a (2).txt").symlink_to(tmp_path / "dangling")
    assert free_path(tmp_path, "a.txt") == tmp_path / "a (3).txt"


def test_a_short_id_does_not_pass_for_a_whole_one() -> None:
    assert short_id(ClientId("0123456789abcdef" * 4)) == "01234567…"


@given(ANYTHING | MOSTLY_HOSTILE)
def test_the_console_adds_no_escape_of_its_own_when_no_terminal_reads_it(text: str) -> None:
    stream = io.StringIO()
    console: Console = out()
    console.file = stream
    console.print(Text(printable(text), "bold red"))
    assert stream.getvalue() == printable(text) + "\n"


ROWS = [("bob", "b0" * 32, ""), ("陳", "c0" * 32, "banned")]


def test_a_table_cuts_nothing_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show_table(("name", "id", ""), ROWS)
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "id"]
    assert [tuple(line.split()) for line in lines] == [("bob", "b0" * 32), ("陳", "c0" * 32, "banned")]


def test_a_terminal_too_narrow_for_a_row_has_a_line_for_each_cell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = partial(Console, color_system=None, force_terminal=True, width=40, soft_wrap=True)
    monkeypatch.setattr("ironwire.cli.table.out", narrow)
    show_table(("name", "id", ""), ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "name: bob",
        f"id: {'b0' * 32}",
        "",
        "name: 陳",
        f"id: {'c0' * 32}",
        "banned",
        "",
    ]


@pytest.mark.parametrize(
    ("number", "noun", "plural", "said"),
    [
        (0, "session", "", "0 sessions"),
        (1, "session", "", "1 session"),
        (1_024, "session", "", "1,024 sessions"),
        (1, "mailbox", "mailboxes", "1 mailbox"),
        (2, "mailbox", "mailboxes", "2 mailboxes"),
    ],
)
def test_one_is_not_many(number: int, noun: str, plural: str, said: str) -> None:
    assert counted(number, noun, plural) == said
