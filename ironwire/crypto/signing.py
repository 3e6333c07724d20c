"""Ed25519 keys of clients and devices, and the exact bytes that they sign (docs/protocol.md, sections 2, 3 and 9;
RFC 8032).

The server only parses public keys and verifies signatures. `Identity` and `DeviceKey` hold private keys, and are used
in clients.
"""

import re
from typing import Self

from attrs import field, frozen
from attrs.validators import min_len
from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey

from ironwire.errors import InvalidPublicKey, InvalidSignature
from ironwire.ids import ClientId

KEY_BYTES = 32
NONCE_BYTES = 32
SIGNATURE_BYTES = 64
SEED_BYTES = 32
AUTH_CONTEXT = b"ironwire-auth-v1\0"
"""Domain separation: a signature over an `auth` text is valid for nothing else."""
CERTIFIED_AUTH_CONTEXT = b"ironwire-auth-v2\0"

_PUBLIC_KEY = re.compile(r"[0-9a-fA-F]{64}")


@frozen
class PublicKey:
    """The Ed25519 public key of a client or a device, which passed every check. Made by `parse_public_key` and
    `public_key_from`.
    """

    raw: bytes = field(repr=lambda raw: raw.hex()[:8] + "…", validator=min_len(KEY_BYTES))
    """32 bytes: libsodium reads that many without a length."""

    @property
    def client_id(self) -> ClientId:
        return ClientId(self.raw.hex())

    def verify(self, signed: bytes, signature: bytes) -> None:
        """Raises:
        InvalidSignature: it was not made by this key over `signed`, or is not 64 bytes long.
        """
        if len(signature) != SIGNATURE_BYTES:
            raise InvalidSignature(f"an Ed25519 signature is {SIGNATURE_BYTES} bytes long, not {len(signature)}")
        try:
            crypto_sign_open(signature + signed, self.raw)
        except CryptoError as error:
            raise InvalidSignature("Signature verification failed") from error


def parse_public_key(token: str) -> PublicKey:
    """The key behind 64 hex digits of either case.

    Raises:
        InvalidPublicKey: not 64 hex digits; not the canonical encoding of a point; a point of small order or outside
            the prime-order group. With such a key one signature could be valid for several texts (RFC 8032, section 8;
            libsodium's `crypto_core_ed25519_is_valid_point` checks all of it).
    """
    if _PUBLIC_KEY.fullmatch(token) is None:
        raise InvalidPublicKey("a public key is 64 hex digits")
    return public_key_from(bytes.fromhex(token))


def is_public_key(token: str) -> bool:
    """Whether `parse_public_key` takes it. An id that is no key looks like any other, and can be nobody's."""
    try:
        parse_public_key(token)
    except InvalidPublicKey:
        return False
    return True


def public_key_from(raw: bytes) -> PublicKey:
    """As `parse_public_key`, from 32 bytes.

    Raises:
        InvalidPublicKey: not 32 bytes, or refused as there.
    """
    if len(raw) != KEY_BYTES or not crypto_core_ed25519_is_valid_point(raw):
        raise InvalidPublicKey("not a usable Ed25519 point")
    return PublicKey(raw)


def auth_text(*, origin: str, nonce: bytes, public_key: bytes, device: str) -> bytes:
    """The text that a client signs if it names an origin (section 3).

        "ironwire-auth-v1\\0" ‖ u16 length ‖ origin ‖ nonce (32) ‖ public key (32) ‖ u16 length ‖ device

    Lengths are big-endian counts of bytes; strings are UTF-8; a session without a device signs an empty one. Every
    part has a fixed or a stated length, so two different inputs never give the same text.
    """
    return b"".join(
        (AUTH_CONTEXT, _prefixed(origin.encode()), nonce, public_key, _prefixed(device.encode())),
    )


def certified_auth_text(
    *, origin: str, nonce: bytes, public_key: bytes, device: str, device_key: bytes, log_head: bytes
) -> bytes:
    """The text that a device with a certificate signs (section 9.2): that of `auth_text` in a domain of its own, then
    its public key (32) and the hash of the last entry of the device log that it knows (32).
    """
    named = _prefixed(origin.encode()), nonce, public_key, _prefixed(device.encode())
    return b"".join((CERTIFIED_AUTH_CONTEXT, *named, device_key, log_head))


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(2, "big") + part


@frozen
class KeyPair:
    """A private key, which never leaves the program that made it. Its `repr` shows the public half only."""

    _key: SigningKey = field(repr=False)
    public_key: PublicKey = field(init=False)

    @public_key.default
    def _public(self) -> PublicKey:
        return PublicKey(bytes(self._key.verify_key))

    @classmethod
    def generate(cls) -> Self:
        """A new key from the operating system's randomness."""
        return cls(SigningKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key of a 32-byte seed (RFC 8032, section 5.1.5).

        Raises:
            InvalidPublicKey: the seed is not 32 bytes long.
        """
        if len(seed) != SEED_BYTES:
            raise InvalidPublicKey(f"an Ed25519 seed is {SEED_BYTES} bytes long, not {len(seed)}")
        return cls(SigningKey(seed))

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes, for the key store alone."""
        return bytes(self._key)

    def sign(self, text: bytes) -> bytes:
        """A signature of 64 bytes. Callers pass a challenge, or a text that begins with a context of this program;
        never a text of the peer's choice.
        """
        return self._key.sign(text).signature


@frozen
class Identity(KeyPair):
    """The key of a client: it says who somebody is, on every device of that client that holds it."""

    @property
    def client_id(self) -> ClientId:
        return self.public_key.client_id


@frozen
class DeviceKey(KeyPair):
    """The key of one installation, made there and never copied. A certificate says whose it is."""
