"""RFC 6455 frames on the server's side: bytes from a client become payloads, payloads become bytes for it.

One call handles every complete frame of one read, because the cost is the number of steps per message. Rules: a peer
does not decide how much memory it holds (a message over the limit is refused from its header), and frames completed
before a violation are not lost with it. No I/O. The sections named below are those of the RFC.
"""

import codecs
import struct
from collections.abc import Sequence
from math import inf

from attrs import define, field, frozen

from ironwire.close_codes import SENDABLE, CloseCode
from ironwire.errors import FrameViolation

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled routine on this platform; this one is a single XOR of two large integers
    from websockets.utils import apply_mask

_FIN, _RSV, _OPCODE, _CONTROL = 0x80, 0x70, 0x0F, 0x08
_MASKED, _LENGTH = 0x80, 0x7F

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_OPCODES = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
_WHOLE_TEXT = _FIN | _TEXT

_SHORT_BYTES = 125  # the longest payload of a control frame, and the longest length in one byte (section 5.2)
_LENGTH_16, _LENGTH_64 = 126, 127
_HEADER_16, _HEADER_64 = struct.Struct("!BBH").pack, struct.Struct("!BBQ").pack


Payload = str | bytes
"""One WebSocket message: `str` came as text, `bytes` as binary."""


@frozen
class PingFrame:
    """The peer asks for a pong that carries the same data, at most 125 bytes."""

    data: bytes


@frozen
class PongFrame:
    """The peer answers a ping, or sends an unsolicited sign of life."""

    data: bytes


@frozen
class CloseFrame:
    """The peer sends nothing more; `code` is None where it gave none."""

    code: int | None
    reason: str


Control = PingFrame | PongFrame | CloseFrame


@define(eq=False)
class FrameParser:
    """Turns the bytes of one client into its messages and control frames.

    `limit_bytes` bounds one message after reassembly. The parser holds at most that, a header and one read, and nothing
    between messages.
    """

    _limit_bytes: int
    _room_bytes: int = field(init=False)  # left for the current message
    _tail: bytearray = field(factory=bytearray, init=False)  # grows in place: a read of one byte must not copy it all
    _partial: "_PartialMessage | None" = field(default=None, init=False)
    _is_closed: bool = field(default=False, init=False)
    odd_frames_left: float = field(default=inf, init=False)
    """Frames that may come besides whole texts: control frames and fragments, which no limit of messages counts. The
    caller, which has a clock, sets it; one frame more is a violation with 1013.
    """
    violation: FrameViolation | None = field(default=None, init=False)
    """The peer's violation. Check it after every `feed`, after handling the returned list."""

    @_room_bytes.default
    def _whole_limit(self) -> int:
        return self._limit_bytes

    def feed(self, data: bytes) -> list[Payload | Control]:
        """Return every message and control frame that `data` completes, in order.

        On a violation the list still holds everything completed before it, and `violation` has the close code. After a
        `CloseFrame`, which is always the last of its list, data is ignored.

        Raises:
            FrameViolation: an earlier call set `violation`, and the connection should be closing.
        """
        if self.violation is not None:
            raise self.violation
        completed: list[Payload | Control] = []
        if self._is_closed:
            return completed
        try:
            self._parse(data, completed)
        except FrameViolation as violation:
            self._fail(violation)
        except UnicodeDecodeError:
            self._fail(FrameViolation(CloseCode.NOT_UTF8, "text is not UTF-8"))
        return completed

    def _parse(self, data: bytes, completed: list[Payload | Control]) -> None:
        buffer: bytes | bytearray = data
        if self._tail:
            self._tail += data
            buffer = self._tail
        start, end = 0, len(buffer)
        # Nearly every frame is a whole text: its path makes no call into this module.
        while end - start >= 2:
            first, second = buffer[start], buffer[start + 1]
            is_whole_text = first == _WHOLE_TEXT and second >= _MASKED and self._partial is None
            if not is_whole_text:
                self._judge(first, second)
            length = second & _LENGTH
            body = start + 6
            if length == _LENGTH_16:
                if end < start + 4:
                    break
                length = buffer[start + 2] << 8 | buffer[start + 3]
                if length <= _SHORT_BYTES:
                    raise FrameViolation(CloseCode.PROTOCOL_ERROR, "frame length is not in its shortest form")
                body = start + 8
            elif length == _LENGTH_64:
                if end < start + 10:
                    break
                length = int.from_bytes(buffer[start + 2 : start + 10], "big")
                if length < 1 << 16:
                    raise FrameViolation(CloseCode.PROTOCOL_ERROR, "frame length is not in its shortest form")
                if length >= 1 << 63:
                    raise FrameViolation(CloseCode.PROTOCOL_ERROR, "frame length is over 63 bits")
                body = start + 14
            if length > self._room_bytes and not first & _CONTROL:
                raise FrameViolation(CloseCode.TOO_BIG, f"message is over {self._limit_bytes} bytes")
            stop = body + length
            if stop > end:
                break
            payload = apply_mask(buffer[body:stop], buffer[body - 4 : body])
            start = stop
            if is_whole_text:
                completed.append(str(payload, "utf-8"))
                continue
            self.odd_frames_left -= 1
            if self.odd_frames_left < 0:
                raise FrameViolation(CloseCode.OVERLOADED, "too many control frames or fragments")
            item = self._take(first, payload)
            if item is not None:
                completed.append(item)
            if self._is_closed:
                start = end
        if buffer is self._tail:
            del self._tail[:start]
        else:
            self._tail += memoryview(buffer)[start:]

    def _judge(self, first: int, second: int) -> None:
        """Raise for every fault in the first two bytes of a header (sections 5.1, 5.2, 5.4, 5.5)."""
        opcode = first & _OPCODE
        if first & _RSV:
            raise FrameViolation(CloseCode.PROTOCOL_ERROR, "reserved bit is set")
        if opcode not in _OPCODES:
            raise FrameViolation(CloseCode.PROTOCOL_ERROR, "opcode is reserved")
        if second < _MASKED:
            raise FrameViolation(CloseCode.PROTOCOL_ERROR, "frame is not masked")
        if opcode & _CONTROL:
            if not first & _FIN:
                raise FrameViolation(CloseCode.PROTOCOL_ERROR, "control frame is fragmented")
            if second & _LENGTH > _SHORT_BYTES:
                raise FrameViolation(CloseCode.PROTOCOL_ERROR, "control frame is over 125 bytes")
        elif opcode == _CONTINUATION:
            if self._partial is None:
                raise FrameViolation(CloseCode.PROTOCOL_ERROR, "continuation of nothing")
        elif self._partial is not None:
            raise FrameViolation(CloseCode.PROTOCOL_ERROR, "message begins inside a fragmented one")

    def _take(self, first: int, payload: bytes) -> Payload | Control | None:
        """Return what the frame completes; the caller keeps whole text frames to itself."""
        opcode = first & _OPCODE
        if opcode == _PING:
            return PingFrame(payload)
        if opcode == _PONG:
            return PongFrame(payload)
        if opcode == _CLOSE:
            self._is_closed = True
            self._partial = None
            return _parse_close(payload)
        is_final = bool(first & _FIN)
        if self._partial is None:
            if is_final:
                return payload
            self._partial = _PartialMessage(is_text=opcode == _TEXT)
        self._room_bytes -= len(payload)
        message = self._partial.add(payload, is_final)
        if is_final:
            self._partial = None
            self._room_bytes = self._limit_bytes
        return message

    def _fail(self, violation: FrameViolation) -> None:
        self.violation = violation.with_traceback(None)  # which would keep the whole read alive
        self._tail = bytearray()
        self._partial = None


