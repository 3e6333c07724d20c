"""Whatever the shell makes of the streams and of the locale, every command ends with an exit code and words."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import pytest
from attrs import define

from ironwire.cli import cli
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.exits import ExitCode
from ironwire.client import create_identity
from tests.system.processes import IRONWIRE, OWN, SECONDS, environment, ironwire_on
from tests.system.test_cli import serving

CHALLENGE = "0123456789abcdef" * 4
BOB = "b0" * 32
BLOB = "/media/00000000-0000-4000-8000-000000000000.bin"
LINK = f"iwlink:1:https://chat.example:{'A' * 22}:{'A' * 43}:{'A' * 43}:{'A' * 22}"

COMMANDS: dict[str, tuple[str, ...]] = {
    "serve": ("--data", "file"),
    "config example": (),
    "config check": (),
    "config show": (),
    "doctor": (),
    "admin clients": (),
    "admin devices": (),
    "admin mailboxes": (),
    "admin groups": (),
    "admin blobs": (),
    "admin ban": (BOB,),
    "admin unban": (BOB,),
    "admin expire": (),
    "admin clock": (),
    "admin invite": (),
    "admin erase": (BOB, "--yes"),
    "top": ("--once", "--every", "0.1"),
    "backup": ("copy",),
    "restore": ("copy",),
    "migrate": (),
    "send": ("me", "…", "--device", "phone", "--json"),
    "listen": ("--count", "1", "--device", "phone"),
    "history": ("me", "--device", "phone"),
    "export": ("out",),
    "call": ("me", "--seconds", "1", "--wait", "1"),
    "upload": ("file",),
    "download": (BLOB,),
    "group create": ("friends", "bob"),
    "group add": ("friends", "bob"),
    "group remove": ("friends", "bob"),
    "group leave": ("friends", "--yes"),
    "group list": (),
    "group info": ("friends",),
    "group role": ("friends", "bob", "admin"),
    "group rename": ("friends", "…"),
    "contacts add": ("陳", BOB),
    "contacts list": (),
    "contacts remove": ("陳",),
    "verify": ("bob",),
    "block": ("bob",),
    "unblock": ("bob",),
    "blocks": (),
    "device list": (),
    "device name": ("tablet", "sofa"),
    "device history": ("tablet", "--yes"),
    "device revoke": ("tablet", "--yes"),
    "device accept": (LINK, "--yes"),
    "device link": ("--no-passphrase",),
    "recovery create": ("--yes",),
    "recovery update": (),
    "recovery check": (),
    "recovery status": (),
    "recovery restore": ("--yes",),
    "join": ("invite",),
    "keygen": ("--no-passphrase", "new"),
    "id": (),
    "sign": (CHALLENGE,),
    "help": ("keys",),
    "completion": ("bash",),
}
"""Every command that ends by itself, with arguments that are in order. A conversation is tried elsewhere."""


@define(eq=False)
class House:
    """A server, and a user with a folder on its machine."""

    folder: Path
    env: dict[str, str]

    def run(
        self, command: str, *more: bytes | str, env: dict[str, str] | None = None, **streams: str
    ) -> subprocess.CompletedProcess[str]:
        data = command.startswith(("admin", "backup", "restore", "migrate", "top"))
        options = ("--data", "data") if data else ()
        (self.folder / "new").unlink(missing_ok=True)
        arguments = (*command.split(), *COMMANDS[command], *options, *more)
        ended = self.run_with(arguments, env, **streams)
        assert "Traceback" not in ended.stderr, ended.stderr
        assert ended.returncode in {*ExitCode}, ended
        return ended

    def run_with(
        self, arguments: Sequence[bytes | str], env: dict[str, str] | None = None, **streams: str
    ) -> subprocess.CompletedProcess[str]:
        """Streams are `closed`, `full`, `broken` (a pipe that nobody reads), or a file to read; else their own."""
        with ExitStack() as opened:
            usual: dict[str, str | int] = {"stdin": os.devnull, "stdout": OWN, "stderr": OWN}
            given = [self._opened(streams.get(name, usual[name]), opened) for name in usual]
            return ironwire_on(given, arguments, self.folder, self.env | (env or {}))

    def _opened(self, stream: str | int, opened: ExitStack) -> int | None:
        match stream:
            case int():
                return stream
            case "closed":
                return None
            case "full":
                descriptor = os.open("/dev/full", os.O_WRONLY)
            case "broken":
                reading, descriptor = os.pipe()
                os.close(reading)
            case name:
                descriptor = os.open(self.folder / name, os.O_RDONLY)
        opened.callback(os.close, descriptor)
        return descriptor


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    identity = create_identity(folder / "key")
    book = AddressBook.beside(folder / "key")
    book.add("me", identity.client_id)
    book.add("bob", BOB)  # type: ignore[arg-type]  # it is one
    (folder / "file").write_bytes(b"content")
    with serving(folder) as (_, url):
        env = environment(folder, IRONWIRE_KEY=str(folder / "key"), IRONWIRE_SERVER=url, NO_COLOR="1")
        house = House(folder, env)
        for command in ("send", "group create"):
            house.run(command)
        yield house


def test_the_table_has_every_command() -> None:
    assert set(_leaves("", cli)) - {"chat"} == set(COMMANDS)


def _leaves(path: str, command: click.Command) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield path
        return
    with click.Context(command) as context:
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _leaves(f"{path} {name}".strip(), found)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_input_and_a_terminal_that_lacks_characters(house: House, command: str) -> None:
    house.run(command, env={"PYTHONIOENCODING": "ascii"}, stdin="closed")


@pytest.mark.parametrize("command", COMMANDS)
def test_output_that_cannot_be_written(house: House, command: str) -> None:
    ended = house.run(command, stdout="full")
    assert ended.returncode != ExitCode.OK
    assert "Error:" in ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_an_argument_that_is_not_text_is_named(house: House, command: str) -> None:
    ended = house.run(command, b"caf\xe9")
    assert (ended.returncode, ended.stdout) == (ExitCode.USAGE, "")
    assert "'caf?'" in ended.stderr


@pytest.mark.parametrize("command", ["id", "config show", "contacts list"])
def test_other_states_of_the_streams(house: House, command: str) -> None:
    broken = house.run(command, stdout="broken")
    assert (broken.returncode, "Broken pipe" in broken.stderr) == (ExitCode.FILE, True)
    # Whoever closes a stream wants nothing of it.
    assert house.run(command, stdout="closed").returncode == ExitCode.OK
    assert house.run(command, stdout="full", stderr="full").returncode == ExitCode.FILE
    silent = house.run(command, stderr="closed")
    assert (silent.returncode, silent.stdout) == (ExitCode.OK, house.run(command).stdout)


def test_a_text_from_standard_input_is_sent_whole_or_not_at_all(house: House) -> None:
    (house.folder / "latin").write_bytes("café".encode("latin-1"))
    (house.folder / "long").write_bytes(b"x" * 2_000_000)
    (house.folder / "empty").touch()
    for stdin, word in (("closed", "empty or closed"), ("empty", "empty"), ("latin", "byte 4"), ("long", "longer")):
        for more in ((), ("--file", "file")):
            refused = house.run_with(("send", "me", "-", *more), stdin=stdin)
            assert (refused.returncode, refused.stdout) == (ExitCode.USAGE, "")
            assert word in refused.stderr
            assert "TEXT -" in refused.stderr


def test_an_interpreter_of_its_own_in_a_locale_without_letters(house: House) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    refused = _in_a_shell(house, b'"$@" send me "caf\xc3\xa9"', plain)
    assert refused.returncode == ExitCode.USAGE
    assert b"Argument 3, 'caf??', holds bytes" in refused.stderr
    full = _in_a_shell(house, b'"$@" id > /dev/full', plain)
    assert (full.returncode, full.stderr.count(b"\n")) == (ExitCode.FILE, 1)
    closed = _in_a_shell(house, b'"$@" send me - <&-', {})
    assert (closed.returncode, b"Traceback" in closed.stderr) == (ExitCode.USAGE, False)


def _in_a_shell(house: House, script: bytes, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", script, "bash", *IRONWIRE],
        cwd=house.folder,
        env=environment(house.folder, **house.env, **env),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
