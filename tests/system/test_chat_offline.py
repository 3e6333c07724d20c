"""Programs that are one device: without a server, beside each other, and with more than goes at once."""

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from attrs import define

from ironwire.cli.addressbook import AddressBook
from tests.system.processes import Process
from tests.system.test_cli import User, make_user, serving

DESK = ("--device", "desk")


@define
class Place:
    """An address at which a server may be."""

    folder: Path
    port: int

    @contextmanager
    def served(self, *options: str) -> Iterator[Process]:
        with serving(self.folder, "--port", str(self.port), *options) as (process, _):
            yield process


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "server").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return Place(tmp_path / "server", listening.getsockname()[1])


@pytest.fixture
def alice(tmp_path: Path, place: Place) -> User:
    return make_user(tmp_path / "alice", f"http://127.0.0.1:{place.port}")


@pytest.fixture
def bob(tmp_path: Path, place: Place, alice: User) -> User:
    """Somebody with a phone that the server knows."""
    bob = make_user(tmp_path / "bob", alice.server)
    AddressBook.beside(alice.folder / "key").add("bob", bob.client)
    AddressBook.beside(bob.folder / "key").add("alice", alice.client)
    with place.served():
        assert bob.run("chat", "alice", "--device", "phone").returncode == 0
    return bob


def heard(user: User, count: int) -> list[str]:
    """What comes to the phone of `user`."""
    listening = user.run("listen", "--device", "phone", "--count", str(count), "--json")
    assert listening.returncode == 0, listening.stderr
    return [json.loads(line)["payload"]["text"] for line in listening.stdout.splitlines()]


def states(user: User) -> list[tuple[str, str]]:
    lines = user.run("history", "bob", *DESK, "--json", "--limit", "1000").stdout.splitlines()
    return [(found["payload"]["text"], found["state"]) for found in map(json.loads, lines)]


def test_lines_that_were_piped_without_a_server_arrive_when_it_is_back(place: Place, alice: User, bob: User) -> None:
    piped = alice.pipe("one\ntwo\nthree", "chat", "bob", *DESK)
    assert piped.returncode == 0, piped.stderr
    assert "3 messages wait on this device" in piped.stderr
    assert states(alice) == [("one", "queued"), ("two", "queued"), ("three", "queued")]
    with place.served():
        later = alice.run("chat", "bob", *DESK)
        assert later.returncode == 0, later.stderr
        assert [line[6:] for line in later.stdout.splitlines()] == ["you one  ✓", "you two  ✓", "you three  ✓"]
        assert heard(bob, 3) == ["one", "two", "three"]


@pytest.mark.parametrize("command", [("send", "bob", "four", *DESK), ("listen", *DESK)], ids=["send", "listen"])
def test_any_command_of_the_device_sends_what_waits(
    place: Place, alice: User, bob: User, command: tuple[str, ...]
) -> None:
    sent = alice.run("send", "bob", "three", *DESK)
    assert (sent.returncode, states(alice)) == (0, [("three", "queued")])
    assert "1 message waits on this device" in sent.stderr
    with place.served(), alice.start(*command):
        assert heard(bob, 1) == ["three"]


def test_more_than_the_rate_allows_arrives_in_order(place: Place, alice: User, bob: User) -> None:
    lines = [str(number) for number in range(600)]
    with place.served("--limits-messages-per-second", "300", "--limits-messages-at-once", "100"):
        piped = alice.pipe("\n".join(lines), "chat", "bob", *DESK)
        assert piped.returncode == 0, piped.stderr
        assert piped.stdout.count("✓") == len(lines)
        assert heard(bob, len(lines)) == lines


def test_an_interrupt_loses_nothing_that_was_read(alice: User, bob: User) -> None:
    with alice.start("chat", "bob", *DESK) as typing:
        typing.read_until("trying again")
        for number in range(100):
            typing.enter(str(number))
        typing.enter("/help")
        typing.read_until("/quit")
        typing.popen.send_signal(signal.SIGINT)
        assert typing.finish()[0] == 130
    assert states(alice) == [(str(number), "queued") for number in range(100)]


def test_other_commands_work_beside_a_chat(place: Place, alice: User, bob: User) -> None:
    with place.served(), alice.start("chat", "bob", *DESK) as chatting:
        chatting.read_until("connected")
        sent = alice.run("send", "bob", "from a script", "--json", *DESK)
        assert sent.returncode == 0, sent.stderr
        assert json.loads(sent.stdout)["duplicate"] is False
        chatting.read_until("you from a script  ✓")

        (alice.folder / "notes.txt").write_text("notes")
        assert alice.run("send", "bob", "--file", "notes.txt", *DESK).returncode == 0
        chatting.read_until("sends “notes.txt”  ✓")

        piped = alice.pipe("one\ntwo", "chat", "bob", *DESK)
        assert piped.returncode == 0, piped.stderr
        chatting.read_until("you one  ✓")
        chatting.read_until("you two  ✓")

        nobody = alice.run("send", "00" * 32, "anybody?", *DESK)
        assert (nobody.returncode, nobody.stderr) == (1, "Error: nobody can have this id: it is no key\n")
        carol = make_user(alice.folder / "carol", alice.server)
        away = alice.run("send", carol.client, "anybody?", *DESK)
        assert (away.returncode, away.stderr) == (1, "Error: the recipient is offline\n")
        listening = alice.run("listen", *DESK)
        assert listening.returncode == 2
        assert f"process {chatting.popen.pid}" in listening.stderr
        chatting.enter("still here")
        chatting.read_until("you still here  ✓")


def test_several_starters_at_once_lose_nothing(place: Place, alice: User, bob: User) -> None:
    """One of them gets the file; the others hand over to it, or have it after it."""
    words = [str(number) for number in range(4)]
    with place.served(), ExitStack() as started:
        for process in [started.enter_context(alice.start("send", "bob", word, *DESK)) for word in words]:
            code, said = process.finish()
            assert code == 0, said
        # On a machine that is busy each may leave before the server answers: what waits goes out with the next.
        assert alice.run("send", "bob", "4", *DESK).returncode == 0
        assert sorted(heard(bob, len(words) + 1)) == [*words, "4"]


def test_an_identity_that_is_refused_keeps_its_lines_and_says_so(tmp_path: Path, alice: User, bob: User) -> None:
    (tmp_path / "other").mkdir()
    with serving(tmp_path / "other", "--auth-origins", "https://chat.example") as (_, url):
        refused = alice.pipe("one\ntwo", "chat", "bob", "--server", url, *DESK)
    assert refused.returncode == 4
    assert "2 messages wait" in refused.stderr
    assert "Error: the server refused the identity" in refused.stderr


def test_lines_without_somebody_to_send_them_to(alice: User) -> None:
    refused = alice.run("chat", *DESK)
    assert refused.returncode == 2
    assert "give TO" in refused.stderr
