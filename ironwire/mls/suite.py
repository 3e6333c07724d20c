"""Cipher suite 3, MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519 (RFC 9420, sections 5 and 17.1), and the HPKE of
it (RFC 9180, base mode, one message a key). Every primitive comes from libsodium or from the standard library.
"""

import hashlib
import hmac
import os
from functools import lru_cache

from attrs import frozen
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError

from ironwire.crypto import kdf
from ironwire.crypto.signing import Identity, PublicKey, parse_public_key
from ironwire.errors import MLSError, SigningError
from ironwire.mls.codec import Opaque, Struct, Uint, need, opaque

CIPHER_SUITE = 3
VERSION = 1
HASH_BYTES = 32
KEY_BYTES = 32
NONCE_BYTES = 12
_TAG_BYTES = 16

_KEM = b"KEM\x00\x20"
_HPKE = b"HPKE\x00\x20\x00\x01\x00\x03"


def random(size: int) -> bytes:
    """The only place where this package takes randomness from."""
    return os.urandom(size)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def same(one: bytes, other: bytes) -> bool:
    """Comparison of two tags in constant time."""
    return hmac.compare_digest(one, other)


# --- key derivation (RFC 5869; RFC 9420, section 8) ------------------------------------------------------------------


def extract(salt: bytes, material: bytes) -> bytes:
    return mac(salt, material)


def expand(secret: bytes, info: bytes, size: int) -> bytes:
    need(size <= 255 * HASH_BYTES, "HKDF gives no more than 255 blocks")
    return kdf.expand(secret, info, size)


def expand_with_label(secret: bytes, label: str, context: bytes, size: int) -> bytes:
    return expand(secret, Uint(2).write(size) + _labeled(label, context), size)


def _labeled(label: str, content: bytes) -> bytes:
    """The end of KDFLabel, and the whole of SignContent and EncryptContext."""
    return opaque(b"MLS 1.0 " + label.encode()) + opaque(content)


def derive_secret(secret: bytes, label: str) -> bytes:
    return expand_with_label(secret, label, b"", HASH_BYTES)


def derive_tree_secret(secret: bytes, label: str, generation: int, size: int) -> bytes:
    """Section 9.1."""
    return expand_with_label(secret, label, generation.to_bytes(4, "big"), size)


def ref_hash(label: str, value: bytes) -> bytes:
    """Section 5.2."""
    return digest(opaque(label.encode()) + opaque(value))


# --- signatures (section 5.1.2) --------------------------------------------------------------------------------------


def sign_with_label(key: Identity, label: str, content: bytes) -> bytes:
    return key.sign(_labeled(label, content))


def verify_with_label(key: bytes, label: str, content: bytes, signature: bytes) -> None:
    """Raises:
    MLSError: `signature` was not made by `key` over `content` under this label.
    """
    try:
        _public_key(key).verify(_labeled(label, content), signature)
    except SigningError as error:
        raise MLSError(f"{label}: the signature does not verify") from error


@lru_cache(4096)
def _public_key(raw: bytes) -> PublicKey:
    return parse_public_key(raw.hex())


# --- AEAD ------------------------------------------------------------------------------------------------------------


def seal(key: bytes, nonce: bytes, associated: bytes, plaintext: bytes) -> bytes:
    return crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, associated, nonce, key)


def unseal(key: bytes, nonce: bytes, associated: bytes, ciphertext: bytes) -> bytes:
    """Raises:
    MLSError: the ciphertext was not made with this key, nonce and associated data.
    """
    need(len(ciphertext) >= _TAG_BYTES, "a ciphertext shorter than its tag")
    try:
        return crypto_aead_chacha20poly1305_ietf_decrypt(ciphertext, associated, nonce, key)
    except CryptoError as error:
        raise MLSError("a ciphertext does not open") from error


# --- HPKE (RFC 9180) -------------------------------------------------------------------------------------------------


@frozen
class HPKECiphertext(Struct):
    kem_output: Opaque
    ciphertext: Opaque


def public_of(private: bytes) -> bytes:
    return crypto_scalarmult_base(private)


def derive_key_pair(material: bytes) -> tuple[bytes, bytes]:
    """The private and the public key of RFC 9180, section 7.1.3."""
    secret = _labeled_extract(_KEM, b"", b"dkp_prk", material)
    private = _labeled_expand(_KEM, secret, b"sk", b"", KEY_BYTES)
    return private, public_of(private)


def encrypt_with_label(public: bytes, label: str, context: bytes, plaintext: bytes) -> HPKECiphertext:
    """RFC 9420, section 5.1.3."""
    ephemeral = random(KEY_BYTES)
    output = public_of(ephemeral)
    key, nonce = _hpke_key(diffie_hellman(ephemeral, public), output + public, label, context)
    return HPKECiphertext(output, seal(key, nonce, b"", plaintext))


def decrypt_with_label(private: bytes, label: str, context: bytes, sealed: HPKECiphertext) -> bytes:
    """Raises:
    MLSError: `sealed` was not made for this key, label and context.
    """
    shared = diffie_hellman(private, sealed.kem_output)
    key, nonce = _hpke_key(shared, sealed.kem_output + public_of(private), label, context)
    return unseal(key, nonce, b"", sealed.ciphertext)


def need_hpke_key(public: bytes) -> None:
    """RFC 9180, section 7.1.4: a key of small order gives a shared secret of zeros."""
    diffie_hellman(bytes(KEY_BYTES), public)


def diffie_hellman(private: bytes, public: bytes) -> bytes:
    need(len(public) == KEY_BYTES, "an X25519 key is 32 bytes long")
    try:
        return crypto_scalarmult(private, public)
    except RuntimeError as error:  # libsodium refuses the shared secret of zeros
        raise MLSError("an X25519 key of small order") from error


def _hpke_key(shared: bytes, kem_context: bytes, label: str, context: bytes) -> tuple[bytes, bytes]:
    info = _labeled(label, context)
    secret = _labeled_extract(_KEM, b"", b"eae_prk", shared)
    secret = _labeled_expand(_KEM, secret, b"shared_secret", kem_context, HASH_BYTES)
    schedule = b"\0" + _labeled_extract(_HPKE, b"", b"psk_id_hash", b"")
    schedule += _labeled_extract(_HPKE, b"", b"info_hash", info)
    secret = _labeled_extract(_HPKE, secret, b"secret", b"")
    key = _labeled_expand(_HPKE, secret, b"key", schedule, KEY_BYTES)
    return key, _labeled_expand(_HPKE, secret, b"base_nonce", schedule, NONCE_BYTES)


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + suite + label + material)


def _labeled_expand(suite: bytes, secret: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return expand(secret, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, size)
