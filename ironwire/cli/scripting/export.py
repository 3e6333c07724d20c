"""`ironwire export`: everything that a device has, for programs and to read, in a folder that needs no IronWire.

    messages.jsonl    a line a message, as `ironwire history --json` prints it
    files/            the files, as far as the server still has them
    index.html        the same to read, one conversation after the other

Rule: what others wrote is text in the page, and nothing else. It holds no script, loads nothing, and shows no picture
before somebody opens one.
"""

import html
import os
from collections.abc import Iterator
from datetime import datetime
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Self, TextIO

import click
import trio
from attrs import define, field

import ironwire.client as iw
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.devicebook import DeviceBook
from ironwire.cli.exits import ExitCode, Failure
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import key_option, server_option, this_device_option
from ironwire.cli.render import YOU, change_told, now, when
from ironwire.cli.render import as_json as json_line
from ironwire.cli.scripting.files import RemoteFile
from ironwire.cli.terminal import counted, explain, free_path, printable_lines, safe_file_name
from ironwire.ids import Address, ClientId, DeviceId

_FILE_MODE = 0o600
_FOLDER_MODE = 0o700

_HEAD = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 sans-serif; max-width: 45rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
p {{ margin: .3rem 0; white-space: pre-wrap; overflow-wrap: anywhere }}
time, .note {{ color: #666; font-size: .85em }}
h2 {{ margin-top: 3rem; border-bottom: 1px solid #ccc }}
@media (prefers-color-scheme: dark) {{ body {{ color: #ddd; background: #111 }} a {{ color: #8bf }} }}
</style>
<h1>{title}</h1>
"""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--no-files", is_flag=True, help="Leave the files where they are: the server is not asked.")
@this_device_option
@server_option
@key_option
def export(folder: Path, device: DeviceId | None, server: str, key: Path, *, no_files: bool) -> None:
    """Write everything that this device has to the new FOLDER: messages, files, and a page to read.

    In messages.jsonl is a line of JSON for each message, in files/ what was sent and is still on the server, and
    index.html is for people. Nothing in it is encrypted: keep it where nobody else reads.
    """
    address, key_file = iw.ServerAddress.parse(server), KeyFile.open(key)
    owner = iw.Owner(key_file.client_id, key_file.device(device), address.origin)
    entries = iw.read_everything(iw.default_store_path(owner), owner, iw.StoreKey.of_account(key_file.account))
    first = next(entries, None)  # before anything is written: there may be no such device
    if first is None:
        raise Failure(ExitCode.REFUSED, "nothing was said on this device yet: there is nothing to export")
    try:
        written = ExportFolder.create(folder, AddressBook.beside(key), DeviceBook.beside(key), owner)
        with written:
            for peer, group in groupby(chain([first], entries), key=itemgetter(0)):
                written.begin(peer)
                for _, entry in group:
                    written.add(peer, entry)
    except OSError as error:
        raise Failure(ExitCode.FILE, f"{folder} cannot be written: {error.strerror}") from error
    missing = 0 if no_files else trio.run(written.fetch, address)
    explain(f"Exported {counted(written.messages, 'message')} of {counted(written.conversations, 'conversation')}.")
    click.echo(str(folder / "index.html"))
    if missing:
        raise Failure(ExitCode.FILE, f"{counted(missing, 'file')} could not be fetched from the server any more.")


@define(eq=False)
class ExportFolder:
    """The folder, while it is written."""

    _folder: Path
    _book: AddressBook
    _devices: DeviceBook
    _owner: iw.Owner
    _lines: TextIO
    _page: TextIO
    messages: int = field(default=0, init=False)
    conversations: int = field(default=0, init=False)
    _files: dict[str, tuple[Path, RemoteFile]] = field(factory=dict, init=False)
    """By URL: where each is going to be."""

    @classmethod
    def create(cls, folder: Path, book: AddressBook, devices: DeviceBook, owner: iw.Owner) -> Self:
        """Begin, in a folder that is new or empty.

        Raises:
            UsageError: there is something in it.
            OSError: it cannot be written.
        """
        if folder.exists() and any(folder.iterdir()):
            raise click.UsageError(f"{folder} is not empty: name a new folder.")
        for each in (folder, folder / "files"):
            each.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        lines, page = (_new_file(folder / name) for name in ("messages.jsonl", "index.html"))
        written = cls(folder, book, devices, owner, lines, page)
        title = f"{owner.device}, {now():%Y-%m-%d %H:%M}"
        page.write(_HEAD.format(title=f"IronWire: {_escaped(title)}"))
        page.write(f"<p class=note>{_escaped(owner.client)} at {_escaped(owner.origin)}</p>\n")
        return written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._page.close()
        for path, _file in self._files.values():
            path.unlink()  # its name was only kept free

    def begin(self, peer: Address) -> None:
        """The entries that follow are of this conversation."""
        self.conversations += 1
        self._page.write(
            f"<h2><bdi>{_escaped(self._book.label(peer))}</bdi></h2>\n<p class=note>{_escaped(peer)}</p>\n"
        )

    def add(self, peer: Address, entry: iw.HistoryEntry) -> None:
        message = entry.message
        path = self._place(RemoteFile.of(message, entry.content)) if isinstance(message, iw.DeliveredFile) else None
        state = None if entry.state == "received" else entry.state
        beside: dict[str, int | str | None] = {
            "conversation": peer,
            "state": state,
            "receipt": entry.receipt,
            "path": path,
            "told_by": entry.told_by,
        }
        self._lines.write(json_line(message, entry.id, encrypted=entry.is_encrypted, **beside) + "\n")
        self._page.write("".join(self._html(message, entry, peer, path)))
        self.messages += not isinstance(message, iw.GroupChanged)

    def _html(self, message: iw.Said, entry: iw.HistoryEntry, peer: Address, path: str | None) -> Iterator[str]:
        yield f"<p>{_time(when(message.ts))} "
        if isinstance(message, iw.GroupChanged):
            yield f"<span class=note>{_escaped(change_told(message, self._book, self._owner.client, peer))}</span>"
        else:
            yield f"<b><bdi>{_escaped(self._name(message.sender))}</bdi></b> "
            text = message.text if isinstance(message, iw.DeliveredText) else message.caption or ""
            if isinstance(message, iw.DeliveredFile):
                shown = _escaped(message.name or path or "a file")
                yield f'<a href="{_escaped(path or "")}">{shown}</a> '
            yield f"<bdi>{_escaped(text)}</bdi>"
        if entry.state in ("queued", "refused"):
            yield f" <span class=note>({entry.state})</span>"
        if entry.told_by is not None:
            yield f" <span class=note>from {_escaped(self._devices.label(entry.told_by))}</span>"
        yield "</p>\n"

    def _name(self, client: ClientId) -> str:
        return YOU if client == self._owner.client else self._book.label(client)

    def _place(self, file: RemoteFile) -> str:
        """Where the file is going to be, as a path in the folder."""
        url = file.url
        if url not in self._files:
            name = safe_file_name(file.name or "", fallback=url.rpartition("/")[2])
            path = free_path(self._folder / "files", name)
            path.touch(mode=_FILE_MODE)
            self._files[url] = path, file
        return f"files/{self._files[url][0].name}"

    async def fetch(self, address: iw.ServerAddress) -> int:
        """Download the files; how many the server does not have any more.

        Raises:
            ConnectionFailed: it cannot be reached.
        """
        missing = 0
        for number, (path, file) in enumerate(self._files.values(), start=1):
            explain(f"file {number} of {len(self._files)}: {path.name}", "dim")

            try:
                await file.save(address, path)
            except iw.TransferFailed as error:
                missing += 1
                explain(f"{path.name}: {error}", "red")
        return missing


def _new_file(path: Path) -> TextIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    return open(descriptor, "w", encoding="utf-8")


def _time(at: datetime) -> str:
    return f'<time datetime="{at.isoformat(timespec="seconds")}">{at:%Y-%m-%d %H:%M}</time>'


def _escaped(text: str) -> str:
    """Text for a page: characters that could reorder or command it are taken out, as on a terminal."""
    return html.escape("\n".join(printable_lines(text)), quote=True)
