"""Nobody between two people reads what they say: a whole run of the command line, of which every byte is written down.

Two people with three devices, a group of five, files, a voice message and a call. Afterwards nothing of what was said
is found in the bytes that passed the server, in its data folder, or in its log. That the search would find it is shown
by two clients of the seed protocol, which encrypt nothing.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import trio
from attrs import define, field

from ironwire.cli.addressbook import AddressBook
from ironwire.client import DeviceId, Identity, connect
from tests.calls.conftest import ON_THE_LOOPBACK
from tests.client.test_media import make_sound
from tests.system.conftest import IRONWIRE_SERVE, Server, running_server
from tests.system.processes import Process, running
from tests.system.tap import Tap, frames, open_tap
from tests.system.test_cli import User, make_user
from tests.system.test_devices import link
from tests.system.test_history_transfer import wait_for

SEED, OTHER_SEED = Identity.from_seed(b"s" * 32), Identity.from_seed(b"t" * 32)
IN_THE_CLEAR = "what anybody may read: marmalade"
PEOPLE = ("alice", "bob", "carol", "dave", "erin")
CALL_WORDS = ("a=fingerprint", "a=ice-ufrag", "a=ice-pwd", "a=candidate")
_INBOX = "in"


@define(eq=False)
class Scene:
    """A server behind a tap, and people who know each other by names that are theirs alone."""

    tap: Tap
    folder: Path
    server: Server
    users: dict[str, User]
    listening: dict[str, Process] = field(factory=dict)

    def listen(self, stack: ExitStack, *names: str) -> None:
        """Let these people hear, and save every file."""
        for name in names:
            process = stack.enter_context(self.users[name].start("listen", "--json", "--save", _INBOX))
            process.read_until("connected")
            self.listening[name] = process

    def says(self, name: str, *arguments: str) -> None:
        done = self.users[name].run(*arguments)
        assert done.returncode == 0, done.stderr

    def hears(self, name: str, words: str) -> dict[str, object]:
        """The next message with these words in it that comes to this person, as JSON."""
        line = self.listening[name].read_until(re.escape(words))
        return dict(json.loads(line))

    def saved(self, name: str, got: dict[str, object]) -> bytes:
        """The file of such a message, as this person has it now."""
        return (self.users[name].folder / str(got["saved"])).read_bytes()

    def known_between(self) -> bytes:
        """Everything that passed the server, that it keeps, and that it has written in its log."""
        kept = [path.read_bytes() for path in (self.folder / "server").rglob("*") if path.is_file()]
        assert len(kept) > 2, "the database was not looked at"
        return b"\n".join([self.tap.heard(), *kept])


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with open_tap() as tap:
        (tmp_path / "server").mkdir()
        variables = {"IRONWIRE_AUTH_ORIGINS": tap.url, "IRONWIRE_LOG_LEVEL": "debug"}
        command = [*IRONWIRE_SERVE, "--data", str(tmp_path / "server" / "data")]
        with running_server(command, tmp_path / "server", variables) as server:
            tap.lead_to(server.port)
            users = {name: make_user(tmp_path / name, tap.url) for name in PEOPLE}
            for name, user in users.items():
                book = AddressBook.beside(user.folder / "key")
                for other in PEOPLE:
                    if other != name:
                        book.add(other, users[other].client)
            yield Scene(tap, tmp_path, server, users)


def test_of_a_whole_run_nothing_is_found_between_the_people(scene: Scene) -> None:
    alice = scene.users["alice"]
    said: list[str] = []

    def secret(words: str) -> str:
        said.append(words)
        return words

    report = alice.folder / secret("quarterly-figures-zanzibar.txt")
    report.write_text(secret("the figures are worse than anybody thinks\n") * 3_000)
    make_sound(alice.folder / secret("note-to-self-quagga.ogg"), "libopus", seconds=1, loudness=0.5)
    with ExitStack() as stack:
        scene.listen(stack, "bob", "carol", "dave", "erin")
        # A pair; and the third device, which one of its own lets in.
        name = secret("professor-quillfeather")
        AddressBook.beside(alice.folder / "key").add(name, scene.users["bob"].client)
        scene.says("alice", "send", name, secret("meet me at the old observatory"))
        assert scene.hears("bob", said[-1])["encrypted"] is True
        scene.says("bob", "send", "alice", secret("bring the heliograph with you"))
        scene.listen(stack, "alice")
        assert scene.hears("alice", said[-1])["encrypted"] is True
        scene.users["tablet"] = link(alice, "tablet")
        scene.listen(stack, "tablet")
        scene.listening["bob"].read_until("devices of alice changed")
        scene.says("bob", "send", "alice", secret("do all three of us hear this cormorant"))
        for listener in ("alice", "tablet"):
            assert scene.hears(listener, said[-1])["encrypted"] is True
        scene.says("tablet", "send", scene.users["bob"].client, secret("said on the linked tablet, ptarmigan"))
        for listener in ("bob", "alice"):
            assert scene.hears(listener, said[-1])["encrypted"] is True
        # What was said before goes to the new device, and so does a name that was given on another.
        scene.says("alice", "device", "history", "tablet", "--all", "--yes")
        scene.listening["tablet"].read_until("history from another device: .*complete")
        assert (
            "meet me at the old observatory" in scene.users["tablet"].run("history", "--search", "observatory").stdout
        )
        wait_for(lambda: name in AddressBook.beside(scene.users["tablet"].folder / "key").all())
        # A file and a voice message.
        scene.says("alice", "send", "bob", "--file", str(report), secret("read this tonight, axolotl"))
        got = scene.hears("bob", said[-1])
        assert scene.saved("bob", got) == report.read_bytes()
        voice = alice.folder / "note-to-self-quagga.ogg"
        scene.says("alice", "send", "bob", "--voice", str(voice))
        got = scene.hears("bob", voice.name)
        assert scene.saved("bob", got) == voice.read_bytes()
        # A group of five.
        group = found_group(scene, secret("Expedition Okapi"))
        scene.says("alice", "send", group, secret("we leave at dawn, says the narwhal"))
        for name in ("bob", "carol", "dave", "erin", "tablet"):
            assert scene.hears(name, said[-1])["encrypted"] is True
        scene.says("carol", "send", group, secret("and I bring the wallaby"))
        for name in ("alice", "bob", "dave", "erin", "tablet"):
            assert scene.hears(name, said[-1])["encrypted"] is True
        scene.says("dave", "send", group, "--file", str(report))
        got = scene.hears("erin", report.name)
        assert scene.saved("erin", got) == report.read_bytes()
    search = scene.known_between()
    assert [word for word in said if word.encode() in search] == []
    assert nothing_of_files(search, (report, voice))
    trio.run(say_in_the_clear, scene.tap.url, scene.folder)
    assert IN_THE_CLEAR.encode() in scene.known_between(), "the search finds what is there"
    assert scene.tap.sockets >= 8


def found_group(scene: Scene, name: str) -> str:
    """A group of all five, made by Alice once each of the others has heard of her."""
    for other in ("carol", "dave", "erin"):
        scene.says("alice", "send", other, "hello")
        scene.hears(other, "hello")
    made = scene.users["alice"].run("group", "create", name, *PEOPLE[1:])
    assert made.returncode == 0, made.stderr
    return made.stdout.split()[-1]


def nothing_of_files(search: bytes, files: tuple[Path, ...]) -> bool:
    """Whether no piece of their content stands there as it is."""
    return all(file.read_bytes()[at : at + 24] not in search for file in files for at in (0, 64))


async def say_in_the_clear(url: str, folder: Path) -> None:
    """Two devices without keys, as those of the seed protocol: one says something, and it waits for the other."""
    phone = DeviceId("phone")
    async with connect(url, OTHER_SEED, device=phone, store=folder / "other.db"):
        pass
    async with connect(url, SEED, device=phone, store=folder / "seed.db") as seed:
        await seed.send_text(OTHER_SEED.client_id, IN_THE_CLEAR)


@pytest.mark.skipif(find_spec("aiortc") is None, reason="aiortc is not installed")
def test_of_a_call_nothing_is_found_between_the_people(scene: Scene) -> None:
    """The descriptions of a call say where its ends are, and which certificates they have."""
    with scene.users["bob"].start("listen") as listening:
        listening.read_until("connected")
        scene.says("alice", "send", "bob", "may I call you?")
        listening.read_until("may I call you")
        listening.interrupt()
    with calling(scene.users["bob"], "alice", "--answer", "--seconds", "20") as answering:
        answering.read_until("waiting for a call")
        with calling(scene.users["alice"], "bob", "--seconds", "1") as call:
            code, output = call.finish()
        assert code == 0, output
    search = scene.known_between()
    assert b"call_offer" in search
    assert [word for word in CALL_WORDS if word.encode() in search] == []


@contextmanager
def calling(user: User, *arguments: str) -> Iterator[Process]:
    command = [sys.executable, "-c", ON_THE_LOOPBACK, "call", *arguments]
    with running(command, user.folder, user.environment()) as process:
        yield process


def test_those_who_cannot_encrypt_are_shown_as_not_encrypted(scene: Scene) -> None:
    async def write(words: str, to: str) -> None:
        async with connect(scene.tap.url, SEED) as seed:
            await seed.send_text(to, words)  # type: ignore[arg-type]  # a client id

    bob = scene.users["bob"]
    with bob.start("listen") as listening:
        listening.read_until("connected")
        trio.run(write, "from an older program", bob.client)
        listening.read_until("not encrypted: the server can read")
        listening.read_until("from an older program")
        listening.interrupt()
    with bob.start("chat", SEED.client_id) as chat:
        chat.read_until("not encrypted: the server can read")
    with bob.start("listen", "--json") as listening:
        listening.read_until("connected")
        trio.run(write, "once more", bob.client)
        assert json.loads(listening.read_until("once more"))["encrypted"] is False


def test_a_tap_reads_what_clients_mask() -> None:
    masked = bytes([0x81, 0x85, 1, 2, 3, 4]) + bytes(
        byte ^ key for byte, key in zip(b"hello", b"\1\2\3\4\1", strict=True)
    )
    assert [*frames(masked + b"\x81\x02hi" + b"\x81\x7e\x00\x03ab")] == [b"hello", b"hi", b"ab"]
    with pytest.raises(AssertionError, match="compressed"):
        [*frames(b"\xc1\x02hi")]
