"""The command line as its users meet it: real processes, a real server on a loopback port, every step bounded."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
import trustme
from attrs import define

from ironwire.cli.addressbook import AddressBook
from ironwire.client import create_identity, load_identity
from ironwire.ids import ClientId
from tests.system.processes import (
    IRONWIRE,
    SECONDS,
    SERVER_SECONDS,
    Process,
    Screen,
    background,
    environment,
    ironwire,
    terminal,
)

PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")
"""What stands before the seed in a private key of RFC 8410."""

CTRL_D = "\x04"


@define
class User:
    """Somebody with a folder, an identity and contacts."""

    folder: Path
    server: str
    client: ClientId

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return ironwire(arguments, self.folder, self.environment(**changes))

    def pipe(self, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command with `text` on its standard input."""
        return ironwire(arguments, self.folder, self.environment(), text)

    @contextmanager
    def at_terminal(self, *arguments: str) -> Iterator[Screen]:
        with terminal(arguments, self.folder, self.environment()) as screen:
            yield screen

    @contextmanager
    def start(self, *arguments: str, **changes: str) -> Iterator[Process]:
        """Standard error comes with standard output."""
        with background(arguments, self.folder, self.environment(**changes)) as process:
            yield process

    def environment(self, **changes: str) -> dict[str, str]:
        key = str(self.folder / "key")
        return environment(self.folder, **{"IRONWIRE_KEY": key, "IRONWIRE_SERVER": self.server, **changes})


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[Process, str]]:
    arguments = ("serve", "--host", "127.0.0.1", "--port", "0", "--data", str(folder / "data"), *options)
    with background(arguments, folder, environment(folder), SERVER_SECONDS) as process:
        banner = process.read_until("listens on")
        yield process, banner.split()[-1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server")) as (_, url):
        yield url


@pytest.fixture
def alice(tmp_path: Path, server: str) -> User:
    return make_user(tmp_path / "alice", server)


@pytest.fixture
def bob(tmp_path: Path, server: str, alice: User) -> User:
    bob = make_user(tmp_path / "bob", server)
    AddressBook.beside(alice.folder / "key").add("bob", bob.client)
    AddressBook.beside(bob.folder / "key").add("alice", alice.client)
    return bob


def make_user(folder: Path, server: str) -> User:
    identity = create_identity(folder / "key")
    return User(folder, server, identity.client_id)


def test_a_text_goes_from_send_to_listen(alice: User, bob: User) -> None:
    with bob.start("listen", "--count", "2") as listening:
        listening.read_until("connected")
        assert alice.run("send", "bob", "Grüße\x1b[2J").returncode == 0
        assert alice.run("send", "bob", "two\nlines").returncode == 0
        code, output = listening.finish()
    assert code == 0
    shown = [line[6:] for line in output.splitlines()]
    assert shown == ["encrypted from now on, by alice", "alice Grüße␛[2J", "alice two", "      lines"]


def test_what_comes_while_a_device_is_away_waits_for_it(alice: User, bob: User) -> None:
    # Once there, always there.
    with bob.start("chat", "alice", "--device", "phone") as visit:
        assert visit.finish()[0] == 0
    for word in ("one", "two", "three"):
        assert alice.run("send", "bob", word, "--device", "desk").returncode == 0
    (device,) = json.loads(bob.run("device", "list", "--json").stdout)
    assert (device["device"], device["role"], device["here"]) == ("phone", "owner", True)
    assert device["waiting"] >= 3, "and how the conversation began, and that the device was added"
    assert "phone" in bob.run("device", "list").stdout

    first = bob.run("listen", "--device", "phone", "--count", "2")
    assert [line[6:] for line in first.stdout.splitlines()] == ["alice one", "alice two"]
    third = json.loads(bob.run("listen", "--device", "phone", "--count", "1", "--json").stdout)
    assert (third["payload"]["text"], third["payload"]["device"]) == ("three", "desk")

    theirs = bob.run("history", "alice", "--device", "phone").stdout
    assert [line[6:] for line in theirs.splitlines()] == ["alice one", "alice two", "alice three"]
    ours = alice.run("history", "bob", "--device", "desk", "--limit", "1").stdout
    assert ours[6:] == "you three  ✓\n"

    here = bob.run("device", "revoke", "phone", "--yes")
    assert (here.returncode, here.stdout) == (2, "")
    assert "phone is this computer" in here.stderr
    gone = bob.run("device", "revoke", "tablet", "--yes")
    assert (gone.returncode, gone.stdout) == (2, "")


def test_one_program_at_a_time_is_a_device(alice: User) -> None:
    with alice.start("listen", "--device", "phone") as listening:
        listening.read_until("connected")
        other = alice.run("listen", "--device", "phone")
    assert other.returncode == 2
    assert "in use by another program" in other.stderr


def test_a_sent_message_has_the_id_that_its_sender_is_told(alice: User, bob: User) -> None:
    with bob.start("listen", "--json", "--count", "1", "--device", "phone") as listening:
        listening.read_until("connected")
        sent = json.loads(alice.run("send", "bob", "hello", "--json").stdout)
        _, output = listening.finish()
    assert sent["duplicate"] is False
    assert sent["id"] == json.loads(output.splitlines()[-1])["id"]


def test_a_recipient_who_is_offline(alice: User, bob: User) -> None:
    refused = alice.run("send", "bob", "anybody?")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "Error: the recipient is offline\n"


def test_an_identity_that_the_server_refuses(tmp_path: Path, alice: User) -> None:
    with serving(tmp_path, "--auth-origins", "https://chat.example") as (_, url):
        refused = alice.run("listen", "--server", url)
        kept = alice.run("send", alice.client, "hello", "--server", url)
    assert (refused.returncode, kept.returncode) == (4, 4)
    assert refused.stderr.startswith("Error: the server refused the identity")
    assert len(refused.stderr.splitlines()) == 1
    assert kept.stderr.splitlines()[0].strip() == "1 message waits on this device, to be sent with its next connection"
    assert kept.stderr.splitlines()[1:] == refused.stderr.splitlines()


def test_something_else_answers(alice: User) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other_port = other.getsockname()[1]
        thread = threading.Thread(target=_answer_nonsense, args=(other,))
        thread.start()
        refused = alice.run("listen", "--server", f"http://127.0.0.1:{other_port}")
        thread.join(SECONDS)
    assert refused.returncode == 3
    assert "Traceback" not in refused.stderr


def _answer_nonsense(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"220 mail.example ESMTP\r\n")


def test_a_file_comes_back_as_it_was(alice: User) -> None:
    content = os.urandom(300_000)
    (alice.folder / "photo.png").write_bytes(content)
    url = alice.run("upload", "photo.png").stdout.strip()
    digest = sha256(content).hexdigest()
    fetched = alice.run("download", url, "copy.png", "--sha256", digest.upper(), "--json")
    assert json.loads(fetched.stdout) == {"path": "copy.png", "size": 300_000, "sha256": digest}
    assert (alice.folder / "copy.png").read_bytes() == content

    again = alice.run("download", url, "copy.png")
    assert again.returncode == 5
    assert "exists already" in again.stderr

    other = alice.run("download", url, "other.png", "--sha256", "00" * 32)
    assert other.returncode == 5
    assert not (alice.folder / "other.png").exists()

    absent = alice.run("download", "/media/00000000-0000-4000-8000-000000000000.bin")
    assert absent.returncode == 1
    assert "404" in absent.stderr


def test_pipes_are_files_too(alice: User, bob: User) -> None:
    for source in ("-", "/dev/stdin"):
        url = alice.pipe("hi\n", "upload", source).stdout.strip()
        assert urllib.request.urlopen(url, timeout=SECONDS).read() == b"hi\n", "it can be opened as it stands"
    shell = subprocess.run(
        ["bash", "-c", '"$@" download "$("$@" upload <(echo hi))" - | cat', "bash", *IRONWIRE],
        cwd=alice.folder,
        env=alice.environment(),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert shell.stdout == b"hi\n"
    empty = alice.run("upload", "-")
    assert (empty.returncode, empty.stdout) == (5, "")
    assert "standard input is empty" in empty.stderr
    with bob.start("listen", "--json", "--count", "1") as listening:
        listening.read_until("connected")
        assert alice.pipe("hello\n", "send", "bob", "--file", "-", "caption").returncode == 0
        _, output = listening.finish()
    got = json.loads(output.splitlines()[-1])
    payload = got["payload"]
    assert (payload["size"], payload["caption"], payload.get("name")) == (6, "caption", None)


def test_a_sent_file_arrives_with_all_that_is_known_of_it(alice: User, bob: User) -> None:
    (alice.folder / "cat.png").write_bytes(b"meow")
    with bob.start("listen", "--json", "--count", "1") as listening:
        listening.read_until("connected")
        assert alice.run("send", "bob", "my cat", "--file", "cat.png").returncode == 0
        code, output = listening.finish()
    assert code == 0
    got = json.loads(output.splitlines()[-1])
    payload = got["payload"]
    del payload["url"], payload["ts"], payload["device"]
    assert got["encrypted"] is True
    assert payload == {
        "from": alice.client,
        "kind": "image",
        "name": "cat.png",
        "mime": "image/png",
        "size": 4,
        "caption": "my cat",
    }
    fetched = bob.run("download", got["link"])
    assert (bob.folder / fetched.stdout.strip()).read_bytes() == b"meow"


def test_two_scripts_converse(alice: User, bob: User) -> None:
    (alice.folder / "notes.txt").write_text("what we said")
    with bob.start("chat", "alice") as answering:
        answering.read_until("connected")
        with alice.start("chat", "bob") as asking:
            asking.enter("Are you there?")
            answering.read_until("alice Are you there")
            answering.enter("Here I am.")
            assert asking.read_until("bob Here I am.")
            asking.enter("/file notes.txt")
            url = answering.read_until("/save").split()[-1]
            answering.enter(f"/save {url} copy.txt")
            answering.read_until(f"saved as {bob.folder / 'copy.txt'}")
            asking.enter("/quit")
            asking.finish()
        code, _ = answering.finish()
    assert code == 0
    assert (bob.folder / "copy.txt").read_text() == "what we said"


def test_a_script_learns_that_nothing_arrived(alice: User, bob: User) -> None:
    with alice.start("chat", "bob") as asking:
        asking.enter("Are you there?")
        code, output = asking.finish()
    assert code == 1
    assert "you Are you there?  ✗ not delivered: the recipient is offline" in output


def test_a_person_converses_at_a_terminal(tmp_path: Path, alice: User, bob: User) -> None:
    carol = make_user(tmp_path / "carol", alice.server)
    AddressBook.beside(alice.folder / "key").add("carol", carol.client)
    with bob.start("chat", "alice") as answering, alice.at_terminal("chat", "--plain", "bob") as screen:
        answering.read_until("connected")
        screen.read_until("Ctrl-D leaves")
        screen.type("Hello\r")
        screen.read_until("you.* Hello.*✓")
        answering.enter("Good morning\x1b]0;owned\x07")
        screen.read_until("Good morning␛]0;owned␇")
        screen.type("half a line")
        answering.enter("one more")
        screen.read_until("one more")
        assert carol.run("send", alice.client, "psst").returncode == 0
        screen.read_until("elsewhere, carol: psst")
        screen.read_until("half a line")  # the prompt is back, and takes Ctrl-C as a key
        screen.type("\x03/to carol\r")
        screen.read_until("carol.* psst")
        assert screen.leave("\x03" + CTRL_D) == 0


def test_a_passphrase_is_asked_for_twice_at_a_terminal(alice: User) -> None:
    with alice.at_terminal("keygen", "sealed") as screen:
        screen.read_until("Passphrase.*:")
        screen.type("correct horse\n")
        screen.read_until("Repeat.*:")
        screen.type("correct horse\n")
        assert screen.wait() == 0
    identity = load_identity(alice.folder / "sealed", "correct horse")
    assert alice.run("id", "sealed", IRONWIRE_PASSPHRASE="correct horse").stdout.strip() == identity.client_id


def test_ctrl_c_is_quiet(alice: User) -> None:
    with alice.start("listen") as listening:
        listening.read_until("connected")
        assert listening.interrupt() == (130, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_stops_tells_its_sessions(tmp_path: Path, alice: User, number: signal.Signals) -> None:
    with serving(tmp_path) as (process, url), alice.start("listen", "--server", url) as listening:
        listening.read_until("connected")
        process.popen.send_signal(number)
        listening.read_until("the server restarts")
        code, output = process.finish()
    assert code == 0
    assert output.splitlines()[-1] == "Stopped."
    assert "Traceback" not in output


def test_a_server_that_others_can_reach_warns(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0") as (process, _):
        assert "without TLS" in process.read_until("warning")


def test_a_service_leaves_nothing_in_the_log_but_json(tmp_path: Path) -> None:
    command = (*IRONWIRE, "serve", "--port", "0", "--data", str(tmp_path / "data"))
    with (tmp_path / "log").open("w") as log:
        popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(tmp_path))
    with popen:
        assert popen.stdout is not None
        url = popen.stdout.readline().split()[-1]
        urllib.request.urlopen(f"{url}/readyz", timeout=SECONDS).close()  # now it minds signals
        popen.terminate()
        words, _ = popen.communicate(timeout=SECONDS)
    assert popen.returncode == 0
    assert "Ctrl-C" not in words, "nobody is at a keyboard"
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert "without TLS" in lines[0]["event"]


def test_a_server_with_a_certificate_is_reached_over_tls(tmp_path: Path, alice: User, bob: User) -> None:
    authority, certificate = trustme.CA(), tmp_path / "certificate.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    with serving(tmp_path, "--certfile", str(certificate), "--keyfile", str(certificate)) as (_, url):
        assert url.startswith("https://127.0.0.1:")
        trusting = {"IRONWIRE_SERVER": url, "SSL_CERT_FILE": str(tmp_path / "authority.pem")}
        assert alice.run("send", bob.client, "hello", **trusting).returncode == 1
        (alice.folder / "file").write_bytes(b"content")
        assert alice.run("upload", "file", **trusting).returncode == 0
        for command, code in ((("listen",), 3), (("send", bob.client, "hello"), 0)):
            distrusting = alice.run(*command, "--server", url)
            plain = alice.run(*command, "--server", url.replace("https", "http"))
            assert (distrusting.returncode, plain.returncode) == (code, code)
            assert "certificate" in distrusting.stderr
            assert "SSL_CERT_FILE" in distrusting.stderr
            assert "http://" not in distrusting.stderr
            assert "try https://" in plain.stderr
            assert ("waits on this device" in plain.stderr) == (code == 0), "what is sent is kept"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_makes_the_same_signature(alice: User) -> None:
    seed = load_identity(alice.folder / "key").seed
    (alice.folder / "key.der").write_bytes(PKCS8_ED25519 + seed)
    (alice.folder / "challenge").write_bytes(bytes(range(32)))
    command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", "key.der", "-keyform", "DER", "-in", "challenge"]
    theirs = subprocess.run(command, cwd=alice.folder, capture_output=True, timeout=SECONDS, check=True)
    assert alice.run("sign", bytes(range(32)).hex()).stdout.strip() == theirs.stdout.hex()
