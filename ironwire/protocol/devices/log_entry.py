"""One entry of a device log, signed by the client's identity key.

    entry     = "IWD1" ‖ client id (32) ‖ index u32 ‖ prev (32) ‖ op u8 ‖ flags u8 ‖ time u64
                ‖ n u8 ‖ n device keys (32 each)
    signature = Ed25519 of the identity key over "IronWire device log v1\\0" ‖ entry
    head      = SHA-256(entry ‖ signature); `prev` is the head of the entry before, 32 zero bytes for the first

`op` is 1 add, 2 remove, 3 snapshot. Add and remove name one device; a snapshot names all that there are, in the order
of their bytes, so that a reader may begin with it. The lowest bit of `flags` says that the devices which are new with
this entry own the identity key.
"""

import re
from collections.abc import Iterable
from enum import IntEnum
from hashlib import sha256
from struct import Struct
from typing import Final

from attrs import frozen

from ironwire.crypto.signing import KEY_BYTES, SIGNATURE_BYTES, Identity, PublicKey, public_key_from
from ironwire.errors import InvalidLogEntry, InvalidPublicKey, InvalidSignature

MOST_ENTRIES: Final = 4_096
"""Of one device log, for ever: whoever reads it has to verify each."""
MOST_DEVICES: Final = 255
"""Of a client at a time: as many as a snapshot can name."""
MOST_TIME_MS: Final = 2**53 - 1
FIRST_PREV: Final = bytes(32)

_MAGIC = b"IWD1"
_CONTEXT = b"IronWire device log v1\0"
_HEADER = Struct(">4s32sI32sBBQB")
_OWNER = 1
_HASH = re.compile("[0-9a-f]{64}")

MOST_ENTRY_BYTES: Final = _HEADER.size + MOST_DEVICES * KEY_BYTES


class LogOp(IntEnum):
    """What an entry does to the devices that it names."""

    ADD = 1
    REMOVE = 2
    SNAPSHOT = 3
    """Everybody who is not named is removed."""


@frozen
class LogHead:
    """An entry of a log, by its index and hash. Devices tell each other the last one that they know."""

    index: int
    hash: bytes

    def to_json(self) -> list[int | str]:
        """The form in which a message carries it."""
        return [self.index, self.hash.hex()]

    @classmethod
    def from_json(cls, value: object) -> "LogHead":
        """Raises:
        InvalidLogEntry: it is not an index and 64 lowercase hex digits.
        """
        match value:
            case [int(index), str(digits)] if (
                type(index) is int and 0 <= index < MOST_ENTRIES and _HASH.fullmatch(digits)
            ):
                return cls(index, bytes.fromhex(digits))
            case _:
                raise InvalidLogEntry("the head of a device log is its index and 64 lowercase hex digits")


@frozen
class LogEntry:
    """A change of a client's devices, not signed yet."""

    client: PublicKey
    index: int
    prev: bytes
    op: LogOp
    is_owner: bool
    time_ms: int
    devices: tuple[PublicKey, ...]

    def encode(self) -> bytes:
        flags = _OWNER if self.is_owner else 0
        fields = (_MAGIC, self.client.raw, self.index, self.prev, self.op, flags, self.time_ms, len(self.devices))
        return _HEADER.pack(*fields) + b"".join(device.raw for device in self.devices)


@frozen
class SignedEntry:
    """An entry whose signature was verified. Made by `sign_entry` and `open_entry`."""

    entry: LogEntry
    signature: bytes

    @property
    def index(self) -> int:
        return self.entry.index

    @property
    def head(self) -> LogHead:
        return LogHead(self.index, sha256(self.encode()).digest())

    def encode(self) -> bytes:
        return self.entry.encode() + self.signature


def sign_entry(identity: Identity, entry: LogEntry) -> SignedEntry:
    """Raises:
    InvalidLogEntry: it is an entry of another client.
    """
    if identity.public_key != entry.client:
        raise InvalidLogEntry("the entry belongs to the log of another client")
    return SignedEntry(entry, identity.sign(_CONTEXT + entry.encode()))


def open_entry(client: PublicKey, entry: bytes, signature: bytes) -> SignedEntry:
    """The entry of this client's log in the bytes of a peer.

    Raises:
        InvalidLogEntry: the bytes are no entry, are one of another client, or were not signed by this one.
    """
    opened = _decode(client, entry)
    try:
        client.verify(_CONTEXT + entry, signature)
    except InvalidSignature:
        raise InvalidLogEntry("the client did not sign the entry") from None
    return SignedEntry(opened, signature)


def encode_entries(entries: Iterable[SignedEntry]) -> bytes:
    """Entries one after the other, as files keep them."""
    return b"".join(entry.encode() for entry in entries)


def decode_entries(client: PublicKey, data: bytes) -> list[SignedEntry]:
    """Raises:
    InvalidLogEntry: as `open_entry`, or the last entry is cut short.
    """
    entries = []
    while data:
        size = _HEADER.size + data[_HEADER.size - 1] * KEY_BYTES if len(data) >= _HEADER.size else len(data)
        end = size + SIGNATURE_BYTES
        entries.append(open_entry(client, data[:size], data[size:end]))
        data = data[end:]
    return entries


def _decode(client: PublicKey, data: bytes) -> LogEntry:
    if len(data) < _HEADER.size:
        raise InvalidLogEntry("the entry is too short")
    magic, named, index, prev, op, flags, time_ms, count = _HEADER.unpack_from(data)
    if magic != _MAGIC or named != client.raw:
        raise InvalidLogEntry("the bytes are no entry of this client's device log")
    if len(data) != _HEADER.size + count * KEY_BYTES:
        raise InvalidLogEntry("the entry is not as long as it says")
    if op not in LogOp.__members__.values() or flags & ~_OWNER or (op == LogOp.REMOVE and flags):
        raise InvalidLogEntry("the entry has an unknown operation or flag")
    if index >= MOST_ENTRIES or time_ms > MOST_TIME_MS:
        raise InvalidLogEntry("the index or the time of the entry is too large")
    if (index == 0) != (prev == FIRST_PREV):
        raise InvalidLogEntry("the first entry, and no other, follows on nothing")
    keys = [data[start : start + KEY_BYTES] for start in range(_HEADER.size, len(data), KEY_BYTES)]
    if (count != 1 and op != LogOp.SNAPSHOT) or not keys or keys != sorted(set(keys)):
        raise InvalidLogEntry("an entry names one device; a snapshot some, each once, in the order of their bytes")
    try:
        devices = tuple(map(public_key_from, keys))
    except InvalidPublicKey as error:
        raise InvalidLogEntry(f"a device key of the entry is {error}") from None
    return LogEntry(client, index, prev, LogOp(op), bool(flags), time_ms, devices)
