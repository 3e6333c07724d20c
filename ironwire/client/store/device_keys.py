"""The key of a device, and what is known of its client's device log, in files beside the identity's (docs/protocol.md,
section 9).

    identity.key                 the identity (`keystore.py`)
    identity.key.phone.device    the key of the device `phone`, sealed with a key that follows from the identity
    identity.key.phone.mark      counts how often the device's store was opened and closed: a store that counts less was
                                 put back from a copy
    identity.key.phone.replaced  the former key of the device, while it is to be revoked
    identity.key.log             the client's own device log: entries line by line, and one that was signed and has no
                                 answer yet
    identity.key.evidence        entries that contradict each other, where somebody has shown such

So an identity that exists becomes an owner device by its first session, and nothing has to be typed. A linked device
has its key in the place of the identity, and no file for it beside. An entry is kept before it is sent, and sent again
as it is: an index is signed once. All functions block: async callers use a thread.
"""

import os
import re
from hashlib import blake2b
from pathlib import Path

from attrs import define, field
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_KEYBYTES,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError
from nacl.utils import random as random_bytes

from ironwire.client.errors import KeystoreError
from ironwire.client.files import NewFile, replace_file
from ironwire.client.store.keystore import Account, LinkedDevice, read_private
from ironwire.crypto.signing import DeviceKey, Identity, PublicKey, parse_public_key
from ironwire.errors import InvalidLogEntry
from ironwire.ids import DeviceId
from ironwire.protocol.devices import log_entry
from ironwire.protocol.devices.certificate import Certificate, issue_certificate
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_reader import Evidence

_FILE_MODE = 0o600
_MOST_LOG_BYTES = log_entry.MOST_ENTRIES * log_entry.MOST_ENTRY_BYTES * 3
_KEY_FILE = re.compile(
    rb"(ironwire-device 1 client=([0-9a-f]{64}) device=([A-Za-z0-9._-]{1,64}) nonce=([0-9a-f]{48}))\n([0-9a-f]{96})\n"
)
_LOG_FILE = re.compile(rb"ironwire-device-log 1 client=([0-9a-f]{64})\n((?:[0-9a-f]+\n)*)(?:unanswered ([0-9a-f]+)\n)?")


@define(eq=False)
class KeptLog:
    """Made by `open_log`. `log` is the own device log, as far as it is known here."""

    account: Account
    log: DeviceLog
    unanswered: log_entry.SignedEntry | None
    """Signed for the next place of the log; whether the server has it is not known."""
    _path: Path = field(repr=False)

    @property
    def identity(self) -> Identity:
        """The key that signs entries.

        Raises:
            KeystoreError: it is elsewhere.
        """
        if isinstance(self.account, LinkedDevice):
            raise KeystoreError("a linked device cannot change the device log: do it on a device that has the identity")
        return self.account

    def keep(self, log: DeviceLog, unanswered: log_entry.SignedEntry | None = None) -> None:
        """Go on from this log, perhaps with an entry that is about to be sent. Where another program of this identity
        has kept a longer log meanwhile, go on from that one; and what it has signed for the next place comes first.

        Raises:
            KeystoreError: it cannot be written.
        """
        kept, signed = _read_log(log_path(self._path), self.account.public_key)
        if kept.next_index > log.next_index:
            self.log, self.unanswered = kept, signed
            return
        unanswered = next((each for each in (signed, unanswered) if each is not None and _fits(log, each)), None)
        header = f"ironwire-device-log 1 client={self.account.client_id}\n"
        lines = "".join(f"{entry.encode().hex()}\n" for entry in log.entries)
        last = "" if unanswered is None else f"unanswered {unanswered.encode().hex()}\n"
        try:
            replace_file(log_path(self._path), (header + lines + last).encode(), _FILE_MODE)
        except OSError as error:
            raise KeystoreError(f"cannot write the device log to {log_path(self._path)}: {error.strerror}") from error
        self.log, self.unanswered = log, unanswered

    def keep_evidence(self, evidence: Evidence) -> Path:
        """Write down the first entries that contradict each other; returns where they are.

        Raises:
            KeystoreError: they cannot be written.
        """
        path = self._path.with_name(f"{self._path.name}.evidence")
        try:
            with NewFile.create(path, _FILE_MODE) as file:
                file.write(evidence.encode())
                file.keep()
        except FileExistsError:
            pass
        except OSError as error:
            raise KeystoreError(f"cannot write to {path}: {error.strerror}") from error
        return path


