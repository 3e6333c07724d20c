"""Encrypted files with known answers. The content of a case is the bytes 0, 7, 14, … modulo 251."""

import hashlib
from typing import Any

from ironwire.e2e.files import CHUNK_BYTES, FileSealer

_SHOWN_BYTES = 600
"""Longer files are given by their hash, and by their first and last bytes."""


def content(size: int) -> bytes:
    return bytes(index * 7 % 251 for index in range(size))


def cases() -> list[dict[str, Any]]:
    sizes = [0, 1, 256, 257, 4096, 4097, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES - 1, 300_000]
    return [_case(number, size, None) for number, size in enumerate(sizes)] + [
        _case(100, 200_000, 220_000),
        _case(101, 65_536, 65_552),
    ]


def _case(number: int, size: int, most_bytes: int | None) -> dict[str, Any]:
    sealer = FileSealer(most_bytes, hashlib.sha256(b"key %d" % number).digest())
    sealed = sealer.seal(content(size)) + b"".join(sealer.finish())
    case: dict[str, Any] = {"key": sealer.key.hex(), "size": size}
    if most_bytes is not None:
        case["most_bytes"] = most_bytes
    case |= {"sealed_bytes": len(sealed), "sha256": sealer.sha256}
    if len(sealed) <= _SHOWN_BYTES:
        return case | {"sealed": sealed.hex()}
    return case | {"first": sealed[:64].hex(), "last": sealed[-64:].hex()}
