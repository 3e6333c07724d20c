"""Commands that need no server, as a shell sees them: what they print, where, and the exit code."""

import json
import pwd
import socket
import stat
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ironwire.cli import cli
from ironwire.cli.exits import ExitCode
from ironwire.cli.options import this_device
from ironwire.cli.scripting import identity
from ironwire.client import (
    DeliveredReceipt,
    DeliveredText,
    Identity,
    Owner,
    ServerAddress,
    StoreKey,
    create_identity,
    default_store_path,
    load_identity,
)
from ironwire.client.store.file import LocalFile
from ironwire.client.store.records import Arrive, Begin, Queue, Settle
from ironwire.crypto.signing import parse_public_key
from ironwire.ids import ClientId, DeviceId, MessageId
from ironwire.wire.messages import Text

CHALLENGE = "0123456789abcdef" * 4
BOB = "b0" * 32


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in (
        "IRONWIRE_KEY",
        "IRONWIRE_PASSPHRASE",
        "IRONWIRE_SERVER",
        "IRONWIRE_SETTINGS",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, input: str | None = None) -> Result:  # noqa: A002 - as click's own runner has it
    return CliRunner().invoke(cli, arguments, input=input, prog_name="ironwire")


def refused(result: Result, code: ExitCode, *words: str) -> None:
    assert result.exit_code == code
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) <= 4
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_a_new_identity_is_private_and_prints_its_id(home: Path) -> None:
    created = run("keygen", "--no-passphrase")
    key = home / ".config" / "ironwire" / "identity.key"
    assert created.exit_code == 0
    assert created.stdout.strip() == load_identity(key).client_id
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert run("id").stdout == created.stdout
    assert json.loads(run("id", "--json").stdout) == {"client": created.stdout.strip(), "key": str(key)}


def test_an_identity_may_stand_anywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created = run("keygen", "--no-passphrase", "--json", "keys/mine")
    client = json.loads(created.stdout)["client"]
    assert run("id", "keys/mine").stdout == client + "\n"
    monkeypatch.setenv("IRONWIRE_KEY", str(home / "keys" / "mine"))
    assert run("id").stdout == client + "\n"


def test_an_identity_is_never_replaced() -> None:
    before = run("keygen", "--no-passphrase", "key").stdout
    refused(run("keygen", "--no-passphrase", "key"), ExitCode.USAGE, "exists already")
    assert run("id", "key").stdout == before


def test_a_passphrase_is_needed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONWIRE_PASSPHRASE", "correct horse")
    client = run("keygen", "key").stdout
    assert run("sign", CHALLENGE, "--key", "key").exit_code == 0
    monkeypatch.setenv("IRONWIRE_PASSPHRASE", "wrong horse")
    refused(run("sign", CHALLENGE, "--key", "key"), ExitCode.USAGE, "passphrase is wrong")
    monkeypatch.delenv("IRONWIRE_PASSPHRASE")
    refused(run("sign", CHALLENGE, "--key", "key"), ExitCode.USAGE, "set IRONWIRE_PASSPHRASE")
    assert run("id", "key").stdout == client, "the id stands in the clear"


@pytest.mark.parametrize("passphrase", [None, ""])
def test_a_key_is_left_unsealed_only_if_that_was_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str | None
) -> None:
    if passphrase is not None:
        monkeypatch.setenv("IRONWIRE_PASSPHRASE", passphrase)
    refused(run("keygen", "key"), ExitCode.USAGE, "IRONWIRE_PASSPHRASE", "--no-passphrase")
    assert not (home / "key").exists()


def test_no_passphrase_overrules_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONWIRE_PASSPHRASE", "correct horse")
    run("keygen", "--no-passphrase", "key")
    monkeypatch.delenv("IRONWIRE_PASSPHRASE")
    assert run("id", "key").exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("id",),
        ("sign", CHALLENGE),
        ("send", BOB, "hi"),
        ("listen",),
        ("chat", BOB),
        ("history", BOB),
        ("device", "list"),
    ],
)
def test_without_an_identity_the_way_to_one_is_named(command: tuple[str, ...]) -> None:
    refused(run(*command), ExitCode.USAGE, "ironwire keygen")


def test_a_passphrase_is_asked_for_only_where_a_key_can_be(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "key").touch()
    monkeypatch.setattr(identity, "new_passphrase", lambda: pytest.fail("asked in vain"))
    refused(run("keygen", "key"), ExitCode.USAGE, "exists already")


