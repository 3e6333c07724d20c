"""A file between the disk and the network: hashed, or encrypted and decrypted, as it passes (docs/protocol.md, section
8; docs/between-devices.md, section 11.1). What takes or gives a piece of it blocks: `transfer.py` uses a thread.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Self

import trio
from attrs import define, field

from ironwire.client.connection.exchange import PIECE_BYTES
from ironwire.client.errors import TransferFailed
from ironwire.e2e.bodies import SealedFile
from ironwire.e2e.files import FileOpener, FileSealer, padded_content, sealed_size
from ironwire.wire.base64url import from_base64url

Progress = Callable[[int, int], None]
"""Told how many bytes are done, and how many there are."""


# --- up --------------------------------------------------------------------------------------------------------------


@define(eq=False)
class RequestBody:
    """A file as the body of a request, hashed as it passes."""

    _file: BinaryIO
    size: int
    _progress: Progress
    sent: int = 0
    _digest: Any = field(factory=hashlib.sha256)

    async def next_piece(self) -> bytes:
        self._progress(self.sent, self.size)
        if self.sent == self.size:
            return b""
        piece = await trio.to_thread.run_sync(self._next)
        if not piece:
            raise TransferFailed("the file became shorter while it was being sent")
        self.sent += len(piece)
        return piece

    @property
    def sha256(self) -> str:
        return str(self._digest.hexdigest())

    def _next(self) -> bytes:
        piece = self._read(min(PIECE_BYTES, self.size - self.sent))
        self._digest.update(piece)
        return piece

    def _read(self, most: int) -> bytes:
        try:
            return self._file.read(most)
        except OSError as error:
            raise TransferFailed(f"cannot read the file: {error.strerror}") from error


@define(eq=False)
class SealedRequestBody(RequestBody):
    """A file that is encrypted as it passes. `size` and `sent` are those of the encrypted file."""

    _left: int = 0
    """Of the content, to be read."""
    _sealer: FileSealer = field(kw_only=True)
    _rest: Iterator[bytes] | None = None

    @property
    def sha256(self) -> str:
        return self._sealer.sha256

    def _next(self) -> bytes:
        while self._left:
            piece = self._read(min(PIECE_BYTES, self._left))
            if not piece:
                return b""
            self._left -= len(piece)
            if sealed := self._sealer.seal(piece):
                return sealed
        if self._rest is None:
            self._rest = self._sealer.finish()
        return next((piece for piece in self._rest if piece), b"")


def body_of(file: BinaryIO, progress: Progress, sealer: FileSealer | None) -> RequestBody:
    size = os.fstat(file.fileno()).st_size
    if sealer is None:
        return RequestBody(file, size, progress)
    sealed_bytes = sealed_size(padded_content(size, sealer.most_bytes))
    return SealedRequestBody(file, sealed_bytes, progress, left=size, sealer=sealer)


# --- down ------------------------------------------------------------------------------------------------------------


@define(eq=False)
class HashedDownload:
    """Takes the file of which a message spoke."""

    _expected_size: int | None
    _expected_sha256: str | None
    size: int = 0
    _digest: Any = field(factory=hashlib.sha256)

    def begin(self, size: int) -> None:
        self.size = size
        if self._expected_size not in (None, size):
            raise TransferFailed(f"not the file that was sent: it has {size} bytes instead of {self._expected_size}")

    def take(self, piece: bytes) -> bytes:
        self._digest.update(piece)
        return piece

    def end(self) -> bytes:
        if self._expected_sha256 not in (None, self.sha256):
            raise TransferFailed("not the file that was sent: its SHA-256 is another")
        return b""

    @property
    def sha256(self) -> str:
        return str(self._digest.hexdigest())


@define(eq=False)
class SealedDownload:
    """Decrypts the file of which a message spoke, and takes no other."""

    _opener: FileOpener

    @classmethod
    def of(cls, file: SealedFile) -> Self:
        return cls(FileOpener(from_base64url(file.key), file.size, file.sha256))

    def begin(self, size: int) -> None:
        """Whether the file is as long as it should be is known at its end."""

    def take(self, piece: bytes) -> bytes:
        return self._opener.open(piece)

    def end(self) -> bytes:
        return self._opener.finish()


@define(eq=False)
class CheckedDownload(SealedDownload):
    """Takes no other file than the one of which a message spoke either, and leaves it encrypted: it is read later."""

    def take(self, piece: bytes) -> bytes:
        self._opener.open(piece)
        return piece

    def end(self) -> bytes:
        self._opener.finish()
        return b""


Incoming = HashedDownload | SealedDownload
