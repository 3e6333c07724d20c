"""IWA1, the encryption of files: in chunks, so that neither side holds a file whole (docs/between-devices.md, section
10.1).

    content, padded with zeros  =  chunk 0 ‖ chunk 1 ‖ … ‖ chunk n, all but the last of 64 KiB
    encrypted file              =  seal(chunk 0) ‖ seal(chunk 1) ‖ … ‖ seal(chunk n)
    seal(chunk i)               =  ChaCha20-Poly1305(key, nonce = 00 00 00 ‖ last ‖ u64 i, AAD = "IWA1", chunk i)

`last` is 01 for the last chunk, 00 for the others, so a file that is cut at the end of a chunk, or goes on, does not
open. The key is random and new for each file; with it go the size of the content and the SHA-256 of the encrypted file.

Rule: no key encrypts two files. Both would use the same nonces, and whoever has the two could compute their difference.
"""

import hashlib
import hmac
import os
from collections.abc import Iterator
from typing import Any

from attrs import define, field
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from ironwire.crypto.padding import padded_size
from ironwire.errors import InvalidFile

CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES
KEY_BYTES = 32
_ASSOCIATED = b"IWA1"


def new_file_key() -> bytes:
    """A key for one file."""
    return os.urandom(KEY_BYTES)


# --- sizes -----------------------------------------------------------------------------------------------------------