def test_without_a_home_the_option_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    run("keygen", "--no-passphrase", "key")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for command in (("id",), ("contacts", "list"), ("send", BOB, "hi")):
        refused(run(*command), ExitCode.USAGE, "IRONWIRE_KEY" if command == ("id",) else "--key PATH")
    refused(run("history", BOB, "--key", "key"), ExitCode.USAGE, "XDG_DATA_HOME")
    assert run("id", "key").exit_code == 0
    Path("file").touch()
    refused(run("upload", "file", "--server", "http://127.0.0.1:1"), ExitCode.UNREACHABLE, "Is the server running")


def test_a_signature_is_that_of_the_identity() -> None:
    client = run("keygen", "--no-passphrase", "key").stdout.strip()
    signed = run("sign", CHALLENGE, "--key", "key").stdout
    assert len(signed) == 128 + 1
    parse_public_key(client).verify(bytes.fromhex(CHALLENGE), bytes.fromhex(signed))


@pytest.mark.parametrize("challenge", ["", "00", CHALLENGE[:-2], CHALLENGE + "00", "zz" * 32, "text to be signed"])
def test_only_challenges_are_signed(challenge: str) -> None:
    run("keygen", "--no-passphrase", "key")
    refused(run("sign", challenge, "--key", "key"), ExitCode.USAGE, "32 bytes")


def test_contacts_are_kept_beside_the_key(home: Path) -> None:
    assert run("contacts", "add", "bob", BOB.upper(), "--key", "keys/mine").stdout == f"bob is {BOB}.\n"
    assert (home / "keys" / "mine.contacts").exists()
    assert run("contacts", "list", "--key", "keys/mine").stdout == f"bob  {BOB}\n"
    assert json.loads(run("contacts", "list", "--json", "--key", "keys/mine").stdout) == [
        {"name": "bob", "id": BOB, "verified": None}
    ]
    assert run("contacts", "list", "--key", "keys/other").stdout.startswith("Nobody yet")
    assert run("contacts", "remove", "bob", "--key", "keys/mine").stdout == "Forgot bob.\n"
    assert json.loads(run("contacts", "list", "--json", "--key", "keys/mine").stdout) == []


def test_columns_of_contacts_line_up() -> None:
    run("contacts", "add", "陳", "c0" * 32)
    run("contacts", "add", "bob", BOB)
    assert run("contacts", "list").stdout.splitlines() == [f"bob  {BOB}", f"陳   {'c0' * 32}"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("contacts", "add", "bob", "b0"), "64 lowercase hex digits"),
        (("contacts", "add", "a b", BOB), "letters, digits"),
        (("contacts", "remove", "bob"), "no contact"),
    ],
)
def test_mistakes_with_contacts(arguments: tuple[str, ...], word: str) -> None:
    refused(run(*arguments), ExitCode.USAGE, word)


def test_a_history_that_there_is_not(home: Path) -> None:
    run("keygen", "--no-passphrase", "key")
    refused(run("history", BOB, "--key", "key", "--device", "phone"), ExitCode.USAGE, "phone has no history")
    assert not (home / ".local").exists()


def phone_of(identity: Identity) -> LocalFile:
    owner = Owner(identity.client_id, DeviceId("phone"), ServerAddress.parse("http://localhost:8080").origin)
    return LocalFile.open(default_store_path(owner), owner, StoreKey.of_account(identity))


def test_a_history_opens_with_the_passphrase_of_the_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_identity(home / "key", "correct horse")
    file = phone_of(load_identity(home / "key", "correct horse"))
    file.apply([Queue(MessageId("1"), Text(ClientId(BOB), "hello"), 1_000)])
    file.close()
    history = ("history", BOB, "--key", "key", "--device", "phone")
    refused(run(*history), ExitCode.USAGE, "set IRONWIRE_PASSPHRASE")
    monkeypatch.setenv("IRONWIRE_PASSPHRASE", "correct horse")
    assert "hello" in run(*history).stdout


def test_the_history_of_another_identity_does_not_open(home: Path) -> None:
    run("keygen", "--no-passphrase", "key")
    run("keygen", "--no-passphrase", "other")
    phone_of(load_identity(home / "key")).close()
    (kept,) = home.rglob("*-phone.db")
    kept.rename(kept.with_name(f"{load_identity(home / 'other').client_id[:16]}-phone.db"))
    refused(run("history", BOB, "--key", "other", "--device", "phone"), ExitCode.USAGE, "does not open with the key")


