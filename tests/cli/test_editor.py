"""The line editor under Trio, on prompt-toolkit's own pipe in place of a terminal."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import DummyCompleter
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from ironwire.cli.chat.editor import LineEditor

ENTER, CTRL_C, CTRL_D = "\r", "\x03", "\x04"
SECONDS = 10


@pytest.fixture
def keyboard() -> Iterator[PipeInput]:
    with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
        yield keyboard


def editor(**changes: Any) -> LineEditor:
    return LineEditor(**{"prompt": lambda: [("", "> ")], "toolbar": list, "completer": DummyCompleter(), **changes})


async def typed(keyboard: PipeInput, text: str) -> list[str]:
    keyboard.send_text(text)
    with trio.fail_after(SECONDS):
        async with editor().lines() as lines:
            return [line async for line in lines]


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (f"one{ENTER}two{ENTER}{CTRL_D}", ["one", "two"]),
        (f"not this{CTRL_C}this{ENTER}{CTRL_C}", ["this"]),
        (CTRL_D, []),
        (f"Grüße 😀{ENTER}{CTRL_D}", ["Grüße 😀"]),
    ],
    ids=["lines", "ctrl-c", "nothing", "unicode"],
)
async def test_lines_come_until_the_person_leaves(keyboard: PipeInput, keys: str, lines: list[str]) -> None:
    assert await typed(keyboard, keys) == lines


async def test_leaving_the_block_ends_the_editor(keyboard: PipeInput) -> None:
    with trio.fail_after(SECONDS):
        async with editor().lines() as lines:
            keyboard.send_text(f"hello{ENTER}half a li")
            assert await lines.receive() == "hello"


async def test_the_line_can_be_looked_at_while_it_is_typed(keyboard: PipeInput) -> None:
    seen = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def prompt() -> list[tuple[str, str]]:
        if line.text == "half a li":
            token.run_sync_soon(seen.set)
        return [("", "> ")]

    line = editor(prompt=prompt)
    assert line.text == ""
    with trio.fail_after(SECONDS):
        async with line.lines():
            keyboard.send_text("half a li")
            await seen.wait()


async def test_leaving_at_once_ends_the_editor(keyboard: PipeInput) -> None:
    with trio.fail_after(SECONDS):
        async with editor().lines():
            pass


async def test_a_cancelled_block_ends_the_editor(keyboard: PipeInput) -> None:
    with trio.fail_after(SECONDS), trio.CancelScope() as scope:
        async with editor().lines() as lines:
            keyboard.send_text(ENTER)
            await lines.receive()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_redraw_asks_again(keyboard: PipeInput) -> None:
    asked = trio.Event()
    token = trio.lowlevel.current_trio_token()
    wanted = False

    def prompt() -> list[tuple[str, str]]:
        if wanted:
            token.run_sync_soon(asked.set)
        return [("", "> ")]

    under_test = editor(prompt=prompt)
    with trio.fail_after(SECONDS):
        async with under_test.lines() as lines:
            keyboard.send_text(ENTER)
            await lines.receive()
            wanted = True
            under_test.redraw()
            await asked.wait()
