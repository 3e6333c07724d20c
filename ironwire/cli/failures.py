"""Which error ends a command with which exit code, and what it says.

Rule: what IronWire raises on purpose never shows a traceback. The message of the error says what happened and what to
do.
"""

import click

import ironwire.client as iw
from ironwire.cli.exits import ExitCode, Failure
from ironwire.errors import AdminError, BackupError, ConfigError, InvalidBackup, IronWireError
from ironwire.wire.messages import ErrorCode

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
"""The codes of an `error`, in words for the person who asked; other codes stand for themselves."""


_TOLD_BY_DETAIL: frozenset[ErrorCode] = frozenset({"not_found", "forbidden", "conflict", "user_offline"})
"""Where there is a detail, it says all that there is to say."""


_NOT_REGISTERED = "Not registered here"
_HOW_TO_JOIN = (
    "The server takes only clients that it knows. Its operator can let you in: by an invite, which you use with"
    " `ironwire join INVITE`, or by your id, which `ironwire id` prints."
)
"""The close reason of docs/protocol.md, section 3.2, and what to do about it."""

_REFUSED_DEVICES = {
    "Device name of another device key": "Another of your devices has this name: choose another one with --device.",
    "Device not in the device log": (
        "The server does not know this device. Use a device that has the identity's key once, as with `ironwire device"
        " list`: it tells the server again. If that does not help, link this device anew."
    ),
}
"""The close reasons of section 9.2, and what to do about them."""


def refusal(error: iw.Refused) -> str:
    """Why something was not accepted, for people."""
    if error.detail and error.code in _TOLD_BY_DETAIL:
        return error.detail
    reason = _REFUSALS.get(error.code, error.code)
    return f"{reason}: {error.detail}" if error.detail else reason


def expected(error: BaseException) -> click.ClickException | click.exceptions.Exit | None:
    """The exception by which click tells the user about `error`; None for a fault of ours."""
    match error:
        case BaseExceptionGroup():
            endings = [expected(each) for each in error.exceptions]
            return None if None in endings else endings[0]
        case click.ClickException():
            return error
        case KeyboardInterrupt() | click.Abort():
            return click.exceptions.Exit(ExitCode.INTERRUPTED)
        case iw.Refused():
            return Failure(ExitCode.REFUSED, refusal(error))
        case iw.AuthenticationRefused(reason) if reason.startswith(_NOT_REGISTERED):
            return Failure(ExitCode.AUTHENTICATION, str(error), _HOW_TO_JOIN)
        case iw.AuthenticationRefused(reason) if reason in _REFUSED_DEVICES:
            return Failure(ExitCode.AUTHENTICATION, str(error), _REFUSED_DEVICES[reason])
        case ConfigError():
            return Failure(ExitCode.USAGE, *error.args)
        case IronWireError():
            return Failure(_code_of(error), str(error))
        case _:
            return None


def _code_of(error: IronWireError) -> ExitCode:
    match error:
        case iw.SessionEnded() | iw.CallFailed() | AdminError():
            return ExitCode.REFUSED
        case iw.ConnectionFailed() | iw.ConnectionLost() | iw.NotTheProtocol():
            return ExitCode.UNREACHABLE
        case iw.AuthenticationRefused():
            return ExitCode.AUTHENTICATION
        case iw.MediaError() | BackupError() | InvalidBackup():
            return ExitCode.FILE
        case iw.TransferFailed(status=None):
            # What went wrong on the way has a cause that is not the disk's.
            return ExitCode.FILE if isinstance(error.__cause__, OSError | None) else ExitCode.UNREACHABLE
        case iw.TransferFailed():
            return ExitCode.REFUSED
        case _:
            return ExitCode.USAGE
