"""`ironwire send` and `ironwire listen`: one message out, and all that come in."""

import json
import sys
from pathlib import Path

import click
import trio
from rich.console import Console

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.files import describe, upload_with_bar
from ironwire.cli.options import answer_deadline, json_option, key_option, open_identity, server_option
from ironwire.cli.render import as_json as json_line
from ironwire.cli.render import incident, notice, now, received
from ironwire.cli.terminal import err, out
from ironwire.client import (
    Accepted,
    Client,
    DeliveredFile,
    DeliveredText,
    Error,
    Identity,
    Received,
    ServerAddress,
    connect,
)
from ironwire.ids import Address, MessageId


@click.command()
@click.argument("to")
@click.argument("text", required=False)
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="Upload this file and send it; TEXT is its caption."
)
@server_option
@key_option
@json_option
def send(to: str, text: str | None, file: Path | None, server: str, key: Path, *, as_json: bool) -> None:
    """Send TEXT to TO, and wait until the server has accepted it. TEXT - is read from standard input."""
    if text is None and file is None:
        raise click.UsageError("Nothing to send: give TEXT, - or --file.")
    recipient = AddressBook.beside(key).address(to)
    identity = open_identity(key)
    address = ServerAddress.parse(server)
    if text == "-":
        text = sys.stdin.read().removesuffix("\n")
    if file is None:
        accepted = trio.run(_send_text, address, identity, recipient, text or "")
    else:
        accepted = trio.run(_send_file, address, identity, recipient, file, text)
    if as_json:
        click.echo(json.dumps({"ts": accepted.ts, "duplicate": accepted.duplicate}))


@click.command()
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Leave after N messages.")
@server_option
@key_option
@json_option
def listen(count: int | None, server: str, key: Path, *, as_json: bool) -> None:
    """Print what arrives, until Ctrl-C."""
    identity = open_identity(key)
    trio.run(_listen, ServerAddress.parse(server), identity, AddressBook.beside(key), count, as_json)


async def _send_text(address: ServerAddress, identity: Identity, to: Address, text: str) -> Accepted:
    async with connect(address, identity) as client:
        with answer_deadline():
            return await client.send_text(to, text)


async def _send_file(
    address: ServerAddress, identity: Identity, to: Address, file: Path, caption: str | None
) -> Accepted:
    uploaded = await upload_with_bar(address, file)
    metadata = describe(file, uploaded)
    if caption:
        metadata["caption"] = caption
    async with connect(address, identity) as client:
        with answer_deadline():
            return await client.send_file(to, uploaded.url, **metadata)


async def _listen(
    address: ServerAddress, identity: Identity, book: AddressBook, count: int | None, as_json: bool
) -> None:
    console, aside = out(), err()
    seen = 0
    async with connect(address, identity) as client:
        aside.print(notice(f"{client.client_id} listens; Ctrl-C stops it"))
        while seen != count:
            message, id_ = await _next_message(client, aside)
            if as_json:
                click.echo(json_line(message, id_))
            else:
                console.print(received(message, book.label(message.sender), now(), fetch="ironwire download"))
            seen += 1


async def _next_message(client: Client, aside: Console) -> tuple[DeliveredText | DeliveredFile, MessageId | None]:
    """The next text or file; what else happens is said on `aside`."""
    async for event in client:
        if not isinstance(event, Received):
            aside.print(incident(event))
        elif isinstance(event.message, Error):
            aside.print(incident(event.message))
        elif isinstance(event.message, DeliveredText | DeliveredFile):
            return event.message, event.id
    raise AssertionError("a client's events end with an exception")
