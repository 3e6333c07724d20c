"""The README is executed: what it tells people to type runs, in its order, against a real server, and prints what it
says. And whatever the documents point at is there.
"""

import html
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

import pytest
from attrs import define, field

from tests.system.conftest import IRONWIRE_SERVE, running_server
from tests.system.processes import Process, environment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

SECONDS = 30
"""The most that one command may take; a whole section takes a fraction of it."""

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEX = re.compile(r"[0-9a-f]+")


@define
class Reader:
    """Somebody who types what the README says, in one folder, with the server of the test instead of port 8080."""

    folder: Path
    port: int
    _variables: dict[str, str] = field(factory=dict)

    def knows(self, **variables: str) -> None:
        """Set shell variables that the README uses."""
        self._variables |= variables

    def run(self, block: str) -> str:
        """What the block prints on standard output; every command in it has to succeed."""
        done = subprocess.run(
            self._shell(block),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def start(self, block: str) -> Iterator[Process]:
        """The block, running. Standard error comes with standard output."""
        with subprocess.Popen(
            self._shell(block),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=self._environment(),
        ) as popen:
            watchdog = threading.Timer(SECONDS, popen.kill)
            watchdog.start()
            try:
                yield Process(popen)
            finally:
                watchdog.cancel()
                popen.kill()

    def _shell(self, block: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", block.replace("localhost:8080", f"localhost:{self.port}")]

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        server = f"http://localhost:{self.port}"
        return environment(self.folder, PATH=path, IRONWIRE_SERVER=server, **self._variables)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    server_folder, reader_folder = tmp_path / "server", tmp_path / "reader"
    server_folder.mkdir()
    reader_folder.mkdir()
    with running_server(IRONWIRE_SERVE, server_folder) as server:
        yield Reader(reader_folder, server.port)


def test_two_minutes(reader: Reader) -> None:
    keys, alice_chats, bob_chats, scripts, files = blocks("Two minutes", "sh")
    alice, bob, *named = reader.run(keys).splitlines()
    assert re.fullmatch("[0-9a-f]{64}", alice)
    assert re.fullmatch("[0-9a-f]{64}", bob)
    assert named == [f"bob is {bob}.", f"alice is {alice}."]

    with reader.start(alice_chats) as a, reader.start(bob_chats) as b:
        a.read_until(f"you are {alice}")
        b.read_until(f"you are {bob}")
        for chat in (a, b):
            chat.read_until("connected")
        a.enter("Hello, Bob")
        b.read_until("alice Hello, Bob$")
        b.enter("Hello, Alice")
        a.read_until("bob Hello, Alice$")
        a.enter("/help")
        a.read_until("/file PATH")
        for chat in (a, b):
            code, _ = chat.finish()
            assert code == 0

    heard = json.loads(reader.run(scripts))
    assert heard["type"] == "text"
    said = {"from": alice, "text": "Hello, Bob"}
    assert heard["payload"] == said | {name: heard["payload"][name] for name in ("ts", "device")}
    assert heard["encrypted"] is True

    (shown,) = blocks("Two minutes", "json")
    promised, uploaded = json.loads(shown), json.loads(reader.run(files))
    content = (reader.folder / "test.txt").read_bytes()
    own = {"url": uploaded["url"], "sha256": sha256(content).hexdigest(), "expires": uploaded["expires"]}
    assert uploaded == promised | own
    assert uploaded["sha256"].startswith(promised["sha256"].removesuffix("…"))
    assert re.sub(_HEX, "", uploaded["url"]) == re.sub(_HEX, "", promised["url"])


def test_groups(reader: Reader) -> None:
    """After the two minutes, in the same folder."""
    keys, _, _, scripts, _ = blocks("Two minutes", "sh")
    reader.run(keys)
    reader.run(scripts)
    (script,) = blocks("Groups, voice messages, and who is seen", "sh")
    group, renamed, *told = reader.run(script).splitlines()
    assert re.fullmatch("#[0-9a-f]{32}", group)
    assert renamed.startswith("friends is called “Old friends”")
    heard, its_name, *members, code = told
    assert heard.endswith("Hello, all")
    assert its_name.startswith(f"“Old friends”  {group}")
    assert [line.split()[:2] for line in members] == [["you", "admin"], ["bob", "member"]]
    assert re.fullmatch(r"\s+code( +\d{5}){6}", code), "the group is encrypted"


def test_another_computer_and_the_way_back_in(reader: Reader) -> None:
    """After the keys of the two minutes, while Bob's conversation is open."""
    keys, _, bob_chats, _, _ = blocks("Two minutes", "sh")
    link, accept, the_rest = blocks("Encryption, another computer, and the way back in", "sh")
    alice, *_ = reader.run(keys).splitlines()
    with reader.start(bob_chats) as bob:
        bob.read_until("connected")
        with reader.start(link) as waiting:
            reader.knows(TEXT=waiting.read_until(r"iwlink:1:\S+").split()[-1])
            reader.run(accept.replace("accept", "accept --yes"))  # nobody compares
            code, _ = waiting.finish()
            assert code == 0
        told = reader.run(the_rest).splitlines()
        bob.read_until("alice Both of my devices show this$")
    assert "Both of my devices show this" in told[0]
    assert any(alice in line for line in told), "it was restored"
    assert not any(line.startswith("tablet") for line in told[-3:])
    assert re.fullmatch(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){8}\n", (reader.folder / "code.txt").read_text())


def test_by_hand(reader: Reader) -> None:
    make_key, sign = blocks("By hand, with openssl and any WebSocket client", "sh")
    say_who, prove_and_talk = blocks("By hand, with openssl and any WebSocket client", "json")
    verify, text = prove_and_talk.splitlines()
    client = reader.run(make_key)
    assert re.fullmatch("[0-9a-f]{64}", client)

    (connect,) = re.findall(r"`(websockets ws://\S+)`", README)
    with reader.start(connect) as socket:
        socket.enter(say_who.strip().replace("<client id>", client))
        challenge = frame(socket)
        assert challenge.keys() == {"type", "challenge"}
        reader.knows(CHALLENGE=str(challenge["challenge"]))
        socket.enter(verify.replace("<128 hex digits>", reader.run(sign)))
        assert frame(socket) == {"type": "auth_ok"}
        socket.enter(text.replace("<client id>", client))
        assert frame(socket) == {"type": "text", "payload": {"from": client, "text": "Hello"}}
        code, output = socket.finish()
        assert code == 0
        assert "1000" in output


def test_the_page_of_the_server(reader: Reader) -> None:
    """Every command that it shows, as it stands there."""
    with urllib.request.urlopen(f"http://localhost:{reader.port}/", timeout=SECONDS) as response:
        page = response.read().decode()
    _, shown, upload = map(html.unescape, re.findall("<pre><code>(.*?)</code></pre>", page, re.DOTALL))
    keygen, chat = shown.splitlines()
    reader.knows(IRONWIRE_PASSPHRASE="correct horse")
    client = reader.run(keygen).strip()
    with reader.start(chat) as conversation:
        conversation.read_until(f"you are {client}")
        conversation.enter("Hello, myself")
        conversation.read_until("Hello, myself")
        code, _ = conversation.finish()
        assert code == 0
    (reader.folder / "photo.jpg").write_bytes(b"a photo")
    assert json.loads(reader.run(upload))["size"] == len(b"a photo")


def test_keys_that_are_made_in_a_clone_stay_out_of_git() -> None:
    (keys, *_) = blocks("Two minutes", "sh")
    made = re.findall(r"\S+\.key\b", keys)
    assert made
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for name in (*made, "priv.pem"):
        assert any(fnmatch(name, pattern) for pattern in ignored)


def test_the_checks_of_the_readme_are_those_of_a_fresh_machine() -> None:
    _, test = blocks("Two commands", "sh")
    assert f"{{ {test.strip()}; }}" in (ROOT / ".ci/run").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_links_to_is_there(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(document))
    missing = [link for link in links if ":" not in link and not (document.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(document: Path) -> None:
    """Files by their path from the root or from `ironwire/`, tests and functions as `path.py::name`."""
    named = re.findall(r"`([\w.-]+/[\w./-]*\.[a-z]\w*|[\w-]+\.(?:py|sql))(?:::(\w+))?`", prose(document))
    missing = [f"{path}::{name}" for path, name in named if not is_there(path, name)]
    assert missing == []


def blocks(heading: str, language: str) -> list[str]:
    """The fenced blocks of a language between a heading of the README and the next, in order."""
    section = re.split(rf"^#+ {re.escape(heading)}$", README, maxsplit=1, flags=re.MULTILINE)[1]
    body = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    return [text for found, text in _BLOCK.findall(body) if found == language]


def frame(socket: Process) -> dict[str, object]:
    """The next frame that the command `websockets` shows."""
    shown: dict[str, object] = json.loads(socket.read_until(r"< \{").partition("< ")[2])
    return shown


def prose(document: Path) -> str:
    return _BLOCK.sub("", document.read_text(encoding="utf-8"))


def is_there(path: str, name: str) -> bool:
    file = next((base / path for base in (ROOT, ROOT / "ironwire") if (base / path).exists()), None)
    if file is None:
        return False
    return not name or re.search(rf"^\s*(?:async )?(?:def|class) {name}\b", file.read_text(), re.MULTILINE) is not None
