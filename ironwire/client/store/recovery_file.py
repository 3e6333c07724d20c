"""What an owner device keeps of its client's recovery, in a file beside the identity's, sealed with a key that follows
from it.

    ironwire-recovery 1 client=<64 hex> nonce=<48 hex>\\n
    <JSON, encrypted: hex>\\n

The code is in it, so that a newer backup can be stored without asking for it: whoever can open the identity has all
that the code could give. All functions block: async callers use a thread.
"""

import os
import re
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import orjson
from attrs import field, frozen
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError
from nacl.utils import random as random_bytes

from ironwire.client.errors import KeystoreError
from ironwire.client.files import replace_file
from ironwire.client.store.keystore import read_private
from ironwire.crypto.signing import Identity
from ironwire.e2e.bodies import Base64Key
from ironwire.e2e.recovery import CODE_BYTES, RecoveryCode
from ironwire.record import record
from ironwire.wire.base64url import from_base64url, to_base64url
from ironwire.wire.messages.fields import Number, Pattern, UnixMs
from ironwire.wire.strict import Fault, strict_converter

_FILE_MODE = 0o600
_FILE_BYTES = 4096
_FILE = re.compile(rb"(ironwire-recovery 1 client=([0-9a-f]{64}) nonce=([0-9a-f]{48}))\n([0-9a-f]+)\n")


@frozen
class KeptRecovery:
    """The code, and the newest backup that was stored under it. `confirmed_ms` is when the person last typed it."""

    code: RecoveryCode
    archive_key: bytes = field(repr=False)
    number: int
    stored_ms: int
    confirmed_ms: int


@record
class _Content:
    code: Annotated[str, Pattern(r"[A-Za-z0-9_-]{27}", description=f"{CODE_BYTES} bytes in base64url")]
    archive_key: Base64Key
    number: Number
    stored: UnixMs
    confirmed: UnixMs


_converter = strict_converter()


def recovery_path(path: Path) -> Path:
    """Where it is kept for the identity at `path`."""
    return path.with_name(f"{path.name}.recovery")


def keep_recovery(path: Path, identity: Identity, kept: KeptRecovery) -> None:
    """Keep it for the identity at `path`, in the place of what was kept before.

    Raises:
        KeystoreError: it cannot be written.
    """
    code, archive_key = to_base64url(kept.code.raw), to_base64url(kept.archive_key)
    content = _Content(code, archive_key, kept.number, kept.stored_ms, kept.confirmed_ms)
    nonce = random_bytes(crypto_aead_xchacha20poly1305_ietf_NPUBBYTES)
    header = f"ironwire-recovery 1 client={identity.client_id} nonce={nonce.hex()}".encode()
    text = orjson.dumps(_converter.unstructure(content))
    box = crypto_aead_xchacha20poly1305_ietf_encrypt(text, header, nonce, _sealing_key(identity))
    file = recovery_path(path)
    try:
        replace_file(file, header + b"\n" + box.hex().encode() + b"\n", _FILE_MODE)
    except OSError as error:
        raise KeystoreError(f"cannot write to {file}: {error.strerror}") from error


def read_recovery(path: Path, identity: Identity) -> KeptRecovery | None:
    """What is kept for the identity at `path`; None if there is nothing.

    Raises:
        KeystoreError: the file is damaged, belongs to another identity, or can be read by others.
    """
    file = recovery_path(path)
    if not os.path.lexists(file):
        return None
    match = _FILE.fullmatch(read_private(file, _FILE_BYTES))
    if match is None or match[2] != identity.client_id.encode():
        raise KeystoreError(f"{file} is damaged, or belongs to another identity: move it away, and make a new code")
    try:
        text = crypto_aead_xchacha20poly1305_ietf_decrypt(
            bytes.fromhex(match[4].decode()), match[1], bytes.fromhex(match[3].decode()), _sealing_key(identity)
        )
        content = _converter.structure(orjson.loads(text), _Content)
    except (CryptoError, ValueError, Fault):
        raise KeystoreError(f"{file} is damaged: move it away, and make a new code") from None
    code = RecoveryCode(from_base64url(content.code))
    return KeptRecovery(code, from_base64url(content.archive_key), content.number, content.stored, content.confirmed)


def _sealing_key(identity: Identity) -> bytes:
    size = crypto_aead_xchacha20poly1305_ietf_KEYBYTES
    return blake2b(key=identity.seed, person=b"ironwire-recover", digest_size=size).digest()
