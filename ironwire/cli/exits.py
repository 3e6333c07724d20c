"""How a command ends: the exit codes, and which error means which.

Rule: what IronWire raises on purpose never shows a traceback. The message of the error says what happened and what to
do.
"""

from enum import IntEnum

import click

from ironwire.cli.terminal import printable
from ironwire.client import (
    AuthenticationRefused,
    ConnectionFailed,
    ConnectionLost,
    NotTheProtocol,
    Refused,
    SessionEnded,
    TransferFailed,
)
from ironwire.errors import IronWireError
from ironwire.wire.messages import ErrorCode


class ExitCode(IntEnum):
    """What a script can tell from `$?`. Part of the command line's interface: a number never changes its meaning."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    AUTHENTICATION = 4
    FILE = 5
    INTERRUPTED = 130


HELP = """\b
Exit codes:
    0  done
    1  refused by the server, or the recipient is offline
    2  a mistake in the command, in a setting, in an id or in the identity's file
    3  the server cannot be reached, or did not answer in time
    4  the server refused the identity
    5  a file did not get across: it cannot be read or written, or is not what was promised
  130  interrupted

\b
Where a command says TO, a contact's name or a client id of 64 hex digits will do.
"""

_REFUSALS: dict[ErrorCode, str] = {
    "user_offline": "the recipient is offline",
    "mailbox_full": "the recipient's mailbox is full",
    "too_large": "it is too large",
    "rate_limited": "too much at once",
    "not_found": "there is no such recipient",
    "quota": "the quota is used up",
}
"""What the codes of an `error` mean to the person who sent the message; others stand for themselves."""


class Failure(click.ClickException):
    """An expected end that is not a good one. `message` may hold what a peer wrote: it is made printable."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(printable(message))
        self.exit_code = code  # type: ignore[misc]  # click's documented way; its annotation forgets instances


def refusal(error: Refused) -> str:
    """Why a message was not accepted, for people."""
    reason = _REFUSALS.get(error.code, error.code)
    return f"{reason}: {error.detail}" if error.detail else reason


def expected(error: BaseException) -> click.ClickException | click.exceptions.Exit | None:
    """What to tell the user about `error`, as an exception that click ends with; None for a fault of ours."""
    match error:
        case BaseExceptionGroup():
            endings = [expected(each) for each in error.exceptions]
            return None if None in endings else endings[0]
        case KeyboardInterrupt() | click.Abort():
            return click.exceptions.Exit(ExitCode.INTERRUPTED)
        case Refused():
            return Failure(refusal(error), ExitCode.REFUSED)
        case IronWireError():
            return Failure(str(error), _code_of(error))
        case _:
            return None


def _code_of(error: IronWireError) -> ExitCode:
    match error:
        case SessionEnded():
            return ExitCode.REFUSED
        case ConnectionFailed() | ConnectionLost() | NotTheProtocol():
            return ExitCode.UNREACHABLE
        case AuthenticationRefused():
            return ExitCode.AUTHENTICATION
        case TransferFailed(status=None):
            # What went wrong on the way has a cause that is not the disk's.
            return ExitCode.FILE if isinstance(error.__cause__, OSError | None) else ExitCode.UNREACHABLE
        case TransferFailed():
            return ExitCode.REFUSED
        case _:
            return ExitCode.USAGE
