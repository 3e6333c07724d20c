"""Linking a device: a new device shows a text, an owner device answers it (docs/between-devices.md, section 12.4).

    text   = iwlink:1:<origin>:<link id>:<device key>:<box key>:<secret>          the last four in base64url
    answer = "IWL1" ‖ MAC ‖ box
    MAC    = HMAC-SHA-256(secret, "IronWire link v1\\0" ‖ u16 length ‖ origin ‖ link id ‖ device key ‖ box key ‖ box)
    box    = libsodium's sealed box to the box key, of JSON and spaces up to a padded size

           new device                              server                          owner device
    begin ─ shows the text, perhaps as a QR code ────────────────────────────────> parse_link_text, asks its person
                                                     PUT /link/<link id> <──────── answer_link
    GET /link/<link id>, now and then ────────────>  the answer
    PendingLink.open

The text goes from screen to camera, so the server does not have it: it sees the link id and sizes. It cannot open an
answer, because of the box, or make one, because of the secret. Whoever sees the text can do the second, so it is good
for five minutes, the server takes one answer, and the owner's devices tell their people of every device that is linked.
"""

import hmac
import os
import re
from base64 import urlsafe_b64decode
from hashlib import sha256
from typing import Annotated, Literal, Self

import orjson
from attrs import field, frozen
from nacl.bindings import crypto_box_keypair, crypto_box_seal, crypto_box_seal_open, crypto_scalarmult_base
from nacl.exceptions import CryptoError

from ironwire.crypto.padding import padded_size
from ironwire.crypto.signing import PublicKey, public_key_from
from ironwire.e2e.content import KnownHead
from ironwire.errors import InvalidCertificate, InvalidId, InvalidLink, InvalidPublicKey
from ironwire.ids import ClientId, ConversationId, LinkName, Origin, PairId, parse_origin
from ironwire.limits import LINK_BYTES, LINK_SECONDS
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.devices.certificate import Certificate, decode_certificate
from ironwire.record import record
from ironwire.wire.base64url import from_base64url, to_base64url
from ironwire.wire.messages.fields import WIRE_KEY, Between, Pattern
from ironwire.wire.strict import Fault, strict_converter

VERSION = 1
_ID_BYTES = 16
_SECRET_BYTES = 16
_KEY_BYTES = 32
_MAC_BYTES = 32
_MAGIC = b"IWL1"
_CONTEXT = b"IronWire link v1\0"

_TEXT = re.compile(
    r"iwlink:1:([^\s]+):([A-Za-z0-9_-]{22}):([A-Za-z0-9_-]{43}):([A-Za-z0-9_-]{43}):([A-Za-z0-9_-]{22})", re.ASCII
)
_ANY_VERSION = re.compile(r"iwlink:[0-9]+:")

HistoryOffer = Literal["month", "all"]
"""The history that the owner device is going to send: of 30 days, or everything."""


# --- the text --------------------------------------------------------------------------------------------------------


@frozen
class LinkRequest:
    """What a new device shows. `box_key` is an X25519 key."""

    origin: Origin
    link_id: bytes
    device: PublicKey
    box_key: bytes
    secret: bytes = field(repr=False)

    @property
    def text(self) -> str:
        parts = (self.link_id, self.device.raw, self.box_key, self.secret)
        return ":".join(("iwlink", str(VERSION), self.origin, *map(to_base64url, parts)))

    @property
    def name(self) -> LinkName:
        """The name under which the server keeps the answer."""
        return LinkName(self.link_id.hex())

    def mac(self, box: bytes) -> bytes:
        origin = self.origin.encode()
        said = len(origin).to_bytes(2, "big") + origin + self.link_id + self.device.raw + self.box_key
        return hmac.digest(self.secret, _CONTEXT + said + box, "sha256")


def parse_link_text(text: str) -> LinkRequest:
    """The request in a text that was scanned or pasted.

    Raises:
        InvalidLink: it is none, or one of a newer version.
    """
    match = _TEXT.fullmatch("".join(text.split()))
    if match is None:
        if _ANY_VERSION.match(text.strip()) and not text.strip().startswith(f"iwlink:{VERSION}:"):
            raise InvalidLink("the new device uses a newer version: update this one first")
        raise InvalidLink("this is no text for linking a device: it begins with iwlink:1: and is pasted whole")
    try:
        link_id, device, box_key, secret = map(from_base64url, match.groups()[1:])
        request = LinkRequest(parse_origin(match[1]), link_id, public_key_from(device), box_key, secret)
    except (InvalidId, InvalidPublicKey) as error:
        raise InvalidLink(f"a part of the text for linking is damaged: it {error}") from None
    return request


# --- the answer ------------------------------------------------------------------------------------------------------


