"""Keys from a secret: HKDF with SHA-256 (RFC 5869)."""

import hashlib
import hmac

_BLOCK_BYTES = hashlib.sha256().digest_size


def hkdf(secret: bytes, info: bytes, size: int, salt: bytes = b"") -> bytes:
    """`size` bytes, at most 8,160, that nobody can tell from random ones without `secret`. Each purpose has an `info`
    of its own.
    """
    return expand(hmac.digest(salt, secret, "sha256"), info, size)


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """The second half of HKDF alone (section 2.3), from a key that is as good as random."""
    output = block = b""
    for number in range(1, -(-size // _BLOCK_BYTES) + 1):
        block = hmac.digest(key, block + info + bytes([number]), "sha256")
        output += block
    return output[:size]
