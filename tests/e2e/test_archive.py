"""History for a new device, docs/between-devices.md, section 12.3."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterable
from itertools import count

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ironwire.e2e.archive import MOST_LINE_BYTES, ArchivedMessage, ArchiveReader, ArchiveWriter
from ironwire.e2e.bodies import HistoryPart, SealedFile, TextBody
from ironwire.e2e.content import Content, content_from, encode_content
from ironwire.e2e.files import FileSealer
from ironwire.errors import InvalidArchive, InvalidFile
from ironwire.ids import ClientId, ConversationId, GroupId, MessageId
from ironwire.protocol.conversations.names import pair_id
from ironwire.wire.base64url import to_base64url
from ironwire.wire.strict import strict_converter
from tests.e2e.strategies import contents
from tests.e2e.vectors import recorded
from tests.strategies import values_of

ALICE, BOB = ClientId("a1" * 32), ClientId("b0" * 32)
URL = "/media/123e4567-e89b-42d3-a456-426614174000.bin"
MEBIBYTE = 1024 * 1024
FRIENDS = GroupId("#" + "0f" * 16)

messages = st.builds(
    ArchivedMessage, values_of(ConversationId), values_of(ClientId), st.integers(0, 2**53 - 1), contents()
)


def text(number: int, said: str = "Hello") -> ArchivedMessage:
    return ArchivedMessage(FRIENDS, BOB, 1000 + number, Content(MessageId(str(number)), number, TextBody(said)))


def write(history: Iterable[ArchivedMessage], most_bytes: int = 30 * MEBIBYTE) -> list[tuple[HistoryPart, bytes]]:
    parts, writer, data = [], ArchiveWriter(ALICE, most_bytes), b""
    for message in history:
        piece = writer.add(message)
        if piece is None:
            parts.append((data + b"".join(writer.finish()), writer))
            writer, data = ArchiveWriter(ALICE, most_bytes), b""
            piece = writer.add(message)
        assert piece is not None
        data += piece
    parts.append((data + b"".join(writer.finish()), writer))
    return [(writer.part(URL), data) for data, writer in parts]


def read(
    part: HistoryPart, data: bytes, piece_bytes: int = MEBIBYTE, client: ClientId = ALICE
) -> list[ArchivedMessage]:
    reader = ArchiveReader(client, part)
    found = [
        message
        for start in range(0, len(data), piece_bytes)
        for message in reader.read(data[start : start + piece_bytes])
    ]
    return [*found, *reader.finish()]


def part_of(compressed: bytes, messages: int = 1) -> tuple[HistoryPart, bytes]:
    """A part that says what it likes."""
    sealer = FileSealer()
    data = sealer.seal(compressed) + b"".join(sealer.finish())
    return HistoryPart(SealedFile(URL, to_base64url(sealer.key), sealer.size, sealer.sha256), 0, 0, messages), data


def packed(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


def lines(*parts: object) -> bytes:
    return b"".join(json.dumps(part).encode() + b"\n" for part in parts)


HEAD = {"v": 1, "client": ALICE}
LINE = {"conversation": FRIENDS, "from": BOB, "ts": 5, "message": json.loads(encode_content(text(1).content))}


@settings(max_examples=30)
@given(st.lists(messages, min_size=1, max_size=5), st.integers(1, 5000))
def test_a_history_is_read_as_it_was_written(history: list[ArchivedMessage], piece_bytes: int) -> None:
    ((part, data),) = write(history)
    assert (part.messages, part.since, part.until) == (
        len(history),
        min(message.ts for message in history),
        max(message.ts for message in history),
    )
    assert read(part, data, piece_bytes) == history


def test_a_part_ends_before_it_is_larger_than_a_file_may_be() -> None:
    most_bytes = 100_000
    incompressible = [
        text(number, to_base64url(zlib.crc32(b"%d" % number).to_bytes(4, "big") * 50)) for number in range(20)
    ]
    noise = [text(number, FileSealer().key.hex() * 100) for number in range(60)]
    history = [*incompressible, *noise, *map(text, range(5000))]
    parts = write(history, most_bytes)
    assert len(parts) > 1
    assert max(len(data) for _, data in parts) <= most_bytes
    assert [message for part, data in parts for message in read(part, data)] == history


def test_what_does_not_shrink_fits_as_well() -> None:
    noise = (text(number, "".join(FileSealer().key.hex() for _ in range(2000))) for number in count())
    writer, data = ArchiveWriter(ALICE, 3 * MEBIBYTE), b""
    while (piece := writer.add(next(noise))) is not None:
        data += piece
    data += b"".join(writer.finish())
    assert MEBIBYTE < len(data) <= 3 * MEBIBYTE
    assert len(read(writer.part(URL), data)) == writer.messages


def test_a_message_without_room_anywhere_is_an_error() -> None:
    with pytest.raises(InvalidArchive, match="has no room"):
        ArchiveWriter(ALICE, 4096).add(text(1, "a" * 5000))


def test_what_is_newer_is_skipped_and_counted() -> None:
    newer = LINE | {"message": {"v": 1, "t": "poll"}}
    part, data = part_of(packed(lines(HEAD, newer, LINE)), messages=2)
    reader = ArchiveReader(ALICE, part)
    assert [message.content.id for message in [*reader.read(data), *reader.finish()]] == ["1"]
    assert reader.skipped == 1


@pytest.mark.parametrize(
    ("compressed", "said"),
    [
        (b"no gzip at all", "no gzip"),
        (b"", "does not end"),
        (packed(lines(HEAD, LINE))[:-9], "does not end"),
        (packed(lines(HEAD, LINE)) + b"more", "does not end"),
        (packed(lines(HEAD, LINE)) + packed(lines(LINE)), "does not end"),
        (packed(lines(HEAD, LINE)[:-1]), "does not end"),
        (packed(lines(HEAD)), "has 0 messages, and should have 1"),
        (packed(lines(HEAD, LINE, LINE)), "has 2 messages"),
        (packed(lines(LINE)), "v is missing"),
        (packed(lines(HEAD | {"v": 2}, LINE)), "newer version"),
        (packed(lines(HEAD | {"client": BOB}, LINE)), "another client"),
        (packed(lines(HEAD, LINE | {"ts": "5"})), "ts must be an integer"),
        (packed(lines(HEAD, LINE | {"message": []})), "one JSON object"),
        (packed(lines(HEAD, [])), "must be an object"),
        (packed(lines(HEAD) + b"{\n"), "not JSON"),
        (packed(lines(HEAD) + b" " * (MOST_LINE_BYTES + 1)), "a line is longer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "part",
)
def test_another_content_is_refused(compressed: bytes, said: str) -> None:
    part, data = part_of(compressed)
    with pytest.raises(InvalidArchive, match=said):
        read(part, data)


def test_a_part_that_was_cut_or_changed_is_refused() -> None:
    ((part, data),) = write(map(text, range(20_000)))
    for changed in (data[:-1], data[:65_552], data[65_552:], data[:-1] + bytes([data[-1] ^ 1])):
        with pytest.raises(InvalidFile):
            read(part, changed)


def test_a_small_file_cannot_take_all_the_memory() -> None:
    number = 40_000
    part, data = part_of(packed(lines(HEAD) + lines(LINE) * number), messages=number)
    assert len(data) * 50 < number * len(lines(LINE))
    reader = ArchiveReader(ALICE, part)
    tracemalloc.start()
    try:
        assert sum(1 for _ in reader.read(data)) + sum(1 for _ in reader.finish()) == number
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MEBIBYTE


@pytest.mark.parametrize(
    ("conversation", "sender", "to", "peer"),
    [
        (FRIENDS, BOB, None, FRIENDS),
        (FRIENDS, ALICE, None, FRIENDS),
        (pair_id(ALICE, BOB), BOB, None, BOB),
        (pair_id(ALICE, BOB), ALICE, BOB, BOB),
        (pair_id(ALICE, ALICE), ALICE, ALICE, ALICE),
        (pair_id(ALICE, BOB), ALICE, None, None),
        (pair_id(ALICE, ALICE), BOB, None, None),
        (pair_id(BOB, BOB), BOB, None, None),
    ],
)
def test_a_line_says_with_whom_it_was(
    conversation: ConversationId, sender: ClientId, to: ClientId | None, peer: ClientId | None
) -> None:
    said = attrs.evolve(text(1), conversation=conversation, sender=sender, to=to, is_plain=True)
    ((part, data),) = write([said])
    (told,) = read(part, data)
    assert told == said
    assert told.peer(ALICE) == peer


def test_a_manifest_knows_its_parts() -> None:
    ((part, data),) = write([text(5), text(3), text(4)])
    assert (part.since, part.until, part.messages, part.file.url) == (1003, 1005, 3, URL)
    other = attrs.evolve(part, file=attrs.evolve(part.file, key=to_base64url(FileSealer().key)))
    with pytest.raises(InvalidFile):
        read(other, data)


def test_a_known_part_is_read() -> None:
    (known,) = recorded("history")
    part = strict_converter().structure(known["part"], HistoryPart)
    assert [message.content for message in read(part, bytes.fromhex(known["sealed"]))] == [
        content_from(json.loads(line)["message"]) for line in known["lines"][1:]
    ]
