"""`ironwire contacts`: names that commands take in place of ids."""

import json
from pathlib import Path

import click
from rich.cells import cell_len
from rich.text import Text

from ironwire.cli.addressbook import VERIFIED, AddressBook
from ironwire.cli.help.completion import NAME
from ironwire.cli.options import json_option, key_option
from ironwire.cli.terminal import out
from ironwire.ids import Address, ClientId, is_group, parse_address


@click.group()
def contacts() -> None:
    """Name the people and groups you write to."""


@contacts.command()
@click.argument("name")
@click.argument("id_", metavar="ID")
@key_option
def add(name: str, id_: str, key: Path) -> None:
    """Call the client or group ID by NAME from now on; an older meaning of the name is replaced."""
    address = parse_address(id_.lower())
    former = AddressBook.beside(key).add(name, address)
    click.echo(f"{name} is {address}" + (f", and no longer {former}." if former not in {None, address} else "."))


@contacts.command("list")
@key_option
@json_option
def list_contacts(key: Path, *, as_json: bool) -> None:
    """Show every name, the id behind it, and whether you have verified it."""
    book = AddressBook.beside(key)
    if as_json:
        click.echo(json.dumps([_described(name, address, book) for name, address in book.all().items()]))
    elif not book:
        out().print(Text("Nobody yet: ironwire contacts add NAME ID", "dim"))
    else:
        width = max(map(cell_len, book.all()))
        for name, address in book.all().items():
            line = Text.assemble((name, "bold"), " " * (width - cell_len(name)), "  ", address)
            out().print(line.append(f"  {VERIFIED} verified", "bright_blue") if book.is_verified(address) else line)


def _described(name: str, address: Address, book: AddressBook) -> dict[str, str | int | None]:
    verified_ms = None if is_group(address) else book.verified_ms(ClientId(address))
    return {"name": name, "id": address, "verified": verified_ms}


@contacts.command()
@click.argument("name", type=NAME)
@key_option
def remove(name: str, key: Path) -> None:
    """Forget NAME."""
    AddressBook.beside(key).remove(name)
    click.echo(f"Forgot {name}.")
