"""`ironwire history --search` and `ironwire export`: everything that a device has is found, and comes out whole."""

import html
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ironwire.cli import cli
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.exits import ExitCode
from ironwire.client import (
    DeliveredFile,
    DeliveredText,
    GroupChanged,
    GroupMember,
    Owner,
    Said,
    ServerAddress,
    StoreKey,
    create_identity,
    default_store_path,
)
from ironwire.client.store.file import LocalFile
from ironwire.client.store.records import Arrive, Begin, Queue
from ironwire.ids import ClientId, DeviceId, GroupId, MessageId
from ironwire.wire.messages import Text

BOB, CAROL = ClientId("b0" * 32), ClientId("c0" * 32)
FRIENDS = GroupId("#" + "f0" * 16)
DESK, PHONE = DeviceId("desk"), DeviceId("phone")
URL = "/media/00000000-0000-4000-8000-000000000000.bin"
SERVER = "http://localhost:1"
"""Where nobody listens."""
EVIL = '<script>alert("x")</script> & \x1b[2J\u202e'


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientId:
    """Somebody who has talked to Bob, to Carol and in a group."""
    for variable in ("IRONWIRE_PASSPHRASE", "IRONWIRE_SERVER", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IRONWIRE_KEY", str(tmp_path / "key"))
    monkeypatch.setenv("IRONWIRE_SERVER", SERVER)
    monkeypatch.chdir(tmp_path)
    identity = create_identity(tmp_path / "key")
    own = identity.client_id
    book = AddressBook.beside(tmp_path / "key")
    book.add("bob", BOB)
    book.add("friends", FRIENDS)
    owner = Owner(own, PHONE, ServerAddress.parse(SERVER).origin)
    file = LocalFile.open(default_store_path(owner), owner, StoreKey.of_account(identity))
    file.apply([Begin(1, 6), Queue(MessageId("q"), Text(BOB, "Straße frei?"), 1_000)])
    arrivals: list[Said] = [
        DeliveredText(BOB, "the STRASSE is free\nand wide", ts=2_000, device=DESK),
        DeliveredText(CAROL, EVIL, ts=3_000, device=DESK),
        GroupChanged(FRIENDS, 1, BOB, [own], [], [GroupMember(BOB, "admin")], "Straßenfest", 4_000, DESK),
        DeliveredText(BOB, "cafe\u0301", ts=5_000, device=DESK, group=FRIENDS),
        DeliveredFile(BOB, URL, name="../strasse.png", caption="a <b>picture</b>", ts=6_000, device=DESK),
    ]
    file.apply([Arrive(message, MessageId(str(seq)), seq) for seq, message in enumerate(arrivals, start=1)])
    file.close()
    return own


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="ironwire")


def found(*arguments: str) -> list[dict[str, object]]:
    done = run("history", *arguments, "--device", PHONE, "--json")
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- search ----------------------------------------------------------------------------------------------------------


def test_everything_that_the_device_has_is_looked_through(own: ClientId) -> None:
    everywhere = found("--search", "strasse")
    assert [(line["conversation"], line["id"]) for line in everywhere] == [
        (FRIENDS, "3"),
        (BOB, "q"),
        (BOB, "1"),
        (BOB, "5"),
    ]
    assert [line["id"] for line in found("bob", "--search", "STRASSE")] == ["q", "1", "5"]
    assert [line["id"] for line in found("--search", "caf\u00e9")] == ["4"]
    assert [line["id"] for line in found("--search", "picture")] == ["5"]
    assert found("--search", "nothing like it") == []


def test_the_newest_are_shown_where_there_are_more(own: ClientId) -> None:
    assert [line["id"] for line in found("--search", "strasse", "--limit", "2")] == ["3", "5"]


def test_people_see_in_which_conversation_it_was(own: ClientId) -> None:
    shown = run("history", "--search", "strasse", "--device", PHONE).stdout.splitlines()
    assert shown[0] == "friends"
    assert [line for line in shown if not line[:2].isdigit() and not line.startswith(" ")] == ["friends", "bob"]
    assert run("history", "--search", "nowhere", "--device", PHONE).stderr.strip() == "nothing found"


def test_without_a_conversation_and_a_text_there_is_nothing_to_show(own: ClientId) -> None:
    refused = run("history", "--device", PHONE)
    assert (refused.exit_code, refused.stdout) == (ExitCode.USAGE, "")
    assert "--search" in refused.stderr


# --- export ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_all_messages_come_out_for_programs_and_for_people(own: ClientId, tmp_path: Path) -> None:
    done = run("export", "out", "--no-files", "--device", PHONE)
    assert (done.exit_code, done.stdout) == (0, "out/index.html\n")
    assert "5 messages of 3 conversations" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out" / "messages.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == ["1", "2", "3", "4", "5", "q"]
    assert {line["conversation"] for line in lines} == {BOB, CAROL, FRIENDS}
    (file,) = [line for line in lines if line["type"] == "file"]
    assert (file["path"], file["payload"]["caption"]) == ("files/strasse.png", "a <b>picture</b>")
    page = Page()
    page.feed((tmp_path / "out" / "index.html").read_text())
    for text in ("Straße frei?", "the STRASSE is free\nand wide", "a <b>picture</b>", "(queued)", "bob", "friends"):
        assert text in page.text
    assert page.links == ["files/strasse.png"]


def test_what_others_wrote_is_text_in_the_page(own: ClientId, tmp_path: Path) -> None:
    assert run("export", "out", "--no-files", "--device", PHONE).exit_code == 0
    written = (tmp_path / "out" / "index.html").read_text()
    page = Page()
    page.feed(written)
    assert '<script>alert("x")</script> & ␛[2J\ufffd' in page.text
    assert html.escape('<script>alert("x")</script>') in written
    assert page.tags <= {"html", "meta", "title", "style", "h1", "h2", "p", "time", "b", "bdi", "span", "a"}
    assert page.attributes <= {"lang", "charset", "name", "content", "http-equiv", "class", "datetime", "href"}
    assert "default-src 'none'" in written


def test_the_folder_is_private_and_nothing_in_it_is_replaced(own: ClientId, tmp_path: Path) -> None:
    assert run("export", "out", "--no-files", "--device", PHONE).exit_code == 0
    modes = {path.stat().st_mode & 0o777 for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]}
    assert modes == {0o700, 0o600}
    again = run("export", "out", "--device", PHONE)
    assert (again.exit_code, again.stdout) == (ExitCode.USAGE, "")
    assert "not empty" in again.stderr


def test_without_a_server_the_messages_are_there_all_the_same(own: ClientId, tmp_path: Path) -> None:
    done = run("export", "out", "--device", PHONE)
    assert done.exit_code == ExitCode.UNREACHABLE
    assert len((tmp_path / "out" / "messages.jsonl").read_text().splitlines()) == 6


def test_a_device_that_has_nothing_is_named(own: ClientId) -> None:
    refused = run("export", "out", "--device", "other")
    assert (refused.exit_code, refused.stdout) == (ExitCode.USAGE, "")
    assert "has no history" in refused.stderr
    assert not Path("out").exists()
