"""The frame layer: each rule of RFC 6455 by name, the limit, bounded memory, the encoders.

Cases with a number are named after those of the Autobahn suite: 5 is fragmentation, 6 is UTF-8, 7 is closing.
"""

import importlib.util
import sys
import tracemalloc
from collections.abc import Callable

import pytest
import wsproto.events
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from fuzz.frames import Outcome, ask_oracle, parse
from ironwire.errors import FrameViolation
from ironwire.wire import frames
from ironwire.wire.frames import (
    CloseFrame,
    Control,
    FrameParser,
    Payload,
    PingFrame,
    PongFrame,
    encode_batch,
    encode_close,
    encode_ping,
    encode_pong,
    encode_text,
)
from tests.wire.frame_builder import (
    BINARY,
    BOUNDARY_LENGTHS,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    binary,
    close,
    fragments,
    frame,
    ping,
    pong,
    text,
)

LIMIT_BYTES = 64 * 1024
Item = Payload | Control


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[n : n + 1] for n in range(len(stream))]


# --- What is right, as a table -------------------------------------------------------------------------------------

CONVERSATIONS: dict[str, tuple[list[bytes], list[Item]]] = {
    "nothing": ([], []),
    "the masked hello of the RFC, 5.7": ([bytes.fromhex("818537fa213d7f9f4d5158")], ["Hello"]),
    "empty text": ([text("")], [""]),
    "empty binary": ([binary(b"")], [b""]),
    "text and binary": ([text("a"), binary(b"\xff"), text("b")], ["a", b"\xff", "b"]),
    "another mask for each frame": (
        [frame(TEXT, b"one", mask=b"\0\0\0\0"), frame(TEXT, b"two", mask=b"\xff\0\x80\x7f")],
        ["one", "two"],
    ),
    "pings and pongs": (
        [ping(), ping(b"a" * 125), pong(b"\xff"), pong()],
        [PingFrame(b""), PingFrame(b"a" * 125), PongFrame(b"\xff"), PongFrame(b"")],
    ),
    "5.3 text in two fragments": (fragments(TEXT, b"one", b"two"), ["onetwo"]),
    "5.4 binary in three fragments": (fragments(BINARY, b"\xff", b"", b"\xfe"), [b"\xff\xfe"]),
    "5.6 ping between two fragments": (
        [frame(TEXT, b"one", fin=False), ping(b"?"), frame(CONTINUATION, b"two")],
        [PingFrame(b"?"), "onetwo"],
    ),
    "5.19 pings between many fragments": (
        [
            frame(TEXT, b"1", fin=False),
            frame(CONTINUATION, b"2", fin=False),
            ping(b"a"),
            frame(CONTINUATION, b"3", fin=False),
            frame(CONTINUATION, b"4", fin=False),
            ping(b"b"),
            frame(CONTINUATION, b"5"),
        ],
        [PingFrame(b"a"), PingFrame(b"b"), "12345"],
    ),
    "5.x fragments all empty": (fragments(TEXT, b"", b"", b""), [""]),
    "5.x one fragmented message after another": (
        [*fragments(TEXT, b"a", b"b"), *fragments(BINARY, b"c", b"d"), text("e")],
        ["ab", b"cd", "e"],
    ),
    "6.2 text beyond ASCII": ([text("κόσμε ☃ 😀")], ["κόσμε ☃ 😀"]),
    "6.2 a code point split into single bytes": (fragments(TEXT, b"\xf0", b"\x9f", b"\x98", b"\x80"), ["😀"]),
    "6.5 the first and the last of each length": (
        [text("\0\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff")],
        ["\0\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"],
    ),
    "6.x binary need not be UTF-8": (fragments(BINARY, b"\xc0", b"\x80"), [b"\xc0\x80"]),
    "7.1.2 two closes": ([close(1000), close(1001)], [CloseFrame(1000, "")]),
    "7.1.3 ping after close": ([close(1000), ping()], [CloseFrame(1000, "")]),
    "7.1.4 text after close": ([close(1000), text("late")], [CloseFrame(1000, "")]),
    "7.1.5 close inside a fragmented message": (
        [frame(TEXT, b"one", fin=False), close(1000), frame(CONTINUATION, b"two")],
        [CloseFrame(1000, "")],
    ),
    "7.1.x nonsense after close": ([close(1000), b"\xff\xff\xff"], [CloseFrame(1000, "")]),
    "7.3.1 close without a body": ([close()], [CloseFrame(None, "")]),
    "7.3.4 close with a reason": ([close(1000, "bye")], [CloseFrame(1000, "bye")]),
    "7.3.5 close with the longest reason": ([close(1000, "é" * 61 + "!")], [CloseFrame(1000, "é" * 61 + "!")]),
}


