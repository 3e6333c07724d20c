"""Files up and down over HTTP (docs/protocol.md, section 8).

The rule kept here: a file is on the other side whole and unchanged, or there is an exception and nothing left behind.
Bytes are hashed as they pass; the disk is read and written in threads, in pieces so large that the hops do not count.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import orjson
import trio
from attrs import frozen

from ironwire.client.connection.dial import Dial, dial_tcp
from ironwire.client.connection.exchange import ANSWER_BYTES, Exchange, exchange, explanation
from ironwire.client.connection.urls import UPLOAD_PATH, ServerAddress
from ironwire.client.errors import TransferFailed
from ironwire.client.files import NewFile
from ironwire.client.passing import CheckedDownload, HashedDownload, Incoming, Progress, SealedDownload, body_of
from ironwire.client.sources import regular_file
from ironwire.e2e.bodies import SealedFile
from ironwire.e2e.files import FileSealer
from ironwire.errors import InvalidFile, InvalidId
from ironwire.ids import media_path, parse_media_path
from ironwire.wire.base64url import to_base64url
from ironwire.wire.messages import FileKind

_FILE_MODE = 0o600
OK = 200


class FileDescription(TypedDict, total=False):
    """What a message says of a file, whether it is encrypted or not; the keys, units and bounds of `File`."""

    kind: FileKind
    name: str
    mime: str
    duration_ms: int
    width: int
    height: int
    waveform: list[int]
    caption: str


class FileMetadata(FileDescription, total=False):
    """Metadata of a file that is not encrypted."""

    size: int
    sha256: str


@frozen
class Uploaded:
    """A file that the server holds. `url` goes into a `file` message, with the size in bytes and the SHA-256 in hex."""

    url: str
    size: int
    sha256: str
    expires: int | None = None
    """Unix milliseconds until which the server keeps it at least, if it says so."""


@frozen
class Downloaded:
    """A file that is on the disk now: the size in bytes and the SHA-256 in hex."""

    size: int
    sha256: str


async def upload(
    address: ServerAddress,
    source: Path | int,
    progress: Progress | None = None,
    *,
    token: str | None = None,
    dial: Dial = dial_tcp,
) -> Uploaded:
    """Send the file at `source`, or what the open descriptor `source` gives up to its end.

    Args:
        token: from `Client.upload_token`, fresh for each upload, where the server takes files from its clients alone:
            without one such a server answers with HTTP status 401.

    Raises:
        ConnectionFailed: the server cannot be reached.
        TransferFailed: the file cannot be read, the server refuses it, or what arrived is not what was sent.
    """
    async with regular_file(source) as path:
        return await _upload(address, path, progress or _tell_nobody, token, dial, None)


async def upload_sealed(
    address: ServerAddress,
    source: Path | int,
    progress: Progress | None = None,
    *,
    most_bytes: int,
    token: str | None = None,
    dial: Dial = dial_tcp,
) -> SealedFile:
    """As `upload`, encrypted on the way with a key of its own, which is in what this returns, and nowhere else.

    Args:
        most_bytes: the largest upload that the server takes: `limits.upload_bytes` of `auth_ok`.
    """
    sealer = FileSealer(most_bytes)
    async with regular_file(source) as path:
        uploaded = await _upload(address, path, progress or _tell_nobody, token, dial, sealer)
    return SealedFile(uploaded.url, to_base64url(sealer.key), sealer.size, uploaded.sha256)


async def _upload(
    address: ServerAddress, path: Path, progress: Progress, token: str | None, dial: Dial, sealer: FileSealer | None
) -> Uploaded:
    try:
        file = await trio.to_thread.run_sync(path.open, "rb")
    except OSError as error:
        raise TransferFailed(f"cannot read {path}: {error.strerror}") from error
    with file:
        body = body_of(file, progress, sealer)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(body.size)}
        if token is not None:
            headers["Authorization"] = f"IronWire {token}"
        async with exchange(dial, address, "POST", UPLOAD_PATH, headers, body.next_piece) as answered:
            answer = await read_answer(answered)
    uploaded = parse_uploaded(answer)
    sha256 = body.sha256
    if (
        body.sent != body.size
        or uploaded.get("size", body.size) != body.size
        or uploaded.get("sha256", sha256) != sha256
    ):
        raise TransferFailed("the server stored something else than was sent: send it again")
    expires = uploaded.get("expires")
    return Uploaded(uploaded["url"], body.size, sha256, expires if type(expires) is int else None)


async def download(
    address: ServerAddress,
    url: str,
    destination: Path,
    progress: Progress | None = None,
    *,
    expected_size: int | None = None,
    expected_sha256: str | None = None,
    dial: Dial = dial_tcp,
) -> Downloaded:
    """Fetch the file that a `file` message calls `url` to `destination`, where there must be nothing yet.

    Args:
        expected_size: in bytes, as the message said.
        expected_sha256: in hex, as the message said.

    Raises:
        ConnectionFailed: the server cannot be reached.
        TransferFailed: the file cannot be fetched or written, it is not the one of which the message spoke, or there is
            something at `destination`.
    """
    check = HashedDownload(expected_size, expected_sha256)
    await _download(address, url, destination, progress or _tell_nobody, check, dial)
    return Downloaded(check.size, check.sha256)


async def download_sealed(
    address: ServerAddress,
    file: SealedFile,
    destination: Path,
    progress: Progress | None = None,
    *,
    dial: Dial = dial_tcp,
) -> None:
    """As `download`, of a file that is encrypted. Nothing is left at `destination` unless it is the one that was sent.

    Raises:
        ConnectionFailed, TransferFailed: as `download` says.
    """
    await _download(address, file.url, destination, progress or _tell_nobody, SealedDownload.of(file), dial)


async def download_checked(
    address: ServerAddress, file: SealedFile, destination: Path, *, dial: Dial = dial_tcp
) -> None:
    """As `download_sealed`, but what is at `destination` then is encrypted. Raises as that does."""
    await _download(address, file.url, destination, _tell_nobody, CheckedDownload.of(file), dial)


async def _download(
    address: ServerAddress, url: str, destination: Path, progress: Progress, check: Incoming, dial: Dial
) -> None:
    try:
        path = media_path(parse_media_path(url))
    except InvalidId as error:
        raise TransferFailed(f"{url!r} is not a file of the server: it {error}") from None
    async with exchange(dial, address, "GET", path, {}, _nothing) as answered:
        if answered.status != OK:
            await read_answer(answered)
        size = _content_length(answered)
        check.begin(size)
        try:
            with await trio.to_thread.run_sync(NewFile.create, destination, _FILE_MODE) as file:
                await _receive(answered, file, size, progress, check)
                await trio.to_thread.run_sync(file.keep)
        except FileExistsError:
            raise TransferFailed(f"{destination} exists already and is not replaced: choose another name") from None
        except InvalidFile as error:
            raise TransferFailed(f"not the file that was sent: {error}") from error
        except OSError as error:
            raise TransferFailed(f"cannot write {destination}: {error.strerror}") from error


def _tell_nobody(done: int, total: int) -> None:
    """The progress of a transfer that nobody watches."""


async def _nothing() -> bytes:
    """The body of a request that has none."""
    return b""


async def _receive(answered: Exchange, file: NewFile, size: int, progress: Progress, check: Incoming) -> None:
    done = 0
    progress(done, size)
    while piece := await answered.receive():
        await trio.to_thread.run_sync(lambda piece: file.write(check.take(piece)), piece)
        done += len(piece)
        progress(done, size)
    await trio.to_thread.run_sync(lambda: file.write(check.end()))


def _content_length(answered: Exchange) -> int:
    """The size that was announced; the HTTP layer holds the body to it."""
    length = answered.headers.get(b"content-length")
    if length is None:
        raise TransferFailed("the server does not say how large the file is")
    return int(length)


async def read_answer(answered: Exchange) -> bytes:
    """The body of a short answer.

    Raises:
        TransferFailed: the answer is a refusal, or not short.
    """
    answer = await answered.receive()
    if answered.status != OK:
        raise TransferFailed(explanation(answer), answered.status)
    if len(answer) > ANSWER_BYTES:
        raise TransferFailed("the server's answer is longer than any should be", answered.status)
    return answer


def parse_uploaded(answer: bytes) -> Mapping[str, Any]:
    try:
        uploaded: dict[str, Any] = orjson.loads(answer)
        parse_media_path(uploaded["url"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, InvalidId):
        raise TransferFailed("the server's answer to the upload is not of this protocol") from None
    return uploaded
