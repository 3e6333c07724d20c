"""The certificate of a device: its client's identity key says whose the device key is.

    01 ‖ client id (32) ‖ not_after (u64) ‖ signature (64)
    signature = Ed25519 of the identity key over "IronWire device v1\\0" ‖ device key (32) ‖ not_after (u64)

Integers are big-endian. The device key is not in it: it stands wherever the certificate is used, and a certificate
verifies for one device key only. The same 105 bytes are the credential of the device in MLS groups.
"""

from typing import Final

from attrs import frozen

from ironwire.crypto.signing import KEY_BYTES, SIGNATURE_BYTES, Identity, PublicKey, public_key_from
from ironwire.errors import InvalidCertificate, InvalidPublicKey, InvalidSignature

CERTIFICATE_BYTES: Final = 105
NEVER_MS: Final = 2**53 - 1
"""A certificate ends by a `remove` in the device log. A date would unlink people whose phone was off."""

_VERSION = b"\x01"
_CONTEXT = b"IronWire device v1\0"
_CLIENT_END = 1 + KEY_BYTES
_DATE_END = _CLIENT_END + 8


@frozen
class Certificate:
    """Says that a device belongs to `client`. Rule: nothing follows from it before `verify`."""

    client: PublicKey
    not_after_ms: int
    signature: bytes

    def encode(self) -> bytes:
        return b"".join((_VERSION, self.client.raw, self.not_after_ms.to_bytes(8, "big"), self.signature))

    def verify(self, device: PublicKey, now_ms: int) -> None:
        """Raises:
        InvalidCertificate: it was not made by `client` for this device, or has ended.
        """
        if now_ms > self.not_after_ms:
            raise InvalidCertificate("the certificate has ended")
        try:
            self.client.verify(_signed_text(device, self.not_after_ms), self.signature)
        except InvalidSignature:
            raise InvalidCertificate("the client did not certify this device key") from None


def issue_certificate(identity: Identity, device: PublicKey, not_after_ms: int = NEVER_MS) -> Certificate:
    """A certificate for a device of the identity's client."""
    return Certificate(identity.public_key, not_after_ms, identity.sign(_signed_text(device, not_after_ms)))


def decode_certificate(data: bytes) -> Certificate:
    """Raises:
    InvalidCertificate: the bytes are no certificate of this version.
    """
    if len(data) != CERTIFICATE_BYTES or not data.startswith(_VERSION):
        raise InvalidCertificate(f"a certificate is {CERTIFICATE_BYTES} bytes, the first of them 01")
    not_after_ms = int.from_bytes(data[_CLIENT_END:_DATE_END], "big")
    if not_after_ms > NEVER_MS:
        raise InvalidCertificate("a certificate ends at a time below 2^53")
    try:
        client = public_key_from(data[1:_CLIENT_END])
    except InvalidPublicKey as error:
        raise InvalidCertificate(f"the client of the certificate is {error}") from None
    return Certificate(client, not_after_ms, data[_DATE_END : _DATE_END + SIGNATURE_BYTES])


def _signed_text(device: PublicKey, not_after_ms: int) -> bytes:
    return _CONTEXT + device.raw + not_after_ms.to_bytes(8, "big")
