"""Devices as people have them: linked, listed, named and revoked from the command line, with a real server."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ironwire.client import create_identity, load_account, read_linked_device
from tests.system.processes import Process
from tests.system.test_cli import User, make_user, serving

FINGERPRINT = r"(?:[0-9a-f]{4} ){7}[0-9a-f]{4}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as (_, url):
        yield url


@pytest.fixture
def owner(tmp_path: Path, server: str) -> User:
    """Alice's computer, which has her identity."""
    return make_user(tmp_path / "owner", server)


def another_computer(owner: User, name: str) -> User:
    """A computer of hers that has no key yet."""
    folder = owner.folder.with_name(name)
    folder.mkdir()
    return User(folder, owner.server, owner.client)


@contextmanager
def linking(user: User, device: str) -> Iterator[tuple[Process, str, str]]:
    """The program that waits to be let in, the text that it shows, and its fingerprint."""
    with user.start("device", "link", "--device", device, "--no-passphrase") as waiting:
        text = waiting.read_until(r"iwlink:1:\S+").split()[-1]
        fingerprint = re.findall(FINGERPRINT, waiting.read_until(FINGERPRINT))[-1]
        yield waiting, text, fingerprint


def link(owner: User, name: str) -> User:
    user = another_computer(owner, name)
    with linking(user, name) as (waiting, text, _):
        accepted = owner.run("device", "accept", text, "--yes", "--name", name)
        assert accepted.returncode == 0, accepted.stderr
        code, output = waiting.finish()
    assert code == 0, output
    return user


def devices_of(user: User) -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in json.loads(user.run("device", "list", "--json").stdout)}


def test_a_device_is_linked_after_its_fingerprint_was_compared(owner: User) -> None:
    tablet = another_computer(owner, "tablet")
    with linking(tablet, "tablet") as (waiting, text, fingerprint):
        with owner.at_terminal("device", "accept", text) as screen:
            screen.read_until(re.escape(owner.server))
            screen.read_until(fingerprint)
            screen.read_until("Link it")
            screen.type("y\n")
            screen.read_until("Send it your history")
            screen.type("\n")
            screen.read_until(f"Linked {fingerprint[:4]}")
            assert screen.wait() == 0
        code, output = waiting.finish()
    assert code == 0
    assert owner.client in output
    key = tablet.folder / "key"
    assert (read_linked_device(key), key.stat().st_mode & 0o777) == ("tablet", 0o600)
    assert load_account(key).client_id == owner.client
    assert tablet.run("id", str(key)).stdout == f"{owner.client}\n"
    (listed,) = devices_of(tablet).values()
    assert (listed["device"], listed["role"], listed["here"]) == ("tablet", "linked", True)


def test_a_no_leaves_nothing_behind(owner: User) -> None:
    tablet = another_computer(owner, "tablet")
    with linking(tablet, "tablet") as (waiting, text, _):
        with owner.at_terminal("device", "accept", text) as screen:
            screen.read_until("Link it")
            screen.type("n\n")
            assert screen.wait() == 130
        asked = owner.run("device", "accept", text)
        assert (asked.returncode, "say --yes" in asked.stderr) == (2, True)
        code, _ = waiting.interrupt()
    assert code == 130
    assert not (tablet.folder / "key").exists()
    assert devices_of(owner) == {}


def test_what_is_no_text_for_linking_is_refused(owner: User) -> None:
    elsewhere = f"iwlink:1:https://chat.example:{'A' * 22}:{'A' * 43}:{'A' * 43}:{'A' * 22}"
    for text, words in (("hello", "no text for linking"), ("iwlink:2:x", "newer version"), (elsewhere, "damaged")):
        refused = owner.run("device", "accept", text, "--yes")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert words in refused.stderr
    assert owner.pipe("hello\n", "device", "accept", "--yes").returncode == 2


def test_three_devices_read_and_write_in_one_name(owner: User, tmp_path: Path) -> None:
    """A device that is linked later has a part in what is said from then on."""
    bob = make_user(tmp_path / "bob", owner.server)
    with owner.start("chat", bob.client, "--device", "desk") as desk, ExitStack() as stack:
        desk.read_until("connected")
        assert bob.run("send", owner.client, "hello", "--device", "pc").returncode == 0
        desk.read_until("hello")
        linked = []
        for name in ("tablet", "phone"):
            user = link(owner, name)
            linked.append((user, stack.enter_context(user.start("listen"))))
            desk.read_until("devices of .* changed")
        (tablet, first), (phone, second) = linked
        assert bob.run("send", owner.client, "to all of you", "--device", "pc").returncode == 0
        for each in (desk, first, second):
            each.read_until("to all of you")
        assert tablet.run("send", bob.client, "from the tablet").returncode == 0
        for each in (desk, second):
            each.read_until("from the tablet")
    assert "from the tablet" in phone.run("history", bob.client).stdout
    assert {name: each["role"] for name, each in devices_of(owner).items()} == {
        "desk": "owner",
        "tablet": "linked",
        "phone": "linked",
    }


def test_a_lost_device_is_revoked_and_stays_out(owner: User) -> None:
    tablet, phone = link(owner, "tablet"), link(owner, "phone")
    refused = phone.run("device", "revoke", "tablet", "--yes")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "on a device that has the identity's key" in refused.stderr
    with tablet.start("listen") as listening:
        listening.read_until("connected")
        with owner.at_terminal("device", "revoke", "tablet") as screen:
            screen.read_until("What it has received stays")
            screen.read_until("Revoke tablet")
            screen.type("y\n")
            screen.read_until("Revoked tablet")
            assert screen.wait() == 0
        code, output = listening.finish()
    assert (code, "revoked" in output) == (1, True)
    for command in (("listen", "--count", "1"), ("send", owner.client, "hello"), ("device", "list")):
        out = tablet.run(*command)
        assert out.returncode == 1
        assert "this device was revoked" in out.stderr
    assert devices_of(owner).keys() == {"phone"}
    again = owner.run("device", "revoke", "tablet", "--yes")
    assert (again.returncode, "no device is called" in again.stderr) == (2, True)


