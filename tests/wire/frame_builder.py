"""Frames as a client sends them, right or wrong: the tests' own encoder, which shares nothing with the one it tests."""

from itertools import cycle

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x37\xfa\x21\x3d"  # the one of the examples in RFC 6455, section 5.7
BOUNDARY_LENGTHS = (0, 1, 125, 126, 127, 65535, 65536)
"""Payload lengths on both sides of where the form of the length changes (RFC 6455, section 5.2)."""


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length_bytes: int | None = None,
    declared: int | None = None,
) -> bytes:
    """Return one frame.

    `rsv` is 0-7; `mask` None leaves the frame unmasked; `length_bytes` (1, 2 or 8) forces a form of the length, which
    is the shortest by default; `declared` lies about the payload's length.
    """
    length = len(payload) if declared is None else declared
    if length_bytes is None:
        length_bytes = 1 if length < 126 else 2 if length < 65536 else 8
    mask_bit = 0 if mask is None else 0x80
    short = {1: length, 2: 126, 8: 127}[length_bytes]
    header = bytes([fin << 7 | rsv << 4 | opcode, mask_bit | short])
    if length_bytes > 1:
        header += length.to_bytes(length_bytes, "big")
    if mask is None:
        return header + payload
    return header + mask + bytes(a ^ b for a, b in zip(payload, cycle(mask), strict=False))


def text(content: str) -> bytes:
    return frame(TEXT, content.encode())


def binary(content: bytes) -> bytes:
    return frame(BINARY, content)


def fragments(opcode: int, *pieces: bytes) -> list[bytes]:
    """Return the frames of one message in the given pieces, of which there is at least one."""
    last = len(pieces) - 1
    return [frame(CONTINUATION if n else opcode, piece, fin=n == last) for n, piece in enumerate(pieces)]


def ping(data: bytes = b"") -> bytes:
    return frame(PING, data)


def pong(data: bytes = b"") -> bytes:
    return frame(PONG, data)


def close(code: int | None = None, reason: str = "") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())
