"""`ironwire chat` in a real terminal: all conversations in one window, with and without a server."""

import signal
import socket
from pathlib import Path

import pytest

from ironwire.cli.addressbook import AddressBook
from tests.system.test_chat_offline import DESK, Place
from tests.system.test_cli import User, make_user

CTRL_C, CTRL_G, F5 = "\x03", "\x07", "\x1b[15~"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "server").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return Place(tmp_path / "server", listening.getsockname()[1])


@pytest.fixture
def people(tmp_path: Path, place: Place) -> list[User]:
    """Who know each other."""
    people = [make_user(tmp_path / name, f"http://127.0.0.1:{place.port}") for name in ("alice", "bob", "carol")]
    for user in people:
        for other in people:
            AddressBook.beside(user.folder / "key").add(other.folder.name, other.client)
    return people


def test_one_window_for_all_conversations(place: Place, people: list[User]) -> None:
    alice, bob, carol = people
    with place.served():
        assert bob.run("chat", "alice", "--device", "phone").returncode == 0
    with alice.at_terminal("chat", *DESK) as screen:
        screen.read_until("Conversations")
        screen.type("/to bob\rOffline\r")
        screen.read_until("Offline")
        screen.read_until("queued")
        with place.served(), bob.start("chat", "alice", "--device", "phone") as answering:
            screen.type(F5)
            answering.read_until("alice Offline")
            answering.enter("Evil\x1b]0;owned\x07")
            screen.read_until("␛]0;ow")
            assert alice.run("send", "bob", "Beside", *DESK).returncode == 0
            screen.read_until("Beside")
            assert carol.run("send", "alice", "Elsewhere").returncode == 0
            screen.read_until("Ctrl-G")
            screen.type(f"{CTRL_G}Answer")
            screen.read_until("Answer")
            screen.resize(40, 20)
            screen.type("\x1b")
            screen.read_until("nversations")
            screen.type("\t\r")
        screen.read_until("reconnecting")
        screen.type(f"draft{CTRL_C}")
        screen.read_until("not sent to carol:\r\ndraft")
        assert screen.wait() == 0


def test_the_terminal_is_left_as_it_was_when_the_program_is_told_to_end(people: list[User]) -> None:
    with people[0].at_terminal("chat", *DESK) as screen:
        screen.read_until("Conversations")
        screen.popen.send_signal(signal.SIGTERM)
        screen.read_until(r"\x1b\[\?1049l")
        assert screen.wait() == 0
