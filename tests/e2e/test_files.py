"""IWA1, docs/between-devices.md, section 10.1."""

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt

from ironwire.crypto.padding import padded_size
from ironwire.e2e.files import (
    CHUNK_BYTES,
    SEALED_CHUNK_BYTES,
    TAG_BYTES,
    FileOpener,
    FileSealer,
    content_room,
    new_file_key,
    open_range,
    padded_content,
    sealed_range,
    sealed_size,
)
from ironwire.errors import InvalidFile
from tests.e2e.file_vectors import content
from tests.e2e.vectors import recorded

MEBIBYTE = 1024 * 1024

sizes = st.one_of(
    st.integers(0, 3 * CHUNK_BYTES),
    st.sampled_from([0, 1, 4096, CHUNK_BYTES, 2 * CHUNK_BYTES]).flatmap(lambda size: st.integers(size, size + 1)),
)


class Sealed:
    """One encrypted file, and what a message would say about it."""

    def __init__(self, size: int, most_bytes: int | None = None) -> None:
        self.content = content(size)
        sealer = FileSealer(most_bytes)
        self.data = sealer.seal(self.content) + b"".join(sealer.finish())
        self.key, self.size, self.sha256 = sealer.key, sealer.size, sealer.sha256

    def open(self, data: bytes, *, piece_bytes: int = MEBIBYTE, is_sha256_new: bool = True) -> bytes:
        """Decrypt `data` in place of the file; its hash is no help unless it is kept."""
        sha256 = hashlib.sha256(data).hexdigest() if is_sha256_new else self.sha256
        opener = FileOpener(self.key, self.size, sha256)
        pieces = [opener.open(data[start : start + piece_bytes]) for start in range(0, len(data), piece_bytes)]
        return b"".join(pieces) + opener.finish()

    @property
    def chunks(self) -> list[bytes]:
        return [self.data[start : start + SEALED_CHUNK_BYTES] for start in range(0, len(self.data), SEALED_CHUNK_BYTES)]


# --- sizes -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**40))
def test_the_longest_content_fits_and_no_longer_one(sealed_bytes: int) -> None:
    room = content_room(sealed_bytes)
    assert sealed_size(room) <= sealed_bytes or room == 0
    assert sealed_size(room + 1) > sealed_bytes


@given(st.integers(0, 40 * MEBIBYTE))
def test_whatever_fits_into_an_upload_fits_padded(size: int) -> None:
    most_bytes = 30 * MEBIBYTE
    padded = padded_content(size, most_bytes)
    assert size <= padded <= padded_size(size)
    assert (sealed_size(padded) <= most_bytes) == (sealed_size(size) <= most_bytes)


# --- whole files -----------------------------------------------------------------------------------------------------


@given(sizes, st.none() | st.integers(0, 2 * CHUNK_BYTES), st.lists(st.integers(1, 100_000)), st.integers(1, 100_000))
def test_a_file_comes_out_as_it_went_in_whatever_the_pieces(
    size: int, most_bytes: int | None, cuts: list[int], piece_bytes: int
) -> None:
    data, start = content(size), 0
    sealer = FileSealer(most_bytes)
    pieces = []
    for cut in [*cuts, size]:
        pieces.append(sealer.seal(data[start : start + cut]))
        start += cut
    pieces += sealer.finish()
    sealed = b"".join(pieces)
    assert sealer.size == size
    assert len(sealed) == sealed_size(padded_content(size, most_bytes))
    assert sealer.sha256 == hashlib.sha256(sealed).hexdigest()
    opener = FileOpener(sealer.key, size, sealer.sha256)
    opened = [opener.open(sealed[start : start + piece_bytes]) for start in range(0, len(sealed), piece_bytes)]
    assert b"".join(opened) + opener.finish() == data


