"""`ironwire upload` and `ironwire download`, and what other commands need to send a file or to find a place for one."""

import json
import mimetypes
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import click
import trio
from attrs import asdict, frozen
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ironwire.cli.keyfile import KeyFile
from ironwire.cli.options import home_key, json_option, optional_key_option, server_option
from ironwire.cli.scripting.asking import asked
from ironwire.cli.terminal import err, free_path, printable, safe_file_name
from ironwire.client import Client, Downloaded, FileMetadata, MediaError, ServerAddress, TransferFailed, Uploaded
from ironwire.client import Progress as Report
from ironwire.client import download as fetch
from ironwire.client import upload as put
from ironwire.client.sources import regular_file
from ironwire.wire.messages import FileKind
from ironwire.wire.messages.fields import as_file_name

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

    PATH may be a folder. A file that is there already is never replaced. Nothing is written before all of it has come
    and is what was asked for.
    """
    if sha256 is not None and _SHA256.fullmatch(sha256) is None:
        raise click.BadParameter("a SHA-256 is 64 hex digits", param_hint="--sha256")
    if path == _DASH and as_json:
        raise click.UsageError("Standard output can take the file or --json: name a file.")
    address = ServerAddress.parse(server)
    if path == _DASH:
        _download_to_output(address, url, sha256)
        return
    target = destination(path, url.rpartition("/")[2])
    downloaded = trio.run(_download_with_bar, address, url, target, sha256)
    if as_json:
        click.echo(json.dumps({"path": str(target), "size": downloaded.size, "sha256": downloaded.sha256}))
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
    """Has a server, and can ask it for a token to upload a file."""

    @property
    def address(self) -> ServerAddress: ...

    async def upload_token(self) -> str: ...


@frozen
class Attachment:
    """An uploaded file, ready to be sent."""

    url: str
    metadata: FileMetadata


async def attach(uploader: Uploader, source: Path | int, kind: FileKind, report: Report) -> Attachment:
    """Upload the file at `source`, or what that descriptor gives, to be sent as `kind` by `uploader`.

    Raises:
        MediaError: it is not of that kind, or nobody can say: PyAV is not installed.
        ClientError: it could not be uploaded.
    """
    name = _name_of(source)
    async with regular_file(source) as path:
        measured = FileMetadata() if kind == "file" else await trio.to_thread.run_sync(_measured, path, kind)
        try:
            uploaded = await put(uploader.address, path, report)
        except TransferFailed as failed:
            if failed.status != _UNAUTHORIZED:
                raise
            uploaded = await put(uploader.address, path, report, token=await uploader.upload_token())
    return Attachment(uploaded.url, _described(name, uploaded) | measured)


async def attach_with_bar(uploader: Uploader, source: Path | int, kind: FileKind) -> Attachment:
    """The same; a bar on standard error shows how far the upload is, if that is a terminal."""
    with _bar(source) as report:
        return await attach(uploader, source, kind, report)


def _name_of(source: Path | int) -> str | None:
    """The name that the recipient is told: a pipe has none.

    Raises:
        TransferFailed: the name cannot be told, because it is not UTF-8.
    """
    if isinstance(source, int) or not source.is_file():
        return None
    try:
        source.name.encode()
    except UnicodeEncodeError:
        raise TransferFailed(f"the name of {source} is not UTF-8: rename it, and send it then") from None
    return as_file_name(source.name)


def _measured(path: Path, kind: Literal["image", "voice", "circle"]) -> FileMetadata:
    try:
        from ironwire.client.media import measure  # noqa: PLC0415 - optional, and it takes its time to load
    except ModuleNotFoundError:
        raise MediaError(
            f"to look into {path.name}, PyAV is needed: `pip install 'ironwire[media]'`, or send it with --file"
        ) from None
    return measure(path, kind)


def _described(name: str | None, uploaded: Uploaded) -> FileMetadata:
    metadata = FileMetadata(size=uploaded.size, sha256=uploaded.sha256)
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


async def _upload(address: ServerAddress, source: Path | int, key: Path | None) -> Uploaded:
    async with regular_file(source) as path:
        try:
            with _bar(source) as report:
                return await put(address, path, report)
        except TransferFailed as failed:
            if failed.status != _UNAUTHORIZED:
                raise
        token = await asked(address, KeyFile.open(key or home_key()), Client.upload_token)
        with _bar(source) as report:
            return await put(address, path, report, token=token)


async def _download_with_bar(address: ServerAddress, url: str, target: Path, sha256: str | None) -> Downloaded:
    expected_sha256 = None if sha256 is None else sha256.lower()
    with _bar(target) as report:
        return await fetch(address, media_url(address, url), target, report, expected_sha256=expected_sha256)


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
