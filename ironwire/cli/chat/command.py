"""`ironwire chat`: conversations for a person at a terminal, or one for a script at both ends of a pipe.

not a terminal ── piped.py     every line is kept as it is read
--plain ───────── plain.py     the line editor
else ──────────── window.py    all conversations, in the whole terminal
"""

import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import click
import trio

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.chat.piped import through_pipes
from ironwire.cli.device_news import NewsSource
from ironwire.cli.exits import ExitCode
from ironwire.cli.help.completion import ANYBODY
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import key_option, server_option, this_device_option
from ironwire.client import Client, ServerAddress
from ironwire.ids import Address, DeviceId


@click.command()
@click.argument("to", type=ANYBODY, required=False)
@click.option(
    "--visible", is_flag=True, help="On a terminal: let those with whom you converse see that you are here, and type."
)
@click.option("--plain", is_flag=True, help="Line by line, as on a terminal without colours or for a screen reader.")
@click.option("--quiet", is_flag=True, help="In the window: no bell and no notification about what you do not see.")
@this_device_option
@server_option
@key_option
def chat(
    to: str | None, device: DeviceId | None, server: str, key: Path, *, visible: bool, plain: bool, quiet: bool
) -> None:
    """Converse with TO, a person or a group; or see all your conversations.

    It opens with or without a server: what you say while the server is away is kept, and goes out later. Where standard
    input is no terminal, every line of it is sent to TO and messages are printed. The end of the input waits as long as
    lines get across; those that do not stay on this device, which sends them when it is used again. Where another
    program has this device, that one sends them, and shows what comes.
    """
    read_book = partial(AddressBook.beside, key)
    book = read_book()
    recipient = None if to is None else book.address(to)
    is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
    is_plain = plain or os.environ.get("TERM") in (None, "", "dumb")
    if recipient is None and (is_plain or not is_interactive):
        raise click.UsageError("Nobody to talk to: give TO. Only the window, without --plain, opens without.")
    key_file = KeyFile.open(key)
    own = key_file.device(device)
    address = ServerAddress.parse(server)
    if is_interactive:
        hold = (
            partial(_in_lines, key, book, recipient)
            if is_plain and recipient
            else partial(_in_window, key, read_book, recipient, quiet)
        )
        trio.run(partial(_at_terminal, address, key_file, own, hold, is_visible=visible))
    elif recipient is not None and trio.run(through_pipes, address, key_file, own, book, recipient):
        sys.exit(ExitCode.REFUSED)


Hold = Callable[[Client, bool], Awaitable[None]]
"""Converses over a device until the person leaves, who may want to be seen."""


async def _at_terminal(
    address: ServerAddress, key_file: KeyFile, device: DeviceId, hold: Hold, *, is_visible: bool
) -> None:
    async with key_file.open_device(address, device) as client:
        await hold(client, is_visible)


async def _in_lines(key: Path, book: AddressBook, to: Address, client: Client, is_visible: bool) -> None:
    from ironwire.cli.chat.plain import hold_lines  # noqa: PLC0415 - the editor takes its time to load

    await hold_lines(client, book, NewsSource(client, key), to, is_visible=is_visible)


async def _in_window(
    key: Path,
    read_book: Callable[[], AddressBook],
    to: Address | None,
    is_quiet: bool,
    client: Client,
    is_visible: bool,
) -> None:
    from ironwire.cli.chat.window import hold_window  # noqa: PLC0415 - the window takes its time to load

    news = NewsSource(client, key)
    await hold_window(client, read_book, to, news=news, is_visible=is_visible, is_quiet=is_quiet)
