"""Bytes as base64url without padding (RFC 4648, section 5): the form of MLS messages on the wire.

Of the many spellings that decoders take for the same bytes, one is valid here, so that a digest of the text is a digest
of the bytes.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from ironwire.errors import InvalidId

BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


def to_base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Raises:
    InvalidId: `text` is not what `to_base64url` writes for any bytes.
    """
    # The decoder leaves out what it does not know; and an end of one digit, or with bits that are set behind the bytes,
    # has no bytes of its own.
    if BASE64URL.fullmatch(text) is None or len(text) % 4 == 1:
        raise InvalidId("must be base64url without padding")
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if to_base64url(data) != text:
        raise InvalidId("must be base64url without padding, and without bits behind the end")
    return data
