"""Any bytes at all, to every decoder of what devices write for devices.

What it proves, for every input, is that a decoder

- gives a value or raises the one error of its kind, whose text is short and printable, and nothing else;
- understood the input: what it gave, encoded, is understood as the same.

The first byte of an input chooses the decoder. Where a peer would have to know a key, the input is what such a peer has
encrypted; and it goes to the decoder as it is, too.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ironwire.e2e.archive import ArchiveReader
from ironwire.e2e.backup import open_backup, seal_backup
from ironwire.e2e.bodies import HistoryPart, SealedFile
from ironwire.e2e.content import decode_content, encode_content
from ironwire.e2e.files import FileOpener, FileSealer, open_range
from ironwire.e2e.linking import answer_link, parse_link_text
from ironwire.e2e.recovery import parse_recovery_code
from ironwire.errors import E2EError
from ironwire.wire.base64url import to_base64url
from tests.e2e.content_vectors import ALICE, FILE
from tests.e2e.link_vectors import NOW_MS, ORIGIN, PENDING, REQUEST, answer_of, box_of
from tests.e2e.recovery_vectors import CODE, blob_of, statement_of
from tests.e2e.recovery_vectors import a_backup as known_backup

_TEXT_CHARACTERS = 500
_MESSAGES = 10_000
_IDENTITY = known_backup().load_identity()


def one(data: bytes) -> None:
    """Give `data` to whom its first byte says.

    Raises:
        AssertionError: one of the laws above was broken.
    """
    _TARGETS[data[0] % len(_TARGETS) if data else 0](data[1:])


def _content(data: bytes) -> None:
    with refusals():
        content = decode_content(data, None)
        assert decode_content(encode_content(content), content.id) == content, "another message came back"


def _recovery(data: bytes) -> None:
    with refusals():
        code = parse_recovery_code(data.decode(errors="replace"))
        assert parse_recovery_code(code.text) == code, "another code came back"


def _backup(data: bytes) -> None:
    for blob in (data, b"IWB1" + data, blob_of(data), blob_of(statement_of(data, _IDENTITY))):
        with refusals():
            backup = open_backup(blob, CODE)
            assert open_backup(seal_backup(backup, CODE), CODE) == backup, "another backup came back"


def _archive(data: bytes) -> None:
    for compressed in (data, zlib.compress(data, 1, 31)):
        sealer = FileSealer()
        sealed = sealer.seal(compressed) + b"".join(sealer.finish())
        file = SealedFile(FILE.url, to_base64url(sealer.key), sealer.size, sealer.sha256)
        reader = ArchiveReader(ALICE, HistoryPart(file, 0, 0, 1))
        with refusals():
            for number, _ in enumerate(reader.read(sealed)):
                assert number < _MESSAGES, "a short input gives messages without end"
            assert len([*reader.finish()]) <= 1, "more messages than the manifest says"


def _file(data: bytes) -> None:
    """The first two bytes are the size of the content, the third how it is cut."""
    size, step, sealed = int.from_bytes(data[:2], "big"), data[2] if data[2:] else 1, data[3:]
    opener = FileOpener(bytes(32), size, "")

    def open_whole() -> None:
        for start in range(0, len(sealed), step + 1):
            assert opener.open(sealed[start : start + step + 1]) == b"", "somebody knew the key"
        opener.finish()

    assert _is_refused(open_whole), "a file opens that nobody has encrypted"
    part = range(size, size + 1)
    assert _is_refused(lambda: open_range(bytes(32), part, sealed, len(sealed) + step)), "and so does a part"


def _link(data: bytes) -> None:
    with refusals():
        request = parse_link_text(data.decode(errors="replace"))
        assert parse_link_text(request.text) == request, "another link came back"


def _answer(data: bytes) -> None:
    for answer in (data, answer_of(data), answer_of(box_of(data))):
        with refusals():
            offer = PENDING.open(answer, NOW_MS)
            assert PENDING.open(answer_link(REQUEST, offer, ORIGIN), NOW_MS) == offer, "another offer came back"


TARGETS: dict[str, Callable[[bytes], None]] = {
    "content": _content,
    "recovery": _recovery,
    "backup": _backup,
    "archive": _archive,
    "file": _file,
    "link": _link,
    "answer": _answer,
}
_TARGETS: Any = tuple(TARGETS.values())


def for_target(name: str, data: bytes) -> bytes:
    """An input of the campaign that gives `data` to this decoder."""
    return bytes([[*TARGETS].index(name)]) + data


def _is_refused(call: Callable[[], object]) -> bool:
    with refusals() as refused:
        call()
    return bool(refused)


@contextmanager
def refusals() -> Iterator[list[str]]:
    """Let the one kind of error pass that may come; its text is in the list."""
    texts: list[str] = []
    try:
        yield texts
    except E2EError as refused:
        text = str(refused)
        texts.append(text)
        assert 0 < len(text) <= _TEXT_CHARACTERS, "the error says nothing, or too much"
        assert text.isprintable(), "the error carries what a peer wrote"
