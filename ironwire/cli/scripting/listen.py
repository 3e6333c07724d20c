"""`ironwire listen`: what arrives, one after the other, for people, for programs, and for a folder."""

import sys
from pathlib import Path

import click
import trio
from attrs import define, field, frozen
from rich.console import Console
from rich.text import Text

import ironwire.client as iw
from ironwire.cli.addressbook import AddressBook
from ironwire.cli.device_news import NewsSource
from ironwire.cli.exits import ExitCode
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import json_option, key_option, server_option, this_device_option
from ironwire.cli.render import as_json as json_line
from ironwire.cli.render import download_line, group_change, incident, notice, received, speaker, when
from ironwire.cli.scripting.files import RemoteFile
from ironwire.cli.secrets import SecrecyNotices, secret_event
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
@this_device_option
@server_option
@key_option
@json_option
def listen(
    count: int | None, folder: Path | None, device: DeviceId | None, server: str, key: Path, *, as_json: bool
) -> None:
    """Print what arrives, until Ctrl-C, and first what came since this device was here last."""
    key_file = KeyFile.open(key)
    listener = Listener(AddressBook.beside(key), folder, as_json)
    trio.run(listener.listen, iw.ServerAddress.parse(server), key_file, key_file.device(device), count)
    if listener.failures:
        sys.exit(ExitCode.FILE)


@frozen
class _Came:
    message: iw.Said
    id: MessageId | None
    seq: int | None
    content: iw.Content | None


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
    _secrecy: SecrecyNotices = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._secrecy = SecrecyNotices(self._book)

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
                came = await self._next(client, news)
                message = came.message
                file = RemoteFile.of(message, came.content) if isinstance(message, iw.DeliveredFile) else None
                self._tell_of_secrecy(came, client.client_id)
                if not self._as_json:
                    self._console.print(self._line(message, file, client.client_id))
                saved = None if file is None else await self._save(client.address, file)
                if self._as_json:
                    link = None if file is None else file.link
                    beside = {"seq": came.seq, "saved": saved, "link": link, "encrypted": came.content is not None}
                    click.echo(json_line(message, came.id, **beside))
                elif saved is not None:
                    self._console.print(notice(f"saved as {saved}", "bright_blue"))
                seen += 1

    async def _next(self, client: iw.Client, news: NewsSource) -> _Came:
        async for event in client:
            match event:
                case iw.Received(message, id_, seq, content) if isinstance(message, iw.Said):
                    return _Came(message, id_, seq, content)
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
                case iw.OwnRecordsChanged():
                    await news.take_names(self._book)
                case secret:
                    line = secret_event(secret, self._book)
                    if line is not None:
                        self._aside.print(line)
        raise AssertionError("a client's events end with an exception")

    async def _tell_of_devices(self, news: NewsSource, *, is_changed: bool) -> None:
        for line in await news.take(is_changed=is_changed):
            self._aside.print(notice(line, "bold red"))

    def _tell_of_secrecy(self, came: _Came, own: ClientId) -> None:
        if came.content is None and not isinstance(came.message, iw.GroupChanged):
            peer = iw.conversation_of(came.message, own)
            line = self._secrecy.of(peer, is_encrypted=False)
            if line is not None:
                self._aside.print(line)

    def _line(self, message: iw.Said, file: RemoteFile | None, own: ClientId) -> Text:
        if isinstance(message, iw.GroupChanged):
            return group_change(message, self._book, own, when(message.ts))
        fetch = None if file is None else download_line(file.link)
        return received(message, speaker(message, self._book, own), when(message.ts), fetch=fetch)

    async def _save(self, address: iw.ServerAddress, file: RemoteFile) -> str | None:
        """The path of the saved file: in the folder, whatever its sender called it, and in no other file's place."""
        if self._folder is None:
            return None
        url = file.url
        if url in self._saved:
            return self._saved[url]
        try:
            self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            name = safe_file_name(file.name or "", fallback=url.rpartition("/")[2])
            target = free_path(self._folder, name)
            await file.save(address, target)
        except (iw.ClientError, OSError) as error:
            self.failures += 1
            self._aside.print(notice(f"not saved: {error}", "bold red"))
            return None
        self._saved[url] = str(target)
        return str(target)