def test_the_history_is_that_of_the_device(home: Path) -> None:
    alice = ClientId(run("keygen", "--no-passphrase", "key").stdout.strip())
    file = phone_of(load_identity(home / "key"))
    said = [Text(ClientId(BOB), word) for word in ("one", "two", "three")]
    file.apply([Begin(1, 1), *(Queue(MessageId(message.text), message, 1_000) for message in said)])
    theirs = DeliveredText(ClientId(BOB), "four\x1b[2J", ts=3_000, device=DeviceId("desk"))
    read = DeliveredReceipt(ClientId(BOB), [MessageId("one")], "read")
    file.apply([Settle(MessageId("one"), 2_000), Settle(MessageId("two"), None, "quota")])
    file.apply([Arrive(read, None, 1), Arrive(theirs, MessageId("4"), 2)])
    file.close()
    run("contacts", "add", "bob", BOB, "--key", "key")
    shown = run("history", "bob", "--key", "key", "--device", "phone").stdout.splitlines()
    assert [line.partition(" ")[2].partition(" ")[2] for line in shown] == [
        "you one  ✓ read",
        "you two  ✗ not delivered: the server refused it",
        "you three  … not sent yet",
        "bob four␛[2J",
    ]
    last_two = run("history", "bob", "--key", "key", "--device", "phone", "--limit", "2", "--json").stdout
    assert [json.loads(line) for line in last_two.splitlines()] == [
        {
            "type": "text",
            "id": "three",
            "payload": {"from": alice, "text": "three", "ts": 1_000, "device": "phone", "to": BOB},
            "state": "queued",
            "encrypted": False,
        },
        {
            "type": "text",
            "id": "4",
            "payload": {"from": BOB, "text": "four\x1b[2J", "ts": 3_000, "device": "desk"},
            "encrypted": False,
        },
    ]


def test_this_computer_is_a_device_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, device in (("anna's laptop.local", "anna-s-laptop.local"), ("x" * 90, "x" * 64), ("日本", "computer")):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        assert this_device() == device


def test_a_call_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    run("keygen", "--no-passphrase")
    monkeypatch.setitem(sys.modules, "aiortc", None)
    monkeypatch.delitem(sys.modules, "ironwire.cli.calls.calling", raising=False)
    monkeypatch.delitem(sys.modules, "ironwire.cli.calls.rtc_peer", raising=False)
    refused(run("call", BOB), ExitCode.USAGE, "pip install 'ironwire[calls]'")


def test_nobody_of_that_name_is_not_a_network_problem() -> None:
    run("keygen", "--no-passphrase")
    refused(run("send", "carol", "hi"), ExitCode.USAGE, "'carol'", "ironwire contacts add")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("send",),
        ("send", BOB),
        ("listen", "--count", "0"),
        ("download", "/media/x", "--sha256", "12"),
        ("id", "--nope"),
        ("history",),
        ("call",),
        ("call", "#" + "0" * 32),
        ("history", BOB, "--limit", "9223372036854775808"),
        ("listen", "--count", "9223372036854775808"),
        ("group", "leave", "x", "--if-epoch", "9223372036854775808"),
        ("admin", "clients", "--offset", "9223372036854775808"),
        ("call", BOB, "--seconds", "nan"),
        ("top", "--every", "nan"),
        ("send", BOB, ""),
        ("send", BOB, "-", "--file", "-"),
        ("download", "/media/x", "-", "--json"),
    ],
)
def test_a_wrong_command_line(arguments: tuple[str, ...]) -> None:
    refused(run(*arguments), ExitCode.USAGE, "ironwire")


@pytest.mark.parametrize("server", ["ftp://x", "http://", "http://localhost:99999", "http://localhost:8080/chat"])
def test_what_is_no_server(server: str) -> None:
    run("keygen", "--no-passphrase")
    refused(run("send", BOB, "hi", "--server", server), ExitCode.USAGE, "server")


def test_nobody_listens_there() -> None:
    run("keygen", "--no-passphrase")
    refused(run("device", "list", "--server", "http://127.0.0.1:1"), ExitCode.UNREACHABLE, "Is the server running")
    refused(run("listen", "--server", "http://127.0.0.1:1"), ExitCode.UNREACHABLE, "Is the server running")
    Path("file").touch()
    refused(run("upload", "file", "--server", "http://127.0.0.1:1"), ExitCode.UNREACHABLE, "Is the server running")


def test_a_file_that_is_not_there() -> None:
    refused(run("upload", "nothing"), ExitCode.FILE, "cannot read nothing")
