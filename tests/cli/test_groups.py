"""`ironwire group` and `ironwire block`, as a shell sees them: what is asked, what is printed, and how it ends."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from click.testing import CliRunner, Result

from ironwire.cli import cli, render
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.exits import ExitCode
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.render import group_change
from ironwire.cli.terminal import printable
from ironwire.client import Accepted, GroupChanged, GroupDetails, GroupMember, GroupSummary, Refused, create_identity
from ironwire.ids import ClientId, GroupId

BOB = ClientId("b0" * 32)
CAROL = ClientId("c0" * 32)
FRIENDS = GroupId("#" + "f0" * 16)
OTHERS = GroupId("#" + "0e" * 16)
NOON = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)


@define(eq=False)
class FakeClient:
    """Writes down what it is asked, and answers the same to all of it."""

    client_id: ClientId
    answer: Any = None
    code: str | None = None
    asked: list[tuple[Any, ...]] = field(factory=list)

    @property
    def groups(self) -> "FakeClient":
        return self

    async def epoch_code(self, group: GroupId) -> str | None:
        await trio.lowlevel.checkpoint()
        return self.code

    def __getattr__(self, verb: str) -> Any:
        async def ask(*arguments: Any, **options: Any) -> Any:
            await trio.lowlevel.checkpoint()
            self.asked.append((verb, *arguments, *(value for value in options.values() if value is not None)))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return ask


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    key = tmp_path / "key"
    client = FakeClient(create_identity(key).client_id)
    book = AddressBook.beside(key)
    book.add("bob", BOB)
    book.add("carol", CAROL)
    book.add("friends", FRIENDS)

    @asynccontextmanager
    async def connect(*_: object) -> AsyncGenerator[FakeClient]:
        yield client

    monkeypatch.setattr(KeyFile, "connect", connect)
    monkeypatch.setenv("IRONWIRE_KEY", str(key))
    monkeypatch.chdir(tmp_path)
    return client


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="ironwire")


ACCEPTED = Accepted(7, group=FRIENDS, epoch=4)


@pytest.mark.parametrize(
    ("arguments", "asked", "sentence"),
    [
        (("add", "friends", "bob", CAROL), ("add", FRIENDS, [BOB, CAROL]), "bob, carol are in friends"),
        (("add", "friends", "bob", "--if-epoch", "3"), ("add", FRIENDS, [BOB], 3), "bob is in friends"),
        (("remove", FRIENDS.upper(), "carol"), ("remove", FRIENDS, [CAROL]), "carol is not in friends any more"),
        (("leave", "friends", "--yes"), ("leave", FRIENDS), "you are not in friends any more"),
        (("leave", "friends", "--yes", "--if-epoch", "3"), ("leave", FRIENDS, 3), "you are not in friends any more"),
        (("role", "friends", "bob", "admin"), ("set_role", FRIENDS, BOB, "admin"), "bob is an admin of friends"),
        (
            ("rename", "friends", "Old Friends"),
            ("rename", FRIENDS, "Old Friends"),
            "friends is called “Old Friends” by everybody in it",
        ),
    ],
)
def test_a_change_is_asked_for_and_told(
    client: FakeClient, arguments: tuple[str, ...], asked: tuple[Any, ...], sentence: str
) -> None:
    client.answer = ACCEPTED
    done = run("group", *arguments)
    assert (done.exit_code, done.output) == (0, f"{sentence}; epoch 4.\n")
    assert client.asked == [asked]
    told = json.loads(run("group", *arguments, "--json").stdout)
    assert told == {"ts": 7, "epoch": 4, "duplicate": False}


def test_a_new_group_is_a_contact_under_its_name(client: FakeClient) -> None:
    client.answer = OTHERS
    assert run("group", "create", "others", "bob", CAROL).stdout == f"{OTHERS}\n"
    assert client.asked == [("create", [BOB, CAROL], "others")]
    assert AddressBook.beside(Path("key")).address("others") == OTHERS


@pytest.mark.parametrize("name", ["friends", "The old ones"])
def test_a_new_group_takes_nobody_elses_name(client: FakeClient, name: str) -> None:
    client.answer = OTHERS
    before = AddressBook.beside(Path("key")).all()
    made = run("group", "create", name, "--json")
    assert made.exit_code == 0
    assert json.loads(made.stdout) == {"group": OTHERS}
    assert f"ironwire contacts add NAME '{OTHERS}'" in made.stderr
    assert AddressBook.beside(Path("key")).all() == before


def test_who_is_in_a_group(client: FakeClient) -> None:
    members = [GroupMember(client.client_id, "admin"), GroupMember(BOB, "member")]
    client.answer = GroupDetails(FRIENDS, 4, members, "Fri\x1b[2Jends")
    shown = run("group", "info", "friends").stdout.splitlines()
    assert shown[0] == f"“Fri␛[2Jends”  {FRIENDS}  epoch 4"
    assert [line.split() for line in shown[1:]] == [["you", "admin", client.client_id], ["bob", "member", BOB]]
    assert json.loads(run("group", "info", "friends", "--json").stdout) == {
        "group": FRIENDS,
        "epoch": 4,
        "members": [{"client": client.client_id, "role": "admin"}, {"client": BOB, "role": "member"}],
        "name": "Fri\x1b[2Jends",
    }


def test_who_is_in_an_encrypted_group_and_its_code(client: FakeClient) -> None:
    client.answer = GroupDetails(FRIENDS, 4, [GroupMember(client.client_id, "admin")])
    client.code = "98765" * 6
    shown = run("group", "info", "friends").stdout.splitlines()
    assert shown[-1].split() == ["code", *["98765"] * 6]
    assert json.loads(run("group", "info", "friends", "--json").stdout)["code"] == client.code


def test_the_groups_one_is_in(client: FakeClient) -> None:
    client.answer = [
        GroupSummary(FRIENDS, 4, "admin", 3, "Friends\x1b[2J"),
        GroupSummary(OTHERS, 1, "member", 2),
    ]
    shown = [line.split() for line in run("group", "list").stdout.splitlines()]
    assert shown[1:] == [["friends", "Friends␛[2J", "3", "admin", FRIENDS], ["2", "member", OTHERS]]
    told = json.loads(run("group", "list", "--json").stdout)
    assert told[1] == {"group": OTHERS, "epoch": 1, "role": "member", "members": 2}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("group", "add", "bob", "carol"), "'bob' is a client"),
        (("group", "add", "friends", "friends"), "'friends' is a group"),
        (("group", "add", "friends", "dave"), "'dave' is neither"),
        (("group", "add", "friends"), "CLIENT"),
        (("group", "role", "friends", "bob", "king"), "king"),
        (("group", "leave", "friends", "--if-epoch", "0"), "0"),
        (("group", "leave"), "GROUP"),
        (("group", "leave", "friends"), "say --yes"),
        (("group", "info", "#f0"), "'#f0' is neither"),
        (("block", "friends"), "'friends' is a group"),
        (("unblock",), "WHO"),
    ],
)
def test_mistakes(client: FakeClient, arguments: tuple[str, ...], word: str) -> None:
    refused = run(*arguments)
    assert (refused.exit_code, refused.stdout) == (ExitCode.USAGE, "")
    assert word in refused.stderr
    assert client.asked == []


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (Refused("not_found", "no such group"), "no such group"),
        (Refused("forbidden", "only admins may"), "only admins may"),
        (Refused("conflict", "name another admin first"), "name another admin first"),
        (Refused("conflict"), "that is not possible as things are"),
        (Refused("quota", "at most 1000"), "the quota is used up: at most 1000"),
    ],
)
def test_a_refusal_says_what_to_do(client: FakeClient, refused: Refused, reason: str) -> None:
    client.answer = refused
    done = run("group", "leave", "friends", "--yes")
    assert (done.exit_code, done.stdout, done.stderr) == (ExitCode.REFUSED, "", f"Error: {reason}\n")


@pytest.mark.parametrize("arguments", [("create", "friends", "bob", "carol"), ("add", "friends", "carol")])
def test_a_refusal_says_who_cannot_be_added(client: FakeClient, arguments: tuple[str, ...]) -> None:
    client.answer = Refused("user_offline", "no device of this client has published keys yet", CAROL)
    done = run("group", *arguments)
    assert (done.exit_code, done.stdout) == (ExitCode.REFUSED, "")
    assert done.stderr == "Error: carol: no device of this client has published keys yet\n"


def test_blocks(client: FakeClient) -> None:
    assert run("block", "bob").output == "Blocked bob; `ironwire unblock bob` ends it.\n"
    assert run("unblock", CAROL).output == "Unblocked carol; what was blocked is gone.\n"
    assert client.asked == [("block", BOB), ("unblock", CAROL)]
    client.answer = []
    assert run("blocks").stdout == "Nobody.\n"
    client.answer = [BOB]
    assert run("blocks").stdout == f"bob  {BOB}\n"
    assert json.loads(run("blocks", "--json").stdout) == [BOB]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (GroupChanged(FRIENDS, 1, BOB, [BOB], [], [GroupMember(BOB, "admin")]), "bob made the group"),
        (
            GroupChanged(FRIENDS, 1, BOB, [BOB, CAROL], [], [GroupMember(BOB, "admin")], "Friends"),
            "bob made the group, named it “Friends”, added you",
        ),
        (GroupChanged(FRIENDS, 2, CAROL, [BOB], [], [GroupMember(BOB, "member")]), "you added bob"),
        (GroupChanged(FRIENDS, 3, BOB, [], [CAROL], []), "bob removed you"),
        (GroupChanged(FRIENDS, 3, BOB, [], [BOB], []), "bob left"),
        (GroupChanged(FRIENDS, 4, BOB, [], [], [GroupMember(CAROL, "admin")]), "bob made you an admin"),
        (GroupChanged(FRIENDS, 4, BOB, [], [], [GroupMember(BOB, "member")]), "bob made bob a member"),
        (GroupChanged(FRIENDS, 5, BOB, [], [], [], "\x1b[2J"), "bob named it “␛[2J”"),
    ],
)
def test_a_change_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: GroupChanged, line: str) -> None:
    monkeypatch.setattr(render, "now", lambda: NOON)
    book = AddressBook.beside(tmp_path / "key")
    book.add("bob", BOB)
    book.add("friends", FRIENDS)
    assert group_change(change, book, CAROL, NOON, FRIENDS).plain == f"12:00 {line}"
    doer, _, deed = line.partition(" ")
    elsewhere = group_change(change, book, CAROL, NOON).plain
    assert elsewhere == f"12:00 {doer} in friends {deed}"
    assert printable(elsewhere) == elsewhere
