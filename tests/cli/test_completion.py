"""What the shells offer: commands, options, choices, files, and the contacts of the identity that the line names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from ironwire.cli import cli
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.help.completion import VARIABLE
from ironwire.ids import parse_address

BOB, FRIENDS, CAROL = "b0" * 32, "#" + "f0" * 16, "c0" * 32
SECONDS = 60


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bob and a group beside the default key, Carol beside another."""
    for variable in ("IRONWIRE_KEY", "IRONWIRE_PASSPHRASE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for key in (".config/ironwire/identity.key", "other/alice.key"):
        assert CliRunner().invoke(cli, ["keygen", "--no-passphrase", key]).exit_code == 0
    beside = AddressBook.beside(tmp_path / ".config/ironwire/identity.key")
    beside.add("bob", parse_address(BOB))
    beside.add("friends", parse_address(FRIENDS))
    AddressBook.beside(tmp_path / "other/alice.key").add("carol", parse_address(CAROL))
    return tmp_path


def offered(*words: str) -> list[str]:
    """What may stand in place of the last word."""
    *before, incomplete = words
    shell = BashComplete(cli, {}, "ironwire", VARIABLE)
    return [item.value if item.type == "plain" else item.type for item in shell.get_completions(before, incomplete)]


@pytest.mark.parametrize(
    ("words", "offer"),
    [
        (("send", ""), ["bob", "friends"]),
        (("send", "b"), ["bob"]),
        (("send", "--json", "--device", "phone", "b"), ["bob"]),
        (("chat", "f"), ["friends"]),
        (("history", ""), ["bob", "friends"]),
        (("call", ""), ["bob"]),
        (("block", ""), ["bob"]),
        (("unblock", ""), ["bob"]),
        (("group", "info", ""), ["friends"]),
        (("group", "add", "friends", ""), ["bob"]),
        (("group", "create", "new", "b"), ["bob"]),
        (("group", "role", "friends", "bob", ""), ["admin", "member"]),
        (("contacts", "remove", ""), ["bob", "friends"]),
        (("contacts", "add", ""), []),
    ],
    ids=lambda value: " ".join(value),
)
def test_contacts_where_a_command_wants_them(words: tuple[str, ...], offer: list[str]) -> None:
    assert offered(*words) == offer


@pytest.mark.parametrize("typed", ["--key other/alice.key", "--key=other/alice.key", "--key ~/other/alice.key"])
def test_the_contacts_are_those_of_the_key_on_the_line(typed: str) -> None:
    assert offered("send", *typed.split(), "") == ["carol"]


def test_the_contacts_are_those_of_the_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRONWIRE_KEY", "other/alice.key")
    assert offered("send", "") == ["carol"]


def test_contacts_that_cannot_be_read_are_none(home: Path) -> None:
    for file in (home / "other").glob("*contacts*"):
        file.write_text("[")
    assert offered("send", "--key", "other/alice.key", "") == []
    assert offered("send", "--key", "nowhere/at/all.key", "") == []


def test_commands_options_and_files() -> None:
    assert offered("con") == ["config", "contacts"]
    assert offered("group", "re") == ["remove", "rename"]
    assert offered("send", "--vo") == ["--voice"]
    assert offered("serve", "--limits-fr") == ["--limits-frame-bytes"]
    assert offered("serve", "--log-level", "w") == ["warning"]
    assert offered("upload", "x") == ["file"]
    assert offered("send", "--file", "x") == ["file"]
    assert offered("listen", "--save", "x") == ["dir"]


def test_the_words_of_help() -> None:
    assert offered("help", "exi") == ["exit-codes"]
    assert offered("help", "sen") == ["send"]
    assert offered("help", "group", "a") == ["add"]
    assert offered("help", "keys", "") == []


def in_shell(home: Path, *command: str) -> list[str]:
    """The lines that a shell prints in which `ironwire` is this program."""
    program = home / "bin" / "ironwire"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ironwire "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={"HOME": str(home), "PATH": path, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_bash(home: Path) -> None:
    script = """
        set -e
        eval "$(ironwire completion bash)"
        complete -p ironwire | grep --quiet _ironwire_completion
        offer() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _ironwire_completion ironwire
            echo "${COMPREPLY[*]}"
        }
        offer ironwire send b
        offer ironwire send --key other/alice.key ""
        offer ironwire gro
    """
    assert in_shell(home, "bash", "--norc", "-c", script) == ["bob", "carol", "group"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish(home: Path) -> None:
    script = """
        ironwire completion fish | source
        complete -C "ironwire send b"
        complete -C "ironwire send --key other/alice.key "
        complete -C "ironwire grou" | string split --fields 1 \\t
    """
    assert in_shell(home, "fish", "--no-config", "-c", script) == ["bob", "carol", "group"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh(home: Path) -> None:
    """Zsh completes at a terminal alone: what its completion system would do with the offers prints them."""
    script = r"""
        compdef() { : }
        compadd() { print -r -- $completions }
        _describe() { print -r -- ${completions_with_descriptions%%:*} }
        eval "$(ironwire completion zsh)"
        offer() { words=("$@"); CURRENT=$#; _ironwire_completion }
        offer ironwire send b
        offer ironwire send --key other/alice.key ""
        offer ironwire grou
    """
    assert in_shell(home, "zsh", "-f", "-c", script) == ["bob", "carol", "group"]