def test_neither_side_holds_a_file() -> None:
    sealer, piece = FileSealer(), bytes(CHUNK_BYTES)
    opener = FileOpener(sealer.key, 64 * CHUNK_BYTES, "")
    opened = 0
    for number in range(64):
        sealed = sealer.seal(piece)
        opened += len(opener.open(sealed))
        assert len(sealed) == (SEALED_CHUNK_BYTES if number else 0)
    assert opened == 62 * CHUNK_BYTES
    assert max(map(len, sealer.finish())) <= SEALED_CHUNK_BYTES


def test_chunks_are_what_the_document_says() -> None:
    file = Sealed(2 * CHUNK_BYTES + 5)
    last = len(file.chunks) - 1
    opened = [
        crypto_aead_chacha20poly1305_ietf_decrypt(
            chunk, b"IWA1", b"\0\0\0" + bytes([index == last]) + index.to_bytes(8, "big"), file.key
        )
        for index, chunk in enumerate(file.chunks)
    ]
    padded = padded_size(file.size)
    assert b"".join(opened) == file.content + bytes(padded - file.size)


def test_every_file_has_a_key_of_its_own() -> None:
    assert len({FileSealer().key for _ in range(10)} | {new_file_key()}) == 11
    assert FileSealer().key.hex() not in repr(FileSealer())


@pytest.mark.parametrize("case", recorded("files"), ids=lambda case: str(case["size"]))
def test_known_files_open(case: dict[str, str]) -> None:
    size, key = int(case["size"]), bytes.fromhex(case["key"])
    most_bytes = case.get("most_bytes")
    sealer = FileSealer(None if most_bytes is None else int(most_bytes), key)
    sealed = sealer.seal(content(size)) + b"".join(sealer.finish())
    opener = FileOpener(key, size, case["sha256"])
    assert opener.open(sealed) + opener.finish() == content(size)


# --- what is refused -------------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Sealed], bytes]] = {
    "nothing": lambda _: b"",
    "less than a tag": lambda file: file.data[: TAG_BYTES - 1],
    "cut at the end of a chunk": lambda file: b"".join(file.chunks[:-1]),
    "only its first chunk": lambda file: file.chunks[0],
    "cut inside of a chunk": lambda file: file.data[:-1],
    "one byte more": lambda file: file.data + b"\0",
    "its last chunk twice": lambda file: file.data + file.chunks[-1],
    "a chunk twice": lambda file: b"".join([file.chunks[0], *file.chunks]),
    "without its first chunk": lambda file: b"".join(file.chunks[1:]),
    "without a chunk": lambda file: b"".join([file.chunks[0], *file.chunks[2:]]),
    "chunks in another order": lambda file: b"".join([file.chunks[1], file.chunks[0], *file.chunks[2:]]),
    "the last chunk first": lambda file: b"".join([file.chunks[-1], *file.chunks[1:-1], file.chunks[0]]),
    "a bit of the content": lambda file: bytes([file.data[0] ^ 1]) + file.data[1:],
    "a bit of the last tag": lambda file: file.data[:-1] + bytes([file.data[-1] ^ 1]),
    "another file": lambda file: Sealed(file.size).data,
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("piece_bytes", [MEBIBYTE, 7_001])
def test_a_changed_file_is_refused(name: str, piece_bytes: int) -> None:
    file = Sealed(3 * CHUNK_BYTES + 9)
    assert len(file.chunks) > 3
    changed = CHANGES[name](file)
    with pytest.raises(InvalidFile):
        file.open(changed, piece_bytes=piece_bytes)
    with pytest.raises(InvalidFile):
        file.open(changed, piece_bytes=piece_bytes, is_sha256_new=False)


@given(st.data())
def test_no_byte_of_a_file_can_be_changed(data: st.DataObject) -> None:
    file = Sealed(300)
    place, change = data.draw(st.integers(0, len(file.data) - 1)), data.draw(st.integers(1, 255))
    with pytest.raises(InvalidFile):
        file.open(file.data[:place] + bytes([file.data[place] ^ change]) + file.data[place + 1 :])


