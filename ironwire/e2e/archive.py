"""A client's history for its own new device, in parts (docs/between-devices.md, section 12.3).

    part    = IWA1 of gzip of lines, each of them JSON
    line 1  = {"v":1,"client":"<client id>"}
    others  = {"conversation":"@…","from":"<client id>","to":…,"ts":…,"plain":true,"message":{"v":1,"id":…,"t":…,…}}

`to` is there where the client itself has written, in a pair: the other one. `plain`: it came, or went, in the clear.
`ts` beside `message` is when the server accepted it. The signatures of the messages are gone, so a device shows what it
imports as told by the device that it comes from. Newest messages first, in the parts and among them.
"""

import zlib
from collections.abc import Iterator
from typing import Annotated, Any

import orjson
from attrs import define, field, frozen

from ironwire.e2e.bodies import HistoryPart, SealedFile
from ironwire.e2e.content import MOST_BYTES as MOST_CONTENT_BYTES
from ironwire.e2e.content import Content, content_from, parts_of
from ironwire.e2e.files import FileOpener, FileSealer, content_room
from ironwire.errors import InvalidArchive, InvalidContent, UpdateNeeded
from ironwire.ids import Address, ClientId, ConversationId, GroupId, is_group
from ironwire.protocol.conversations.names import pair_id
from ironwire.record import record
from ironwire.wire.base64url import from_base64url, to_base64url
from ironwire.wire.messages.fields import WIRE_KEY, Between, UnixMs
from ironwire.wire.strict import Fault, strict_converter

VERSION = 1
MOST_LINE_BYTES = MOST_CONTENT_BYTES + 1024
_GZIP = 16 + zlib.MAX_WBITS
_FLUSH_BYTES = 256 * 1024
"""Lines that may wait in the compressor. How small they will be is not known before they come out of it."""
_INFLATED_BYTES = 64 * 1024
_END_BYTES = 64


@record
class ArchiveHead:
    """The first line of a part."""

    v: Annotated[int, Between(1, 10**6)]
    client: ClientId


@record
class _Place:
    """A line but for its message."""

    conversation: ConversationId
    sender: ClientId = field(metadata={WIRE_KEY: "from"})
    ts: UnixMs
    to: ClientId | None = None
    plain: bool | None = None


@frozen
class ArchivedMessage:
    """One message of the history; `ts` is when the server accepted it. `to` is the other client of a pair, where this
    one has written.
    """

    conversation: ConversationId
    sender: ClientId
    ts: int
    content: Content
    to: ClientId | None = None
    is_plain: bool = False

    def peer(self, own: ClientId) -> Address | None:
        """With whom it was said, at the client `own`; None: in a conversation that is not one of that client."""
        if is_group(self.conversation):
            return GroupId(self.conversation)
        other = self.to if self.sender == own else self.sender
        return other if other is not None and pair_id(own, other) == self.conversation else None


_converter = strict_converter(is_open=True)


# --- writing ---------------------------------------------------------------------------------------------------------


@define(eq=False)
class ArchiveWriter:
    """Writes one part: `add` for each message, then `finish`; both return what is to be uploaded, in order."""

    _client: ClientId
    _most_bytes: int
    """The largest file that the server takes."""
    messages: int = field(default=0, init=False)
    _since: int = field(default=0, init=False)
    _until: int = field(default=0, init=False)
    _sealer: FileSealer = field(init=False)
    _gzip: Any = field(factory=lambda: zlib.compressobj(wbits=_GZIP), init=False)
    _waiting_bytes: int = field(default=0, init=False)

    @_sealer.default
    def _new_file(self) -> FileSealer:
        return FileSealer(self._most_bytes)

    def add(self, message: ArchivedMessage) -> bytes | None:
        """None if the message has no room in this part, and begins the next.

        Raises:
            InvalidArchive: a part with this message alone would be too large.
        """
        place = _Place(message.conversation, message.sender, message.ts, message.to, message.is_plain or None)
        line = _line(_converter.unstructure(place), message.content)
        head = b"" if self.messages else _line({"v": VERSION, "client": self._client})
        most = content_room(self._most_bytes)
        if self._sealer.size + _longest_gzip(self._waiting_bytes + len(head) + len(line)) > most:
            if not self.messages:
                raise InvalidArchive(f"a message of {len(line)} bytes has no room in a file of {self._most_bytes}")
            return None
        self._since = min(self._since, message.ts) if self.messages else message.ts
        self._until = max(self._until, message.ts)
        self.messages += 1
        return self._sealer.seal(self._compress(head + line))

    def finish(self) -> Iterator[bytes]:
        """The rest of the part. All of it has to be taken."""
        yield self._sealer.seal(self._gzip.flush(zlib.Z_FINISH))
        yield from self._sealer.finish()

    def part(self, url: str) -> HistoryPart:
        """The entry of the manifest for this part, once it is finished and stored at `url`."""
        file = SealedFile(url, to_base64url(self._sealer.key), self._sealer.size, self._sealer.sha256)
        return HistoryPart(file, self._since, self._until, self.messages)

    def _compress(self, lines: bytes) -> bytes:
        compressed = self._gzip.compress(lines)
        self._waiting_bytes += len(lines)
        if self._waiting_bytes >= _FLUSH_BYTES:
            compressed += self._gzip.flush(zlib.Z_SYNC_FLUSH)
            self._waiting_bytes = 0
        return bytes(compressed)


