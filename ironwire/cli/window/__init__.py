"""The window of `ironwire chat`."""

import click

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.plain import hold_lines
from ironwire.client import Client
from ironwire.ids import Address


async def hold_window(client: Client, book: AddressBook, to: Address | None, *, is_visible: bool) -> None:
    """Converse until the person leaves, first with `to`."""
    if to is None:
        raise click.UsageError("Nobody to talk to: give TO.")
    await hold_lines(client, book, to, is_visible=is_visible)
