"""`ironwire group`: who is in a group, and what it is called."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from attrs import asdict
from rich.text import Text

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.failures import refusal
from ironwire.cli.help.completion import CLIENT, GROUP
from ironwire.cli.options import json_option, key_option, server_option, this_device_option
from ironwire.cli.render import ROLES, notice, roster
from ironwire.cli.scripting.asking import ask_as_device, confirm, yes_option
from ironwire.cli.table import show_table
from ironwire.cli.terminal import err, out, printable
from ironwire.client import Accepted, Client, DeviceOwner, GroupDetails, GroupSummary, Refused, read_client_id
from ironwire.errors import InvalidId
from ironwire.ids import ClientId, DeviceId, GroupId, Role

MOST_EPOCHS = 2**53 - 1
"""The largest number on the wire (docs/protocol.md, section 1)."""

Command = TypeVar("Command", bound=Callable[..., None])


def _change_options(command: Command) -> Command:
    """The options of every change of a group."""
    if_epoch = click.option(
        "--if-epoch",
        type=click.IntRange(1, MOST_EPOCHS),
        metavar="N",
        help="Only if the group is still as it was at epoch N.",
    )
    return if_epoch(this_device_option(server_option(key_option(json_option(command)))))


@click.group()
def group() -> None:
    """Make groups, and say who is in them.

    GROUP is a name that you gave it (`ironwire contacts add NAME ID`) or its id; a shell wants the id in quotes.
    CLIENT is a contact's name or a client id.
    """


@group.command()
@click.argument("name")
@click.argument("clients", nargs=-1, type=CLIENT, metavar="[CLIENT]...")
@this_device_option
@server_option
@key_option
@json_option
def create(
    name: str, clients: tuple[str, ...], device: DeviceId | None, server: str, key: Path, *, as_json: bool
) -> None:
    """Make a group NAME of you and every CLIENT, and print its id. You are its admin, and NAME becomes a contact."""
    book = AddressBook.beside(key)
    members = [book.client(client) for client in clients]
    with _naming(book):
        made = ask_as_device(server, key, device, lambda client: client.groups.create(members, name))
    click.echo(json.dumps({"group": made}) if as_json else made)
    _name(book, name, made)


@group.command()
@click.argument("group", type=GROUP)
@click.argument("clients", nargs=-1, type=CLIENT, required=True, metavar="CLIENT...")
@_change_options
def add(
    group: str,
    clients: tuple[str, ...],
    if_epoch: int | None,
    device: DeviceId | None,
    server: str,
    key: Path,
    *,
    as_json: bool,
) -> None:
    """Make every CLIENT a member of GROUP."""
    book = AddressBook.beside(key)
    group_id, members = book.group(group), [book.client(client) for client in clients]
    with _naming(book):
        changed = ask_as_device(
            server, key, device, lambda client: client.groups.add(group_id, members, if_epoch=if_epoch)
        )
    _report(changed, as_json, f"{_are(book, members)} in {book.label(group_id)}")


@group.command()
@click.argument("group", type=GROUP)
@click.argument("clients", nargs=-1, type=CLIENT, required=True, metavar="CLIENT...")
@_change_options
def remove(
    group: str,
    clients: tuple[str, ...],
    if_epoch: int | None,
    device: DeviceId | None,
    server: str,
    key: Path,
    *,
    as_json: bool,
) -> None:
    """Remove every CLIENT from GROUP. They learn of it, and of nothing after it."""
    book = AddressBook.beside(key)
    group_id, members = book.group(group), [book.client(client) for client in clients]
    changed = ask_as_device(
        server, key, device, lambda client: client.groups.remove(group_id, members, if_epoch=if_epoch)
    )
    _report(changed, as_json, f"{_are(book, members)} not in {book.label(group_id)} any more")


@group.command()
@click.argument("group", type=GROUP)
@yes_option
@_change_options
def leave(
    group: str, if_epoch: int | None, device: DeviceId | None, server: str, key: Path, *, yes: bool, as_json: bool
) -> None:
    """Leave GROUP. Its last admin makes somebody else one first. To come back, one has to be added by an admin."""
    book = AddressBook.beside(key)
    group_id = book.group(group)
    confirm(f"Leave {book.label(group_id)}? Only its admins can add you again.", yes)
    changed = ask_as_device(server, key, device, lambda client: client.groups.leave(group_id, if_epoch=if_epoch))
    _report(changed, as_json, f"you are not in {book.label(group_id)} any more")


@group.command("list")
@this_device_option
@server_option
@key_option
@json_option
def list_groups(device: DeviceId | None, server: str, key: Path, *, as_json: bool) -> None:
    """Show every group that you are in: what you call it, its own name, how many are in it, what you are there."""
    book = AddressBook.beside(key)
    found = ask_as_device(server, key, device, lambda client: client.groups.all())
    if as_json:
        click.echo(json.dumps([_known(each) for each in found]))
        return
    if not found:
        out().print(Text("No groups: ironwire group create NAME CLIENT", "dim"))
        return
    rows = []
    for each in found:
        contact = next((name for name, known in book.all().items() if known == each.group), "")
        rows.append((contact, printable(each.name or ""), str(each.members), each.role, each.group))
    show_table(("contact", "name", "members", "you are", "id"), rows)


@group.command()
@click.argument("group", type=GROUP)
@this_device_option
@server_option
@key_option
@json_option
def info(group: str, device: DeviceId | None, server: str, key: Path, *, as_json: bool) -> None:
    """Show who is in GROUP, in the order in which they came, and the code of an encrypted one.

    The code is the same for all who are in GROUP, on each of their devices, until somebody comes, goes or renews keys.
    Is it another at the same time, somebody has split the group: not all of you read the same.
    """
    book = AddressBook.beside(key)
    group_id = book.group(group)

    async def described(client: Client | DeviceOwner) -> tuple[GroupDetails, str | None]:
        return await client.groups.info(group_id), await client.epoch_code(group_id)

    details, code = ask_as_device(server, key, device, described)
    if as_json:
        click.echo(json.dumps(_known(details) | ({} if code is None else {"code": code})))
        return
    for line in roster(details, book, read_client_id(key), code):
        out().print(line)


@group.command()
@click.argument("group", type=GROUP)
@click.argument("client", type=CLIENT)
@click.argument("role", type=click.Choice(get_args(Role)))
@_change_options
def role(
    group: str,
    client: str,
    role: Role,
    if_epoch: int | None,
    device: DeviceId | None,
    server: str,
    key: Path,
    *,
    as_json: bool,
) -> None:
    """Make CLIENT an admin of GROUP, or a member like others."""
    book = AddressBook.beside(key)
    group_id, member = book.group(group), book.client(client)
    changed = ask_as_device(
        server, key, device, lambda client: client.groups.set_role(group_id, member, role, if_epoch=if_epoch)
    )
    _report(changed, as_json, f"{book.label(member)} is {ROLES[role]} of {book.label(group_id)}")


@group.command()
@click.argument("group", type=GROUP)
@click.argument("name")
@_change_options
def rename(
    group: str, name: str, if_epoch: int | None, device: DeviceId | None, server: str, key: Path, *, as_json: bool
) -> None:
    """Call GROUP NAME, for everybody in it. Your contact for it stays as it is."""
    book = AddressBook.beside(key)
    group_id = book.group(group)
    changed = ask_as_device(server, key, device, lambda client: client.groups.rename(group_id, name, if_epoch=if_epoch))
    _report(changed, as_json, f"{book.label(group_id)} is called “{printable(name)}” by everybody in it")


@contextmanager
def _naming(book: AddressBook) -> Iterator[None]:
    """Say of which client something was refused.

    Raises:
        Failure: it was.
    """
    try:
        yield
    except Refused as refused:
        if refused.user is None:
            raise
        raise Failure(ExitCode.REFUSED, f"{book.label(ClientId(refused.user))}: {refusal(refused)}") from None


def _known(group: GroupDetails | GroupSummary) -> dict[str, Any]:
    return asdict(group, filter=lambda _, value: value is not None)


def _report(accepted: Accepted, as_json: bool, sentence: str) -> None:
    if as_json:
        click.echo(json.dumps({"ts": accepted.ts, "epoch": accepted.epoch, "duplicate": accepted.duplicate}))
    else:
        # The answer to a change that had to be sent twice does not tell the epoch.
        click.echo(sentence + ("." if accepted.epoch is None else f"; epoch {accepted.epoch}."))


def _are(book: AddressBook, clients: list[ClientId]) -> str:
    return f"{', '.join(map(book.label, clients))} {'is' if len(clients) == 1 else 'are'}"


def _name(book: AddressBook, name: str, made: GroupId) -> None:
    """Call a new group by its own name, where that is a name here and free."""
    try:
        book.add(name, made, is_new=True)
    except InvalidId as error:
        err().print(notice(f"{error}: choose another with `ironwire contacts add NAME '{made}'`", "magenta"))
