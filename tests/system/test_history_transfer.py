"""A computer is linked, gets the history through a cut, and reads it: real processes, a real server."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ironwire.cli.devicebook import DeviceBook
from tests.system.test_cli import User, make_user, serving
from tests.system.test_devices import another_computer, linking

SAID = 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as (_, url):
        yield url


@pytest.fixture
def owner(tmp_path: Path, server: str) -> User:
    return make_user(tmp_path / "owner", server)


def link_with_history(owner: User, name: str, choice: str) -> User:
    """A linked computer, and the yes to a history for it."""
    user = another_computer(owner, name)
    with linking(user, name) as (waiting, text, _):
        arguments = ("device", "accept", text, "--yes", "--name", name, "--history", choice, "--device", "desk")
        with owner.start(*arguments) as accepting:
            accepting.read_until("Linked")
            code, output = waiting.finish()
            assert code == 0, output
            # The owner's program ends in the middle of it: the new device has not been there yet.
            accepting.popen.send_signal(signal.SIGKILL)
    return user


def said_on(user: User, peer: str) -> list[str]:
    lines = user.run("history", peer, "--limit", "1000", "--json").stdout.splitlines()
    return [json.loads(line)["payload"]["text"] for line in lines]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it has not come so"
        time.sleep(0.5)


def test_a_linked_computer_gets_the_history_through_cuts_and_finds_words_in_it(owner: User, tmp_path: Path) -> None:
    bob = make_user(tmp_path / "bob", owner.server)
    assert owner.run("contacts", "add", "bob", bob.client).returncode == 0
    assert owner.run("verify", "bob", "--confirm").returncode == 0
    with owner.start("listen", "--device", "desk") as desk:
        desk.read_until("listens")
        for number in range(SAID):
            assert bob.run("send", owner.client, f"message {number}", "--device", "pc").returncode == 0
        desk.read_until(f"message {SAID - 1}")
    assert owner.run("send", "bob", "my own Wörds", "--device", "desk").returncode == 0
    laptop = link_with_history(owner, "laptop", "all")
    assert said_on(laptop, bob.client) == []
    with laptop.start("listen") as there:
        there.read_until("listens")
        # The owner's program begins again and goes on, and so does the new device's after it was killed.
        with owner.start("listen", "--device", "desk") as desk:
            desk.read_until("history to another device")
        there.popen.send_signal(signal.SIGKILL)
    with laptop.start("listen") as there, owner.start("listen", "--device", "desk") as desk:
        there.read_until("listens")
        desk.read_until("listens")
        expected = [f"message {number}" for number in range(SAID)] + ["my own Wörds"]
        wait_for(lambda: said_on(laptop, bob.client) == expected)
        assert bob.run("send", owner.client, "to both", "--device", "pc").returncode == 0
        there.read_until("to both")
        wait_for(lambda: laptop.run("contacts", "list").stdout == f"bob  {bob.client}  ✓ verified\n")
    assert said_on(laptop, "bob") == [*expected, "to both"]
    found = laptop.run("history", "--search", "wörds").stdout
    assert "my own Wörds" in found
    assert "from desk" in found
    assert "from desk" not in laptop.run("history", "--search", "to both").stdout
    (line,) = laptop.run("history", "--search", "message 7", "--json").stdout.splitlines()
    assert json.loads(line)["told_by"]
    exported = laptop.run("export", "out", "--no-files")
    assert exported.returncode == 0, exported.stderr
    assert "from desk" in (laptop.folder / "out" / "index.html").read_text()


def test_nothing_is_given_without_a_yes_and_it_can_be_said_later(owner: User, tmp_path: Path) -> None:
    bob = make_user(tmp_path / "bob", owner.server)
    with owner.start("chat", bob.client, "--device", "desk") as desk:
        desk.read_until("connected")
        assert bob.run("send", owner.client, "from before", "--device", "pc").returncode == 0
        desk.read_until("from before")
        laptop = another_computer(owner, "laptop")
        with linking(laptop, "laptop") as (waiting, text, _):
            accepted = owner.run("device", "accept", text, "--yes", "--name", "laptop", "--device", "desk")
            assert accepted.returncode == 0, accepted.stderr
            assert waiting.finish()[0] == 0
        with laptop.start("listen") as there:
            there.read_until("listens")
            desk.read_until("devices of .* changed")
            assert said_on(laptop, bob.client) == []
            given = owner.run("device", "history", "laptop", "--yes", "--device", "desk")
            assert (given.returncode, "Another program has this device" in given.stderr) == (0, True), given.stderr
            there.read_until("complete")
            desk.read_until("history to another device: 1 of 1, complete")
        assert said_on(laptop, bob.client) == ["from before"]
    refused = owner.run("device", "history", "laptop", "--device", "desk")
    assert (refused.returncode, "say --yes" in refused.stderr) == (2, True)


def test_a_name_given_on_one_computer_is_there_on_the_other(owner: User, tmp_path: Path) -> None:
    bob = make_user(tmp_path / "bob", owner.server)
    laptop = link_with_history(owner, "laptop", "none")
    with laptop.start("listen") as there, owner.start("listen", "--device", "desk") as desk:
        there.read_until("listens")
        desk.read_until("listens")
        assert laptop.run("contacts", "add", "bob", bob.client).returncode == 0
        wait_for(lambda: bob.client in owner.run("contacts", "list").stdout)
        assert owner.run("device", "name", "laptop", "Ann's laptop").returncode == 0
        wait_for(lambda: "Ann's laptop" in DeviceBook.beside(laptop.folder / "key").names)
        assert owner.run("contacts", "remove", "bob").returncode == 0
        wait_for(lambda: bob.client not in laptop.run("contacts", "list").stdout)