def test_devices_have_names_of_ones_own(owner: User) -> None:
    link(owner, "tablet")
    link(owner, "phone")
    assert owner.run("device", "name", "tablet", "Kitchen").returncode == 0
    taken = owner.run("device", "name", "phone", "Kitchen")
    assert (taken.returncode, "another device is called Kitchen" in taken.stderr) == (2, True)
    kitchen = devices_of(owner)["Kitchen"]
    assert kitchen["device"] == "tablet"
    assert owner.run("device", "name", str(kitchen["key"])[:8], "Attic").returncode == 0
    assert devices_of(owner).keys() == {"Attic", "phone"}
    bad = owner.run("device", "name", "phone", "abcdef0123456789")
    assert bad.returncode == 2


def test_two_devices_of_one_name_do_not_meet(owner: User) -> None:
    link(owner, "tablet")
    second = another_computer(owner, "second")
    with linking(second, "tablet") as (waiting, text, _):
        assert owner.run("device", "accept", text, "--yes").returncode == 0
        code, output = waiting.finish()
    assert (code, "this one is tablet-2" in output) == (0, True)
    assert read_linked_device(second.folder / "key") == "tablet-2"
    named = second.run("listen", "--device", "tablet", "--count", "1")
    assert (named.returncode, "leave out --device" in named.stderr) == (2, True)


def test_a_key_that_is_there_is_not_replaced(owner: User) -> None:
    kept = (owner.folder / "key").read_bytes()
    refused = owner.run("device", "link", "--no-passphrase")
    assert (refused.returncode, "is not replaced" in refused.stderr) == (2, True)
    assert (owner.folder / "key").read_bytes() == kept


def test_for_programs_linking_prints_json(owner: User) -> None:
    tablet = another_computer(owner, "tablet")
    with tablet.start("device", "link", "--no-passphrase", "--json") as waiting:
        shown = waiting.read_until(r"\{.*\}")
        offered = json.loads(next(line for line in shown.splitlines() if line.startswith("{")))
        assert owner.run("device", "accept", offered["link"], "--yes").returncode == 0
        code, output = waiting.finish()
    assert code == 0
    done = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    assert (done["client"], done["key"]) == (owner.client, str(tablet.folder / "key"))


def test_a_sealed_key_is_asked_for_once(owner: User, tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    identity = create_identity(folder / "key", "open sesame")
    sealed = User(folder, owner.server, identity.client_id)
    link_text = f"iwlink:1:{owner.server}:{'A' * 22}:{'A' * 43}:{'A' * 43}:{'A' * 22}"
    assert sealed.run("device", "accept", link_text, "--yes").returncode == 2
    assert sealed.run("device", "list", IRONWIRE_PASSPHRASE="open sesame").returncode == 0
    with sealed.at_terminal("device", "list") as screen:
        screen.read_until("Passphrase")
        screen.type("open sesame\n")
        screen.read_until("No devices")
        assert screen.wait() == 0


def test_every_device_tells_of_a_new_one_and_of_one_that_is_revoked(owner: User, tmp_path: Path) -> None:
    bob = make_user(tmp_path / "bob", owner.server)
    assert bob.run("chat", owner.client, "--device", "pc").returncode == 0
    tablet, laptop = link(owner, "tablet"), link(owner, "laptop")
    with (
        tablet.start("listen") as listening,
        laptop.start("chat", bob.client) as chat,
        owner.at_terminal("chat", bob.client, "--device", "study") as window,
    ):
        for program in (listening, chat):
            program.read_until("connected")
        window.read_until("● connected")
        phone = another_computer(owner, "phone")
        with linking(phone, "phone") as (waiting, text, fingerprint):
            assert owner.run("device", "accept", text, "--yes", "--name", "Mallory").returncode == 0
            revoke = f"revoke {fingerprint.replace(' ', '')[:8]}"
            for program in (listening, chat):
                assert f"A new device ({fingerprint[:9]}) was linked at" in program.read_until(revoke)
            assert waiting.finish()[0] == 0
        assert owner.run("device", "revoke", "Mallory", "--yes").returncode == 0
        for program in (listening, chat):
            program.read_until("was revoked at")


def test_the_window_tells_of_a_device_that_another_computer_has_let_in(owner: User, tmp_path: Path) -> None:
    bob = make_user(tmp_path / "bob", owner.server)
    code = owner.run("recovery", "create", "--yes").stdout
    second = another_computer(owner, "second")
    restoring = ("recovery", "restore", "--keep-devices", "--yes", "--no-passphrase", "--device", "second")
    assert second.pipe(code, *restoring).returncode == 0
    with second.at_terminal("chat", bob.client, "--device", "second") as window:
        window.read_until("● connected")
        link(owner, "phone")
        window.read_until("was linked at")
        assert owner.run("device", "revoke", "phone", "--yes").returncode == 0
        window.read_until("was revoked at")
        window.type("\x03")
        assert window.wait() == 0


def test_what_happened_while_a_device_was_away_is_told_when_it_returns(owner: User) -> None:
    tablet = link(owner, "tablet")
    link(owner, "phone")
    with tablet.start("listen") as listening:
        listening.read_until("was linked at")
    with tablet.start("listen") as listening:
        listening.read_until("connected")
        code, output = listening.interrupt()
    assert (code, "was linked" in output) == (130, False), "once is enough"
