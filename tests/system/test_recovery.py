"""An identity that is lost and comes back: the recovery code at a terminal, with a real server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ironwire.cli.addressbook import AddressBook
from ironwire.client import Identity, load_identity
from tests.system.processes import Screen
from tests.system.test_cli import User, make_user, serving
from tests.system.test_devices import another_computer, devices_of, link

BOB = Identity.from_seed(b"bob".ljust(32, b".")).client_id
CODE = r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){8}"
GROUPS = r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as (_, url):
        yield url


@pytest.fixture
def owner(tmp_path: Path, server: str) -> User:
    return make_user(tmp_path / "owner", server)


def code_of(user: User) -> str:
    """A new code, as a program gets it."""
    made = user.run("recovery", "create", "--yes")
    assert made.returncode == 0, made.stderr
    assert re.fullmatch(f"{CODE}\n", made.stdout)
    return made.stdout.strip()


def shown_code(screen: Screen) -> str:
    shown = screen.read_until("press Enter")
    groups: list[str] = re.findall(GROUPS, shown)
    assert len(groups) == 3
    return "-".join(groups)


def test_a_code_is_shown_once_and_typed_back_before_anything_is_saved(owner: User) -> None:
    with owner.at_terminal("recovery", "create") as screen:
        code = shown_code(screen)
        screen.type("\n")
        screen.read_until("Recovery code")
        screen.type("abcd\n")
        screen.read_until("nine groups")
        screen.type(f"{code.lower().replace('-', ' ')}\n")
        screen.read_until("read back")
        assert screen.wait() == 0
    status = json.loads(owner.run("recovery", "status", "--json").stdout)
    assert (status["number"], status["contacts"], status["current"]) == (1, 0, True)
    assert owner.pipe(f"{code}\n", "recovery", "check").stdout == "This is your recovery code.\n"
    kept = (owner.folder / "key.recovery").read_text()
    assert code not in kept


def test_a_code_that_is_not_typed_back_saves_nothing(owner: User) -> None:
    other = code_of(owner)
    with owner.at_terminal("recovery", "create") as screen:
        shown_code(screen)
        screen.type("\n")
        for _ in range(3):
            screen.read_until("Recovery code")
            screen.type(f"{other}\n")
        screen.read_until("nothing is saved")
        assert screen.wait() == 1
    assert owner.pipe(other, "recovery", "check").returncode == 0, "the code from before is still good"
    asked = owner.run("recovery", "create")
    assert (asked.returncode, "at a terminal" in asked.stderr) == (2, True)


def test_a_new_code_ends_the_one_before(owner: User) -> None:
    first, second = code_of(owner), code_of(owner)
    wrong = owner.pipe(first, "recovery", "check")
    assert (wrong.returncode, "not the one of today" in wrong.stderr) == (1, True)
    new = another_computer(owner, "new")
    gone = new.pipe(first, "recovery", "restore", "--yes", "--no-passphrase")
    assert (gone.returncode, "no backup for this code" in gone.stderr) == (1, True)
    assert not (new.folder / "key").exists()
    assert new.pipe(second, "recovery", "restore", "--yes", "--no-passphrase").returncode == 0


def test_without_a_code_the_loss_is_named(owner: User) -> None:
    without = owner.run("recovery", "status")
    assert (without.returncode, "lost for good" in without.stdout) == (0, True)
    assert json.loads(owner.run("recovery", "status", "--json").stdout) == {"stored": None}
    for command in ("update", "check"):
        refused = owner.run("recovery", command)
        assert (refused.returncode, "recovery create" in refused.stderr) == (1, True)


def test_an_identity_comes_back_with_its_contacts_and_the_lost_devices_are_out(owner: User) -> None:
    tablet = link(owner, "tablet")
    AddressBook.beside(owner.folder / "key").add("bob", BOB)
    code = code_of(owner)
    assert owner.run("verify", "bob", "--confirm").returncode == 0
    assert "have changed since" in owner.run("recovery", "status").stdout
    assert owner.run("recovery", "update").returncode == 0

    new = another_computer(owner, "new")
    with new.at_terminal("recovery", "restore", "--device", "new", "--no-passphrase") as screen:
        screen.read_until("Recovery code")
        screen.type("not a code\n")
        screen.read_until("no character|nine groups")
        screen.type(f"{code}\n")
        screen.read_until("1 contact")
        screen.read_until("revoke all its other devices")
        screen.type("y\n")
        screen.read_until(owner.client)
        assert screen.wait() == 0
    assert load_identity(new.folder / "key").client_id == owner.client
    assert new.run("contacts", "list").stdout == f"bob  {BOB}  ✓ verified\n"
    (only,) = devices_of(new).values()
    assert (only["name"], only["role"], only["here"]) == ("new", "owner", True)
    out = tablet.run("listen", "--count", "1")
    assert (out.returncode, "revoked" in out.stderr) == (1, True)
    assert new.run("recovery", "status").returncode == 0, "the code goes on"
    link(new, "phone")


def test_devices_that_are_not_lost_stay(owner: User) -> None:
    link(owner, "tablet")
    code = code_of(owner)
    new = another_computer(owner, "new")
    restored = new.pipe(code, "recovery", "restore", "--keep-devices", "--yes", "--no-passphrase", "--device", "new")
    assert (restored.returncode, restored.stdout) == (0, f"{owner.client}\n")
    assert {name: each["role"] for name, each in devices_of(new).items()} == {"tablet": "linked", "new": "owner"}


def test_only_an_owner_makes_a_code(owner: User) -> None:
    tablet = link(owner, "tablet")
    for command in (("create", "--yes"), ("status",), ("update",)):
        refused = tablet.run("recovery", *command)
        assert (refused.returncode, "identity's key" in refused.stderr) == (2, True)


def test_what_is_there_is_not_replaced(owner: User) -> None:
    code = code_of(owner)
    refused = owner.pipe(code, "recovery", "restore", "--yes", "--no-passphrase")
    assert (refused.returncode, "is not replaced" in refused.stderr) == (2, True)


def test_encrypted_conversations_come_back_and_are_named(owner: User, tmp_path: Path) -> None:
    bob = make_user(tmp_path / "bob", owner.server)
    assert owner.run("contacts", "add", "bob", bob.client).returncode == 0
    with bob.start("listen", "--device", "pc") as there:
        there.read_until("listens")
        assert owner.run("send", "bob", "before", "--device", "desk").returncode == 0
        there.read_until("before")
        made = owner.run("group", "create", "team", "bob", "--device", "desk")
        assert made.returncode == 0, made.stderr
        assert owner.run("send", "team", "to the team", "--device", "desk").returncode == 0
        there.read_until("to the team")
        made_code = owner.run("recovery", "create", "--yes", "--device", "desk")
        assert made_code.returncode == 0, made_code.stderr
        status = json.loads(owner.run("recovery", "status", "--json", "--device", "desk").stdout)
        assert (status["contacts"], status["conversations"], status["current"]) == (2, 2, True)

        new = another_computer(owner, "new")
        restored = new.pipe(made_code.stdout, "recovery", "restore", "--yes", "--no-passphrase", "--device", "new")
        assert restored.returncode == 0, restored.stderr
        assert "2 encrypted conversations" in restored.stderr
        assert re.search("Back in 2 conversations: (bob, team|team, bob)", restored.stderr), restored.stderr
        for to in ("bob", "team"):
            assert new.run("send", to, f"again to {to}", "--device", "new").returncode == 0
            there.read_until(f"again to {to}")
    lines = [
        json.loads(line) for line in bob.run("history", owner.client, "--json", "--device", "pc").stdout.splitlines()
    ]
    assert [(line["payload"]["text"], line["encrypted"]) for line in lines] == [
        ("before", True),
        ("again to bob", True),
    ]


def test_where_nobody_is_there_the_conversations_that_wait_are_named(owner: User, tmp_path: Path) -> None:
    bob = make_user(tmp_path / "bob", owner.server)
    assert owner.run("contacts", "add", "bob", bob.client).returncode == 0
    with bob.start("listen", "--device", "pc") as there:
        there.read_until("listens")
        assert owner.run("group", "create", "team", "bob", "--device", "desk").returncode == 0
        there.read_until("team|encrypted")
    code = owner.run("recovery", "create", "--yes", "--device", "desk").stdout
    new = another_computer(owner, "new")
    restored = new.pipe(code, "recovery", "restore", "--yes", "--no-passphrase", "--device", "new")
    assert (restored.returncode, "Asked to be let in again" in restored.stderr) == (0, True), restored.stderr
    assert "team" in restored.stderr
