"""How a command ends: the exit codes, and the exception that ends it with one.

Rule: nothing heavier than click is imported here; the start of every command needs it.
"""

from enum import IntEnum

import click

from ironwire.cli.terminal import printable


class ExitCode(IntEnum):
    """The exit codes that a script finds in `$?`. Part of the command line's interface: a number never changes its
    meaning.
    """

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    AUTHENTICATION = 4
    FILE = 5
    INTERRUPTED = 130


class Failure(click.ClickException):
    """An expected end that is not a good one. A line may hold what a peer wrote: it is made printable."""

    def __init__(self, code: ExitCode, *lines: str) -> None:
        super().__init__("\n".join(map(printable, lines)))
        self.exit_code = code  # type: ignore[misc]  # click's documented way; its annotation forgets instances
