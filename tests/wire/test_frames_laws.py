"""The frame layer against wsproto: whatever comes, the same payloads and the same verdict.

The laws themselves are in `fuzz/frames.py`; here are the streams that they are tried with, and each difference by name.
"""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.frames import Outcome, ask_oracle, check, one, parse
from ironwire.wire.frames import CloseFrame, Control, Payload, PingFrame
from tests.wire.frame_builder import (
    BINARY,
    BOUNDARY_LENGTHS,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close,
    fragments,
    frame,
    ping,
    text,
)

Item = Payload | Control

boundary_lengths = st.sampled_from(BOUNDARY_LENGTHS)
small_reads = st.lists(st.integers(1, 300), min_size=1, max_size=5)
large_reads = st.lists(st.integers(1_000, 70_000), min_size=1, max_size=5)
limits = st.integers(0, 300)
masks = st.binary(min_size=4, max_size=4)
short_contents: st.SearchStrategy[Payload] = st.one_of(st.text(max_size=100), st.binary(max_size=200))
long_contents: st.SearchStrategy[Payload] = st.one_of(
    boundary_lengths.map(lambda length: "a" * length),
    boundary_lengths.map(lambda length: b"\xff" * length),
)


@st.composite
def messages(draw: st.DrawFn, contents: st.SearchStrategy[Payload]) -> tuple[list[Item], bytes]:
    """One message, cut into fragments at any byte, with pings between them: what must arrive, and what is sent."""
    content = draw(contents)
    opcode, payload = (TEXT, content.encode()) if isinstance(content, str) else (BINARY, content)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    pieces = [payload[a:b] for a, b in pairwise([0, *cuts, len(payload)])]
    expected: list[Item] = []
    sent = b""
    for is_later, piece in enumerate(fragments(opcode, *pieces)):
        if is_later and draw(st.booleans()):
            data = draw(st.binary(max_size=125))
            expected.append(PingFrame(data))
            sent += ping(data)
        sent += piece
    return [*expected, content], sent


any_frames = st.builds(
    frame,
    st.one_of(st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG]), st.integers(0, 15)),
    st.one_of(
        st.binary(max_size=130),
        st.text(max_size=40).map(str.encode),
        st.sampled_from([999, 1000, 1005, 1014, 1015, 4999, 5000]).map(lambda code: code.to_bytes(2, "big")),
    ),
    fin=st.sampled_from([True, True, False]),
    rsv=st.sampled_from([0] * 8 + [1, 2, 4]),
    mask=st.one_of(masks, masks, masks, st.none()),
    length_bytes=st.sampled_from([None] * 6 + [2, 8]),
)


def _check_conversation(conversation: list[tuple[list[Item], bytes]], read_bytes: list[int], limit_bytes: int) -> None:
    stream = b"".join(sent for _, sent in conversation)
    expected = [item for items, _ in conversation for item in items]
    assert check(stream, read_bytes=read_bytes, limit_bytes=limit_bytes) == Outcome(expected)


@given(st.lists(messages(short_contents), max_size=5), small_reads, limits)
def test_law_short_messages_arrive_as_they_were_sent(
    conversation: list[tuple[list[Item], bytes]], read_bytes: list[int], limit_bytes: int
) -> None:
    _check_conversation(conversation, read_bytes, limit_bytes)


@given(st.lists(messages(long_contents), max_size=3), large_reads, st.sampled_from([65534, 65535, 65536]))
def test_law_messages_at_the_boundaries_arrive_as_they_were_sent(
    conversation: list[tuple[list[Item], bytes]], read_bytes: list[int], limit_bytes: int
) -> None:
    _check_conversation(conversation, read_bytes, limit_bytes)


@given(st.lists(any_frames, max_size=8).map(b"".join), small_reads, limits)
def test_law_any_frames_get_the_verdict_of_wsproto(stream: bytes, read_bytes: list[int], limit_bytes: int) -> None:
    check(stream, read_bytes=read_bytes, limit_bytes=limit_bytes)
    check(stream, read_bytes=[1], limit_bytes=limit_bytes)


@given(st.lists(messages(short_contents), min_size=1, max_size=4), st.data(), small_reads, limits)
def test_law_damaged_and_truncated_streams_get_the_verdict_of_wsproto(
    conversation: list[tuple[list[Item], bytes]], data: st.DataObject, read_bytes: list[int], limit_bytes: int
) -> None:
    stream = bytearray(b"".join(sent for _, sent in conversation))
    damages = st.tuples(st.integers(0, len(stream) - 1), st.integers(0, 255))
    for position, value in data.draw(st.lists(damages, max_size=3)):
        stream[position] = value
    end = data.draw(st.integers(0, len(stream)))
    check(bytes(stream[:end]), read_bytes=read_bytes, limit_bytes=limit_bytes)


@given(st.binary(max_size=300))
@example(b"")
@example(b"\xff\0\1\2\3" + close(1014))
@example(b"\xff\0\1\2\3" + frame(CLOSE, b"\x03\xf6\xff"))
@example(b"\xff\0\1\2\3" + frame(TEXT, b"\xff", declared=2))
@example(b"\xff\0\1\2\3" + frame(TEXT, b"\xff", declared=1 << 40))
@example(b"\xff\0\1\2\3" + frame(CONTINUATION)[:2])
@example(b"\4\0\1\2\3" + text("five!"))
def test_law_any_bytes_get_the_verdict_of_wsproto(data: bytes) -> None:
    one(data)


# --- Where wsproto differs, on purpose -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [frame(TEXT, b"a" * 126, rsv=1)[:2], frame(BINARY, b"a" * 126, mask=None)[:2], frame(CONTINUATION, b"a")[:2]],
    ids=["reserved bit", "not masked", "continuation of nothing"],
)
def test_difference_a_header_is_judged_from_its_first_two_bytes(start: bytes) -> None:
    assert parse([start]).code == 1002
    assert ask_oracle(start) == Outcome([])


def test_difference_text_is_decoded_when_its_frame_is_complete() -> None:
    start = frame(TEXT, b"\xff", declared=2)
    assert parse([start]) == Outcome([])
    assert ask_oracle(start).code == 1007
    assert parse([start, b"\0"]).code == 1007


def test_difference_close_code_1014_is_registered() -> None:
    assert parse([close(1014)]) == Outcome([CloseFrame(1014, "")])
    assert ask_oracle(close(1014)).code == 1002


def test_difference_only_ours_has_a_limit() -> None:
    stream = frame(TEXT, declared=201)
    assert parse([stream], limit_bytes=200).code == 1009
    assert ask_oracle(stream) == Outcome([])
