"""Groups, presence, voice messages and blocks as users of the command line meet them: real processes, a real server."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ironwire.cli.addressbook import AddressBook
from tests.client.test_media import make_film, make_sound
from tests.system.processes import Screen
from tests.system.test_cli import CTRL_D, User, make_user, serving

PHONE = ("--device", "phone")
CURSOR_AT_TOP = "\x1b[1;1R"
"""What a terminal says of its cursor. Unless it does, the editor does not know that there is room for a toolbar."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server")) as (_, url):
        yield url


@pytest.fixture
def people(tmp_path: Path, server: str) -> tuple[User, User, User]:
    """Alice, Bob and Carol, who know each other by these names."""
    users = {name: make_user(tmp_path / name, server) for name in ("alice", "bob", "carol")}
    for user in users.values():
        book = AddressBook.beside(user.folder / "key")
        for name, other in users.items():
            if other is not user:
                book.add(name, other.client)
    return users["alice"], users["bob"], users["carol"]


def done(user: User, *arguments: str) -> str:
    """What the command prints; it has to succeed."""
    result = user.run(*arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def listened(user: User, count: int) -> list[str]:
    shown = user.run("listen", *PHONE, "--count", str(count))
    return [line[6:] for line in shown.stdout.splitlines()]


def test_a_group_from_its_first_day_to_its_last(people: tuple[User, User, User]) -> None:
    alice, bob, carol = people
    for user in (bob, carol):
        with user.start("chat", "alice", *PHONE) as visit:
            assert visit.finish()[0] == 0
    group = done(alice, "group", "create", "friends", "bob").strip()
    for user in (bob, carol):
        AddressBook.beside(user.folder / "key").add("friends", group)  # type: ignore[arg-type]  # as it was printed
    done(alice, "send", "friends", "hi all")
    old = alice.run("group", "add", group, "carol", "--if-epoch", "1")
    assert (old.returncode, old.stderr) == (1, "Error: the group is at epoch 2: look at it again\n")
    assert json.loads(done(alice, "group", "add", group, "carol", "--if-epoch", "2", "--json"))["epoch"] == 3
    done(carol, "send", group, "thank you", *PHONE)
    done(alice, "group", "rename", "friends", "Best friends")
    done(alice, "group", "role", "friends", "bob", "admin")
    done(bob, "group", "remove", "friends", "carol", *PHONE)
    done(bob, "send", "friends", "hush", *PHONE)
    done(alice, "group", "leave", "friends", "--yes")

    assert listened(bob, 3) == ["alice in friends hi all", "carol in friends thank you", "alice in friends left"]
    history = [line[6:] for line in done(bob, "history", "friends", *PHONE).splitlines()]
    assert history == ["alice hi all", "carol thank you", "you hush  ✓", "alice left"]
    (mine,) = json.loads(done(bob, "group", "list", *PHONE, "--json"))
    assert mine == {"group": group, "epoch": 6, "role": "admin", "members": 1, "name": "Best friends"}
    name, member, code = done(bob, "group", "info", "friends", *PHONE).splitlines()
    assert "“Best friends”" in name
    assert member.split() == ["you", "admin", bob.client]
    assert code.split()[0] == "code"

    with carol.start("listen", *PHONE) as listening:
        listening.read_until("bob changed who is in it: .* went")
        assert listening.interrupt()[0] == 130
    for arguments, why in (
        (("send", "friends", "hello?", *PHONE), "this device is not in the conversation"),
        (("group", "info", "friends", *PHONE), "no such group"),
    ):
        refused = carol.run(*arguments)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert why in refused.stderr


def chatting(user: User, *arguments: str) -> AbstractContextManager[Screen]:
    return user.at_terminal("chat", "--plain", *arguments)


def test_a_group_at_two_terminals(people: tuple[User, User, User]) -> None:
    alice, bob, _ = people
    group = done(alice, "group", "create", "friends", "bob").strip()
    with chatting(alice, "friends", "--visible") as hers, chatting(bob, group) as his:
        hers.read_until("Ctrl-D leaves")
        hers.read_until("connected")
        his.read_until("connected")
        his.read_until("not encrypted")  # Bob had no device yet when the group was made; the next line is the prompt's
        his.type(CURSOR_AT_TOP)
        hers.type("Hello")
        his.read_until("alice is typing…")
        hers.type(" all\r")
        hers.read_until("you.* Hello all.*✓")
        his.read_until("alice.* Hello all")
        done(alice, "group", "rename", "friends", "Best friends")
        his.read_until("alice named it “Best friends”")
        his.type("/who\r")
        his.read_until("“Best friends”")
        his.read_until("alice.*admin")
        his.read_until("you")
        assert hers.leave("\x03" + CTRL_D) == 0
        assert his.leave("\x03" + CTRL_D) == 0


def test_only_who_wants_to_is_seen(people: tuple[User, User, User]) -> None:
    alice, bob, _ = people
    with chatting(alice, "bob", "--visible") as hers, chatting(bob, "alice") as his:
        his.read_until("connected")
        his.type(CURSOR_AT_TOP)
        his.read_until("online")
        hers.read_until("Ctrl-D leaves")
        hers.type("/who\r")
        line = hers.read_until(r"not verified\x1b")  # and nothing behind it
        assert f"bob is {bob.client}, " in line
        hers.type("Hello\r")
        his.read_until("alice.* Hello")
        assert hers.leave("\x03" + CTRL_D) == 0
        assert his.leave("\x03" + CTRL_D) == 0


def test_a_voice_message_and_a_circle_arrive_in_a_folder(people: tuple[User, User, User]) -> None:
    alice, bob, _ = people
    voice, circle = make_sound(alice.folder / "word.ogg", "libopus"), make_film(alice.folder / "round.mp4", 240, 240)
    with bob.start("listen", "--count", "2", "--save", "in", "--json") as listening:
        listening.read_until("connected")
        done(alice, "send", "bob", "--voice", "word.ogg", "for you")
        done(alice, "send", "bob", "--circle", "round.mp4")
        code, output = listening.finish()
    assert code == 0
    said, shown = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    assert (said["payload"]["kind"], len(said["payload"]["waveform"]), said["payload"]["caption"]) == (
        "voice",
        64,
        "for you",
    )
    assert (shown["payload"]["kind"], shown["payload"]["width"], shown["payload"]["height"]) == ("circle", 240, 240)
    assert (bob.folder / said["saved"]).read_bytes() == voice.read_bytes()
    assert (bob.folder / shown["saved"]).read_bytes() == circle.read_bytes()


def test_a_blocked_client_is_not_heard(people: tuple[User, User, User]) -> None:
    alice, bob, carol = people
    with bob.start("chat", "alice", "--device", "phone") as visit:
        assert visit.finish()[0] == 0
    done(bob, "block", "alice")
    assert done(bob, "blocks") == f"alice  {alice.client}\n"
    done(alice, "send", "bob", "hello?")
    done(carol, "send", "bob", "hi")
    done(bob, "unblock", "alice")
    assert json.loads(done(bob, "blocks", "--json")) == []
    assert listened(bob, 1) == ["carol hi"]
    # Their conversation began while she was blocked, and its beginning is gone: it begins anew when both are here.
    with bob.start("listen", *PHONE, "--count", "1") as listening:
        listening.read_until("connected")
        done(alice, "send", "bob", "hello!")
        listening.read_until("cannot be read yet")
        with alice.start("chat", "bob") as visit:
            assert "alice hello!" in listening.read_until("hello!")
            assert visit.finish()[0] == 0
