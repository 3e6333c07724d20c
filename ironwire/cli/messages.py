"""`ironwire send`, `listen` and `history`: one message out, all that come in, and what was said before."""

import json
import sys
from pathlib import Path

import click
import trio
from rich.console import Console
from rich.text import Text

from ironwire.cli.addressbook import AddressBook
from ironwire.cli.files import describe, upload_with_bar
from ironwire.cli.options import (
    answer_deadline,
    device_option,
    json_option,
    key_option,
    open_identity,
    server_option,
    this_device_option,
)
from ironwire.cli.render import as_json as json_line
from ironwire.cli.render import incident, notice, own, received, sent_file, speaker, when
from ironwire.cli.terminal import err, out
from ironwire.client import (
    Accepted,
    Client,
    DeliveredFile,
    DeliveredText,
    Error,
    HistoryEntry,
    Identity,
    Owner,
    Received,
    ServerAddress,
    Settled,
    connect,
    default_store_path,
    read_history,
)
from ironwire.ids import Address, ClientId, DeviceId, MessageId


@click.command()
@click.argument("to")
@click.argument("text", required=False)
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="Upload this file and send it; TEXT is its caption."
)
@device_option
@server_option
@key_option
@json_option
def send(
    to: str, text: str | None, file: Path | None, device: DeviceId | None, server: str, key: Path, *, as_json: bool
) -> None:
    """Send TEXT to TO, and wait until the server has accepted it. TEXT - is read from standard input."""
    if text is None and file is None:
        raise click.UsageError("Nothing to send: give TEXT, - or --file.")
    recipient = AddressBook.beside(key).address(to)
    identity = open_identity(key)
    address = ServerAddress.parse(server)
    if text == "-":
        text = sys.stdin.read().removesuffix("\n")
    if file is None:
        accepted = trio.run(_send_text, address, identity, device, recipient, text or "")
    else:
        accepted = trio.run(_send_file, address, identity, device, recipient, file, text)
    if as_json:
        click.echo(json.dumps({"ts": accepted.ts, "duplicate": accepted.duplicate}))


@click.command()
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Leave after N messages.")
@device_option
@server_option
@key_option
@json_option
def listen(count: int | None, device: DeviceId | None, server: str, key: Path, *, as_json: bool) -> None:
    """Print what arrives, until Ctrl-C. As a device, begin with what came since it was here last."""
    identity = open_identity(key)
    trio.run(_listen, ServerAddress.parse(server), identity, device, AddressBook.beside(key), count, as_json)


@click.command()
@click.argument("who")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="The last N messages."
)
@this_device_option
@server_option
@key_option
@json_option
def history(who: str, limit: int, device: DeviceId, server: str, key: Path, *, as_json: bool) -> None:
    """Show what you and WHO have said, as far as this device knows. No server is asked."""
    book = AddressBook.beside(key)
    peer = book.address(who)
    owner = Owner(open_identity(key).client_id, device, ServerAddress.parse(server).origin)
    for entry in read_history(default_store_path(owner), owner, peer, limit):
        if as_json:
            state = None if entry.state == "received" else entry.state
            click.echo(json_line(entry.message, entry.id, state=state, receipt=entry.receipt))
        else:
            out().print(_remembered(entry, book, owner.client))


def _remembered(entry: HistoryEntry, book: AddressBook, own_id: ClientId) -> Text:
    message, at = entry.message, when(entry.message.ts)
    if message.sender != own_id:
        return received(message, book.label(message.sender), at, fetch="ironwire download")
    said = message.text if isinstance(message, DeliveredText) else sent_file(message.name)
    match entry.state:
        case "refused":
            return own(said, at, "the server refused it")
        case "queued":
            return own(said, at, mark="  … not sent yet")
        case _:
            return own(said, at, mark=f"  ✓ {entry.receipt}" if entry.receipt else "  ✓")


async def _send_text(
    address: ServerAddress, identity: Identity, device: DeviceId | None, to: Address, text: str
) -> Accepted:
    async with connect(address, identity, device=device) as client:
        with answer_deadline():
            return await client.send_text(to, text)


async def _send_file(
    address: ServerAddress, identity: Identity, device: DeviceId | None, to: Address, file: Path, caption: str | None
) -> Accepted:
    uploaded = await upload_with_bar(address, file)
    metadata = describe(file, uploaded)
    if caption:
        metadata["caption"] = caption
    async with connect(address, identity, device=device) as client:
        with answer_deadline():
            return await client.send_file(to, uploaded.url, **metadata)


async def _listen(
    address: ServerAddress,
    identity: Identity,
    device: DeviceId | None,
    book: AddressBook,
    count: int | None,
    as_json: bool,
) -> None:
    console, aside = out(), err()
    seen = 0
    async with connect(address, identity, device=device) as client:
        aside.print(notice(f"{client.client_id} listens; Ctrl-C stops it"))
        while seen != count:
            message, id_, seq = await _next_message(client, aside)
            if as_json:
                click.echo(json_line(message, id_, seq=seq))
            else:
                name = speaker(message, book, client.client_id)
                console.print(received(message, name, when(message.ts), fetch="ironwire download"))
            seen += 1


async def _next_message(
    client: Client, aside: Console
) -> tuple[DeliveredText | DeliveredFile, MessageId | None, int | None]:
    """The next text or file; what else happens is said on `aside`."""
    async for event in client:
        match event:
            case Received(DeliveredText() | DeliveredFile() as message, id_, seq):
                return message, id_, seq
            case Received(Error() as error):
                aside.print(incident(error))
            case Received() | Settled():
                pass  # receipts, and the fate of what was sent: for those who send
            case _:
                aside.print(incident(event))
    raise AssertionError("a client's events end with an exception")
