"""Commands that ask the server for one thing, and leave; and what they ask the user before."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
import trio

from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import answer_deadline
from ironwire.client import Client, ServerAddress

T = TypeVar("T")

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def confirm(question: str, is_agreed: bool) -> None:
    """Have the person at the terminal agree to what cannot be undone, unless `--yes` has done so.

    Raises:
        UsageError: nobody can be asked.
        Abort: no.
    """
    if is_agreed:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here: say --yes if it is so.")
    click.confirm(question, abort=True, err=True)


def ask(server: str, key: Path, question: Callable[[Client], Awaitable[T]]) -> T:
    """The answer to `question`, over a session by the key in the file `key`.

    Raises:
        ClientError: there is none.
    """

    return trio.run(asked, ServerAddress.parse(server), KeyFile.open(key), question)


async def asked(address: ServerAddress, key_file: KeyFile, question: Callable[[Client], Awaitable[T]]) -> T:
    """The same, for those who run already."""
    async with key_file.connect(address) as client:
        with answer_deadline():
            return await question(client)
