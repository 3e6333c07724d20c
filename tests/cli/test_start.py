"""The program before a command is carried out: what it imports for a help or a completion, and that both are true."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ironwire.cli import HOMES, cli
from ironwire.cli.help.describe import document
from ironwire.cli.help.described import FILE, load

BOB = "b0" * 32
HEAVY = {
    "aiortc",
    "av",
    "cattrs",
    "hypercorn",
    "ironwire.client",
    "ironwire.server",
    "ironwire.store",
    "nacl",
    "orjson",
    "prompt_toolkit",
    "quart",
    "rich",
    "structlog",
    "trio",
    "typed_settings",
}
"""What takes a command most of its time to import. Click and the standard library alone are a third of the 0.25 s that
a help may take.
"""


def loaded(home: Path, *arguments: str, **variables: str) -> set[str]:
    """The heavy modules that a process has imported when it ends."""
    program = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('LOADED', *sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr))\n"
        "from ironwire.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2]), **variables},
        check=False,
    )
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("LOADED")]
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("send", "--help"),
        ("chat", "--help"),
        ("group", "--help"),
        ("group", "add", "--help"),
        ("serve", "--help"),
        ("serve", "--help-all"),
        ("admin", "erase", "-h"),
        ("help",),
        ("help", "environment"),
        ("help", "devices", "remove"),
        ("completion", "bash"),
        ("snd",),
    ],
    ids=" ".join,
)
def test_a_help_imports_no_command(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert loaded(tmp_path, *arguments) == set()


@pytest.mark.parametrize("line", ["ironwire ", "ironwire send ", "ironwire send --", "ironwire group add friends "])
def test_a_completion_imports_no_command(tmp_path: Path, line: str) -> None:
    asked = {"_IRONWIRE_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    assert loaded(tmp_path, **asked) == set()


def test_a_command_that_is_carried_out_is_imported(tmp_path: Path) -> None:
    assert "trio" in loaded(tmp_path, "send", BOB, "hello")


def test_the_description_of_the_commands_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == document(), "run `python -m ironwire.cli.help.describe`"


def leaves(command: click.Command, ctx: click.Context) -> Iterator[click.Context]:
    yield ctx
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from leaves(child, click.Context(child, info_name=name, parent=ctx))


@pytest.mark.parametrize("name", HOMES)
def test_a_help_is_that_of_the_command(name: str) -> None:
    root = click.Context(cli, info_name="ironwire", terminal_width=100, **cli.context_settings)
    real = load(HOMES[name])
    shown = leaves(cli.commands[name], click.Context(cli.commands[name], info_name=name, parent=root))
    meant = leaves(real, click.Context(real, info_name=name, parent=root))
    assert [ctx.get_help() for ctx in shown] == [ctx.get_help() for ctx in meant]


def test_every_command_has_its_name_and_a_help_and_so_has_every_option() -> None:
    for name, home in HOMES.items():
        assert load(home).name == name
        command = cli.commands[name]
        for ctx in leaves(command, click.Context(command, info_name=name)):
            assert ctx.command.help
            assert [
                param.opts for param in ctx.command.params if isinstance(param, click.Option) and not param.help
            ] == []
