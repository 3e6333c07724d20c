"""`ironwire send` and `history`: one message out, and what was said before."""

import heapq
import json
import unicodedata
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click
import rich.text
import trio

import ironwire.client as iw
from ironwire.cli import options
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.devicebook import DeviceBook
from ironwire.cli.help.completion import ANYBODY
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.render import as_json as json_line
from ironwire.cli.render import download_line, notice, remembered
from ironwire.cli.scripting.files import RemoteFile, Uploader, attach_with_bar, source_of
from ironwire.cli.scripting.outbound import Outgoing, send_as_device, waiting_line
from ironwire.cli.streams import read_text
from ironwire.cli.terminal import err, out
from ironwire.ids import Address, DeviceId
from ironwire.wire.messages import FileKind
from ironwire.wire.messages import Text as SentText

_PATH = click.Path(path_type=Path, allow_dash=True)
MOST_ENTRIES = 100_000
"""All of them are held in memory at once."""


@click.command()
@click.argument("to", type=ANYBODY)
@click.argument("text", required=False)
@click.option("--file", "file", type=_PATH, help="Any file, with its name and size.")
@click.option("--image", "image", type=_PATH, help="A picture, with its size.")
@click.option("--voice", "voice", type=_PATH, help="A voice message, with its length and its waveform.")
@click.option("--circle", "circle", type=_PATH, help="A square film of a minute at most, with its length and size.")
@options.this_device_option
@options.server_option
@options.key_option
@options.json_option
def send(
    to: str,
    text: str | None,
    file: Path | None,
    image: Path | None,
    voice: Path | None,
    circle: Path | None,
    device: DeviceId | None,
    server: str,
    key: Path,
    *,
    as_json: bool,
) -> None:
    """Send TEXT to TO, and wait until the server has accepted it. TEXT - is read from standard input.

    TEXT is kept before it is sent: where the server is away, or TO has published no keys yet, the command says so and
    succeeds, and TEXT goes out when the device is used again. It goes encrypted, to whoever has a device that can read
    that.
    TO is a person or a group. A file is uploaded first, and TEXT is its caption; the file - is standard input. To look
    into pictures, voice messages and circles takes the extra `ironwire[media]`.
    """
    given: dict[FileKind, Path | None] = {"file": file, "image": image, "voice": voice, "circle": circle}
    attached = [(kind, path) for kind, path in given.items() if path is not None]
    if len(attached) > 1:
        raise click.UsageError("One file at a time: give one of --file, --image, --voice and --circle.")
    if not text and not attached:
        raise click.UsageError("Nothing to send: give TEXT, - or a file, as with --file.")
    if text == "-" and any(source_of(path) != path for _, path in attached):
        raise click.UsageError("Standard input can be the text or the file: one of the two has to be something else.")
    recipient = AddressBook.beside(key).address(to)
    key_file = KeyFile.open(key)
    address = iw.ServerAddress.parse(server)
    if text == "-":
        text = read_text("TEXT -")
    compose = partial(_compose, recipient, text, attached[0] if attached else None)
    _report(*trio.run(send_as_device, address, key_file, key_file.device(device), compose), as_json=as_json)


@click.command()
@click.argument("who", type=ANYBODY, required=False)
@click.option("--search", metavar="TEXT", help="Messages with TEXT in them, in all conversations or in that with WHO.")
@click.option(
    "--limit",
    type=click.IntRange(1, MOST_ENTRIES),
    default=50,
    show_default=True,
    metavar="N",
    help="The last N messages.",
)
@options.this_device_option
@options.server_option
@options.key_option
@options.json_option
def history(
    who: str | None, search: str | None, limit: int, device: DeviceId | None, server: str, key: Path, *, as_json: bool
) -> None:
    """Show what you and WHO have said, as far as this device knows. WHO may be a group. No server is asked.

    With --search, messages, captions and names of files are looked through, everywhere unless WHO is given; capitals
    and small letters are the same. A message that another device of yours has told this one of says from which.
    """
    if who is None and not search:
        raise click.UsageError("Whose messages? Give WHO, or --search TEXT to look everywhere.")
    book, devices = AddressBook.beside(key), DeviceBook.beside(key)
    peer = None if who is None else book.address(who)
    key_file = KeyFile.open(key)
    owner = iw.Owner(key_file.client_id, key_file.device(device), iw.ServerAddress.parse(server).origin)
    path, store_key = iw.default_store_path(owner), iw.StoreKey.of_account(key_file.account)
    if search:
        entries = _found(iw.read_everything(path, owner, store_key), search, peer, limit)
    elif peer is not None:
        entries = [(peer, entry) for entry in iw.read_history(path, owner, store_key, peer, limit)]
    else:
        entries = []
    if not entries and not as_json:
        err().print(notice("nothing found" if search else "nothing yet"))
    shown = peer
    for where, entry in entries:
        if as_json:
            state = None if entry.state == "received" else entry.state
            place = where if search else None
            beside: dict[str, int | str | None] = {
                "state": state,
                "receipt": entry.receipt,
                "conversation": place,
                "encrypted": entry.is_encrypted,
                "told_by": entry.told_by,
            }
            click.echo(json_line(entry.message, entry.id, link=_link(entry), **beside))
            continue
        if where != shown:
            out().print(rich.text.Text(book.label(where), "bold underline"))
            shown = where
        link = _link(entry)
        fetch = None if link is None else download_line(link)
        source = None if entry.told_by is None else devices.label(entry.told_by)
        out().print(remembered(entry, book, owner.client, where, fetch=fetch, source=source))


def _found(
    entries: Iterable[tuple[Address, iw.HistoryEntry]], text: str, peer: Address | None, limit: int
) -> list[tuple[Address, iw.HistoryEntry]]:
    """The last `limit` entries with the text in them, oldest first in each conversation."""
    wanted = _folded(text)
    matching = (each for each in entries if peer in (None, each[0]) and wanted in _folded(_words(each[1].message)))
    newest = heapq.nlargest(limit, matching, key=lambda each: each[1].number)
    return sorted(newest, key=lambda each: (each[0], each[1].number))


def _words(message: iw.Said) -> str:
    match message:
        case iw.DeliveredText(text=text):
            return text
        case iw.DeliveredFile(name=name, caption=caption):
            return f"{name or ''}\n{caption or ''}"
        case iw.GroupChanged(name=name):
            return name or ""


def _folded(text: str) -> str:
    """For a comparison that takes no notice of case, nor of how letters are composed (Unicode, section 3.13)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _link(entry: iw.HistoryEntry) -> str | None:
    message = entry.message
    return RemoteFile.of(message, entry.content).link if isinstance(message, iw.DeliveredFile) else None


async def _compose(
    to: Address, text: str | None, attached: tuple[FileKind, Path] | None, uploader: Uploader
) -> Outgoing:
    if attached is None:
        return Outgoing(SentText(to, text or ""))
    kind, path = attached
    return await attach_with_bar(uploader, to, source_of(path), kind, text)


def _report(stored: iw.Stored, accepted: iw.Accepted | None, *, as_json: bool) -> None:
    (message_id,) = stored.ids
    answer: dict[str, Any] = {"id": message_id}
    if accepted is None:
        err().print(notice(waiting_line(stored.waiting, stored.reason), "magenta"))
        answer |= {"waiting": stored.waiting, "reason": stored.reason}
    else:
        answer |= {"ts": accepted.ts, "duplicate": accepted.duplicate}
    if as_json:
        click.echo(json.dumps(answer))