def test_a_wrong_key_opens_nothing() -> None:
    file = Sealed(1000)
    file.key = new_file_key()
    with pytest.raises(InvalidFile, match="chunk 0"):
        file.open(file.data)


def test_another_file_under_the_same_key_is_refused() -> None:
    file, sealer = Sealed(1000), FileSealer()
    sealer.key = file.key
    other = sealer.seal(bytes(1000)) + b"".join(sealer.finish())
    with pytest.raises(InvalidFile, match="SHA-256"):
        file.open(other, is_sha256_new=False)


def test_a_size_that_is_not_that_of_the_file_is_refused() -> None:
    file = Sealed(1000)
    file.size = 5000
    with pytest.raises(InvalidFile, match="shorter than the message says"):
        file.open(file.data)
    file.size = 10
    with pytest.raises(InvalidFile, match="longer than the message says"):
        file.open(file.data)


# --- parts of files --------------------------------------------------------------------------------------------------


@given(st.data())
def test_any_part_of_a_file_can_be_read(data: st.DataObject) -> None:
    file = Sealed(data.draw(st.integers(1, 4 * CHUNK_BYTES)))
    start = data.draw(st.integers(0, file.size - 1))
    part = range(start, data.draw(st.integers(start + 1, file.size)))
    asked = sealed_range(part)
    assert len(asked) <= sealed_size(len(part)) + 2 * SEALED_CHUNK_BYTES
    assert (
        open_range(file.key, part, file.data[asked.start : asked.stop], len(file.data))
        == file.content[part.start : part.stop]
    )


@pytest.fixture
def file() -> Sealed:
    return Sealed(4 * CHUNK_BYTES)


PART = range(CHUNK_BYTES + 3, 2 * CHUNK_BYTES + 3)


def test_a_part_that_was_changed_is_refused(file: Sealed) -> None:
    asked = sealed_range(PART)
    answer = file.data[asked.start : asked.stop]
    assert open_range(file.key, PART, answer, len(file.data)) == file.content[PART.start : PART.stop]
    swapped = answer[SEALED_CHUNK_BYTES:] + answer[:SEALED_CHUNK_BYTES]
    for changed in (swapped, bytes(len(answer)), file.data[: len(answer)]):
        with pytest.raises(InvalidFile, match="does not open"):
            open_range(file.key, PART, changed, len(file.data))


@pytest.mark.parametrize("size", [0, 5, SEALED_CHUNK_BYTES, 2 * SEALED_CHUNK_BYTES - 1, 2 * SEALED_CHUNK_BYTES + 1])
def test_a_part_of_another_size_is_refused(file: Sealed, size: int) -> None:
    asked = sealed_range(PART)
    with pytest.raises(InvalidFile, match="another part"):
        open_range(file.key, PART, file.data[asked.start : asked.start + size], len(file.data))


def test_a_file_that_is_said_to_end_earlier_does_not_open(file: Sealed) -> None:
    part = range(3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 9)
    asked = sealed_range(part)
    chunk = file.data[asked.start : asked.stop]
    for said in (len(file.data) + 1, len(file.data) + SEALED_CHUNK_BYTES):
        with pytest.raises(InvalidFile):
            open_range(file.key, part, chunk, said)
    with pytest.raises(InvalidFile):  # an earlier chunk as the last
        open_range(file.key, range(9), file.data[:SEALED_CHUNK_BYTES], SEALED_CHUNK_BYTES)


def test_a_part_behind_the_end_is_refused() -> None:
    file = Sealed(100)
    with pytest.raises(InvalidFile, match="shorter"):
        open_range(file.key, range(200, 400), file.data, len(file.data))
    with pytest.raises(InvalidFile, match="another part"):
        open_range(file.key, range(CHUNK_BYTES, CHUNK_BYTES + 1), b"", len(file.data))
