"""Files up and down over HTTP (docs/protocol.md, section 8).

The rule kept here: a file is on the other side whole and unchanged, or there is an exception and nothing left behind.
Bytes are hashed as they pass; the disk is read and written in threads, in pieces so large that the hops do not count.
"""

import hashlib
import os
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import httpx
import orjson
import trio
from attrs import define, field, frozen

from ironwire.client.errors import TransferFailed
from ironwire.client.files import NewFile
from ironwire.client.urls import ServerAddress
from ironwire.errors import InvalidId
from ironwire.ids import parse_media_path

CONNECT_SECONDS = 20.0
STALL_SECONDS = 30.0
"""A transfer in which nothing moves for so long has failed. How long all of it may take is for the caller to say."""

PIECE_BYTES = 256 * 1024
ANSWER_BYTES = 16 * 1024
"""The longest answer to an upload, or explanation of an error, that is read."""

_FILE_MODE = 0o600

Progress = Callable[[int, int], None]
"""Told how many bytes are done, and how many there are."""


@frozen
class Uploaded:
    """What the server holds now. `url` goes into a `file` message, with the size in bytes and the SHA-256 in hex."""

    url: str
    size: int
    sha256: str


@frozen
class Downloaded:
    """What is on the disk now: the size in bytes and the SHA-256 in hex."""

    size: int
    sha256: str


async def upload(address: ServerAddress, source: Path, progress: Progress | None = None) -> Uploaded:
    """Send the file at `source`.

    Raises:
        TransferFailed: it cannot be read, the server cannot be reached or refuses it, or what arrived is not what was
            sent.
    """
    try:
        file = await trio.to_thread.run_sync(source.open, "rb")
    except OSError as error:
        raise TransferFailed(f"cannot read {source}: {error.strerror}") from error
    with file:
        body = _Body(file, os.fstat(file.fileno()).st_size, progress or _tell_nobody)
        async with _request("POST", address.upload_url, body) as response:
            answer = await _read_answer(response)
    uploaded = _parse_uploaded(answer)
    sha256 = body.digest.hexdigest()
    if uploaded.get("size", body.size) != body.size or uploaded.get("sha256", sha256) != sha256:
        raise TransferFailed("the server stored something else than was sent: send it again")
    return Uploaded(uploaded["url"], body.size, sha256)


async def download(
    address: ServerAddress,
    url: str,
    destination: Path,
    progress: Progress | None = None,
    *,
    expected_size: int | None = None,
    expected_sha256: str | None = None,
) -> Downloaded:
    """Fetch the file that a `file` message calls `url` to `destination`, where there must be nothing yet.

    Args:
        expected_size: in bytes, as the message said.
        expected_sha256: in hex, as the message said.

    Raises:
        TransferFailed: it cannot be fetched or written, it is not the file of which the message spoke, or there is
            something at `destination`.
    """
    try:
        media_url = address.media_url(parse_media_path(url))
    except InvalidId as error:
        raise TransferFailed(f"{url!r} is not a file of the server: it {error}") from None
    try:
        async with _request("GET", media_url) as response:
            size = _content_length(response)
            if expected_size not in (None, size):
                raise TransferFailed(
                    f"the file has {size} bytes where {expected_size} were announced: it is not the one that was sent"
                )
            with await trio.to_thread.run_sync(NewFile.create, destination, _FILE_MODE) as file:
                sha256 = await _receive(response, file, size, progress or _tell_nobody)
                if expected_sha256 not in (None, sha256):
                    raise TransferFailed(
                        "the file's SHA-256 is not the one that was announced: it is not the one that was sent"
                    )
                await trio.to_thread.run_sync(file.keep)
    except FileExistsError:
        raise TransferFailed(f"{destination} exists already and is not replaced: choose another name") from None
    except OSError as error:
        raise TransferFailed(f"cannot write {destination}: {error.strerror}") from error
    return Downloaded(size, sha256)


