"""The backup of a client: what a recovery code brings back (docs/between-devices.md, section 12.2).

    blob    = "IWB1" ‖ nonce (24) ‖ XChaCha20-Poly1305(key, nonce, AAD = "IWB1" ‖ id, padded)
    padded  = signature (64) ‖ u32 length ‖ JSON ‖ zeros, up to a padded size
    signature = Ed25519 of the identity key over "IronWire backup v1\\0" ‖ id ‖ JSON

Rule: there is no state of MLS and no device key in it. Restored state would use its nonces a second time; whoever
recovers is a new device. The classes have no field for either, and what has other fields is refused.
"""

from typing import Annotated, Any

import orjson
from attrs import field
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
)
from nacl.exceptions import CryptoError
from nacl.utils import random as random_bytes

from ironwire.crypto.padding import padded_size
from ironwire.crypto.signing import SIGNATURE_BYTES, Identity
from ironwire.e2e.bodies import Base64Key
from ironwire.e2e.recovery import RecoveryCode
from ironwire.errors import InvalidBackup, InvalidSignature
from ironwire.ids import Address, ClientId, ConversationId, GroupId, is_group
from ironwire.limits import BACKUP_BYTES
from ironwire.record import record
from ironwire.wire.base64url import from_base64url, to_base64url
from ironwire.wire.messages.fields import Between, GroupName, Items, Number, UnixMs
from ironwire.wire.strict import Fault, strict_converter

MOST_CONTACTS = MOST_CONVERSATIONS = 5_000

_MAGIC = b"IWB1"
_CONTEXT = b"IronWire backup v1\0"
_NONCE_BYTES = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_LENGTH_BYTES = 4


@record
class BackupContact:
    """A client or group that has a name here; `verified` if a person has compared the safety number of the client."""

    who: Address
    verified: bool
    name: GroupName | None = None


@record
class BackupConversation:
    """A conversation, and the newest generation of it that this client has seen: it was encrypted, and stays so. `peer`
    is the other client of a pair, `name` a group's own.
    """

    conversation: ConversationId
    generation: Annotated[int, Between(1, 2**32 - 1)]
    name: GroupName | None = None
    peer: ClientId | None = None

    @property
    def to(self) -> Address | None:
        """With whom it is; None of a pair whose other client is not known."""
        return GroupId(self.conversation) if is_group(self.conversation) else self.peer


@record
class Backup:
    """The content of a backup. `number` grows with each that is stored; `identity` is the seed of the identity key."""

    number: Number
    ts: UnixMs
    identity: Base64Key = field(repr=False)
    archive_key: Base64Key = field(repr=False)
    contacts: Annotated[list[BackupContact], Items(0, MOST_CONTACTS)]
    conversations: Annotated[list[BackupConversation], Items(0, MOST_CONVERSATIONS)]

    def load_identity(self) -> Identity:
        return Identity.from_seed(from_base64url(self.identity))


_converter = strict_converter()


def new_backup(
    identity: Identity,
    archive_key: bytes,
    *,
    number: int,
    ts: int,
    contacts: list[BackupContact],
    conversations: list[BackupConversation],
) -> Backup:
    """The next backup of the identity's client."""
    seed = to_base64url(identity.seed)
    return Backup(number, ts, seed, to_base64url(archive_key), contacts, conversations)


def seal_backup(backup: Backup, code: RecoveryCode) -> bytes:
    """The blob for the server. Rule: nobody is told that it is saved before it was read back, and `open_backup` gave
    the same backup.

    Raises:
        InvalidBackup: it is larger than a server takes.
    """
    text = orjson.dumps(_converter.unstructure(backup))
    backup_id = bytes.fromhex(code.backup_id)
    signature = backup.load_identity().sign(_CONTEXT + backup_id + text)
    statement = signature + len(text).to_bytes(_LENGTH_BYTES, "big") + text
    padded = statement + bytes(padded_size(len(statement)) - len(statement))
    nonce = random_bytes(_NONCE_BYTES)
    box = crypto_aead_xchacha20poly1305_ietf_encrypt(padded, _MAGIC + backup_id, nonce, code.backup_key)
    blob = _MAGIC + nonce + box
    if len(blob) > BACKUP_BYTES:
        raise InvalidBackup(f"the backup has {len(blob)} bytes, and a server takes {BACKUP_BYTES}")
    return blob


def open_backup(blob: bytes, code: RecoveryCode, *, at_least: int = 1) -> Backup:
    """The backup in a blob from the server.

    Args:
        at_least: the number of the newest backup that this device has seen; a server may have kept an old one.

    Raises:
        InvalidBackup: the code is not that of this backup; it was changed; it is too old, or of a newer version.
    """
    if len(blob) > BACKUP_BYTES:
        raise InvalidBackup("the backup is larger than any")
    if not blob.startswith(_MAGIC):
        raise InvalidBackup("this is no backup, or one of a newer version: update first")
    backup_id = bytes.fromhex(code.backup_id)
    nonce, box = blob[len(_MAGIC) :][:_NONCE_BYTES], blob[len(_MAGIC) + _NONCE_BYTES :]
    try:
        padded = crypto_aead_xchacha20poly1305_ietf_decrypt(box, _MAGIC + backup_id, nonce, code.backup_key)
    except (CryptoError, ValueError):
        raise InvalidBackup("the backup does not open with this recovery code, or was changed") from None
    signature, rest = padded[:SIGNATURE_BYTES], padded[SIGNATURE_BYTES:]
    length = int.from_bytes(rest[:_LENGTH_BYTES], "big")
    text = rest[_LENGTH_BYTES:][:length]
    backup = _decode(text)
    try:
        backup.load_identity().public_key.verify(_CONTEXT + backup_id + text, signature)
    except InvalidSignature:
        raise InvalidBackup("the backup is not signed by the identity that is in it") from None
    if backup.number < at_least:
        raise InvalidBackup(f"the server has an old backup: number {backup.number}, and {at_least} was stored")
    return backup


def _decode(text: bytes) -> Backup:
    try:
        parts: Any = orjson.loads(text)
        return _converter.structure(parts, Backup)
    except orjson.JSONDecodeError:
        raise InvalidBackup("the backup holds no JSON") from None
    except Fault as fault:
        raise InvalidBackup(fault.about("the backup")) from None
