"""`ironwire listen`: what arrives, one after the other, for people, for programs, and for a folder."""

import sys
from pathlib import Path

import click
import trio
from attrs import define, field
from rich.console import Console
from rich.text import Text

import ironwire.client as iw
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.device_news import NewsSource
from ironwire.cli.exits import ExitCode
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import device_option, json_option, key_option, server_option
from ironwire.cli.render import as_json as json_line
from ironwire.cli.render import group_change, incident, notice, received, speaker, when
from ironwire.cli.secrets import secret_event
from ironwire.cli.terminal import err, free_path, out, safe_file_name
from ironwire.ids import ClientId, DeviceId, MessageId

_FOLDER_MODE = 0o700


@click.command()
@click.option(
    "--count", type=click.IntRange(1, 2**53), metavar="N", help="Leave after N messages or changes of a group."
)
@click.option(
    "--save",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Download every file that comes to this folder, under a name that is free there.",
)
@device_option
@server_option
@key_option
@json_option
def listen(
    count: int | None, folder: Path | None, device: DeviceId | None, server: str, key: Path, *, as_json: bool
) -> None:
    """Print what arrives, until Ctrl-C. As a device, begin with what came since it was here last."""
    key_file = KeyFile.open(key)
    listener = Listener(AddressBook.beside(key), folder, as_json)
    trio.run(listener.listen, iw.ServerAddress.parse(server), key_file, device, count)
    if listener.failures:
        sys.exit(ExitCode.FILE)


@define(eq=False)
class Listener:
    """Prints what comes on standard output, and what else happens on standard error."""

    _book: AddressBook
    _folder: Path | None
    _as_json: bool
    failures: int = field(default=0, init=False)
    """Files that could not be saved."""
    _saved: dict[str, str] = field(factory=dict, init=False)
    """Paths of saved files, by their URL. To name one again costs its sender nothing, and would fill the disk."""
    _console: Console = field(factory=out, init=False)
    _aside: Console = field(factory=err, init=False)

    async def listen(
        self, address: iw.ServerAddress, key_file: KeyFile, device: DeviceId | None, count: int | None
    ) -> None:
        """Return after `count` messages.

        Raises:
            ClientError: the client has stopped.
        """
        seen = 0
        async with key_file.connect(address, device) as client:
            self._aside.print(notice(f"{client.client_id} listens; Ctrl-C stops it"))
            news = NewsSource(client, key_file.path)
            while seen != count:
                message, id_, seq = await self._next(client, news)
                if not self._as_json:
                    self._console.print(self._line(message, client.client_id))
                saved = await self._save(client.address, message) if isinstance(message, iw.DeliveredFile) else None
                if self._as_json:
                    click.echo(json_line(message, id_, seq=seq, saved=saved))
                elif saved is not None:
                    self._console.print(notice(f"saved as {saved}", "bright_blue"))
                seen += 1

    async def _next(self, client: iw.Client, news: NewsSource) -> tuple[iw.Said, MessageId | None, int | None]:
        async for event in client:
            match event:
                case iw.Received(message, id_, seq) if isinstance(message, iw.Said):
                    return message, id_, seq
                case iw.Received(iw.Error() as error):
                    self._aside.print(incident(error))
                case iw.Received(iw.DeviceLogChanged()):
                    await self._tell_of_devices(news, is_changed=True)
                case iw.Received() | iw.Queued() | iw.Settled():
                    pass  # receipts, who is there, and the fate of what was sent: for those who converse
                case iw.Connected():
                    self._aside.print(incident(event))
                    await self._tell_of_devices(news, is_changed=False)
                case iw.Disconnected() | iw.Missed() | iw.Lost():
                    self._aside.print(incident(event))
                case secret:
                    self._aside.print(secret_event(secret, self._book))
        raise AssertionError("a client's events end with an exception")

    async def _tell_of_devices(self, news: NewsSource, *, is_changed: bool) -> None:
        for line in await news.take(is_changed=is_changed):
            self._aside.print(notice(line, "bold red"))

    def _line(self, message: iw.Said, own: ClientId) -> Text:
        if isinstance(message, iw.GroupChanged):
            return group_change(message, self._book, own, when(message.ts))
        return received(message, speaker(message, self._book, own), when(message.ts), fetch="ironwire download")

    async def _save(self, address: iw.ServerAddress, file: iw.DeliveredFile) -> str | None:
        """The path of the saved file: in the folder, whatever its sender called it, and in no other file's place."""
        if self._folder is None:
            return None
        if file.url in self._saved:
            return self._saved[file.url]
        try:
            self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            name = safe_file_name(file.name or "", fallback=file.url.rpartition("/")[2])
            target = free_path(self._folder, name)
            await iw.download(address, file.url, target, expected_size=file.size, expected_sha256=file.sha256)
        except (iw.ClientError, OSError) as error:
            self.failures += 1
            self._aside.print(notice(f"not saved: {error}", "bold red"))
            return None
        self._saved[file.url] = str(target)
        return str(target)