class _PartialMessage:
    """The fragments of one message so far.

    Text is decoded on arrival only to fail early (section 8.1), and is kept as bytes: the peer chooses the size of its
    fragments, and a list of strings can take twenty times the bytes that were sent.
    """

    __slots__ = ("_data", "_decoder")

    def __init__(self, *, is_text: bool) -> None:
        self._data = bytearray()
        self._decoder = codecs.getincrementaldecoder("utf-8")() if is_text else None

    def add(self, payload: bytes, is_final: bool) -> Payload | None:
        """Return the message if this was its last fragment.

        Raises:
            UnicodeDecodeError: text can no longer become UTF-8, whatever follows.
        """
        self._data += payload
        # A last code point that is cut short is found by `str` below.
        if self._decoder is not None:
            self._decoder.decode(payload)
        if not is_final:
            return None
        return bytes(self._data) if self._decoder is None else str(self._data, "utf-8")


def encode_text(payload: bytes) -> bytes:
    """Return one unmasked text frame that carries `payload`, a whole message in UTF-8."""
    return _header(_WHOLE_TEXT, len(payload)) + payload


def encode_batch(payloads: Sequence[bytes]) -> bytes:
    """Return the text frames of many messages as one buffer, in order, for one write."""
    pieces: list[bytes] = []
    for payload in payloads:
        pieces += _header(_WHOLE_TEXT, len(payload)), payload
    return b"".join(pieces)


def encode_ping(data: bytes) -> bytes:
    """Return a ping frame; `data` is at most 125 bytes."""
    return _control(_PING, data)


def encode_pong(data: bytes) -> bytes:
    """Return a pong frame; `data` is that of the ping it answers."""
    return _control(_PONG, data)


def encode_close(code: int | None, reason: str) -> bytes:
    """Return a close frame; `reason` is cut after the last code point that fits in 123 bytes.

    Without a code the frame is empty, because a reason cannot stand alone (section 5.5.1).
    """
    if code is None:
        return _control(_CLOSE, b"")
    fitting = reason.encode()[: _SHORT_BYTES - 2].decode("utf-8", "ignore")
    return _control(_CLOSE, struct.pack("!H", code) + fitting.encode())


def _parse_close(body: bytes) -> CloseFrame:
    if not body:
        return CloseFrame(None, "")
    if len(body) == 1:
        raise FrameViolation(CloseCode.PROTOCOL_ERROR, "close frame has one byte")
    code = int.from_bytes(body[:2], "big")
    if code not in SENDABLE:
        raise FrameViolation(CloseCode.PROTOCOL_ERROR, f"close code {code} is reserved")
    return CloseFrame(code, str(body[2:], "utf-8"))


def _control(opcode: int, data: bytes) -> bytes:
    if len(data) > _SHORT_BYTES:
        raise ValueError(f"a control frame carries at most {_SHORT_BYTES} bytes, not {len(data)}")
    return _header(_FIN | opcode, len(data)) + data


def _header(first: int, length: int) -> bytes:
    if length <= _SHORT_BYTES:
        return bytes((first, length))
    if length < 1 << 16:
        return _HEADER_16(first, _LENGTH_16, length)
    return _HEADER_64(first, _LENGTH_64, length)