def sealed_size(content_bytes: int) -> int:
    """The size of an encrypted file, by that of its padded content."""
    chunks = max(1, -(-content_bytes // CHUNK_BYTES))
    return content_bytes + chunks * TAG_BYTES


def content_room(sealed_bytes: int) -> int:
    """The size of the longest content whose encrypted file has at most `sealed_bytes`."""
    chunks, rest = divmod(sealed_bytes, SEALED_CHUNK_BYTES)
    return chunks * CHUNK_BYTES + max(0, rest - TAG_BYTES)


def padded_content(size: int, most_bytes: int | None = None) -> int:
    """The size to which a content of `size` bytes is padded.

    Args:
        most_bytes: the largest encrypted file that the server takes. Content that fits, and would not once it is
            padded, fills that exactly. Content that does not fit is padded to nothing more than itself.
    """
    padded = padded_size(size)
    return padded if most_bytes is None else max(size, min(padded, content_room(most_bytes)))


# --- whole files -----------------------------------------------------------------------------------------------------


@define(eq=False)
class FileSealer:
    """Encrypts one file, piece by piece: `seal` for each, then `finish`. Holds less than two chunks besides a piece."""

    most_bytes: int | None = None
    """As `padded_content` takes it."""
    key: bytes = field(factory=new_file_key, repr=False)
    size: int = field(default=0, init=False)
    """Of the content so far, in bytes."""
    _waiting: bytearray = field(factory=bytearray, init=False, repr=False)
    _chunks: int = field(default=0, init=False)
    _digest: Any = field(factory=hashlib.sha256, init=False, repr=False)

    def seal(self, piece: bytes) -> bytes:
        """Take the next piece of the content; return the next piece of the encrypted file."""
        self.size += len(piece)
        return self._take(piece)

    def finish(self) -> Iterator[bytes]:
        """The rest of the encrypted file, with the padding, in pieces. All of them have to be taken."""
        padding = padded_content(self.size, self.most_bytes) - self.size
        while padding:
            zeros = bytes(min(padding, CHUNK_BYTES))
            yield self._take(zeros)
            padding -= len(zeros)
        yield self._next_chunk(is_last=True)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the encrypted file, in hex, once that is finished."""
        return str(self._digest.hexdigest())

    def _take(self, piece: bytes) -> bytes:
        self._waiting += piece
        sealed = []
        while len(self._waiting) > CHUNK_BYTES:  # more than one: the first is not the last
            sealed.append(self._next_chunk(is_last=False))
        return b"".join(sealed)

    def _next_chunk(self, *, is_last: bool) -> bytes:
        chunk = bytes(self._waiting[:CHUNK_BYTES])
        del self._waiting[:CHUNK_BYTES]
        sealed = crypto_aead_chacha20poly1305_ietf_encrypt(
            chunk, _ASSOCIATED, _nonce(self._chunks, is_last=is_last), self.key
        )
        self._chunks += 1
        self._digest.update(sealed)
        return sealed


@define(eq=False)
class FileOpener:
    """Decrypts one file as it arrives: `open` for each piece, then `finish`.

    Every byte that comes out was written by somebody with the key. That the file is whole, and the one that was meant,
    is known when `finish` has returned; until then nobody should be given it.
    """

    _key: bytes = field(repr=False)
    _size: int
    """Of the content, as the message said."""
    _sha256: str
    """Of the encrypted file, in hex, as the message said."""
    _waiting: bytearray = field(factory=bytearray, init=False, repr=False)
    _chunks: int = field(default=0, init=False)
    _sealed_bytes: int = field(default=0, init=False)
    _left: int = field(init=False)
    _digest: Any = field(factory=hashlib.sha256, init=False, repr=False)

    @_left.default
    def _all(self) -> int:
        return self._size

    def open(self, piece: bytes) -> bytes:
        """Take the next piece of the encrypted file; return the next piece of the content.

        Raises:
            InvalidFile: it was changed, or is longer than any file of that size.
        """
        self._sealed_bytes += len(piece)
        if self._sealed_bytes > sealed_size(padded_size(self._size)):
            raise InvalidFile("the file is longer than the message says")
        self._digest.update(piece)
        self._waiting += piece
        content = []
        while len(self._waiting) > SEALED_CHUNK_BYTES:
            content.append(self._next_chunk(is_last=False))
        return b"".join(content)

    def finish(self) -> bytes:
        """The last piece of the content.

        Raises:
            InvalidFile: the file was cut or changed, or is another one.
        """
        content = self._next_chunk(is_last=True)
        if self._left:
            raise InvalidFile("the file is shorter than the message says")
        if not hmac.compare_digest(self._digest.hexdigest(), self._sha256):
            raise InvalidFile("the file is not the one that was sent: its SHA-256 is another")
        return content

    def _next_chunk(self, *, is_last: bool) -> bytes:
        sealed = bytes(self._waiting[:SEALED_CHUNK_BYTES])
        del self._waiting[:SEALED_CHUNK_BYTES]
        chunk = _open_chunk(self._key, self._chunks, sealed, is_last=is_last)
        self._chunks += 1
        content = chunk[: self._left]
        self._left -= len(content)
        return content


# --- parts of files --------------------------------------------------------------------------------------------------


def sealed_range(part: range) -> range:
    """The bytes of the encrypted file in which `part` of the content is. They may go on behind the end of the file, as
    those of a request with `Range` may.
    """
    first, last = part.start // CHUNK_BYTES, (part.stop - 1) // CHUNK_BYTES
    return range(first * SEALED_CHUNK_BYTES, (last + 1) * SEALED_CHUNK_BYTES)


def open_range(key: bytes, part: range, sealed: bytes, sealed_bytes: int) -> bytes:
    """The bytes `part` of the content, which has them.

    Args:
        sealed: the bytes of the encrypted file from `sealed_range(part)`, up to its end.
        sealed_bytes: the size of the encrypted file, as `Content-Range` says. A wrong one opens nothing else.

    Raises:
        InvalidFile: these are not the bytes that were asked for, or they were changed.
    """
    wanted = sealed_range(part)
    last = -(-sealed_bytes // SEALED_CHUNK_BYTES) - 1
    if len(sealed) != min(wanted.stop, sealed_bytes) - wanted.start:
        raise InvalidFile("another part of the file came than was asked for")
    chunks = []
    for start in range(0, len(sealed), SEALED_CHUNK_BYTES):
        index = (wanted.start + start) // SEALED_CHUNK_BYTES
        chunk = sealed[start : start + SEALED_CHUNK_BYTES]
        chunks.append(_open_chunk(key, index, chunk, is_last=index == last))
    skipped = part.start % CHUNK_BYTES
    content = b"".join(chunks)[skipped : skipped + len(part)]
    if len(content) != len(part):
        raise InvalidFile("the file is shorter than the message says")
    return content


# --- chunks ----------------------------------------------------------------------------------------------------------


def _open_chunk(key: bytes, index: int, sealed: bytes, *, is_last: bool) -> bytes:
    if len(sealed) < TAG_BYTES:
        raise InvalidFile("the file ends too early")
    try:
        return crypto_aead_chacha20poly1305_ietf_decrypt(sealed, _ASSOCIATED, _nonce(index, is_last=is_last), key)
    except CryptoError:
        raise InvalidFile(f"chunk {index} does not open: the file was cut or changed, or its key is another") from None


def _nonce(index: int, *, is_last: bool) -> bytes:
    return bytes((0, 0, 0, is_last)) + index.to_bytes(8, "big")
