"""Numbers that two people read to each other, to find out whether a server stands between them.

- The safety number of two clients: 60 digits, 30 from each id, the smaller id's first. It changes with an identity, and
  not with the devices of one: to link a phone must not undo a verification.
  As a QR code it is `IWSAFE:1:<id of who shows it>:<id of the other>`, in capitals: whoever scans it compares both ids.
- The epoch code of a group: 30 digits from a secret that all its members have. Equal everywhere means that nobody has
  split the group (RFC 9750, section 5.2).
"""

import re
from hashlib import sha512
from typing import Final

from ironwire.errors import InvalidId
from ironwire.ids import ClientId

ITERATIONS: Final = 5_200
"""Makes each guess of an id with a similar number cost four milliseconds."""
EPOCH_SECRET_BYTES: Final = 16
"""Of `MLS-Exporter("ironwire epoch", "", 16)`."""

_CONTEXT = b"IronWire safety v1"
_TEXT_OPENING = "IWSAFE:1:"
_TEXT = re.compile(r"IWSAFE:1:([0-9A-F]{64}):([0-9A-F]{64})")
_GROUP_DIGITS = 5
_GROUP_BYTES = 5
_HALF_DIGITS = 30


def safety_number(one: ClientId, other: ClientId) -> str:
    """The 60 digits of two clients, the same from both sides."""
    return "".join(map(_fingerprint, sorted((one, other))))


def safety_text(own: ClientId, other: ClientId) -> str:
    """The text of the QR code that `own` shows to `other`. Capitals and digits make a smaller code."""
    return f"{_TEXT_OPENING}{own}:{other}".upper()


def compare_safety_text(text: str, own: ClientId, other: ClientId) -> bool:
    """Whether a text that `own` scanned is that of `other`, and about `own`.

    Raises:
        InvalidId: it is no such text.
    """
    match = _TEXT.fullmatch("".join(text.split()).upper())
    if match is None:
        raise InvalidId("this is not the code of a safety number, which begins with IWSAFE:1:")
    shown_by, about = match[1].lower(), match[2].lower()
    if shown_by == own:
        raise InvalidId("this is the code that you show yourself: scan the one of the other")
    return (shown_by, about) == (other, own)


def epoch_code(secret: bytes) -> str:
    """The 30 digits of an epoch, from the 16 bytes that its members export: the last ones of the number that they are.

    Raises:
        ValueError: the secret is not 16 bytes long.
    """
    if len(secret) != EPOCH_SECRET_BYTES:
        raise ValueError(f"the secret of an epoch code is {EPOCH_SECRET_BYTES} bytes long, not {len(secret)}")
    return f"{int.from_bytes(secret, 'big') % 10**_HALF_DIGITS:0{_HALF_DIGITS}}"


def in_groups(digits: str) -> str:
    """As people read it: groups of five digits."""
    return " ".join(digits[start : start + _GROUP_DIGITS] for start in range(0, len(digits), _GROUP_DIGITS))


def _fingerprint(client: ClientId) -> str:
    """Of SHA-512, iterated over context, id and id, the first 30 bytes: five bytes give five digits."""
    raw = bytes.fromhex(client)
    digest = _CONTEXT + raw + raw
    for _ in range(ITERATIONS):
        digest = sha512(digest).digest()
    groups = (digest[start : start + _GROUP_BYTES] for start in range(0, _HALF_DIGITS, _GROUP_BYTES))
    return "".join(f"{int.from_bytes(group, 'big') % 10**_GROUP_DIGITS:0{_GROUP_DIGITS}}" for group in groups)
