"""What is completed while somebody writes: commands, names, paths, and nothing of what is said."""

from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from ironwire.cli.chat.editor import ChatCompleter

COMPLETER = ChatCompleter(("/file", "/to", "/help"), lambda: ["bob", "Bärbel"])


def completions(text: str) -> list[str]:
    return [found.text for found in COMPLETER.get_completions(Document(text), CompleteEvent())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/fi", ["/file"]),
        ("/", ["/file", "/to", "/help"]),
        ("fi", []),
        ("/to b", ["bob"]),
        ("/to ", ["bob", "Bärbel"]),
        ("/help b", []),
    ],
)
def test_commands_and_names_are_completed(text: str, expected: list[str]) -> None:
    assert completions(text) == expected


def test_paths_of_files_are_completed(tmp_path: Path) -> None:
    (tmp_path / "holiday.png").touch()
    assert completions(f"/file {tmp_path}/hol") == ["iday.png"]
