"""Tokens that let their holder upload one file: a statement with its HMAC, made and checked by this process.

    token = hex(statement || HMAC-SHA256(key, "ironwire-upload-v1\\0" || statement))

The server stores nothing for an unused token, so clients may ask for any number. The key exists in this process only,
so a token ends with the process, and a used one cannot come back.
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
    """The meaning of a token: one upload of up to `size_bytes` by `client`."""

    client: ClientId
    size_bytes: int


@define(eq=False, slots=False)
class UploadTokens:
    """Mints tokens, and redeems each of them once. `random_bytes` returns the requested number of random bytes."""

    _random_bytes: Callable[[int], bytes]
    _spent: dict[bytes, int] = field(init=False, factory=dict)
    """By serial number, in the order of use: the time at which the token expires, and may be forgotten."""

    def mint(self, grant: Grant, expires_ms: int) -> str:
        """A token for `grant`, to be used before `expires_ms`."""
        serial = self._random_bytes(_SERIAL_BYTES)  # a counter would reveal the number of other requests
        statement = _STATEMENT.pack(bytes.fromhex(grant.client), serial, expires_ms, grant.size_bytes)
        return (statement + self._mac(statement)).hex()

    def redeem(self, token: str, now_ms: int) -> Grant | None:
        """The grant behind the token; None if it is not one of ours, has expired, or was redeemed before."""
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
        """At most two at a time: never a long pause, and always more than are added."""
        for _ in range(2):
            oldest = next(iter(self._spent), None)
            if oldest is None or self._spent[oldest] > now_ms:
                return
            del self._spent[oldest]