@pytest.mark.parametrize(("sent", "expected"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_what_is_sent_arrives_in_order(sent: list[bytes], expected: list[Item]) -> None:
    stream = b"".join(sent)
    assert parse([stream]) == parse(sent) == parse(bytewise(stream)) == Outcome(expected)
    assert ask_oracle(stream) == Outcome(expected)


@pytest.mark.parametrize("length", BOUNDARY_LENGTHS)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_every_form_of_the_length_arrives(opcode: int, length: int) -> None:
    payload = b"x" * length
    expected = payload.decode() if opcode == TEXT else payload
    stream = frame(opcode, payload) + ping()
    assert parse([stream], LIMIT_BYTES) == Outcome([expected, PingFrame(b"")])
    assert parse([*bytewise(stream[:20]), stream[20:]], LIMIT_BYTES) == Outcome([expected, PingFrame(b"")])


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4409, 4999])
def test_close_codes_that_may_be_sent(code: int) -> None:
    assert parse([close(code, "why")]) == Outcome([CloseFrame(code, "why")])


# --- What is wrong, as a table -------------------------------------------------------------------------------------

VIOLATIONS: dict[str, tuple[bytes, int, str]] = {
    "3.1 reserved bit 1": (frame(TEXT, b"a", rsv=4), 1002, "reserved bit is set"),
    "3.2 reserved bit 2": (frame(TEXT, b"a", rsv=2), 1002, "reserved bit is set"),
    "3.3 reserved bit 3 on a ping": (frame(PING, b"a", rsv=1), 1002, "reserved bit is set"),
    **{f"4.1 data opcode {n}": (frame(n, b"a"), 1002, "opcode is reserved") for n in range(3, 8)},
    **{f"4.2 control opcode {n}": (frame(n, b"a"), 1002, "opcode is reserved") for n in range(11, 16)},
    "text is not masked": (frame(TEXT, b"a", mask=None), 1002, "frame is not masked"),
    "empty ping is not masked": (frame(PING, mask=None), 1002, "frame is not masked"),
    "2.5 ping of 126 bytes": (frame(PING, b"a" * 126), 1002, "control frame is over 125 bytes"),
    "7.3.6 close of 126 bytes": (close(1000, "a" * 124), 1002, "control frame is over 125 bytes"),
    "5.1 fragmented ping": (frame(PING, b"a", fin=False), 1002, "control frame is fragmented"),
    "5.9 continuation of nothing": (frame(CONTINUATION, b"a"), 1002, "continuation of nothing"),
    "5.12 unfinished continuation of nothing": (frame(CONTINUATION, fin=False), 1002, "continuation of nothing"),
    "5.18 text inside a fragmented text": (
        frame(TEXT, b"a", fin=False) + text("b"),
        1002,
        "message begins inside a fragmented one",
    ),
    "5.18 binary inside a fragmented text": (
        frame(TEXT, b"a", fin=False) + frame(BINARY, b"b", fin=False),
        1002,
        "message begins inside a fragmented one",
    ),
    "125 bytes, length in 2": (
        frame(TEXT, b"a" * 125, length_bytes=2),
        1002,
        "frame length is not in its shortest form",
    ),
    "65535 bytes, length in 8": (
        frame(BINARY, b"a" * 65535, length_bytes=8),
        1002,
        "frame length is not in its shortest form",
    ),
    "length with the top bit": (frame(TEXT, declared=1 << 63), 1002, "frame length is over 63 bits"),
    "7.3.2 close of one byte": (frame(CLOSE, b"\x03"), 1002, "close frame has one byte"),
    **{
        f"7.9 close code {code}": (close(code), 1002, f"close code {code} is reserved")
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
    },
    "7.5.1 close reason is not UTF-8": (frame(CLOSE, b"\x03\xe8\xce\xba\xff"), 1007, "text is not UTF-8"),
    "7.5.x close reason ends inside a code point": (frame(CLOSE, b"\x03\xe8\xc3"), 1007, "text is not UTF-8"),
}

NOT_UTF8: dict[str, bytes] = {
    "6.3 text, then a surrogate, then text": b"\xce\xba\xed\xa0\x80edited",
    "6.6 ends inside a code point": b"\xf0\x9f\x98",
    "6.8 first byte of five": b"\xf8\x88\x80\x80\x80",
    "6.10 beyond the last code point": b"\xf4\x90\x80\x80",
    "6.12 continuation byte alone": b"\x80",
    "6.14 first byte alone": b"\xc3 ",
    "6.18 overlong slash": b"\xc0\xaf",
    "6.19 overlong in three": b"\xe0\x9f\xbf",
    "6.20 overlong nul": b"\xc0\x80",
    "6.21 a lone surrogate": b"\xed\xbf\xbf",
    "6.21 a pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "not a byte of UTF-8": b"\xff",
}


