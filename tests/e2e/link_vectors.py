"""Texts for linking a device, and answers to them, with known answers."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import Any

import orjson
from nacl.bindings import crypto_box, crypto_scalarmult_base

from ironwire.crypto.signing import DeviceKey, Identity
from ironwire.e2e.content import KnownHead
from ironwire.e2e.linking import LinkOffer, LinkRequest, PendingLink, SelfConversation
from ironwire.ids import Origin, PairId
from ironwire.protocol.devices.certificate import issue_certificate
from ironwire.wire.strict import strict_converter

ORIGIN = Origin("https://chat.example:8443")
NOW_MS = 1_790_000_000_000
ALICE, MALLORY = Identity.from_seed(b"\x01" * 32), Identity.from_seed(b"\x02" * 32)
PHONE = DeviceKey.from_seed(b"\x03" * 32)
BOX_PRIVATE, EPHEMERAL = b"\x04" * 32, b"\x05" * 32

REQUEST = LinkRequest(ORIGIN, bytes(range(16)), PHONE.public_key, crypto_scalarmult_base(BOX_PRIVATE), b"\xaa" * 16)
PENDING = PendingLink(REQUEST, NOW_MS + 300_000, BOX_PRIVATE)
LOG = KnownHead(ALICE.client_id, 3, "9c" * 32)
OWN = SelfConversation(PairId("@" + "5e" * 16), 1)
OFFER = LinkOffer.make(issue_certificate(ALICE, PHONE.public_key), LOG, OWN, "month")


def as_json(offer: LinkOffer) -> dict[str, Any]:
    parts: dict[str, Any] = strict_converter().unstructure(offer)
    return parts


def box_of(content: bytes) -> bytes:
    """libsodium's sealed box, from an ephemeral key that is always the same."""
    public, receiver = crypto_scalarmult_base(EPHEMERAL), REQUEST.box_key
    nonce = hashlib.blake2b(public + receiver, digest_size=24).digest()
    return public + crypto_box(content, nonce, receiver, EPHEMERAL)


def answer_of(box: bytes, secret: bytes = REQUEST.secret) -> bytes:
    """The answer as the document has it."""
    origin = ORIGIN.encode()
    said = b"IronWire link v1\0" + len(origin).to_bytes(2, "big") + origin
    said += REQUEST.link_id + REQUEST.device.raw + REQUEST.box_key + box
    return b"IWL1" + hmac.digest(secret, said, "sha256") + box


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


GOOD = REQUEST.text
REFUSED = {
    "empty": "",
    "another scheme": GOOD.replace("iwlink", "https", 1),
    "a newer version": GOOD.replace(":1:", ":2:", 1),
    "no origin": GOOD.replace(ORIGIN, "", 1),
    "an origin with a path": GOOD.replace(ORIGIN, "https://chat.example/x", 1),
    "an origin with bytes": GOOD.replace(ORIGIN, "https://ch\u00e4t.example", 1),
    "a part is missing": GOOD.rpartition(":")[0],
    "a part too many": GOOD + ":" + _base64url(bytes(16)),
    "cut": GOOD[:-1],
    "bits behind the end": GOOD[:-1] + "r",
    "padded": GOOD + "==",
    "a device key that is no key": GOOD.replace(_base64url(REQUEST.device.raw), _base64url(b"\xff" * 32), 1),
    "a device key of small order": GOOD.replace(_base64url(REQUEST.device.raw), _base64url(bytes(32)), 1),
}


def cases() -> list[dict[str, Any]]:
    text = orjson.dumps(as_json(OFFER))
    taken = {
        "text": GOOD,
        "origin": ORIGIN,
        "link_id": REQUEST.link_id.hex(),
        "device": REQUEST.device.raw.hex(),
        "box_key": REQUEST.box_key.hex(),
        "secret": REQUEST.secret.hex(),
        "box_private_key": BOX_PRIVATE.hex(),
        "offer": text.decode(),
        "now": NOW_MS,
        "answer": answer_of(box_of(text.ljust(512))).hex(),
    }
    return [taken, *({"text": text, "refused": why} for why, text in REFUSED.items())]