def _line(parts: dict[str, Any], content: Content | None = None) -> bytes:
    return orjson.dumps(parts if content is None else {**parts, "message": parts_of(content)}) + b"\n"


def _longest_gzip(size: int) -> int:
    """The most that comes out of the compressor for so many bytes, its flushes and the end of the file included: blocks
    that are stored as they are cost 5 bytes for each 16 KiB.
    """
    return size + size // 1024 + _END_BYTES


# --- reading ---------------------------------------------------------------------------------------------------------


@define(eq=False)
class ArchiveReader:
    """Reads one part as it arrives: `read` for each piece, then `finish`. Memory is bounded by one piece and one line.

    Rule: that the part is whole is known when `finish` has returned; what came out before is kept after that alone.
    """

    _client: ClientId
    _part: HistoryPart
    skipped: int = field(default=0, init=False)
    """Messages of a kind that this version does not know."""
    _opener: FileOpener = field(init=False)
    _gzip: Any = field(factory=lambda: zlib.decompressobj(wbits=_GZIP), init=False)
    _rest: bytearray = field(factory=bytearray, init=False)
    _has_head: bool = field(default=False, init=False)
    _messages: int = field(default=0, init=False)

    @_opener.default
    def _opened(self) -> FileOpener:
        file = self._part.file
        return FileOpener(from_base64url(file.key), file.size, file.sha256)

    def read(self, piece: bytes) -> Iterator[ArchivedMessage]:
        """The messages that are complete with this piece of the file.

        Raises:
            InvalidFile: the file was changed.
            InvalidArchive: it is no part of this client's history.
        """
        yield from self._inflate(self._opener.open(piece))

    def finish(self) -> Iterator[ArchivedMessage]:
        """The last messages.

        Raises:
            InvalidFile, InvalidArchive: as `read`; or the part is not whole.
        """
        yield from self._inflate(self._opener.finish())
        if not self._gzip.eof or self._gzip.unused_data or self._rest:
            raise InvalidArchive("the part does not end where its gzip ends, with a line")
        if self._messages != self._part.messages:
            raise InvalidArchive(f"the part has {self._messages} messages, and should have {self._part.messages}")

    def _inflate(self, compressed: bytes) -> Iterator[ArchivedMessage]:
        while compressed:
            try:
                lines = self._gzip.decompress(compressed, _INFLATED_BYTES)
            except zlib.error:
                raise InvalidArchive("the part is no gzip") from None
            compressed = self._gzip.unconsumed_tail
            yield from self._split(lines)

    def _split(self, lines: bytes) -> Iterator[ArchivedMessage]:
        *complete, rest = lines.split(b"\n")
        for line in complete:
            message = self._message(bytes(self._rest) + line)
            self._rest.clear()
            if message is not None:
                yield message
        self._rest += rest
        if len(self._rest) > MOST_LINE_BYTES:
            raise InvalidArchive("a line is longer than any may be")

    def _message(self, line: bytes) -> ArchivedMessage | None:
        try:
            parts = orjson.loads(line)
            if not self._has_head:
                self._check_head(_converter.structure(parts, ArchiveHead))
                return None
            self._messages += 1
            place = _converter.structure(parts, _Place)
            content = content_from(parts.get("message"))
            is_plain = bool(place.plain)
            return ArchivedMessage(place.conversation, place.sender, place.ts, content, place.to, is_plain)
        except UpdateNeeded:
            self.skipped += 1
            return None
        except orjson.JSONDecodeError:
            raise InvalidArchive("a line is not JSON") from None
        except Fault as fault:
            raise InvalidArchive(f"in a line, {fault.about('the whole')}") from None
        except InvalidContent as error:
            raise InvalidArchive(f"a message in it: {error}") from None

    def _check_head(self, head: ArchiveHead) -> None:
        if head.v > VERSION:
            raise InvalidArchive("the part is of a newer version: update first")
        if head.client != self._client:
            raise InvalidArchive("the part is the history of another client")
        self._has_head = True
