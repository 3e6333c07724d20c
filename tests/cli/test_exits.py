"""Every expected error has its exit code and no traceback; a fault of ours keeps its traceback."""

import click
import pytest

from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.failures import expected
from ironwire.client import (
    AuthenticationRefused,
    ConnectionFailed,
    ConnectionLost,
    InvalidServerAddress,
    KeystoreError,
    NotTheProtocol,
    Refused,
    SessionEnded,
    TransferFailed,
)
from ironwire.errors import AdminError, BackupError, ConfigError, InvalidId


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("user_offline"), 1),
        (SessionEnded(4409, "replaced"), 1),
        (AdminError("busy"), 1),
        (TransferFailed("too large", 413), 1),
        (ConfigError("bad"), 2),
        (InvalidId("bad"), 2),
        (KeystoreError("bad"), 2),
        (InvalidServerAddress("bad"), 2),
        (ConnectionFailed("nobody"), 3),
        (ConnectionLost(1006, ""), 3),
        (NotTheProtocol("a web server"), 3),
        (BackupError("half of it"), 5),
        (caused(TransferFailed("broke"), RuntimeError()), 3),
        (AuthenticationRefused("Invalid public key"), 4),
        (TransferFailed("not the one that was sent"), 5),
        (caused(TransferFailed("cannot write"), PermissionError()), 5),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (ExceptionGroup("", [ExceptionGroup("", [Refused("user_offline")])]), 1),
        (ExceptionGroup("", [SessionEnded(4409, ""), SessionEnded(4409, "")]), 1),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), 130),
        (BaseExceptionGroup("", [Failure(ExitCode.FILE, "standard output cannot be written")]), 5),
    ],
)
def test_an_expected_error_ends_with_its_code(error: BaseException, code: int) -> None:
    ending = expected(error)
    assert ending is not None
    assert ending.exit_code == ExitCode(code)


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), OSError(5, "disk"), ExceptionGroup("", [Refused("invalid"), ValueError("a bug")])]
)
def test_a_fault_of_ours_is_not_hidden(error: BaseException) -> None:
    assert expected(error) is None


def test_what_the_server_says_is_made_printable() -> None:
    ending = expected(AuthenticationRefused("\x1b[2Jgo away\u202e"))
    assert isinstance(ending, click.ClickException)
    assert ending.message == "the server refused the identity: ␛[2Jgo away\ufffd"


def test_codes_of_the_protocol_are_put_in_words() -> None:
    ending = expected(Refused("user_offline"))
    assert isinstance(ending, click.ClickException)
    assert ending.message == "the recipient is offline"


@pytest.mark.parametrize(
    ("reason", "is_advised"), [("Not registered here: an invite is needed", True), ("Invalid public key", False)]
)
def test_who_is_not_registered_is_told_how_to_join(reason: str, is_advised: bool) -> None:
    ending = expected(AuthenticationRefused(reason))
    assert isinstance(ending, click.ClickException)
    assert ending.message.startswith(f"the server refused the identity: {reason}")
    assert ("`ironwire join INVITE`" in ending.message) == is_advised
