"""Tokens that let their holder upload one file: an HMAC over what they stand for, made and checked by this process.

    token = hex(statement || HMAC-SHA256(key, "ironwire-upload-v1\\0" || statement))

Nothing is kept for a token until it is used: clients may ask for as many as they like. The key is made by the process
and kept nowhere else, so a token ends with the process too, and one that was used cannot come back.
"""

import hmac
import struct
from collections.abc import Callable
from functools import cached_property

from attrs import define, field, frozen

from ironwire.ids import ClientId

_KEY_BYTES = 32
_DOMAIN = b"ironwire-upload-v1\0"
_SERIAL_BYTES = 8
_STATEMENT = struct.Struct(f">32s{_SERIAL_BYTES}sQQ")
"""The client, the random serial number of the token, when it expires in Unix milliseconds, and the size in bytes."""


@frozen
class Grant:
    """What a token stands for: one upload of up to `size_bytes` by `client`."""

    client: ClientId
    size_bytes: int


@define(eq=False, slots=False)
class UploadTokens:
    """Mints tokens, and takes each of them once. `random_bytes` gives as many random bytes as it is asked for."""

    _random_bytes: Callable[[int], bytes]
    _spent: dict[bytes, int] = field(init=False, factory=dict)
    """By serial number, in the order in which they were spent: when the token expires, and may be forgotten."""

    def mint(self, grant: Grant, expires_ms: int) -> str:
        """A token for `grant`, to be used before `expires_ms`."""
        serial = self._random_bytes(_SERIAL_BYTES)  # one that counts would tell how many others have asked
        statement = _STATEMENT.pack(bytes.fromhex(grant.client), serial, expires_ms, grant.size_bytes)
        return (statement + self._mac(statement)).hex()

    def redeem(self, token: str, now_ms: int) -> Grant | None:
        """What the token stands for; None if it is not one of ours, has expired, or was redeemed before."""
        try:
            raw = bytes.fromhex(token)
        except ValueError:
            return None
        statement, mac = raw[: _STATEMENT.size], raw[_STATEMENT.size :]
        if not hmac.compare_digest(mac, self._mac(statement)):
            return None
        client, serial, expires_ms, size_bytes = _STATEMENT.unpack(statement)
        if expires_ms <= now_ms or serial in self._spent:
            return None
        self._forget_expired(now_ms)
        self._spent[serial] = expires_ms
        return Grant(ClientId(client.hex()), size_bytes)

    @cached_property
    def _key(self) -> bytes:
        return self._random_bytes(_KEY_BYTES)

    def _mac(self, statement: bytes) -> bytes:
        return hmac.digest(self._key, _DOMAIN + statement, "sha256")

    def _forget_expired(self, now_ms: int) -> None:
        """At most two at a time: never a long pause, and always more than come."""
        for _ in range(2):
            oldest = next(iter(self._spent), None)
            if oldest is None or self._spent[oldest] > now_ms:
                return
            del self._spent[oldest]
