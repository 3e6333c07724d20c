"""`ironwire admin`: lists the clients of a server and their mailboxes, and does what only its operator may.

The commands ask the server that serves the data folder; without one, they open the folder themselves.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import trio
from rich.filesize import decimal

from ironwire.cli.operator.serverside import data_option, loaded_settings
from ironwire.cli.options import config_option, json_option
from ironwire.cli.render import when
from ironwire.cli.scripting.asking import confirm, yes_option
from ironwire.cli.table import show_table
from ironwire.cli.terminal import counted, err, out, printable
from ironwire.errors import InvalidId
from ironwire.handlers import operator as asking
from ironwire.handlers.operator import MOST_OFFSET, MOST_ROWS, Answer, Request
from ironwire.ids import ClientId, parse_client_id
from ironwire.server.operator.admin import perform
from ironwire.store.clock import describe_leap

Cell = Callable[[Mapping[str, Any]], str]

limit_option = click.option(
    "--limit", type=click.IntRange(1, MOST_ROWS), default=50, show_default=True, help="How many rows at the most."
)
offset_option = click.option(
    "--offset", type=click.IntRange(0, MOST_OFFSET), default=0, help="How many rows to leave out before the first."
)


def _parse_client(_: click.Context, __: click.Parameter, value: str | None) -> ClientId | None:
    try:
        return None if value is None else parse_client_id(value.lower())
    except InvalidId as error:
        raise InvalidId(f"{value!r} {error}") from None


client_argument = click.argument("client", callback=_parse_client)


@click.group()
def admin() -> None:
    """See who is on your server and what waits there; ban, erase, and clean up.

    Run it on the server's machine, as the server's user or as root, whether the server runs or not.
    """


def _ask(data: Path | None, config_file: Path | None, request: Request) -> Answer:
    return trio.run(perform, loaded_settings(config_file, data), request)


def _show(answer: Answer, columns: Mapping[str, Cell], *, as_json: bool) -> None:
    """Print a table of the rows, and a line below it if there are more."""
    if as_json:
        click.echo(json.dumps(answer))
        return
    rows: Sequence[Mapping[str, Any]] = answer["rows"]
    if rows:
        show_table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])
    elif not answer["total"]:
        err().print("none")
    if len(rows) < answer["total"]:
        err().print(f"{len(rows)} of {answer['total']}; --limit and --offset show others")


def _count(key: str) -> Cell:
    return lambda row: str(row[key])


def _size(key: str) -> Cell:
    return lambda row: decimal(row[key])


def _time(key: str) -> Cell:
    return lambda row: "" if row[key] is None else f"{when(row[key]):%Y-%m-%d %H:%M}"


def _word(key: str, word: str) -> Cell:
    return lambda row: word if row[key] else ""


@admin.command()
@click.option("--banned", is_flag=True, help="Those alone who are banned.")
@limit_option
@offset_option
@data_option
@config_option
@json_option
def clients(
    limit: int, offset: int, data: Path | None, config_file: Path | None, *, banned: bool, as_json: bool
) -> None:
    """List the clients that have a device, are in a group or are banned."""
    columns = {
        "client": _count("client"),
        "sessions": _count("sessions"),
        "devices": _count("devices"),
        "groups": _count("groups"),
        "waiting": _count("waiting"),
        "size": _size("waiting_bytes"),
        "last here": _time("seen_ms"),
        "": _word("is_banned", "banned"),
    }
    _show(_ask(data, config_file, asking.ListClients(limit, offset, banned)), columns, as_json=as_json)


@admin.command()
@click.argument("client", callback=_parse_client, required=False)
@limit_option
@offset_option
@data_option
@config_option
@json_option
def devices(
    client: ClientId | None, limit: int, offset: int, data: Path | None, config_file: Path | None, *, as_json: bool
) -> None:
    """List the devices of CLIENT, or of everybody."""
    columns = {
        "client": _count("client"),
        "device": _count("device"),
        "first here": _time("created_ms"),
        "last here": _time("seen_ms"),
        "waiting": _count("waiting"),
        "": _word("sessions", "connected"),
    }
    _show(_ask(data, config_file, asking.ListDevices(limit, offset, client)), columns, as_json=as_json)


@admin.command()
@limit_option
@offset_option
@data_option
@config_option
@json_option
def mailboxes(limit: int, offset: int, data: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """List mailboxes, those in which the most waits first."""
    columns = {
        "client": _count("client"),
        "device": _count("device"),
        "waiting": _count("waiting"),
        "size": _size("waiting_bytes"),
        "oldest": _time("oldest_ms"),
        "last here": _time("seen_ms"),
        "": _word("is_full", "full"),
    }
    _show(_ask(data, config_file, asking.ListMailboxes(limit, offset)), columns, as_json=as_json)


@admin.command()
@limit_option
@offset_option
@data_option
@config_option
@json_option
def groups(limit: int, offset: int, data: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """List the groups, with how many members and admins they have."""
    columns = {
        "group": _count("group"),
        "members": _count("members"),
        "admins": _count("admins"),
        "epoch": _count("epoch"),
        "name": lambda row: printable(row["name"] or ""),
    }
    _show(_ask(data, config_file, asking.ListGroups(limit, offset)), columns, as_json=as_json)


@admin.command()
@limit_option
@data_option
@config_option
@json_option
def blobs(limit: int, data: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """Say how many files were uploaded and how large they are, and list the newest."""
    answer = _ask(data, config_file, asking.ListBlobs(limit))
    if not as_json:
        out().print(f"{counted(answer['total'], 'file')}, {decimal(answer['total_bytes'])}")
    columns = {"file": _count("name"), "size": _size("size_bytes"), "uploaded": _time("stored_ms")}
    _show(answer, columns, as_json=as_json)


def _say(answer: Answer, sentence: str, *, as_json: bool) -> None:
    click.echo(json.dumps(answer) if as_json else sentence)


@admin.command()
@client_argument
@data_option
@config_option
@json_option
def ban(client: ClientId, data: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """Keep CLIENT out, from now until `unban`; its sessions end at once.

    What waits for it goes on waiting, and others can go on sending to it.
    """
    answer = _ask(data, config_file, asking.Ban(client))
    state = "is banned" if answer["is_news"] else "was banned already"
    _say(answer, f"{client} {state}; {counted(answer['sessions'], 'session')} ended", as_json=as_json)


@admin.command()
@client_argument
@data_option
@config_option
@json_option
def unban(client: ClientId, data: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """Let CLIENT in again."""
    answer = _ask(data, config_file, asking.Unban(client))
    _say(answer, f"{client} {'may come again' if answer['is_news'] else 'was not banned'}", as_json=as_json)


@admin.command()
@data_option
@config_option
@json_option
def expire(data: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """Remove now what has expired, which the server does every hour."""
    answer = _ask(data, config_file, asking.Expire())
    _say(
        answer,
        f"expired: {counted(answer['entries'], 'envelope')} in mailboxes, {counted(answer['devices'], 'device')}, "
        f"{counted(answer['files'], 'file')}",
        as_json=as_json,
    )


@admin.command()
@click.option("--confirm", is_flag=True, help="The clock is right: believe it, and let things expire again.")
@data_option
@config_option
@json_option
def clock(data: Path | None, config_file: Path | None, *, confirm: bool, as_json: bool) -> None:
    """Say whether the server believes the clock of this machine.

    While the clock is days away from what the server knows, nothing expires: no message, no device, no file. It may be
    wrong, or the server was off for long; only you can tell. With --confirm, what is too old by this clock goes
    within the hour.
    """
    answer = _ask(data, config_file, asking.Clock(confirm))
    leap_ms = answer["leap_ms"]
    if leap_ms == 0:
        sentence = "the server believes the clock"
    elif confirm:
        sentence = f"{describe_leap(leap_ms)}; now it is believed"
    else:
        sentence = f"{describe_leap(leap_ms)}, and nothing expires; set it, or, if it is right, add --confirm"
    _say(answer, sentence, as_json=as_json)


@admin.command()
@click.option("--uses", type=click.IntRange(1, 1_000), default=1, show_default=True, help="For how many clients.")
@click.option("--days", type=click.IntRange(1, 3_650), default=7, show_default=True, help="For how long.")
@data_option
@config_option
@json_option
def invite(uses: int, days: int, data: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """Make an invite for clients that the server does not know; they use it with `ironwire join`.

    It matters where `auth.registration` is `invite`. It is shown once: the server keeps only its hash.
    """
    answer = _ask(data, config_file, asking.Invite(uses, days))
    _say(answer, answer["invite"], as_json=as_json)


@admin.command()
@client_argument
@yes_option
@data_option
@config_option
@json_option
def erase(client: ClientId, data: Path | None, config_file: Path | None, *, yes: bool, as_json: bool) -> None:
    """Erase what the server knows of CLIENT; this cannot be undone.

    Its devices and mailboxes go, what waits in them, every envelope from or to it with its id and its place in the
    history, its encrypted backups, its memberships in groups, its blocks, and the log of its devices; its sessions end.
    What stays: copies in the mailboxes of others until they have them, the blocks of others, files that it uploaded,
    because nothing says whose they are, and a ban. Without a ban it may come again, as somebody new.
    """
    confirm(f"Erase {client}? This cannot be undone.", yes)
    answer = _ask(data, config_file, asking.Erase(client))
    if as_json:
        click.echo(json.dumps(answer))
        return
    lines = {
        "sessions ended": "sessions",
        "devices": "devices",
        "envelopes that waited for it": "waiting",
        "places in the history": "archived",
        "memberships": "groups",
        "blocks": "blocks",
        "entries of its device log": "log_entries",
        "envelopes left to others": "left_to_others",
    }
    for what, key in lines.items():
        click.echo(f"{what:{max(map(len, lines))}}  {answer[key]}")
