"""`ironwire block`, `unblock` and `blocks`: from whom this identity wants nothing."""

import json
import shlex
from pathlib import Path

import click
from rich.text import Text

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.help.completion import CLIENT
from ironwire.cli.options import json_option, key_option, server_option
from ironwire.cli.scripting.asking import ask
from ironwire.cli.terminal import out


@click.command()
@click.argument("who", type=CLIENT)
@server_option
@key_option
def block(who: str, server: str, key: Path) -> None:
    """Get nothing more from WHO, who does not learn of it. In groups you still read each other."""
    book = AddressBook.beside(key)
    client_id = book.client(who)
    ask(server, key, lambda client: client.block(client_id))
    click.echo(f"Blocked {book.label(client_id)}; `ironwire unblock {shlex.quote(who)}` ends it.")


@click.command()
@click.argument("who", type=CLIENT)
@server_option
@key_option
def unblock(who: str, server: str, key: Path) -> None:
    """Get again what WHO sends from now on."""
    book = AddressBook.beside(key)
    client_id = book.client(who)
    ask(server, key, lambda client: client.unblock(client_id))
    click.echo(f"Unblocked {book.label(client_id)}; what was blocked is gone.")


@click.command()
@server_option
@key_option
@json_option
def blocks(server: str, key: Path, *, as_json: bool) -> None:
    """Show whom you have blocked."""
    book = AddressBook.beside(key)
    blocked = ask(server, key, lambda client: client.blocks())
    if as_json:
        click.echo(json.dumps(blocked))
    elif not blocked:
        out().print(Text("Nobody.", "dim"))
    else:
        for client_id in blocked:
            out().print(Text.assemble((book.label(client_id), "bold"), "  ", client_id))
