"""The recovery code between a person and the program: shown once, typed back, asked for."""

import sys

import click
from rich.text import Text

from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.streams import read_text
from ironwire.cli.terminal import err, explain
from ironwire.e2e.recovery import RecoveryCode, parse_recovery_code
from ironwire.errors import InvalidRecoveryCode

_TRIES = 3
_GROUPS_A_LINE = 3

_MEANING = (
    "Whoever has this code has your identity: keep it on paper, in a safe place. If it is lost, and every device that"
    " has the identity's key too, the identity is lost for good. Nobody can give it back, no operator and no server."
)


def show_and_ask_back(code: RecoveryCode) -> None:
    """Show the code on a screen of its own, which leaves no trace in the terminal's history; then have it typed."""
    console = err()
    groups = code.text.split("-")
    with console.screen(hide_cursor=False):
        console.print(Text("Your recovery code:\n", "bold"))
        for start in range(0, len(groups), _GROUPS_A_LINE):
            console.print(Text("   " + "-".join(groups[start : start + _GROUPS_A_LINE])))
        explain(f"\n{_MEANING}\n")
        click.prompt("Write it down, then press Enter", default="", show_default=False, err=True)
    explain("Type it now, from the paper. Spaces, hyphens and capitals do not matter.")
    for _ in range(_TRIES):
        if asked_code() == code:
            return
        explain("This is another code than the one that was shown.")
    raise Failure(ExitCode.REFUSED, "The code was not typed as it was shown: nothing is saved. Begin again.")


def asked_code() -> RecoveryCode:
    """A code that a person types, or from standard input.

    Raises:
        InvalidRecoveryCode: it is none; at a terminal, three times.
    """
    if not sys.stdin.isatty():
        return parse_recovery_code(read_text("CODE"))
    for _ in range(_TRIES - 1):
        try:
            return _typed_code()
        except InvalidRecoveryCode as error:
            explain(f"{error}.")
    return _typed_code()


def _typed_code() -> RecoveryCode:
    answer: str = click.prompt("Recovery code", err=True)
    return parse_recovery_code(answer)
