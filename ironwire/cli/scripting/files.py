"""`ironwire upload` and `ironwire download`, and what other commands need to send a file or to find a place for one."""

import json
import mimetypes
import re
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

import click
import trio
from attrs import asdict, frozen
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

import ironwire.client as iw
from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import answer_deadline, home_key, json_option, optional_key_option, server_option
from ironwire.cli.scripting.asking import asked
from ironwire.cli.scripting.outbound import Outgoing
from ironwire.cli.terminal import err, free_path, printable, safe_file_name
from ironwire.client import Client, File, FileBody, FileDescription, FileTerms, MediaError, ServerAddress
from ironwire.client import Progress as Report
from ironwire.client import download as fetch
from ironwire.client import upload as put
from ironwire.client import upload_sealed as put_sealed
from ironwire.client.sources import regular_file
from ironwire.ids import Address
from ironwire.wire.messages import FileKind
from ironwire.wire.messages.fields import as_file_name

T = TypeVar("T")

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_DASH = Path("-")
_STDIN = 0
_UNAUTHORIZED = 401
"""The server takes files from its clients alone: they have to bring a token."""


@click.command()
@click.argument("path", type=click.Path(path_type=Path, allow_dash=True))
@server_option
@optional_key_option
@json_option
def upload(path: Path, server: str, key: Path | None, *, as_json: bool) -> None:
    """Upload the file at PATH, or standard input if PATH is -, and print its URL.

    The key is needed only where the server takes files from its clients alone.
    """
    address = ServerAddress.parse(server)
    uploaded = trio.run(_upload, address, source_of(path), key)
    url = address.origin + uploaded.url
    click.echo(json.dumps(asdict(uploaded) | {"url": url}) if as_json else url)


@click.command()
@click.argument("url")
@click.argument("path", type=click.Path(path_type=Path, allow_dash=True), required=False)
@click.option("--sha256", metavar="HEX", help="Keep the file only if this is its SHA-256.")
@server_option
@json_option
def download(url: str, path: Path | None, sha256: str | None, server: str, *, as_json: bool) -> None:
    """Download URL to PATH, and print where it is; or to standard output, if PATH is -.

    The URL of an encrypted file has its key behind a #, which stays here: `listen` and `history` print it. Quote it.

    PATH may be a folder. A file that is there already is never replaced. Nothing is written before all of it has come
    and is what was asked for.
    """
    if sha256 is not None and _SHA256.fullmatch(sha256) is None:
        raise click.BadParameter("a SHA-256 is 64 hex digits", param_hint="--sha256")
    if sha256 is not None and "#" in url:
        raise click.UsageError("The URL of an encrypted file says what is in it: leave out --sha256.")
    if path == _DASH and as_json:
        raise click.UsageError("Standard output can take the file or --json: name a file.")
    address = ServerAddress.parse(server)
    if path == _DASH:
        _download_to_output(address, url, sha256)
        return
    target = destination(path, url.partition("#")[0].rpartition("/")[2])
    downloaded = trio.run(_download_with_bar, address, url, target, sha256)
    if as_json:
        click.echo(json.dumps({"path": str(target), **downloaded}))
    else:
        click.echo(str(target))


def _download_to_output(address: ServerAddress, url: str, sha256: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="ironwire-") as folder:
        target = Path(folder) / "download"
        trio.run(_download_with_bar, address, url, target, sha256)
        with target.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def source_of(path: Path) -> Path | int:
    """The source that `path` names: - is standard input."""
    return _STDIN if path == _DASH else path


class Uploader(Protocol):
    """Has a server, and can ask it how a file goes to somebody, and for a token to upload one."""

    @property
    def address(self) -> ServerAddress: ...

    async def file_terms(self, to: Address) -> FileTerms: ...

    async def upload_token(self) -> str: ...


async def attach(
    uploader: Uploader, to: Address, source: Path | int, kind: FileKind, report: Report, caption: str | None = None
) -> Outgoing:
    """Upload the file at `source`, or what that descriptor gives, to be sent as `kind` by `uploader`: encrypted, where
    `to` can read that.

    Raises:
        MediaError: it is not of that kind, or nobody can say: PyAV is not installed.
        ClientError: it could not be uploaded.
    """
    name = _name_of(source)
    async with regular_file(source) as path:
        described = _described(name)
        if kind != "file":
            described |= await trio.to_thread.run_sync(_measured, path, kind)
        if caption:
            described["caption"] = caption
        with answer_deadline():
            terms = await uploader.file_terms(to)
        if terms.is_encrypted:
            seal = partial(put_sealed, uploader.address, path, report, most_bytes=terms.upload_bytes)
            body = FileBody(await _with_token(uploader, seal), **described)
            return Outgoing(iw.as_file_message(to, body), body)
        uploaded = await _with_token(uploader, partial(put, uploader.address, path, report))
    return Outgoing(File(to, uploaded.url, size=uploaded.size, sha256=uploaded.sha256, **described))


