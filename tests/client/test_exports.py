"""Programs import `ironwire.client` and nothing below it: docs/client.md explains every name, and its examples run."""

import ast
import re
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import trio

import ironwire.client
import ironwire.mls
from ironwire.client import (
    DeliveredFile,
    DeliveredText,
    Received,
    connect,
    create_identity,
    open_device,
    upload,
)
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, Settings
from tests.server.in_process import serve_in_process

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.py")])
SERVER = "http://chat.test"

_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| (`[^|]*`) \|", re.MULTILINE)


def imported(source: str) -> list[str]:
    """What Python source imports of this package, as full names."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found += [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            found += [name.name for name in node.names]
    return [name for name in found if name.partition(".")[0] == "ironwire"]


def test_every_name_can_be_imported() -> None:
    assert [name for name in ironwire.client.__all__ if not hasattr(ironwire.client, name)] == []


def test_every_name_is_explained_once_and_no_other() -> None:
    explained = Counter(name for row in _ROW.findall(PAGE) for name in re.findall(r"`(\w+)`", row))
    assert explained == Counter(ironwire.client.__all__)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_import_what_is_public(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    blocks = [text] if path.suffix == ".py" else map(dedent, _PYTHON.findall(text))
    public = {f"ironwire.client.{name}" for name in ironwire.client.__all__}
    if path.name == "encrypted.md":  # whose author takes our MLS library, in the place of any other
        public |= {f"ironwire.mls.{name}" for name in ironwire.mls.__all__}
    assert {name for block in blocks for name in imported(block)} <= public


@pytest.fixture
async def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    """The functions of the page, in front of a server in this process."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    settings = Settings(data=tmp_path / "data", auth=AuthSettings(origins=(SERVER,)))
    with trio.fail_after(10):
        async with serve_in_process(create_app(settings)) as server:

            async def dial(_: object) -> trio.abc.Stream:
                await trio.lowlevel.checkpoint()
                stream: trio.abc.Stream = server.open_stream()
                return stream

            for function in (connect, open_device, upload):
                monkeypatch.setattr(ironwire.client, function.__name__, partial(function, dial=dial))
            names: dict[str, Any] = {}
            for block in _PYTHON.findall(PAGE):
                exec(block, names)
            yield names


async def test_the_example_answers_every_text(examples: dict[str, Any], tmp_path: Path, nursery: trio.Nursery) -> None:
    robot, ann = (create_identity(tmp_path / name) for name in ("robot", "ann"))
    nursery.start_soon(examples["echo"], SERVER, tmp_path / "robot")
    async with ironwire.client.connect(SERVER, ann) as client:
        while True:
            try:
                await client.send_text(robot.client_id, "is anybody there?")
                break
            except ironwire.client.Refused:  # not there yet
                await trio.lowlevel.checkpoint()
        assert (await delivered(client)).text == "is anybody there?"
    nursery.cancel_scope.cancel()


async def test_the_example_sends_a_file(examples: dict[str, Any], tmp_path: Path) -> None:
    create_identity(tmp_path / "ann")
    bob = create_identity(tmp_path / "bob")
    (tmp_path / "picture.png").write_bytes(b"a picture")
    async with ironwire.client.connect(SERVER, bob) as client:
        await examples["send_file"](SERVER, tmp_path / "ann", bob.client_id, tmp_path / "picture.png")
        message = await delivered(client)
    assert isinstance(message, DeliveredFile)
    assert (message.name, message.size) == ("picture.png", 9)


async def test_the_example_queues_a_text_and_hears_what_became_of_it(
    examples: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_identity(tmp_path / "ann")
    bob = create_identity(tmp_path / "bob")
    async with ironwire.client.connect(SERVER, bob) as client:
        await examples["say_later"](SERVER, tmp_path / "ann", bob.client_id, "later")
        assert (await delivered(client)).text == "later"
    lines = capsys.readouterr().out.splitlines()  # those of the log are among them where an earlier test logs to it
    assert any(line.startswith("Accepted(") for line in lines)


async def delivered(client: ironwire.client.Client) -> Any:
    """The next text or file that comes to `client`."""
    async for event in client:
        if isinstance(event, Received) and isinstance(event.message, DeliveredText | DeliveredFile):
            return event.message
    raise AssertionError("the client ended")
