"""How a command ends: the exit codes, and which error means which.

Rule: what IronWire raises on purpose never shows a traceback. The message of the error says what happened and what to
do.
"""

from enum import IntEnum

import click

from ironwire.cli.terminal import printable
from ironwire.client import (
    AuthenticationRefused,
    CallFailed,
    ConnectionFailed,
    ConnectionLost,
    MediaError,
    NotTheProtocol,
    Refused,
    SessionEnded,
    TransferFailed,
)
from ironwire.errors import AdminError, BackupError, ConfigError, IronWireError
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
    0  done; as a device also: kept, to be sent when the device is used again
    1  refused by the server, or the recipient is offline; the doctor found a fault
    2  a mistake in the command, in a setting, in an id or in the identity's file
    3  the server cannot be reached, or did not answer in time
    4  the server refused the identity
    5  a file did not get across: it cannot be read or written, or is not what was promised or asked for
  130  interrupted

\b
Where a command says TO, a contact's name will do, or the id of a client (64 hex digits) or a group (# and 32 of them).
"""

_REFUSALS: dict[ErrorCode, str] = {
    "user_offline": "the recipient is offline",
    "mailbox_full": "the recipient's mailbox is full",
    "too_large": "it is too large",
    "rate_limited": "too much at once",
    "not_found": "there is no such thing",
    "forbidden": "that is not allowed",
    "conflict": "that is not possible as things are",
    "quota": "the quota is used up",
}
"""What the codes of an `error` mean to the person who asked for something; others stand for themselves."""


_TOLD_BY_DETAIL: frozenset[ErrorCode] = frozenset({"not_found", "forbidden", "conflict"})
"""Where there is a detail, it says all that there is to say."""


class Failure(click.ClickException):
    """An expected end that is not a good one. A line may hold what a peer wrote: it is made printable."""

    def __init__(self, code: ExitCode, *lines: str) -> None:
        super().__init__("\n".join(map(printable, lines)))
        self.exit_code = code  # type: ignore[misc]  # click's documented way; its annotation forgets instances


def refusal(error: Refused) -> str:
    """Why something was not accepted, for people."""
    if error.detail and error.code in _TOLD_BY_DETAIL:
        return error.detail
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
            return Failure(ExitCode.REFUSED, refusal(error))
        case ConfigError():
            return Failure(ExitCode.USAGE, *error.args)
        case IronWireError():
            return Failure(_code_of(error), str(error))
        case _:
            return None


def _code_of(error: IronWireError) -> ExitCode:
    match error:
        case SessionEnded() | CallFailed() | AdminError():
            return ExitCode.REFUSED
        case ConnectionFailed() | ConnectionLost() | NotTheProtocol():
            return ExitCode.UNREACHABLE
        case AuthenticationRefused():
            return ExitCode.AUTHENTICATION
        case MediaError() | BackupError():
            return ExitCode.FILE
        case TransferFailed(status=None):
            # What went wrong on the way has a cause that is not the disk's.
            return ExitCode.FILE if isinstance(error.__cause__, OSError | None) else ExitCode.UNREACHABLE
        case TransferFailed():
            return ExitCode.REFUSED
        case _:
            return ExitCode.USAGE
