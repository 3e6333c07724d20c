"""The manual pages say what `--help` says, and a manual reader shows them without a warning."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typed_settings.cls_utils import deep_options

from ironwire import __version__
from ironwire.cli import HOMES, cli
from ironwire.cli.help.manual import pages, write_pages
from ironwire.cli.help.topics import TOPICS
from ironwire.server.operator.config import Settings

ROOT = Path(__file__).parents[2]
PAGES = pages()


def test_there_is_a_page_for_every_command_and_topic() -> None:
    commands = {"man1/ironwire.1", *(f"man1/ironwire-{name}.1" for name in HOMES)}
    assert set(PAGES) == commands | {f"man7/ironwire-{name}.7" for name in TOPICS}


def test_the_build_has_what_the_pages_need() -> None:
    """Its environment holds the packages that `build-system` names, and no other."""
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import ironwire.cli.help.manual\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(tops - sys.stdlib_module_names - {'ironwire'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert set(done.stdout.split()) <= {re.split(r"[^\w-]", each)[0] for each in requires}


def plain(page: str) -> str:
    """The words of a page."""
    for escaped, character in (("\\-", "-"), ("\\(aq", "'"), ("\\(ti", "~"), ("\\fB", ""), ("\\fR", ""), ("\\&", "")):
        page = page.replace(escaped, character)
    return " ".join(page.split())


def test_the_page_of_a_command_has_its_options_and_its_version() -> None:
    page = plain(PAGES["man1/ironwire-send.1"])
    assert page.startswith(f'.TH "IRONWIRE-SEND" 1 "" "IronWire {__version__}"')
    for words in ("Send TEXT to TO", "--voice PATH", "env var: IRONWIRE_SERVER", "~/.config/ironwire/identity.key"):
        assert words in page


def test_the_page_of_a_group_has_the_commands_in_it() -> None:
    page = plain(PAGES["man1/ironwire-group.1"])
    for words in (
        "ironwire group add [OPTIONS] GROUP CLIENT...",
        "Make every CLIENT a member of GROUP.",
        "--if-epoch N",
    ):
        assert words in page


def test_the_page_of_the_server_has_every_setting() -> None:
    page = plain(PAGES["man1/ironwire-serve.1"])
    for option in deep_options(Settings):
        assert f"--{option.path.removeprefix('server.').replace('.', '-').replace('_', '-')}" in page


def test_the_main_page_says_what_each_command_does() -> None:
    page = plain(PAGES["man1/ironwire.1"])
    for name, command in cli.commands.items():
        assert f"ironwire-{name}(1) {command.get_short_help_str(1_000)}".replace("'", "") in page.replace("'", "")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_pages_have_no_mistakes(tmp_path: Path) -> None:
    write_pages(tmp_path)
    for path in PAGES:
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", str(tmp_path / path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
