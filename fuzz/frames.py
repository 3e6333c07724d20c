"""Any bytes at all, through the frame parser and through wsproto: they must say the same.

What it proves, for every input, is that `FrameParser`

- never raises anything from `feed` on the first violation, and always raises that violation afterwards;
- gives the same payloads and the same violation however its input is cut into reads;
- gives the payloads, control frames and close code that wsproto gives, but for the three differences below;
- with a limit gives the same as without one, up to the first message that is over it.

The differences are on purpose. Each is checked as tightly as it can be:

1. A header is judged from its first two bytes, where wsproto waits for the rest of it.
2. Text is decoded when its frame is complete, where wsproto decodes each read.
3. Close code 1014, which IANA has registered since, is accepted.
"""

from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import assert_never

import wsproto.events
from attrs import frozen
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from ironwire.errors import FrameViolation
from ironwire.wire.frames import CloseFrame, Control, FrameParser, Payload, PingFrame, PongFrame

_NO_LIMIT = 1 << 63
_NO_STATUS = 1005  # how wsproto says that a close frame had no code
_REST_OF_HEADER = b"\x01" * 139  # completes any header, and any control frame: length, mask and 125 bytes
_REST_OF_FRAME = b"\x01" * 70_000


@frozen
class Outcome:
    """What a parser made of a stream: what it completed, and how it failed."""

    items: list[Payload | Control]
    code: int | None = None
    reason: str = ""


def one(data: bytes) -> None:
    """Check `data`: five bytes choose the limit and the reads, the others are what a client sent.

    Raises:
        AssertionError: the parser broke one of the laws above.
    """
    choices, stream = data[:5].ljust(5, b"\xff"), data[5:]
    check(stream, read_bytes=[byte + 1 for byte in choices[1:]], limit_bytes=choices[0])


def check(stream: bytes, *, read_bytes: list[int], limit_bytes: int) -> Outcome:
    """Hold every law to one stream and return what the parser, without a limit, made of it.

    `read_bytes` are the sizes of the reads, over and over; `limit_bytes` is what the fourth law is tried with.
    """
    whole = parse([stream])
    assert parse(_cut(stream, read_bytes)) == whole, "the reads made a difference"
    _check_against_oracle(stream, whole)
    _check_limit(whole, parse(_cut(stream, read_bytes), limit_bytes), limit_bytes)
    return whole


def parse(reads: Iterable[bytes], limit_bytes: int = _NO_LIMIT) -> Outcome:
    """Feed a new parser as a transport would, and go on feeding after a close."""
    parser = FrameParser(limit_bytes)
    items: list[Payload | Control] = []
    for read in reads:
        items += parser.feed(read)
        assert not any(isinstance(item, CloseFrame) for item in items[:-1]), "something came after a close"
        if parser.violation is not None:
            _check_that_it_stays(parser, parser.violation)
            return Outcome(items, parser.violation.code, parser.violation.reason)
    return Outcome(items)


def ask_oracle(stream: bytes) -> Outcome:
    """Feed wsproto, and put its partial messages together."""
    connection = Connection(ConnectionType.SERVER)
    connection.receive_data(stream)
    items: list[Payload | Control] = []
    text, binary = "", b""
    for event in connection.events():
        match event:
            case TextMessage():
                text += event.data
                if event.message_finished:
                    items.append(text)
                    text = ""
            case BytesMessage():
                binary += event.data
                if event.message_finished:
                    items.append(binary)
                    binary = b""
            case wsproto.events.Ping():
                items.append(PingFrame(bytes(event.payload)))
            case wsproto.events.Pong():
                items.append(PongFrame(bytes(event.payload)))
            case CloseConnection() if connection.state is ConnectionState.REMOTE_CLOSING:
                items.append(CloseFrame(None if event.code == _NO_STATUS else int(event.code), event.reason or ""))
            case CloseConnection():
                return Outcome(items, int(event.code), event.reason or "")
            case _:
                raise AssertionError(f"wsproto gave {event}")
    return Outcome(items)


def _check_against_oracle(stream: bytes, ours: Outcome) -> None:
    theirs = ask_oracle(stream)
    if (ours.items, ours.code) == (theirs.items, theirs.code):
        return
    if theirs.reason == "CLOSE with unknown reserved code":
        accepted = ours.items[len(theirs.items) :]
        is_bad_gateway = ours.code is None and len(accepted) == 1 and getattr(accepted[0], "code", None) == 1014
        has_bad_reason = ours.code == 1007 and not accepted
        assert is_bad_gateway or has_bad_reason, f"{ours} is not {theirs}"
        return
    assert ours.items == theirs.items, f"{ours} is not {theirs}"
    if theirs.code is None:
        late = ask_oracle(stream + _REST_OF_HEADER)
        assert (ours.items, ours.code) == (late.items, late.code) == (ours.items, 1002), f"{ours} is not {late}"
    else:
        late = parse([stream, _REST_OF_FRAME])
        assert (ours.code, theirs.code) == (None, 1007), f"{ours} is not {theirs}"
        assert late.items == ours.items, f"{late} completed what {theirs} refused"


def _check_limit(free: Outcome, bounded: Outcome, limit_bytes: int) -> None:
    assert all(_size(item) <= limit_bytes for item in bounded.items), "a message over the limit came through"
    if bounded.code != 1009:
        assert bounded == free, "the limit changed what was under it"
        return
    given = len(bounded.items)
    assert bounded.items == free.items[:given], "the limit changed what came before it"
    next_message = next((item for item in free.items[given:] if isinstance(item, str | bytes)), None)
    assert next_message is None or _size(next_message) > limit_bytes, "a message under the limit was refused"


def _check_that_it_stays(parser: FrameParser, violation: FrameViolation) -> None:
    raised: FrameViolation | None = None
    try:
        parser.feed(b"")
    except FrameViolation as again:
        raised = again
    assert raised is violation, "the violation was forgotten"


def _size(item: Payload | Control) -> int:
    """Return what counts against the limit, in bytes: nothing, for a control frame."""
    match item:
        case str():
            return len(item.encode())
        case bytes():
            return len(item)
        case PingFrame() | PongFrame() | CloseFrame():
            return 0
        case _:
            assert_never(item)


def _cut(stream: bytes, read_bytes: list[int]) -> Iterator[bytes]:
    start = 0
    for size in cycle(read_bytes):
        if start >= len(stream):
            return
        yield stream[start : start + size]
        start += size
