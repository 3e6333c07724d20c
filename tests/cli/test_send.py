"""`ironwire send` with a file: looked into first, then uploaded, then sent with what it tells of itself."""

import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from attrs import asdict, define, field
from click.testing import CliRunner, Result

from ironwire import client as library
from ironwire.cli import cli
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.exits import ExitCode
from ironwire.cli.scripting import files
from ironwire.client import (
    Accepted,
    Client,
    Connection,
    FileBody,
    FileTerms,
    SealedFile,
    ServerAddress,
    Stored,
    TransferFailed,
    Uploaded,
    create_identity,
)
from ironwire.client.store.device_owner import Sending
from ironwire.e2e.own_records import OwnRecord
from ironwire.ids import Address, ClientId, MessageId
from ironwire.wire.messages import File
from tests.client.test_media import make_film, make_picture, make_sound

BOB = ClientId("b0" * 32)
URL = "/media/00000000-0000-4000-8000-000000000000.bin"
SHA256 = "5a" * 32


@define(eq=False)
class FakeClient:
    """Writes down what it is to send."""

    address: ServerAddress = field(factory=lambda: ServerAddress.parse("localhost:8080"))
    uploads: list[Path] = field(factory=list)
    sent: list[tuple[Any, ...]] = field(factory=list)
    ids: list[MessageId] = field(factory=list)
    bodies: list[FileBody] = field(factory=list)

    device: None = None
    device_key: None = None
    is_encrypted: bool = False
    connection: Connection = field(factory=lambda: Connection("connected"))
    waiting: int = 0
    hold_until: float = 0.0
    is_holding: bool = False

    async def file_terms(self, _: Address) -> FileTerms:
        await trio.lowlevel.checkpoint()
        return FileTerms(self.is_encrypted, 1_000_000)

    @property
    def device_log(self) -> "FakeClient":
        return self

    @property
    def own_records(self) -> list[OwnRecord]:
        return []

    async def change_own(self, _: object) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_moved(self) -> None:
        await trio.sleep_forever()

    def waiting_reason(self, _: Address) -> str:
        return ""

    @asynccontextmanager
    async def sending(self, message: File, message_id: MessageId, body: FileBody | None) -> AsyncGenerator[Sending]:
        async def accepted() -> Accepted:
            await trio.lowlevel.checkpoint()
            return Accepted(7)

        self.ids.append(message_id)
        self.bodies += [] if body is None else [body]
        said = asdict(message, filter=lambda _, value: value is not None)
        self.sent.append((said.pop("to"), said.pop("url"), said))
        yield Stored([message_id], 0, ""), accepted


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    client = FakeClient()
    create_identity(tmp_path / "key")
    AddressBook.beside(tmp_path / "key").add("bob", BOB)

    async def put(_: ServerAddress, path: Path, progress: Callable[[int, int], None]) -> Uploaded:
        await trio.lowlevel.checkpoint()
        client.uploads.append(path)
        return Uploaded(URL, 3, SHA256)

    @asynccontextmanager
    async def open_device(*_: object, **__: object) -> AsyncGenerator[FakeClient]:
        yield client

    monkeypatch.setattr(files, "put", put)
    monkeypatch.setattr(library, "open_device", open_device)
    monkeypatch.setenv("IRONWIRE_KEY", str(tmp_path / "key"))
    monkeypatch.chdir(tmp_path)
    make_sound(Path("word.ogg"), "libopus", seconds=1, loudness=0.5)
    make_film(Path("round.mp4"), 32, 32, seconds=1)
    make_picture(Path("cat.png"), 30, 20)
    return client


def send(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["send", "bob", *arguments], prog_name="ironwire")


def test_a_voice_message_tells_its_length_and_its_shape(client: FakeClient) -> None:
    assert send("--voice", "word.ogg").exit_code == 0
    ((to, url, metadata),) = client.sent
    assert (to, url) == (BOB, URL)
    assert len(metadata.pop("waveform")) == 64
    assert metadata.pop("duration_ms") == pytest.approx(1_000, abs=60)
    assert metadata == {"kind": "voice", "name": "word.ogg", "mime": "audio/ogg", "size": 3, "sha256": SHA256}


def test_a_circle_tells_its_length_and_its_size(client: FakeClient) -> None:
    assert send("--circle", "round.mp4", "look!").exit_code == 0
    beside = {"name": "round.mp4", "mime": "video/mp4", "size": 3, "sha256": SHA256, "caption": "look!"}
    measured = {"kind": "circle", "duration_ms": 1_000, "width": 32, "height": 32}
    assert client.sent == [(BOB, URL, beside | measured)]


def test_a_picture_tells_its_size(client: FakeClient) -> None:
    assert send("--image", "cat.png").exit_code == 0
    beside = {"name": "cat.png", "mime": "image/png", "size": 3, "sha256": SHA256}
    assert client.sent == [(BOB, URL, beside | {"kind": "image", "width": 30, "height": 20})]


def test_a_file_is_not_looked_into(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ironwire.client.media", None)
    assert send("--file", "round.mp4").exit_code == 0
    assert client.sent[0][2]["kind"] == "file"


def test_a_name_that_is_not_utf8_is_refused_before_the_upload(client: FakeClient) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    Path(name).touch()
    with pytest.raises(TransferFailed, match="is not UTF-8"):
        trio.run(files.attach, cast("Client", client), BOB, Path(name), "file", lambda _, __: None)
    assert client.uploads == []


@pytest.mark.parametrize("option", ["--image", "--voice", "--circle"])
def test_without_pyav_the_way_to_it_is_named(client: FakeClient, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "ironwire.client.media", raising=False)
    refused = send(option, "cat.png")
    assert (refused.exit_code, refused.stdout) == (ExitCode.FILE, "")
    assert "pip install 'ironwire[media]'" in refused.stderr
    assert (client.uploads, client.sent) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--voice", "cat.png"), ExitCode.FILE, "no voice message"),
        (("--circle", "word.ogg"), ExitCode.FILE, "no moving picture"),
        (("--image", "round.mp4"), ExitCode.FILE, "not a picture"),
        (("--image", "nothing.png"), ExitCode.FILE, "cannot read nothing.png"),
        (("--image", "cat.png", "--voice", "word.ogg"), ExitCode.USAGE, "One file at a time"),
        ((), ExitCode.USAGE, "Nothing to send"),
    ],
)
def test_what_cannot_be_sent_so(client: FakeClient, arguments: tuple[str, ...], code: ExitCode, word: str) -> None:
    refused = send(*arguments)
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert word in refused.stderr
    assert (client.uploads, client.sent) == ([], [])


def test_a_file_for_those_who_can_read_it_goes_encrypted(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = SealedFile(URL, "A" * 43, 3, SHA256)

    async def put_sealed(*_: object, **limit: object) -> SealedFile:
        await trio.lowlevel.checkpoint()
        assert limit == {"most_bytes": 1_000_000}
        return sealed

    monkeypatch.setattr(files, "put_sealed", put_sealed)
    client.is_encrypted = True
    assert send("--image", "cat.png", "my cat").exit_code == 0
    assert client.uploads == [], "nothing goes in the clear"
    (body,) = client.bodies
    expected = FileBody(sealed, "image", "cat.png", "image/png", width=30, height=20, caption="my cat")
    assert body == expected