async def _with_token(uploader: Uploader, upload: Callable[..., Awaitable[T]]) -> T:
    """Upload, and again with a token where the server wants one."""
    try:
        return await upload()
    except iw.TransferFailed as failed:
        if failed.status != _UNAUTHORIZED:
            raise
    return await upload(token=await uploader.upload_token())


async def attach_with_bar(
    uploader: Uploader, to: Address, source: Path | int, kind: FileKind, caption: str | None
) -> Outgoing:
    """The same; a bar on standard error shows how far the upload is, if that is a terminal."""
    with _bar(source) as report:
        return await attach(uploader, to, source, kind, report, caption)


def _name_of(source: Path | int) -> str | None:
    """The name that the recipient is told: a pipe has none.

    Raises:
        iw.TransferFailed: the name cannot be told, because it is not UTF-8.
    """
    if isinstance(source, int) or not source.is_file():
        return None
    try:
        source.name.encode()
    except UnicodeEncodeError:
        raise iw.TransferFailed(f"the name of {source} is not UTF-8: rename it, and send it then") from None
    return as_file_name(source.name)


def _measured(path: Path, kind: Literal["image", "voice", "circle"]) -> FileDescription:
    try:
        from ironwire.client.media import measure  # noqa: PLC0415 - optional, and it takes its time to load
    except ModuleNotFoundError:
        raise MediaError(
            f"to look into {path.name}, PyAV is needed: `pip install 'ironwire[media]'`, or send it with --file"
        ) from None
    return measure(path, kind)


def _described(name: str | None) -> FileDescription:
    metadata = FileDescription()
    mime = None
    if name is not None:
        metadata["name"] = name
        mime, _ = mimetypes.guess_type(name)
    if mime is not None:
        metadata["mime"] = mime
    metadata["kind"] = "image" if mime is not None and mime.startswith("image/") else "file"
    return metadata


def destination(path: Path | None, name: str) -> Path:
    """The path for a file that its sender calls `name`: `path`, or a free name in it if that is a folder."""
    folder = Path() if path is None else path
    return free_path(folder, safe_file_name(name, "file.bin")) if folder.is_dir() else folder


def media_url(address: ServerAddress, url: str) -> str:
    """The path that a `file` message carries, from that path or from the whole URL on this server."""
    return url.removeprefix(address.origin)


@frozen
class RemoteFile:
    """A file on the server, as far as it is known; and how it is opened, if it is encrypted."""

    url: str
    name: str | None = None
    size: int | None = None
    sha256: str | None = None
    sealed: iw.SealedFile | None = None

    @classmethod
    def of(cls, message: iw.DeliveredFile, content: iw.Content | None) -> Self:
        """The file of a message."""
        return cls(message.url, message.name, message.size, message.sha256, iw.sealed_file(content))

    @classmethod
    def named(cls, link: str) -> Self:
        """The file that a user has typed."""
        sealed = iw.parse_file_link(link)
        return cls(link if sealed is None else sealed.url, sealed=sealed)

    @property
    def link(self) -> str:
        """The name that `ironwire download` takes."""
        return self.url if self.sealed is None else iw.file_link(self.sealed)

    @property
    def last_word(self) -> str:
        """The end of its path, for a file without a name."""
        return self.url.rpartition("/")[2]

    async def save(self, address: ServerAddress, target: Path, report: Report | None = None) -> None:
        """Download it to `target`. Raises as `download` does."""
        if self.sealed is None:
            size, sha256 = self.size, self.sha256
            await iw.download(address, self.url, target, report, expected_size=size, expected_sha256=sha256)
        else:
            await iw.download_sealed(address, self.sealed, target, report)


async def _upload(address: ServerAddress, source: Path | int, key: Path | None) -> iw.Uploaded:
    async with regular_file(source) as path:
        try:
            with _bar(source) as report:
                return await put(address, path, report)
        except iw.TransferFailed as failed:
            if failed.status != _UNAUTHORIZED:
                raise
        token = await asked(address, KeyFile.open(key or home_key()), Client.upload_token)
        with _bar(source) as report:
            return await put(address, path, report, token=token)


async def _download_with_bar(address: ServerAddress, url: str, target: Path, sha256: str | None) -> dict[str, Any]:
    """Returns what is known of the file then."""
    file = RemoteFile.named(media_url(address, url))
    with _bar(target) as report:
        if file.sealed is not None:
            await file.save(address, target, report)
            return {"size": file.sealed.size}
        expected_sha256 = None if sha256 is None else sha256.lower()
        return asdict(await fetch(address, file.url, target, report, expected_sha256=expected_sha256))


@contextmanager
def _bar(what: Path | int) -> Iterator[Report]:
    name = what.name if isinstance(what, Path) else "standard input"
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = err()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(printable(name), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