@pytest.mark.parametrize(("stream", "code", "reason"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_has_its_code_and_its_reason(stream: bytes, code: int, reason: str) -> None:
    before = text("before")
    assert parse([before + stream]) == parse(bytewise(before + stream)) == Outcome(["before"], code, reason)
    assert ask_oracle(before + stream).code == code


@pytest.mark.parametrize("content", NOT_UTF8.values(), ids=NOT_UTF8)
def test_text_must_be_utf8_however_it_is_cut(content: bytes) -> None:
    whole = frame(TEXT, content)
    pieces = b"".join(fragments(TEXT, *bytewise(content), b""))
    assert parse([whole]) == parse([pieces]) == parse(bytewise(pieces)) == Outcome([], 1007, "text is not UTF-8")
    assert ask_oracle(whole).code == ask_oracle(pieces).code == 1007


def test_text_fails_at_the_fragment_that_spoils_it() -> None:
    begun = frame(TEXT, "κ".encode() + b"\xc3", fin=False)
    spoiled = frame(CONTINUATION, b"\x28", fin=False)
    assert parse([begun]) == Outcome([])
    assert parse([begun, spoiled]) == Outcome([], 1007, "text is not UTF-8")


def test_5_15_a_message_that_ended_has_no_continuation() -> None:
    stream = b"".join(fragments(BINARY, b"a", b"b")) + frame(CONTINUATION, b"c")
    assert parse([stream]) == Outcome([b"ab"], 1002, "continuation of nothing")


def test_what_was_complete_before_a_violation_is_returned_once_and_then_the_violation_is_raised() -> None:
    parser = FrameParser(LIMIT_BYTES)
    assert parser.feed(text("a") + ping(b"b") + frame(3) + text("c")) == ["a", PingFrame(b"b")]
    assert parser.violation is not None
    with pytest.raises(FrameViolation, match="1002 opcode is reserved"):
        parser.feed(text("d"))


# --- The limit -----------------------------------------------------------------------------------------------------

TOO_BIG: dict[str, bytes] = {
    "one frame": frame(TEXT, declared=201),
    "one frame of binary": frame(BINARY, declared=70_000),
    "a frame as long as there can be": frame(TEXT, declared=(1 << 63) - 1),
    "fragments together": frame(TEXT, b"a" * 150, fin=False) + frame(CONTINUATION, declared=51, fin=False),
    "one byte after a full message": frame(BINARY, b"a" * 200, fin=False) + ping() + frame(CONTINUATION, declared=1),
}


@pytest.mark.parametrize("stream", TOO_BIG.values(), ids=TOO_BIG)
def test_a_message_over_the_limit_is_refused_from_its_header(stream: bytes) -> None:
    outcome = parse([stream], limit_bytes=200)
    assert (outcome.code, outcome.reason) == (1009, "message is over 200 bytes")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (frame(TEXT, declared=201)[:4], 1009),
        (frame(TEXT, declared=70_000)[:10], 1009),
        (frame(TEXT, declared=125, length_bytes=2)[:4], 1002),
        (frame(TEXT, declared=65535, length_bytes=8)[:10], 1002),
    ],
)
def test_a_length_is_judged_as_soon_as_it_is_there(header: bytes, code: int) -> None:
    assert parse([header[:-1]], limit_bytes=200) == Outcome([])
    assert parse([header], limit_bytes=200).code == code


def test_a_message_of_exactly_the_limit_arrives() -> None:
    full = "é" * 100
    stream = text(full) + b"".join(fragments(TEXT, full.encode(), b"")) + binary(b"a" * 200)
    assert parse([stream], limit_bytes=200) == Outcome([full, full, b"a" * 200])


def test_a_control_frame_does_not_count_against_the_limit() -> None:
    stream = frame(TEXT, b"full", fin=False) + ping(b"a" * 125) + frame(CONTINUATION)
    assert parse([stream], limit_bytes=4) == Outcome([PingFrame(b"a" * 125), "full"])


# --- What a peer may cost ------------------------------------------------------------------------------------------


def _held_bytes(feed: Callable[[], None]) -> int:
    """Return how much memory `feed` leaves in use."""
    tracemalloc.start()
    try:
        feed()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_flood_of_empty_fragments_holds_no_memory() -> None:
    parser = FrameParser(LIMIT_BYTES)
    parser.feed(frame(TEXT, b"a", fin=False))
    flood = frame(CONTINUATION, fin=False) * 10_000
    assert _held_bytes(lambda: _feed_nothing_complete(parser, flood)) < 5_000
    assert parser.feed(frame(CONTINUATION, b"b")) == ["ab"]


