"""The key of a client, or of a linked device, in a file that only its owner can read.

    ironwire-identity 1 plain client=<64 hex>\\n
    <seed: 64 hex>\\n

    ironwire-identity 1 sealed client=<64 hex> kdf=argon2id ops=<n> mem=<bytes> salt=<32 hex> nonce=<48 hex>\\n
    <seed, encrypted: 96 hex>\\n

    ironwire-linked 1 … client=<64 hex> device=<name> cert=<210 hex> …

A linked device has no identity: the seed is that of its own key, which the certificate says is the client's. A sealed
seed is encrypted with XChaCha20-Poly1305 under Argon2id of the passphrase (RFC 9106); the first line, as it
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
from ironwire.crypto.signing import DeviceKey, Identity, PublicKey
from ironwire.errors import InvalidCertificate
from ironwire.ids import ClientId, DeviceId, parse_device_id
from ironwire.protocol.devices.certificate import Certificate, decode_certificate

MOST_OPERATIONS = 16
MOST_MEMORY_BYTES = argon2id.MEMLIMIT_SENSITIVE
_FILE_MODE = 0o600
_FOLDER_MODE = 0o700
_FILE_BYTES = 1024
"""More than any key file has."""
_PLAIN_DIGITS, _SEALED_DIGITS = 64, 96

_FILE = re.compile(
    rb"(?P<header>ironwire-(?P<kind>identity|linked) 1 (?P<form>plain|sealed) client=(?P<client>[0-9a-f]{64})"
    rb"(?: device=(?P<device>[A-Za-z0-9._-]{1,64}) cert=(?P<cert>[0-9a-f]{210}))?"
    rb"(?: kdf=argon2id ops=(?P<ops>[1-9][0-9]{0,9}) mem=(?P<mem>[1-9][0-9]{0,11})"
    rb" salt=(?P<salt>[0-9a-f]{32}) nonce=(?P<nonce>[0-9a-f]{48}))?)\n(?P<secret>[0-9a-f]{64}|[0-9a-f]{96})\n"
)

Passphrase = str | Callable[[], str]
"""The passphrase, or how to ask for it; it is asked for only if the file is sealed."""


@frozen
class Cost:
    """The cost of one guess of the passphrase: passes over the memory, and its size (RFC 9106, section 3.1)."""

    operations: int = argon2id.OPSLIMIT_MODERATE
    memory_bytes: int = argon2id.MEMLIMIT_MODERATE


@frozen
class LinkedDevice:
    """A device of a client whose identity key is elsewhere: its own key, and the certificate of an owner device."""

    client: PublicKey
    device: DeviceId
    key: DeviceKey
    certificate: Certificate

    @property
    def client_id(self) -> ClientId:
        return self.client.client_id

    @property
    def public_key(self) -> PublicKey:
        """That of the client."""
        return self.client


Account = Identity | LinkedDevice
"""By what a program acts for a client."""


def create_identity(path: Path, passphrase: str | None = None, *, cost: Cost | None = None) -> Identity:
    """A new identity, safe on disk at `path` with mode 0600 once this returns; sealed if there is a passphrase.

    Raises:
        KeystoreError: there is a file already, which is never replaced; or it cannot be written.
    """
    check_free(path)
    identity = Identity.generate()
    keep_account(path, identity, passphrase, cost=cost)
    return identity


def keep_account(path: Path, account: Account, passphrase: str | None = None, *, cost: Cost | None = None) -> None:
    """Write the key of a client or a linked device, as `create_identity` does. Raises as it does."""
    check_free(path)
    content = _encoded(account, passphrase, cost or Cost())
    try:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        with NewFile.create(path, _FILE_MODE) as file:
            file.write(content)
            file.keep()
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise KeystoreError(f"cannot write the key to {path}: {error.strerror}") from error


def check_free(path: Path) -> None:
    """Raises:
    KeystoreError: there is a file already. Call it before asking for a passphrase.
    """
    if os.path.lexists(path):
        raise _taken(path)


def _taken(path: Path) -> KeystoreError:
    return KeystoreError(f"{path} exists already and is not replaced: move it away, or choose another path")


def read_client_id(path: Path) -> ClientId:
    """The client id of the key in the file at `path`. A sealed file says so in the clear, and stays sealed.

    Raises:
        KeystoreError: no such file; others may read it; it is damaged.
    """
    match = _parsed(path, read_private(path))
    if match["form"] == b"plain":
        return _opened(path, match, None).client_id
    return ClientId(match["client"].decode())


def read_linked_device(path: Path) -> DeviceId | None:
    """The name of the linked device whose key is in the file at `path`; None if it is an identity's.

    Raises:
        KeystoreError: as `read_client_id` says.
    """
    device: bytes | None = _parsed(path, read_private(path))["device"]
    return None if device is None else parse_device_id(device.decode())


def load_account(path: Path, passphrase: Passphrase | None = None) -> Account:
    """The identity or the linked device in the file at `path`.

    Raises:
        KeystoreError: no such file; others may read it; it is damaged; it is sealed and the passphrase is missing or
            wrong.
    """
    return _opened(path, _parsed(path, read_private(path)), passphrase)


def load_identity(path: Path, passphrase: Passphrase | None = None) -> Identity:
    """The identity in the file at `path`.

    Raises:
        KeystoreError: as `load_account` says; or it holds a linked device, which has no identity.
    """
    account = load_account(path, passphrase)
    if isinstance(account, LinkedDevice):
        raise KeystoreError(
            f"{path} is the key of the linked device {account.device}: this needs a device that has the identity's key"
        )
    return account


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


def _parsed(path: Path, content: bytes) -> re.Match[bytes]:
    match = _FILE.fullmatch(content)
    if match is not None:
        is_linked, is_sealed = match["kind"] == b"linked", match["form"] == b"sealed"
        has_parts = (match["device"] is not None, match["ops"] is not None) == (is_linked, is_sealed)
        if has_parts and len(match["secret"]) == (_SEALED_DIGITS if is_sealed else _PLAIN_DIGITS):
            return match
    raise KeystoreError(f"{path} is damaged, or not a key file of this version")


def _opened(path: Path, match: re.Match[bytes], passphrase: Passphrase | None) -> Account:
    if match["form"] == b"plain":
        seed = bytes.fromhex(match["secret"].decode())
    elif passphrase is None:
        raise KeystoreError(f"{path} is sealed: its passphrase is needed")
    else:
        seed = _unseal(path, match, passphrase)
    if match["kind"] == b"identity":
        identity = Identity.from_seed(seed)
        if identity.client_id.encode() == match["client"]:
            return identity
    else:
        try:
            return _linked(match, DeviceKey.from_seed(seed))
        except InvalidCertificate:
            pass
    raise KeystoreError(f"{path} is damaged: the key in it does not belong to the client that it names")


def _linked(match: re.Match[bytes], key: DeviceKey) -> LinkedDevice:
    certificate = decode_certificate(bytes.fromhex(match["cert"].decode()))
    certificate.verify(key.public_key, now_ms=0)
    if certificate.client.client_id.encode() != match["client"]:
        raise InvalidCertificate("it is another client's")
    return LinkedDevice(certificate.client, parse_device_id(match["device"].decode()), key, certificate)


def _encoded(account: Account, passphrase: str | None, cost: Cost) -> bytes:
    form = "plain" if passphrase is None else "sealed"
    if isinstance(account, LinkedDevice):
        seed, cert = account.key.seed, account.certificate.encode().hex()
        header = f"ironwire-linked 1 {form} client={account.client_id} device={account.device} cert={cert}"
    else:
        seed = account.seed
        header = f"ironwire-identity 1 {form} client={account.client_id}"
    return f"{header}\n{seed.hex()}\n".encode() if passphrase is None else _seal(header, seed, passphrase, cost)


def _seal(opening: str, seed: bytes, passphrase: str, cost: Cost) -> bytes:
    salt = random_bytes(argon2id.SALTBYTES)
    nonce = random_bytes(crypto_aead_xchacha20poly1305_ietf_NPUBBYTES)
    header = (
        f"{opening} kdf=argon2id ops={cost.operations} mem={cost.memory_bytes} salt={salt.hex()} nonce={nonce.hex()}"
    ).encode()
    key = _stretch(passphrase, salt, cost)
    box = crypto_aead_xchacha20poly1305_ietf_encrypt(seed, header, nonce, key)
    return header + b"\n" + box.hex().encode() + b"\n"


def _unseal(path: Path, sealed: re.Match[bytes], passphrase: Passphrase) -> bytes:
    header, operations, memory, salt, nonce, box = sealed.group("header", "ops", "mem", "salt", "nonce", "secret")
    cost = Cost(int(operations), int(memory))
    if cost.operations > MOST_OPERATIONS or cost.memory_bytes > MOST_MEMORY_BYTES:
        raise KeystoreError(f"{path} is damaged or hostile: it asks for more work than any key file needs")
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
