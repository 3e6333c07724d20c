"""Commands that ask the server for one thing, and leave; and what they ask the user before."""

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import trio

from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import answer_deadline
from ironwire.cli.scripting.outbound import at_device
from ironwire.client import Client, DeviceOwner, ServerAddress
from ironwire.ids import DeviceId

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


def ask_as_device(
    server: str, key: Path, device: DeviceId | None, question: Callable[[Client | DeviceOwner], Awaitable[T]]
) -> T:
    """The same as a device, the one that was named or this computer: devices have a part in encrypted conversations.
    Where another program has it, that one asks.

    Raises:
        ClientError: there is no answer.
    """
    address, key_file = ServerAddress.parse(server), KeyFile.open(key)

    async def told(by: Client | DeviceOwner) -> T:
        with answer_deadline():
            return await question(by)

    opened = partial(key_file.connect, address, key_file.device(device))
    return trio.run(at_device, address, opened, told, told)


async def asked(
    address: ServerAddress,
    key_file: KeyFile,
    question: Callable[[Client], Awaitable[T]],
) -> T:
    """The same, for those who run already."""
    async with key_file.connect(address) as client:
        with answer_deadline():
            return await question(client)