def test_a_message_in_the_smallest_fragments_holds_no_more_than_its_own_size() -> None:
    parser = FrameParser(LIMIT_BYTES)
    parser.feed(frame(TEXT, fin=False))
    payload = "😀".encode() * 1_000
    flood = b"".join(frame(CONTINUATION, piece, fin=False) for piece in bytewise(payload))
    assert _held_bytes(lambda: _feed_nothing_complete(parser, flood)) < 2 * len(payload)


def test_a_parser_with_nothing_under_way_holds_nothing() -> None:
    parser = FrameParser(LIMIT_BYTES)
    large = text("a" * LIMIT_BYTES)
    fragmented = b"".join(fragments(BINARY, b"a" * 60_000, b"b"))

    def feed() -> None:
        for stream in (large, fragmented):
            parser.feed(stream[:50_000])
            parser.feed(stream[50_000:])

    assert _held_bytes(feed) < 1_000


@pytest.mark.parametrize("end", [close(1000), frame(3)], ids=["close", "violation"])
def test_a_parser_that_came_to_its_end_lets_go_of_the_message_under_way(end: bytes) -> None:
    started = frame(BINARY, b"a" * 60_000, fin=False)
    parser = FrameParser(LIMIT_BYTES)

    def feed() -> None:
        parser.feed(started)
        parser.feed(end + started)

    assert _held_bytes(feed) < 5_000


def _feed_nothing_complete(parser: FrameParser, data: bytes) -> None:
    assert parser.feed(data) == []
    assert parser.violation is None


# --- Encoders: wsproto, as a client, is the judge ------------------------------------------------------------------


def _read_as_client(stream: bytes) -> list[Item]:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(stream)
    items: list[Item] = []
    pieces: list[str] = []
    for event in client.events():
        match event:
            case TextMessage():
                pieces.append(event.data)
                if event.message_finished:
                    items.append("".join(pieces))
                    pieces.clear()
            case wsproto.events.Ping():
                items.append(PingFrame(bytes(event.payload)))
            case wsproto.events.Pong():
                items.append(PongFrame(bytes(event.payload)))
            case CloseConnection():
                items.append(CloseFrame(None if event.code == 1005 else int(event.code), event.reason or ""))
            case _:
                raise AssertionError(f"wsproto gave {event}")
    return items


any_texts = st.one_of(st.text(max_size=50), st.sampled_from(BOUNDARY_LENGTHS).map(lambda length: "a" * length))


@given(st.lists(any_texts, max_size=6))
def test_a_batch_is_the_texts_in_order(texts: list[str]) -> None:
    payloads = [content.encode() for content in texts]
    batch = encode_batch(payloads)
    assert _read_as_client(batch) == texts
    assert batch == b"".join(map(encode_text, payloads))


def test_control_frames_are_read_as_they_were_meant() -> None:
    stream = encode_ping(b"") + encode_ping(b"a" * 125) + encode_pong(b"b") + encode_close(4409, "replaced")
    assert _read_as_client(stream) == [
        PingFrame(b""),
        PingFrame(b"a" * 125),
        PongFrame(b"b"),
        CloseFrame(4409, "replaced"),
    ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("a" * 123, "a" * 123),
        ("a" * 124, "a" * 123),
        ("é" * 62, "é" * 61),
        ("a" * 120 + "😀", "a" * 120),
        ("a" * 119 + "😀", "a" * 119 + "😀"),
    ],
)
def test_a_close_reason_is_cut_between_code_points(reason: str, expected: str) -> None:
    assert _read_as_client(encode_close(1000, reason)) == [CloseFrame(1000, expected)]


def test_a_close_without_a_code_is_empty() -> None:
    assert encode_close(None, "why") == b"\x88\0"


@pytest.mark.parametrize("encode", [encode_ping, encode_pong])
def test_a_control_frame_does_not_take_more_than_125_bytes(encode: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match="at most 125 bytes, not 126"):
        encode(b"a" * 126)


# --- Without the compiled routine ----------------------------------------------------------------------------------


def test_the_parser_works_where_websockets_has_no_compiled_routine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    spec = importlib.util.spec_from_file_location("frames_without_speedups", frames.__file__)
    assert spec is not None
    assert spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    assert plain.apply_mask.__module__ == "websockets.utils"
    assert plain.FrameParser(LIMIT_BYTES).feed(text("κόσμε") + text("")) == ["κόσμε", ""]
