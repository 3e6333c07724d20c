"""docs/architecture.md against the code: the files that one durable text passes, the length of the reading list, rooms;
and the length of files, functions and imports.
"""

import ast
import dis
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import inf
from pathlib import Path
from types import FrameType
from typing import Any

from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.store.sqlite.store import SqliteStore
from tests.bounded_stream import socket_stream_pair
from tests.playbook import Stage, identity_of, open_stage
from tests.wire import frame_builder

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ironwire"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

MOST_LINES = 3_500
"""Of an afternoon's reading."""
MOST_FUNCTION_LINES = 70
MOST_FILE_LINES = 350

_RESUME, _YIELD = dis.opmap["RESUME"], dis.opmap["YIELD_VALUE"]
_AFTER_YIELD_FROM = 2
"""The argument of `RESUME`, from this on, where a coroutine goes on waiting inside what it awaits."""


@define(eq=False)
class Trail:
    """A profile function that notes the files of ironwire/ in the order in which their functions do something.

    A coroutine that is resumed only to resume what it awaits does nothing, until that returns.
    """

    files: list[Path] = field(init=False, factory=list)
    is_on: bool = field(init=False, default=False)
    _waiting: set[FrameType] = field(init=False, factory=set)

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if not self.is_on or event not in ("call", "return"):
            return
        opcode, argument = frame.f_code.co_code[frame.f_lasti : frame.f_lasti + 2]
        if event == "call":
            if opcode == _RESUME and argument & 3 >= _AFTER_YIELD_FROM:
                self._waiting.add(frame)
            else:
                self._note(frame)
            return
        self._waiting.discard(frame)
        caller = frame.f_back
        has_yielded = opcode in (_YIELD, _RESUME)  # from Python 3.13 on the instruction after the yield
        if not has_yielded and caller in self._waiting:
            self._waiting.discard(caller)
            self._note(caller)

    def _note(self, frame: FrameType) -> None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE):
            self.files.append(file.relative_to(ROOT))


@contextmanager
def profiled(trail: Trail) -> Iterator[None]:
    """Let `trail` see this thread, and every thread that begins meanwhile."""
    threading.setprofile(trail)
    sys.setprofile(trail)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


async def send_text(stage: Stage, frame: bytes) -> None:
    """Send a text from Alice's device to Bob's, and wait until nobody has anything left to do."""
    await stage.actors["alice"].send(frame)
    assert '"Hello"' in await stage.next_text("bob")
    assert '"accepted"' in await stage.next_text("alice")
    await wait_all_tasks_blocked()


async def test_a_durable_text_passes_the_files_that_the_page_lists(mock_clock: MockClock, tmp_path: Path) -> None:
    trail, to = Trail(), identity_of("bob").client_id
    first, second = (
        frame_builder.text(f'{{"type":"text","id":"{number}","payload":{{"to":"{to}","text":"Hello"}}}}')
        for number in (1, 2)
    )
    with profiled(trail):
        async with open_stage(open_store=lambda quota: SqliteStore(tmp_path / "ironwire.db", quota)) as stage:
            mock_clock.autojump_threshold = inf  # no time passes while a thread waits for the disk
            await stage.enter("alice", "bob", device="phone", stream_pair=socket_stream_pair)
            await send_text(stage, first)  # which fills caches
            trail.is_on = True
            await send_text(stage, second)
            trail.is_on = False
            for actor in stage.actors.values():
                await actor.hang_up()
    passed = [str(file) for file in dict.fromkeys(trail.files)]
    section = PAGE.partition("## One message, door to door")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(ironwire/\S+\.py)` \|", section, re.MULTILINE) == passed, f"the files passed are {passed}"
    rooms = sum(Path(one).parent != Path(following).parent for one, following in pairwise(passed))
    assert f"{len(passed)} files and {rooms} changes of room" in section


def test_the_reading_list_fits_into_an_afternoon() -> None:
    section = PAGE.partition("## An afternoon's reading")[2].partition("\n\nWith more time")[0]
    files = re.findall(r"`((?:ironwire|docs)/\S+\.(?:py|md))`", section)
    assert len(files) == len(set(files)) > 10
    assert sum(len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in files) <= MOST_LINES


def test_the_page_names_every_room() -> None:
    table = PAGE.partition("| room | read first | holds |\n")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `([\w/]+)` \|", table, re.MULTILINE)
    rooms = {folder.parent.relative_to(PACKAGE) for folder in PACKAGE.rglob("__init__.py")} - {Path()}
    assert [str(room) for room in sorted(rooms) if not {str(room), *map(str, room.parents)} & set(named)] == []


def test_no_import_from_a_module_of_this_package_is_longer_than_a_line() -> None:
    """But in an `__init__.py`, which says what a package publishes."""
    long = [
        f"{path.relative_to(ROOT)}: {node.module}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.end_lineno != node.lineno and path.name != "__init__.py"
        if node.module is not None and node.module.startswith(PACKAGE.name)
    ]
    assert long == [], "import the module, and write `module.Name`"


def test_files_have_at_most_350_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > MOST_FILE_LINES} == {}


def test_functions_are_below_seventy_lines() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length >= MOST_FUNCTION_LINES} == {}
