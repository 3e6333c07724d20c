"""Any bytes at all, through both decoders.

What it proves, for every input, is that a decoder

- gives a message or raises `InvalidMessage`, whose detail is short and printable, and nothing else;
- understood the input: what it gave, encoded, decodes to the same message and encodes to the same bytes.
"""

from collections.abc import Callable

from ironwire.errors import InvalidMessage
from ironwire.wire.codec import (
    ClientFrame,
    ServerFrame,
    decode_client,
    decode_server,
    encode,
    encode_payload,
    frame_text,
)

_DETAIL_CHARACTERS = 500


def one(data: bytes) -> None:
    """Check `data`, as a text frame from a client and as one from the server.

    Raises:
        AssertionError: a decoder broke one of the laws above.
    """
    check(data.decode(errors="replace"), decode_client)
    check(data.decode(errors="surrogateescape"), decode_client)
    check(data, decode_server)


def check(frame: str | bytes, decode: Callable[[str | bytes], ClientFrame | ServerFrame]) -> None:
    """Hold the laws to one frame and one decoder."""
    try:
        decoded = decode(frame)
    except InvalidMessage as invalid:
        _check_detail(invalid.detail)
        return
    encoded = _encode(decoded)
    again = decode(encoded.decode())
    assert again == decoded, "another message came back"
    assert _encode(again) == encoded, "the same message was encoded in two ways"


def _encode(frame: ClientFrame | ServerFrame) -> bytes:
    if isinstance(frame, ServerFrame) and frame.seq is not None:
        return frame_text(frame.message.verb, encode_payload(frame.message), id=frame.id, seq=frame.seq)
    return encode(frame[0], frame[1])


def _check_detail(detail: str) -> None:
    assert 0 < len(detail) <= _DETAIL_CHARACTERS, "the detail is empty, or as long as a peer likes"
    assert detail.isprintable(), "the detail carries what a peer wrote"
