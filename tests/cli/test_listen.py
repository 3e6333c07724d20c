"""`ironwire listen` against the real server in this process: what is printed, and what is saved where."""

import json
import os
from collections.abc import AsyncIterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Unpack

import pytest
import trio
from attrs import define
from structlog.testing import capture_logs

from ironwire import client as library
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.scripting.listen import Listener
from ironwire.client import Client, FileMetadata, Identity, ServerAddress, connect, download, upload
from ironwire.client.connection.dial import Dial
from ironwire.limits import Limits
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, Settings
from tests.server.in_process import serve_in_process

ADDRESS = ServerAddress.parse("http://chat.test")
ALICE = Identity.from_seed(b"a" * 32)
BOB = Identity.from_seed(b"b" * 32)
CONTENT = b"a cat" * 1000


@define(eq=False)
class World:
    """Alice, who sends, and Bob, who listens in his folder."""

    alice: Client
    path: Path
    _dial: Dial

    async def upload(self) -> str:
        source = self.path / "source"
        source.write_bytes(CONTENT)
        return (await upload(ADDRESS, source, dial=self._dial)).url

    async def send_file(self, url: str | None = None, **metadata: Unpack[FileMetadata]) -> None:
        await self.alice.send_file(BOB.client_id, url or await self.upload(), **metadata)

    def listener(self, folder: str | None = "in/box", *, as_json: bool = False) -> Listener:
        book = AddressBook.beside(self.path / "key")
        book.add("alice", ALICE.client_id)
        return Listener(book, None if folder is None else self.path / folder, as_json)

    def saved(self) -> dict[str, bytes]:
        folder = self.path / "in" / "box"
        return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    settings = Settings(data=tmp_path / "data", auth=AuthSettings(origins=(ADDRESS.origin,)))
    monkeypatch.chdir(tmp_path)
    # The server's log goes to standard output, where only Bob's lines are looked for.
    with trio.fail_after(20), capture_logs():
        async with serve_in_process(create_app(settings), limits=Limits()) as server:

            async def dial(_: ServerAddress) -> trio.abc.Stream:
                await trio.lowlevel.checkpoint()
                stream: trio.abc.Stream = server.open_stream()
                return stream

            monkeypatch.setattr(library, "connect", partial(connect, dial=dial))
            monkeypatch.setattr(library, "download", partial(download, dial=dial))
            async with connect(ADDRESS, ALICE, dial=dial) as alice, connect(ADDRESS, BOB, dial=dial):
                yield World(alice, tmp_path, dial)