@define(eq=False)
class DeviceKeys(KeptLog):
    """Made by `open_device_keys`: the key of a device, and the log of its client."""

    device: DeviceId
    key: DeviceKey

    @property
    def certificate(self) -> Certificate:
        match self.account:
            case LinkedDevice(certificate=certificate):
                return certificate
            case identity:
                return issue_certificate(identity, self.key.public_key)

    @property
    def is_logged(self) -> bool:
        """Whether the device has been added to the log, and not been removed, as far as is known here."""
        return self.log.standing_of(self.key.public_key) == "current"

    # --- copies of the device's store --------------------------------------------------------------------------------

    def read_mark(self) -> int:
        """How often the device's store was opened or closed, as far as is known here, outside of it.

        Raises:
            KeystoreError: the file is damaged, or can be read by others.
        """
        path = self._beside("mark")
        if not os.path.lexists(path):
            return 0
        text = read_private(path).strip()
        if not text.isdigit():
            raise KeystoreError(f"{path} is damaged: move it away, and the device becomes a new one")
        return int(text)

    def write_mark(self, mark: int) -> None:
        """Raises:
        KeystoreError: it cannot be written.
        """
        self._replace("mark", str(mark))

    @property
    def replaced(self) -> PublicKey | None:
        """The former key of this device, which is still to be revoked."""
        path = self._beside("replaced")
        return parse_public_key(read_private(path).decode().strip()) if os.path.lexists(path) else None

    def renew(self) -> None:
        """Go on as a new device, because the store of the old one was put back from a copy: what it has encrypted since
        is not known any more, and its keys must not be used again.

        Raises:
            KeystoreError: the files cannot be written; or this is a linked device, which its owner has to link anew.
        """
        if isinstance(self.account, LinkedDevice):
            raise KeystoreError(
                "what this device keeps was put back from a copy, and its keys must not be used again: revoke it on a"
                " device that has the identity's key, and link it anew"
            )
        path = self._beside("device")
        if self.replaced is None:
            self._replace("replaced", self.key.public_key.raw.hex())
        path.unlink(missing_ok=True)
        self.key = _make_key(path, self.account, self.device)

    def forget_replaced(self) -> None:
        """The former key is revoked."""
        self._beside("replaced").unlink(missing_ok=True)

    def _beside(self, kind: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{self.device}.{kind}")

    def _replace(self, kind: str, text: str) -> None:
        try:
            replace_file(self._beside(kind), text.encode() + b"\n", _FILE_MODE)
        except OSError as error:
            raise KeystoreError(f"cannot write {self._beside(kind)}: {error.strerror}") from error


def open_device_keys(path: Path, account: Account, device: DeviceId) -> DeviceKeys:
    """The keys of a device, for the identity or the linked device in the file at `path`, from the files beside it; for
    an identity a new key is made, and safe on disk when this returns, where there is none.

    Raises:
        KeystoreError: a file is damaged, belongs to another identity, can be read by others, or cannot be written; the
            linked device has another name.
    """
    match account:
        case LinkedDevice(device=named, key=key):
            if named != device:
                raise KeystoreError(f"{path} is the key of the linked device {named}, and no other can be used with it")
        case identity:
            key_path = path.with_name(f"{path.name}.{device}.device")
            is_there = os.path.lexists(key_path)
            key = _read_key(key_path, identity, device) if is_there else _make_key(key_path, identity, device)
    log, unanswered = _read_log(log_path(path), account.public_key)
    return DeviceKeys(account, log, unanswered, path, device, key)


def open_log(path: Path, account: Account) -> KeptLog:
    """The own device log beside the key file at `path`, for a program that is no device.

    Raises:
        KeystoreError: the file is damaged, belongs to another identity, or can be read by others.
    """
    log, unanswered = _read_log(log_path(path), account.public_key)
    return KeptLog(account, log, unanswered, path)


def device_keys_here(path: Path, account: Account) -> set[str]:
    """The keys of the devices that are on this computer, of the identity or the linked device at `path`; in hex.

    Raises:
        KeystoreError: a file is damaged, belongs to another identity, or can be read by others.
    """
    if isinstance(account, LinkedDevice):
        return {account.key.public_key.raw.hex()}
    files = {
        name.removeprefix(f"{path.name}.").removesuffix(".device"): path.with_name(name)
        for name in os.listdir(path.parent)
        if name.startswith(f"{path.name}.") and name.endswith(".device")
    }
    return {_read_key(file, account, DeviceId(name)).public_key.raw.hex() for name, file in files.items()}


def log_path(path: Path) -> Path:
    """Where the own device log of the identity at `path` is."""
    return path.with_name(f"{path.name}.log")


# --- the key ---------------------------------------------------------------------------------------------------------


def _make_key(path: Path, identity: Identity, device: DeviceId) -> DeviceKey:
    key = DeviceKey.generate()
    nonce = random_bytes(crypto_aead_xchacha20poly1305_ietf_NPUBBYTES)
    header = f"ironwire-device 1 client={identity.client_id} device={device} nonce={nonce.hex()}".encode()
    box = crypto_aead_xchacha20poly1305_ietf_encrypt(key.seed, header, nonce, _sealing_key(identity))
    try:
        with NewFile.create(path, _FILE_MODE) as file:
            file.write(header + b"\n" + box.hex().encode() + b"\n")
            file.keep()
    except FileExistsError:  # another program was quicker
        return _read_key(path, identity, device)
    except OSError as error:
        raise KeystoreError(f"cannot write the key of the device to {path}: {error.strerror}") from error
    return key


def _read_key(path: Path, identity: Identity, device: DeviceId) -> DeviceKey:
    match = _KEY_FILE.fullmatch(read_private(path))
    if match is None:
        raise KeystoreError(f"{path} is damaged, or not the key of a device: without it the device is a new one")
    header, client, named, nonce, box = match.groups()
    if (client, named) != (identity.client_id.encode(), device.encode()):
        raise KeystoreError(f"{path} belongs to another identity or device")
    try:
        seed = crypto_aead_xchacha20poly1305_ietf_decrypt(
            bytes.fromhex(box.decode()), header, bytes.fromhex(nonce.decode()), _sealing_key(identity)
        )
    except CryptoError:
        raise KeystoreError(f"{path} is damaged: without it the device is a new one") from None
    return DeviceKey.from_seed(seed)


def _sealing_key(identity: Identity) -> bytes:
    """Whoever can open the identity can open its devices, with no passphrase more."""
    size = crypto_aead_xchacha20poly1305_ietf_KEYBYTES
    return blake2b(key=identity.seed, person=b"ironwire-device", digest_size=size).digest()


# --- the log ---------------------------------------------------------------------------------------------------------


def _fits(log: DeviceLog, signed: log_entry.SignedEntry) -> bool:
    try:
        log.append(signed)
    except InvalidLogEntry:
        return False
    return True


def _read_log(path: Path, client: PublicKey) -> tuple[DeviceLog, log_entry.SignedEntry | None]:
    empty = DeviceLog(client)
    if not os.path.lexists(path):
        return empty, None
    match = _LOG_FILE.fullmatch(read_private(path, _MOST_LOG_BYTES))
    if match is None or match[1] != client.client_id.encode():
        raise KeystoreError(f"{path} is damaged, or the device log of another identity: move it away")
    try:
        data = bytes.fromhex(match[2].decode())
        log = empty.append(*log_entry.decode_entries(client, data))
        unanswered = log_entry.decode_entries(client, bytes.fromhex((match[3] or b"").decode()))
    except (ValueError, InvalidLogEntry) as error:
        raise KeystoreError(f"{path} is damaged ({error}): move it away, and the server's log is read anew") from error
    return log, next((signed for signed in unanswered if _fits(log, signed)), None)
