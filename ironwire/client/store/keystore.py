"""The client's identity in a file that only its owner can read.

    ironwire-identity 1 plain client=<64 hex>\\n
    <seed: 64 hex>\\n

    ironwire-identity 1 sealed client=<64 hex> kdf=argon2id ops=<n> mem=<bytes> salt=<32 hex> nonce=<48 hex>\\n
    <seed, encrypted: 96 hex>\\n

A sealed seed is encrypted with XChaCha20-Poly1305 under Argon2id of the passphrase (RFC 9106); the first line, as it
stands, is the associated data. So a changed byte anywhere is noticed. What a file asks of Argon2id is bounded before it
is done: a file that somebody else prepared must not eat the memory. All functions block: async callers use a thread.
"""

import codecs
import os
import re
import stat
import unicodedata
from collections.abc import Callable
from pathlib import Path

from attrs import frozen
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.utils import random as random_bytes

from ironwire.client.errors import KeystoreError
from ironwire.client.files import NewFile
from ironwire.crypto.signing import Identity
from ironwire.ids import ClientId

MOST_OPERATIONS = 16
MOST_MEMORY_BYTES = argon2id.MEMLIMIT_SENSITIVE
_FILE_MODE = 0o600
_FOLDER_MODE = 0o700
_FILE_BYTES = 1024
"""More than any identity file has."""

_PLAIN = re.compile(rb"(ironwire-identity 1 plain client=([0-9a-f]{64}))\n([0-9a-f]{64})\n")
_SEALED = re.compile(
    rb"(ironwire-identity 1 sealed client=([0-9a-f]{64}) kdf=argon2id ops=([1-9][0-9]{0,9}) mem=([1-9][0-9]{0,11})"
    rb" salt=([0-9a-f]{32}) nonce=([0-9a-f]{48}))\n([0-9a-f]{96})\n"
)

Passphrase = str | Callable[[], str]
"""The passphrase, or how to ask for it; it is asked for only if the file is sealed."""


@frozen
class Cost:
    """The cost of one guess of the passphrase: passes over the memory, and its size (RFC 9106, section 3.1)."""

    operations: int = argon2id.OPSLIMIT_MODERATE
    memory_bytes: int = argon2id.MEMLIMIT_MODERATE


def create_identity(path: Path, passphrase: str | None = None, *, cost: Cost | None = None) -> Identity:
    """A new identity, safe on disk at `path` with mode 0600 once this returns; sealed if there is a passphrase.

    Raises:
        KeystoreError: there is a file already, which is never replaced; or it cannot be written.
    """
    check_free(path)
    identity = Identity.generate()
    content = _plain(identity) if passphrase is None else _seal(identity, passphrase, cost or Cost())
    try:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        with NewFile.create(path, _FILE_MODE) as file:
            file.write(content)
            file.keep()
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise KeystoreError(f"cannot write the identity to {path}: {error.strerror}") from error
    return identity


def check_free(path: Path) -> None:
    """Raises:
    KeystoreError: there is a file already. Call it before asking for a passphrase.
    """
    if os.path.lexists(path):
        raise _taken(path)


def _taken(path: Path) -> KeystoreError:
    return KeystoreError(f"{path} exists already and is not replaced: move it away, or choose another path")


def read_client_id(path: Path) -> ClientId:
    """The client id of the identity in the file at `path`. A sealed file says so in the clear, and stays sealed.

    Raises:
        KeystoreError: no such file; others may read it; it is damaged.
    """
    if sealed := _SEALED.fullmatch(read_private(path)):
        return ClientId(sealed.group(2).decode())
    return load_identity(path).client_id


def load_identity(path: Path, passphrase: Passphrase | None = None) -> Identity:
    """The identity in the file at `path`.

    Raises:
        KeystoreError: no such file; others may read it; it is damaged; it is sealed and the passphrase is missing or
            wrong.
    """
    content = read_private(path)
    if plain := _PLAIN.fullmatch(content):
        _, client, seed_hex = plain.groups()
        seed = bytes.fromhex(seed_hex.decode())
    elif sealed := _SEALED.fullmatch(content):
        if passphrase is None:
            raise KeystoreError(f"{path} is sealed: its passphrase is needed")
        client = sealed.group(2)
        seed = _unseal(path, sealed, passphrase)
    else:
        raise KeystoreError(f"{path} is damaged, or not an identity file of this version")
    identity = Identity.from_seed(seed)
    if identity.client_id.encode() != client:
        raise KeystoreError(f"{path} is damaged: the key in it does not belong to the client that it names")
    return identity


def read_private(path: Path, most_bytes: int = _FILE_BYTES) -> bytes:
    """A file that only its owner can read, with the ends of lines as they were written; cut at `most_bytes`.

    Raises:
        KeystoreError: no such file; others may read it; it cannot be read.
    """
    try:
        with open(path, "rb", opener=_opened_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KeystoreError(f"{path} is not a regular file")
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise KeystoreError(f"other users may read or change {path}: run `chmod 600 {path}` first")
            return _unified(file.read(most_bytes))
    except FileNotFoundError:
        raise KeystoreError(f"there is no identity at {path}: create one first") from None
    except OSError as error:
        raise KeystoreError(f"cannot read {path}: {error.strerror}") from error


def _opened_at_once(path: str, flags: int) -> int:
    """Open without waiting: a pipe is refused, and not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _unified(content: bytes) -> bytes:
    """The file as it was written: editors and copies add a byte order mark, other ends of lines, or lose the last."""
    return content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"


def _plain(identity: Identity) -> bytes:
    return f"ironwire-identity 1 plain client={identity.client_id}\n{identity.seed.hex()}\n".encode()


def _seal(identity: Identity, passphrase: str, cost: Cost) -> bytes:
    salt = random_bytes(argon2id.SALTBYTES)
    nonce = random_bytes(crypto_aead_xchacha20poly1305_ietf_NPUBBYTES)
    header = (
        f"ironwire-identity 1 sealed client={identity.client_id}"
        f" kdf=argon2id ops={cost.operations} mem={cost.memory_bytes} salt={salt.hex()} nonce={nonce.hex()}"
    ).encode()
    key = _stretch(passphrase, salt, cost)
    box = crypto_aead_xchacha20poly1305_ietf_encrypt(identity.seed, header, nonce, key)
    return header + b"\n" + box.hex().encode() + b"\n"


def _unseal(path: Path, sealed: re.Match[bytes], passphrase: Passphrase) -> bytes:
    header, _, operations, memory, salt, nonce, box = sealed.groups()
    cost = Cost(int(operations), int(memory))
    if cost.operations > MOST_OPERATIONS or cost.memory_bytes > MOST_MEMORY_BYTES:
        raise KeystoreError(f"{path} is damaged or hostile: it asks for more work than any identity file needs")
    secret = passphrase if isinstance(passphrase, str) else passphrase()
    try:
        key = _stretch(secret, bytes.fromhex(salt.decode()), cost)
        return crypto_aead_xchacha20poly1305_ietf_decrypt(
            bytes.fromhex(box.decode()), header, bytes.fromhex(nonce.decode()), key
        )
    except (CryptoError, ValueError):
        raise KeystoreError(f"the passphrase is wrong, or {path} is damaged") from None


def _stretch(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    """Keyboards differ in how they compose a letter, so the passphrase is normalised (RFC 8265, section 4.2)."""
    secret = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    return argon2id.kdf(
        crypto_aead_xchacha20poly1305_ietf_KEYBYTES, secret, salt, opslimit=cost.operations, memlimit=cost.memory_bytes
    )
