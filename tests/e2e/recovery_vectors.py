"""Recovery codes, backups and parts of the history with known answers."""

import hashlib
import zlib
from typing import Any

import orjson
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

from ironwire.crypto.padding import padded_size
from ironwire.crypto.signing import Identity
from ironwire.e2e.backup import Backup, BackupContact, BackupConversation, new_backup
from ironwire.e2e.bodies import HistoryPart, SealedFile, TextBody
from ironwire.e2e.content import Content, parts_of
from ironwire.e2e.files import FileSealer
from ironwire.e2e.recovery import RecoveryCode
from ironwire.ids import ClientId, GroupId, MessageId
from ironwire.protocol.conversations.names import pair_id
from ironwire.wire.base64url import to_base64url
from ironwire.wire.strict import strict_converter
from tests.e2e.content_vectors import ALICE, BOB, FILE, TS

RAW = [bytes(20), b"\xff" * 20, *(hashlib.sha256(b"code %d" % number).digest()[:20] for number in range(6))]

REFUSED = {
    "too short": "0000-0000",
    "the check is missing": "0000-0000-0000-0000-0000-0000-0000-0000",
    "too long": "0000-0000-0000-0000-0000-0000-0000-0000-0000-0000",
    "another check": "0000-0000-0000-0000-0000-0000-0000-0000-0000",
    "no such character": "U000-0000-0000-0000-0000-0000-0000-0000-0000",
    "empty": "",
}


CODE = RecoveryCode(bytes(range(20)))


def codes() -> list[dict[str, Any]]:
    known = [RecoveryCode(raw) for raw in RAW]
    given: list[dict[str, Any]] = [
        {"raw": code.raw.hex(), "text": code.text, "id": code.backup_id, "key": code.backup_key.hex()} for code in known
    ]
    sloppy = known[2].text.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    given.append(given[2] | {"text": sloppy})
    return given + [{"text": text, "refused": why} for why, text in REFUSED.items()]


def a_backup(number: int = 7) -> Backup:
    return new_backup(
        Identity.from_seed(bytes(range(32))),
        b"\xaa" * 32,
        number=number,
        ts=1_790_000_000_000,
        contacts=[
            BackupContact(ClientId("b0" * 32), verified=True, name="Bob"),
            BackupContact(ClientId("c0" * 32), verified=False),
            BackupContact(GroupId("#" + "0f" * 16), verified=False, name="friends"),
        ],
        conversations=[
            BackupConversation(GroupId("#" + "0f" * 16), 2, "Friends"),
            BackupConversation(pair_id(ALICE, BOB), 1, peer=BOB),
        ],
    )


def as_json(backup: Backup) -> Any:
    return orjson.loads(orjson.dumps(strict_converter().unstructure(backup)))


def backups() -> list[dict[str, Any]]:
    backup = a_backup()
    text = orjson.dumps(as_json(backup))
    statement = statement_of(text, backup.load_identity())
    blob = blob_of(statement + bytes(padded_size(len(statement)) - len(statement)))
    return [{"code": CODE.text, "number": backup.number, "json": text.decode(), "blob": blob.hex()}]


def blob_of(padded: bytes, code: RecoveryCode = CODE) -> bytes:
    """A blob of somebody who knows the code. Its nonce is always the same."""
    nonce, associated = b"\x24" * 24, b"IWB1" + bytes.fromhex(code.backup_id)
    return b"IWB1" + nonce + encrypt(padded, associated, nonce, code.backup_key)


def statement_of(text: bytes, signer: Identity, backup_id: str = CODE.backup_id) -> bytes:
    signed = b"IronWire backup v1\0" + bytes.fromhex(backup_id) + text
    return signer.sign(signed) + len(text).to_bytes(4, "big") + text


def parts_of_history() -> list[dict[str, Any]]:
    """One part. It is stored and not compressed, because the same bytes compress in many ways."""
    messages = [Content(MessageId(str(number)), TS - number, TextBody("Hello")) for number in range(3)]
    lines: list[dict[str, Any]] = [{"v": 1, "client": ALICE}]
    lines += [
        {"conversation": "#" + "0f" * 16, "from": BOB, "ts": content.ts + 5, "message": parts_of(content)}
        for content in messages
    ]
    lines[1] |= {"conversation": pair_id(ALICE, BOB), "from": ALICE, "to": BOB, "plain": True}
    compressor = zlib.compressobj(0, wbits=31)
    text = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    sealer = FileSealer(None, b"\x11" * 32)
    sealed = sealer.seal(compressor.compress(text) + compressor.flush()) + b"".join(sealer.finish())
    file = SealedFile(FILE.url, to_base64url(sealer.key), sealer.size, sealer.sha256)
    part = HistoryPart(file, TS + 3, TS + 5, len(messages))
    described = strict_converter().unstructure(part)
    return [{"client": ALICE, "part": described, "sealed": sealed.hex(), "lines": text.decode().splitlines()}]