def _tell_nobody(done: int, total: int) -> None:
    """The progress of a transfer that nobody watches."""


@define(eq=False)
class _Body:
    """A file as the body of a request. Nothing to clean up: an early answer leaves the iterator where it stands."""

    _file: BinaryIO
    size: int
    _progress: Progress
    digest: Any = field(factory=hashlib.sha256)
    _sent: int = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._progress(self._sent, self.size)
        if self._sent == self.size:
            raise StopAsyncIteration
        piece = await trio.to_thread.run_sync(self._read, min(PIECE_BYTES, self.size - self._sent))
        if not piece:
            raise TransferFailed("the file became shorter while it was being sent")
        self._sent += len(piece)
        return piece

    def _read(self, most: int) -> bytes:
        try:
            piece = self._file.read(most)
        except OSError as error:
            raise TransferFailed(f"cannot read the file: {error.strerror}") from error
        self.digest.update(piece)
        return piece


@asynccontextmanager
async def _request(method: str, url: str, body: _Body | None = None) -> AsyncGenerator[httpx.Response]:
    headers = {"Accept-Encoding": "identity"}
    if body is not None:
        headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(body.size)}
    timeout = httpx.Timeout(STALL_SECONDS, connect=CONNECT_SECONDS)
    # The same trust in certificates as the socket has; no proxies, which the socket would not take either.
    tls = await trio.to_thread.run_sync(ssl.create_default_context)
    try:
        async with (
            httpx.AsyncClient(timeout=timeout, verify=tls, trust_env=False) as client,
            client.stream(method, url, content=body, headers=headers) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise TransferFailed(_explanation(await _read_answer(response)), response.status_code)
            yield response
    except httpx.TimeoutException as error:
        raise TransferFailed(f"nothing moved for {STALL_SECONDS:g} s: try again") from error
    except httpx.HTTPError as error:
        raise TransferFailed(
            f"the transfer broke: {str(error) or type(error).__name__}. Is the server running?"
        ) from error


async def _receive(response: httpx.Response, file: NewFile, size: int, progress: Progress) -> str:
    digest = hashlib.sha256()
    done = 0

    def keep(piece: bytes) -> None:
        digest.update(piece)
        file.write(piece)

    progress(done, size)
    async with _raw_pieces(response, PIECE_BYTES) as pieces:
        async for piece in pieces:
            await trio.to_thread.run_sync(keep, piece)
            done += len(piece)
            progress(done, size)
    return digest.hexdigest()


def _raw_pieces(response: httpx.Response, piece_bytes: int | None = None) -> "aclosing[AsyncGenerator[bytes]]":
    """Closed where the loop ends early: Trio warns of async generators that are left to the garbage collector."""
    pieces = response.aiter_raw(piece_bytes)
    return aclosing(cast("AsyncGenerator[bytes]", pieces))  # annotated as a mere iterator


def _content_length(response: httpx.Response) -> int:
    """The size that was announced; the HTTP layer holds the body to it."""
    length = response.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise TransferFailed("the server does not say how large the file is")
    return int(length)


async def _read_answer(response: httpx.Response) -> bytes:
    answer = bytearray()
    async with _raw_pieces(response) as pieces:
        async for piece in pieces:
            answer += piece
            if len(answer) > ANSWER_BYTES:
                raise TransferFailed("the server's answer is longer than any should be", response.status_code)
    return bytes(answer)


def _explanation(answer: bytes) -> str:
    try:
        detail = orjson.loads(answer)["detail"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        detail = None
    return detail if isinstance(detail, str) else "the server refused"


def _parse_uploaded(answer: bytes) -> dict[str, Any]:
    try:
        uploaded = orjson.loads(answer)
        parse_media_path(uploaded["url"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, InvalidId):
        raise TransferFailed("the server's answer to the upload is not of this protocol") from None
    return dict(uploaded)
