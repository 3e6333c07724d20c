"""Encrypted files go up and down whole, or there is an exception and nothing left behind."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import attrs
import orjson
import pytest

from ironwire.client import TransferFailed
from ironwire.client.connection.exchange import PIECE_BYTES
from ironwire.client.transfer import download_sealed, upload_sealed
from ironwire.crypto.padding import padded_size
from ironwire.e2e.bodies import SealedFile
from ironwire.e2e.files import CHUNK_BYTES, FileSealer, sealed_size
from ironwire.wire.base64url import to_base64url
from tests.client.test_transfer import URL, Http, answer, contents, honest, ok, serving
from tests.client.test_with_the_server import ADDRESS, Dialler
from tests.client.test_with_the_server import dial as dial_fixture
from tests.server.http_toy import names_in

MOST = 2_000_000
SIZES = [0, 1, CHUNK_BYTES, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 17, 1_999_000]

dial = dial_fixture


class Kept:
    """A server that keeps one file."""

    def __init__(self) -> None:
        self.body = b""

    def __call__(self, body: bytes) -> bytes:
        if body:
            self.body = body
            return honest(body)
        return ok(self.body)


@pytest.mark.parametrize("size", SIZES)
async def test_an_encrypted_file_goes_up_and_down(tmp_path: Path, size: int) -> None:
    content = contents(size)
    (tmp_path / "source").write_bytes(content)
    kept, told = Kept(), [(0, 0)]
    async with serving(Http(kept)) as address:
        sealed = await upload_sealed(
            address, tmp_path / "source", lambda *done: told.append(done), most_bytes=MOST, token="t"
        )
        await download_sealed(address, sealed, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert (sealed.url, sealed.size) == (URL, size)
    assert sealed.sha256 == hashlib.sha256(kept.body).hexdigest()
    assert len(kept.body) == min(sealed_size(padded_size(size)), MOST)
    assert told[-1] == (len(kept.body), len(kept.body))
    assert size < 16 or content[:64] not in kept.body


async def test_through_the_server(dial: Dialler, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(contents(500_000))
    sealed = await upload_sealed(ADDRESS, tmp_path / "source", most_bytes=1_000_000, dial=dial)
    await download_sealed(ADDRESS, sealed, tmp_path / "copy", dial=dial)
    assert (tmp_path / "copy").read_bytes() == contents(500_000)


def sealed_file(content: bytes) -> tuple[SealedFile, bytes]:
    sealer = FileSealer()
    data = sealer.seal(content) + b"".join(sealer.finish())
    return SealedFile(URL, to_base64url(sealer.key), sealer.size, sealer.sha256), data


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:65_552],
        lambda data: data + b"\0",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data + bytes(10_000_000),
    ],
)
async def test_a_file_that_was_changed_leaves_nothing(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    file, data = sealed_file(contents(100_000))
    async with serving(Http(lambda _: ok(change(data)))) as address:
        with pytest.raises(TransferFailed, match="not the file that was sent"):
            await download_sealed(address, file, tmp_path / "copy")
    assert names_in(tmp_path) == []


async def test_another_file_under_the_name_is_refused(tmp_path: Path) -> None:
    file, data = sealed_file(contents(1000))
    other = attrs.evolve(file, sha256="0" * 64)
    async with serving(Http(lambda _: ok(data))) as address:
        with pytest.raises(TransferFailed, match="SHA-256"):
            await download_sealed(address, other, tmp_path / "copy")
        with pytest.raises(TransferFailed, match="is not a file of the server"):
            await download_sealed(address, attrs.evolve(file, url="/elsewhere"), tmp_path / "copy")
    assert names_in(tmp_path) == []


async def test_a_server_that_stored_something_else_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content")
    lie = orjson.dumps({"url": URL, "size": 272, "sha256": "0" * 64})
    async with serving(Http(lambda _: ok(lie))) as address:
        with pytest.raises(TransferFailed, match="something else"):
            await upload_sealed(address, tmp_path / "source", most_bytes=MOST)
    async with serving(Http(lambda _: answer("413 Too Large", b'{"detail":"too large"}'))) as address:
        with pytest.raises(TransferFailed, match="too large"):
            await upload_sealed(address, tmp_path / "source", most_bytes=MOST)


async def test_a_file_that_shrinks_on_the_way_is_not_sent(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(contents(3 * PIECE_BYTES))

    def shrink(done: int, total: int) -> None:
        if done:
            source.write_bytes(b"")

    async with serving(Http(honest)) as address:
        with pytest.raises(TransferFailed, match="became shorter"):
            await upload_sealed(address, source, shrink, most_bytes=MOST)
