"""`ironwire config`: what it shows can be used, what cannot be used is named in full, and no secret is seen."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ironwire.cli import cli
from ironwire.cli.exits import ExitCode
from ironwire.server.operator.loading import load_settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("IRONWIRE_SETTINGS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["config", *arguments], prog_name="ironwire")


def rows(result: Result) -> dict[str, tuple[str, str]]:
    """Value and source by setting."""
    lines = (line.split(maxsplit=1) for line in result.stdout.splitlines()[1:])
    return {name: (rest.rsplit(maxsplit=1)[0].strip(), rest.rsplit(maxsplit=1)[1]) for name, rest in lines}


def test_the_example_explains_each_setting_and_is_a_settings_file(folder: Path) -> None:
    example = run("example").stdout
    (folder / "ironwire.toml").write_text(example)
    assert load_settings(folder / "ironwire.toml") == load_settings()
    assert "# Silence from the peer after which the server sends a ping.\n" in example
    assert "# Allowed: a number of seconds > 0, <= 1000000000.\n# ping_after_seconds = 25\n" in example
    assert "# Allowed: a whole number of bytes >= 1024, <= 1044480.\n# frame_bytes = 65536\n" in example
    assert "# Allowed: a whole number >= 0, <= 65535.\n# port = 8080\n" in example
    assert "# Allowed: one of debug, info, warning, error.\n" in example


def test_a_good_file(folder: Path) -> None:
    (folder / "good.toml").write_text("server.port = 9000")
    result = run("check", "good.toml")
    assert (result.exit_code, result.stdout) == (0, "OK: good.toml, and the environment\n")


def test_every_fault_of_every_source_is_named_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bad.toml").write_text("port = 1\nserver.prot = 1\nlimits.frame_bytes = 1\nlog.level = 'loud'\n")
    monkeypatch.setenv("IRONWIRE_HISTORY_DAYS", "many")
    monkeypatch.setenv("IRONWIRE_HISTORY_DAY", "1")
    result = run("check", "bad.toml")
    assert result.exit_code == ExitCode.USAGE
    faults = result.stderr.removeprefix("Error: ").splitlines()
    assert len(faults) == 6
    for fault, words in zip(
        faults,
        [
            "bad.toml: port is not a setting; did you mean server.port?",
            "bad.toml: server.prot is not a setting; did you mean server.port?",
            "bad.toml: limits.frame_bytes = 1 cannot be used",
            "bad.toml: log.level = 'loud' cannot be used: must be one of debug, info, warning, error",
            "IRONWIRE_HISTORY_DAYS: history.days = 'many' cannot be used: must be a number",
            "IRONWIRE_HISTORY_DAY is not a variable; did you mean IRONWIRE_HISTORY_DAYS?",
        ],
        strict=True,
    ):
        assert words in fault


def test_settings_that_contradict_each_other(folder: Path) -> None:
    (folder / "bad.toml").write_text("server.certfile = 'none.pem'\nturn.urls = ['turn:turn.example']\n")
    result = run("check", "bad.toml")
    assert result.exit_code == ExitCode.USAGE
    for words in ("belong together", "there is no such file", "turn.secret"):
        assert words in result.stderr


def test_each_value_is_shown_with_its_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "ironwire.toml").write_text("server.port = 9000\nserver.backlog = 1\n")
    monkeypatch.setenv("IRONWIRE_SERVER_BACKLOG", "2")
    shown = rows(run("show"))
    assert shown["server.port"] == ("9000", "ironwire.toml")
    assert shown["server.backlog"] == ("2", "environment")
    assert shown["server.host"] == ('"0.0.0.0"', "default")


def test_no_secret_is_shown(folder: Path) -> None:
    (folder / "ironwire.toml").write_text("turn.secret = 'correct horse'\n")
    shown = run("show")
    assert rows(shown)["turn.secret"] == ("(a secret, not shown)", "ironwire.toml")
    (folder / "ironwire.toml").write_text("turn.secret = ['correct horse']\n")
    refused = run("check")
    assert "turn.secret = (a secret, not shown) cannot be used: must be a text" in refused.stderr
    assert "correct horse" not in shown.output + refused.output