@record
class SelfConversation:
    """The conversation of a client's own devices, and its generation."""

    conversation: ConversationId
    generation: Annotated[int, Between(0, 2**32 - 1)]

    @classmethod
    def before_any(cls, client: ClientId) -> Self:
        """That of a client which has not begun a generation of it."""
        raw = bytes.fromhex(client)
        return cls(PairId("@" + sha256(b"IronWire 1:1\0" + raw + raw).hexdigest()[:32]), 0)


@record
class LinkOffer:
    """What the owner device tells the new one. `cert` is its certificate; `log` the newest entry of the device log,
    which has the new device; `history` what is going to come.
    """

    v: Annotated[int, Between(1, 10**6)]
    cert: Annotated[str, Pattern(r"[A-Za-z0-9_-]{140}", description="a certificate in base64url")]
    log: KnownHead
    own: SelfConversation = field(metadata={WIRE_KEY: "self"})
    history: HistoryOffer | None = None

    @classmethod
    def make(
        cls, certificate: Certificate, log: KnownHead, own: SelfConversation, history: HistoryOffer | None = None
    ) -> Self:
        return cls(VERSION, to_base64url(certificate.encode()), log, own, history)

    def certificate(self) -> Certificate:
        """Raises:
        InvalidCertificate: `cert` is none.
        """
        return decode_certificate(urlsafe_b64decode(self.cert))


_converter = strict_converter(is_open=True)


def answer_link(request: LinkRequest, offer: LinkOffer, origin: Origin) -> bytes:
    """The answer of an owner device, which the server at `origin` has as its client's.

    Raises:
        InvalidLink: the new device is at another server, or has made a text that nobody can answer.
    """
    if request.origin != origin:
        raise InvalidLink(f"the new device wants to be linked at {request.origin}, and this one is at {origin}")
    text = orjson.dumps(_converter.unstructure(offer))
    try:
        box = crypto_box_seal(text.ljust(padded_size(len(text))), request.box_key)
    except CryptoError:
        raise InvalidLink("the text for linking has a key that nothing can be encrypted for") from None
    return _MAGIC + request.mac(box) + box


@frozen
class PendingLink:
    """A new device that waits for its answer."""

    request: LinkRequest
    expires_ms: int
    _private_key: bytes = field(repr=False)

    @classmethod
    def begin(cls, origin: Origin, device: PublicKey, now_ms: int) -> Self:
        """A request of the device, good for five minutes from `now_ms`."""
        box_key, private_key = crypto_box_keypair()
        request = LinkRequest(origin, os.urandom(_ID_BYTES), device, box_key, os.urandom(_SECRET_BYTES))
        return cls(request, now_ms + LINK_SECONDS * 1000, private_key)

    def is_over(self, now_ms: int) -> bool:
        """Whether the text is to be shown no more."""
        return now_ms >= self.expires_ms

    def open(self, answer: bytes, now_ms: int) -> LinkOffer:
        """The offer in what the server says is the answer.

        Raises:
            InvalidLink: it is too late; or the answer was not made by somebody who saw the text, for this device.
        """
        if self.is_over(now_ms):
            raise InvalidLink("the five minutes for linking are over: begin again")
        mac, box = answer[len(_MAGIC) :][:_MAC_BYTES], answer[len(_MAGIC) + _MAC_BYTES :]
        if (
            len(answer) > LINK_BYTES
            or not answer.startswith(_MAGIC)
            or not hmac.compare_digest(mac, self.request.mac(box))
        ):
            raise InvalidLink("the answer does not come from a device that has seen this text: begin again")
        try:
            text = crypto_box_seal_open(box, crypto_scalarmult_base(self._private_key), self._private_key)
            offer = _converter.structure(orjson.loads(text), LinkOffer)
        except (CryptoError, ValueError):
            raise InvalidLink("the answer does not open: begin again") from None
        except Fault as fault:
            raise InvalidLink(f"in the answer, {fault.about('the whole')}") from None
        self._check(offer, now_ms)
        return offer

    def _check(self, offer: LinkOffer, now_ms: int) -> None:
        """The MAC says who wrote the offer; this, that a server which has it shown will not refuse the device."""
        if offer.v > VERSION:
            raise InvalidLink("the owner device uses a newer version: update this one first")
        try:
            certificate = offer.certificate()
            certificate.verify(self.request.device, now_ms)
        except InvalidCertificate as error:
            raise InvalidLink(f"the answer has a certificate for nobody here: {error}") from None
        if certificate.client.client_id != offer.log.client:
            raise InvalidLink("the answer has the certificate of one client and the device log of another")
        if offer.own.conversation != pair_id(offer.log.client, offer.log.client):
            raise InvalidLink("the answer names another conversation than that of the client with itself")
