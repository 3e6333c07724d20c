"""`ironwire serve` before it serves: every setting has an option, and what keeps it from starting is one clear line."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from typed_settings.cls_utils import deep_options

from ironwire.cli import cli
from ironwire.cli.exits import ExitCode
from ironwire.cli.operator.serve import serve
from ironwire.server.operator.config import Settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["serve", *arguments], prog_name="ironwire")


def test_every_setting_has_an_option() -> None:
    destinations = {parameter.name for parameter in serve.params}
    assert {option.path.replace(".", "__") for option in deep_options(Settings)} == destinations - {
        "config_file",
        "help_all",
    }


def test_the_help_shows_the_defaults() -> None:
    text = " ".join(run("--help-all").stdout.split())
    assert "[default: 0.0.0.0]" in text
    assert "[default: 8080]" in text
    assert "[default: 4096]" in text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--port", "99999"), "server.port = 99999"),
        (("--port", "http"), "--port"),
        (("--limits-frame-bytes", "1"), "limits.frame_bytes = 1"),
        (("--auth-origins", "chat.example"), "auth.origins"),
        (("--certfile", "cert.pem"), "keyfile"),
        (("--config", "missing.toml"), "missing.toml"),
        (("--host", "256.1.1.1", "--port", "0"), "server.host = '256.1.1.1' is no address of this machine"),
    ],
)
def test_a_setting_that_cannot_be_used(arguments: tuple[str, ...], word: str) -> None:
    result = run(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    (folder / "file").touch()
    result = run("--data", "file/data", "--port", "0")
    assert result.exit_code == ExitCode.USAGE
    assert "the folder cannot be written" in result.stderr
    assert "--data" in result.stderr


def test_a_certificate_that_is_none(folder: Path) -> None:
    (folder / "cert.pem").write_text("not a certificate")
    result = run("--certfile", "cert.pem", "--keyfile", "cert.pem", "--port", "0")
    assert result.exit_code == ExitCode.USAGE
    assert "certificate" in result.stderr


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--host", "127.0.0.1", "--port", str(port))
    assert result.exit_code == ExitCode.USAGE
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr
