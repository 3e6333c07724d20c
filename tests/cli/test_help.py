"""Finding out: `--help` by subject, `ironwire help`, the topics, and what is suggested for a misspelt word."""

import re

import pytest
from click.testing import CliRunner, Result
from typed_settings.cls_utils import deep_options

from ironwire.cli import HOMES, SECTIONS, cli
from ironwire.cli.exits import ExitCode
from ironwire.cli.help.topics import TOPICS
from ironwire.cli.operator.serve import COMMON_SETTINGS
from ironwire.cli.options import PASSPHRASE_VARIABLE
from ironwire.paths import PATH_VARIABLE
from ironwire.server.operator.config import Settings
from ironwire.server.operator.loading import FILE_VARIABLE

SETTINGS = {option.path: option for option in deep_options(Settings)}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="ironwire", terminal_width=80)


def said(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_commands_stand_in_sections() -> None:
    text = said("--help")
    positions = [text.index(f"\n{section}:\n") for section in SECTIONS]
    assert positions == sorted(positions)
    for name in HOMES:
        assert re.search(rf"^  {name} ", text, re.MULTILINE)
        assert flat(cli.commands[name].get_short_help_str(1_000)) in flat(text)
    for name in TOPICS:
        assert re.search(rf"^  {name} ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("snd",), "'send'"),
        (("help", "snd"), "'send'"),
        (("help", "enviroment"), "'environment'"),
        (("group", "ad"), "'add'"),
        (("help", "group", "ad"), "'add'"),
        (("send", "--fil", "x", "WHO"), "'--file'"),
        (("serve", "--prot", "1"), "'--port'"),
    ],
)
def test_a_misspelt_word(arguments: tuple[str, ...], meant: str) -> None:
    result = run(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert "Did you mean" in result.stderr
    assert meant in result.stderr


@pytest.mark.parametrize("words", [(), ("send",), ("group",), ("group", "add"), ("serve",), ("help",)], ids=" ".join)
def test_help_shows_what_the_option_shows(words: tuple[str, ...]) -> None:
    assert said("help", *words) == said(*words, "--help")


def test_help_of_a_word_after_a_command_that_has_none() -> None:
    assert "ironwire send has no commands" in run("help", "send", "it").stderr


def test_an_option_whose_value_looks_like_a_request_for_help_is_no_request() -> None:
    result = run("send", "--key", "--help", "bob", "hello")
    assert result.exit_code == ExitCode.USAGE
    assert "'bob' is neither a contact nor the id" in result.stderr


def test_nor_is_one_after_a_command_of_a_group() -> None:
    result = run("group", "add", "friends", "bob", "--key", "--help")
    assert result.exit_code == ExitCode.USAGE
    assert "'friends' is neither a contact nor the id" in result.stderr


def test_after_two_hyphens_nothing_is_a_request_for_help() -> None:
    assert "'bob' is neither a contact nor the id" in run("send", "bob", "--", "--help").stderr


def test_the_environment() -> None:
    text = flat(said("help", "environment"))
    for variable in (PATH_VARIABLE, PASSPHRASE_VARIABLE, FILE_VARIABLE, "IRONWIRE_SERVER", "XDG_CONFIG_HOME"):
        assert f" {variable} " in text
    for words in ("~/.config/ironwire/identity.key", "http://localhost:8080", "XDG_DATA_HOME", "SSL_CERT_FILE"):
        assert words in text


def test_keys() -> None:
    text = flat(said("help", "keys"))
    for words in ("~/.config/ironwire/identity.key", "IRONWIRE_PASSPHRASE", "0600", "--no-passphrase", "keep a copy"):
        assert words in text


def test_exit_codes() -> None:
    codes = re.findall(r"^  (\d+) +\S", said("help", "exit-codes"), re.MULTILINE)
    assert [int(code) for code in codes] == [code.value for code in ExitCode]


def test_the_short_help_of_the_server_is_short_and_names_the_subjects() -> None:
    text = said("serve", "--help")
    assert len(text.splitlines()) < 80
    options = set(re.findall(r"^  --(?:\[no-\])?([a-z-]+)", text, re.MULTILINE))
    assert {flag(path) for path in COMMON_SETTINGS} <= options
    assert SETTINGS.keys() >= COMMON_SETTINGS
    for section in {path.rpartition(".")[0] or "general" for path in SETTINGS}:
        assert re.search(rf"^  {section} +\S.*\[\d+\]$", text, re.MULTILINE)


def test_all_settings_of_the_server_stand_under_their_subjects() -> None:
    text = said("serve", "--help-all")
    heading = ""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if title := re.match(r"(\w+): ", line):
            heading = title[1]
        elif option := re.match(r"  --([a-z-]+)", line):
            found.setdefault(option[1], heading)
    for path in SETTINGS:
        assert found[flag(path)] == (path.rpartition(".")[0] or "general")


def flag(path: str) -> str:
    return path.removeprefix("server.").replace(".", "-").replace("_", "-")