async def listen(listener: Listener, count: int, send: Any) -> None:
    """Let it hear `count` messages, which `send` sends."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.listen, ADDRESS, KeyFile(Path("bob.key"), BOB), None, count)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await send()


async def test_texts_and_changes_are_printed_in_their_order(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    async def send() -> None:
        group = await world.alice.groups.create([BOB.client_id], "Friends")
        await world.alice.send_text(group, "hi all")
        await world.alice.send_text(BOB.client_id, "hi\x1b[2J")
        await world.alice.groups.set_role(group, BOB.client_id, "admin")
        world.alice.presence.typing(BOB.client_id, True)
        await world.alice.groups.leave(group)

    await listen(world.listener(None), 5, send)
    shown = [line[6:] for line in capsys.readouterr().out.splitlines()]
    label = shown[0].split()[2]
    assert shown == [
        f"alice in {label} made the group, named it “Friends”, added you",
        f"alice in {label} hi all",
        "alice hi␛[2J",
        f"alice in {label} made you an admin",
        f"alice in {label} left",
    ]


async def test_a_file_is_saved_whole(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = FileMetadata(name="my cat.png", size=len(CONTENT), sha256=sha256(CONTENT).hexdigest())
    listener = world.listener()
    await listen(listener, 1, lambda: world.send_file(**metadata))
    assert world.saved() == {"my cat.png": CONTENT}
    assert listener.failures == 0
    assert capsys.readouterr().out.splitlines()[-1].strip() == f"saved as {world.path}/in/box/my cat.png"


async def test_programs_learn_where_the_file_is(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await listen(world.listener(as_json=True), 1, lambda: world.send_file(name="cat.png"))
    told = json.loads(capsys.readouterr().out)
    assert (told["type"], told["payload"]["name"]) == ("file", "cat.png")
    assert told["saved"] == f"{world.path}/in/box/cat.png"


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("../../escaped.txt", "escaped.txt"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\x.exe", "x.exe"),
        (".bashrc", "bashrc"),
        ("-rf", "rf"),
    ],
)
async def test_a_name_leads_nowhere_else(world: World, name: str, saved: str) -> None:
    ours = {"in", "source", "key.contacts", ".key.contacts.lock"}
    before = {*world.path.iterdir()} | {world.path / own for own in ours}
    await listen(world.listener(), 1, lambda: world.send_file(name=name))
    assert world.saved() == {saved: CONTENT}
    assert {*world.path.iterdir()} <= before


@pytest.mark.parametrize("name", ["", "..", "///", None])
async def test_a_file_without_a_name_has_that_of_its_url(world: World, name: str | None) -> None:
    url = await world.upload()
    metadata = FileMetadata() if name is None else FileMetadata(name=name)
    await listen(world.listener(), 1, lambda: world.send_file(url, **metadata))
    assert world.saved() == {url.rpartition("/")[2]: CONTENT}


async def test_a_file_that_is_named_again_is_saved_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand small messages would else bring a thousand times 30 MiB."""
    url = await world.upload()

    async def send() -> None:
        for name in ("cat.png", "dog.png", "cat.png"):
            await world.send_file(url, name=name)

    await listen(world.listener(as_json=True), 3, send)
    assert world.saved() == {"cat.png": CONTENT}
    told = [json.loads(line)["saved"] for line in capsys.readouterr().out.splitlines()]
    assert told == [f"{world.path}/in/box/cat.png"] * 3


async def test_nothing_is_replaced(world: World) -> None:
    folder = world.path / "in" / "box"
    folder.mkdir(parents=True)
    (folder / "cat.png").write_bytes(b"mine")
    (folder / "cat (2).png").symlink_to(world.path / "elsewhere")

    async def send() -> None:
        await world.send_file(name="cat.png")
        await world.send_file(name="cat.png")

    await listen(world.listener(), 2, send)
    assert (folder / "cat.png").read_bytes() == b"mine"
    assert (folder / "cat (3).png").read_bytes() == (folder / "cat (4).png").read_bytes() == CONTENT
    assert not (world.path / "elsewhere").exists()
    assert len(os.listdir(folder)) == 4


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (FileMetadata(name="cat.png", size=len(CONTENT) + 1), "it has 5000 bytes instead of 5001"),
        (FileMetadata(name="cat.png", sha256="5a" * 32), "its SHA-256 is another"),
    ],
)
async def test_what_is_not_what_was_sent_leaves_nothing_behind(
    world: World, capsys: pytest.CaptureFixture[str], metadata: FileMetadata, reason: str
) -> None:
    listener = world.listener()

    async def send() -> None:
        await world.send_file(**metadata)
        await world.alice.send_text(BOB.client_id, "and life goes on")

    await listen(listener, 2, send)
    assert world.saved() == {}
    assert listener.failures == 1
    captured = capsys.readouterr()
    assert reason in captured.err
    assert captured.out.splitlines()[-1].endswith("alice and life goes on")


async def test_a_file_that_the_server_has_no_more(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    listener = world.listener()
    await listen(listener, 1, lambda: world.send_file("/media/123e4567-e89b-42d3-a456-426614174000.bin"))
    assert (world.saved(), listener.failures) == ({}, 1)
    assert "404" in capsys.readouterr().err


async def test_a_folder_that_cannot_be_made(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.path / "in").touch()
    listener = world.listener()
    await listen(listener, 1, world.send_file)
    assert listener.failures == 1
    assert "not saved" in capsys.readouterr().err


async def test_without_a_folder_nothing_is_fetched(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await listen(world.listener(None), 1, lambda: world.send_file(name="cat.png"))
    assert not (world.path / "in").exists()
    assert "ironwire download /media/" in capsys.readouterr().out
