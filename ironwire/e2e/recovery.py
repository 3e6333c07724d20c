"""The recovery code: 160 random bits that a person writes down, and what follows from them (docs/between-devices.md,
section 11.1).

    code    = 32 characters of Crockford's base 32, and 4 of check, in groups of four
    check   = the first 20 bits of SHA-256("IronWire recovery v1\\0" ‖ code)
    id, key = HKDF-SHA-256(code, "IronWire backup v1"): the first 16 bytes, and the 32 after them

The id is the address of the backup on the server, and the key opens it. Neither can be found without the code.
"""

import hashlib
import os
import unicodedata
from typing import Self

from attrs import field, frozen

from ironwire.crypto.kdf import hkdf
from ironwire.errors import InvalidRecoveryCode
from ironwire.ids import BackupName

CODE_BYTES = 20
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE_DIGITS = 32
_CHECK_DIGITS = 4
_GROUP = 4
_CHECK_CONTEXT = b"IronWire recovery v1\0"
_KEY_CONTEXT = b"IronWire backup v1"
_ID_BYTES = 16
_KEY_BYTES = 32

_READ_AS = {"O": "0", "I": "1", "L": "1"}
"""Characters that look like digits, and never stand in a code."""


@frozen
class RecoveryCode:
    """160 bits, made by `generate` or `parse_recovery_code`."""

    raw: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """A new code from the operating system's randomness."""
        return cls(os.urandom(CODE_BYTES))

    @property
    def text(self) -> str:
        """The code as a person writes it down: nine groups of four characters."""
        digits = _digits(int.from_bytes(self.raw, "big"), _CODE_DIGITS) + _check(self.raw)
        return "-".join(digits[start : start + _GROUP] for start in range(0, len(digits), _GROUP))

    @property
    def backup_id(self) -> BackupName:
        """The name of the backup on the server."""
        return BackupName(self._derived[:_ID_BYTES].hex())

    @property
    def backup_key(self) -> bytes:
        return self._derived[_ID_BYTES:]

    @property
    def _derived(self) -> bytes:
        return hkdf(self.raw, _KEY_CONTEXT, _ID_BYTES + _KEY_BYTES)


def parse_recovery_code(text: str) -> RecoveryCode:
    """The code that a person typed: in either case, in any groups, with O for 0, and with I or L for 1.

    Raises:
        InvalidRecoveryCode: a character is missing, too many, or wrong. The text says which of these.
    """
    characters = [
        character
        for character in unicodedata.normalize("NFKC", text).upper()
        if not character.isspace() and unicodedata.category(character) != "Pd"
    ]
    digits = "".join(_READ_AS.get(character, character) for character in characters)
    for number, digit in enumerate(digits):
        if digit not in _DIGITS:
            advice = ", but perhaps V" if digit == "U" else ""
            raise InvalidRecoveryCode(
                f"{digit!r} in group {number // _GROUP + 1} is no character of a recovery code{advice}"
            )
    if len(digits) == _CODE_DIGITS:
        raise InvalidRecoveryCode("the ninth group of the recovery code is missing")
    if len(digits) != _CODE_DIGITS + _CHECK_DIGITS:
        raise InvalidRecoveryCode(f"a recovery code has nine groups of four characters: 36, and not {len(digits)}")
    number = 0
    for digit in digits[:_CODE_DIGITS]:
        number = number << 5 | _DIGITS.index(digit)
    raw = number.to_bytes(CODE_BYTES, "big")
    if digits[_CODE_DIGITS:] != _check(raw):
        raise InvalidRecoveryCode("a character of the recovery code is wrong: the groups do not fit together")
    return RecoveryCode(raw)


def _check(raw: bytes) -> str:
    digest = hashlib.sha256(_CHECK_CONTEXT + raw).digest()
    return _digits(int.from_bytes(digest[:3], "big") >> 4, _CHECK_DIGITS)


def _digits(number: int, count: int) -> str:
    return "".join(_DIGITS[number >> 5 * place & 31] for place in reversed(range(count)))
