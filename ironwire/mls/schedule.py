"""The key schedule: RFC 9420, sections 8 to 8.7."""

from collections.abc import Sequence
from typing import Self

from attrs import frozen

from ironwire.mls import suite
from ironwire.mls.codec import Opaque, Struct, opaque
from ironwire.mls.messages import GroupContext, PreSharedKeyId
from ironwire.mls.suite import HASH_BYTES, KEY_BYTES, NONCE_BYTES, derive_secret, expand_with_label, extract

ZERO = bytes(HASH_BYTES)
_LABELS = "sender data", "exporter", "external", "confirm", "membership", "resumption", "authentication", "init"


@frozen(repr=False)
class EpochSecrets(Struct):
    """Secrets derived from the secret of an epoch, but for the encryption secret, which goes into the secret tree."""

    sender_data: Opaque
    exporter: Opaque
    external: Opaque
    confirmation_key: Opaque
    membership_key: Opaque
    resumption_psk: Opaque
    authenticator: Opaque
    init: Opaque

    @classmethod
    def derive(cls, epoch: bytes) -> tuple[Self, bytes]:
        """The secrets, and the encryption secret."""
        return cls(*[derive_secret(epoch, label) for label in _LABELS]), derive_secret(epoch, "encryption")

    def confirmation_tag(self, context: GroupContext) -> bytes:
        """Section 6.1."""
        return suite.mac(self.confirmation_key, context.confirmed_transcript_hash)

    def export(self, label: str, context: bytes, size: int) -> bytes:
        """`MLS-Exporter` (section 8.5)."""
        return expand_with_label(derive_secret(self.exporter, label), "exported", suite.digest(context), size)


def joiner_secret(init: bytes, commit: bytes, context: GroupContext) -> bytes:
    return expand_with_label(extract(init, commit), "joiner", context.encode(), HASH_BYTES)


def epoch_secret(joiner: bytes, psk: bytes, context: GroupContext) -> bytes:
    return expand_with_label(extract(joiner, psk), "epoch", context.encode(), HASH_BYTES)


def welcome_key(joiner: bytes, psk: bytes) -> tuple[bytes, bytes]:
    """Key and nonce of the GroupInfo in a Welcome (section 12.4.3.1)."""
    welcome = derive_secret(extract(joiner, psk), "welcome")
    return expand_with_label(welcome, "key", b"", KEY_BYTES), expand_with_label(welcome, "nonce", b"", NONCE_BYTES)


def psk_secret(psks: Sequence[tuple[PreSharedKeyId, bytes]]) -> bytes:
    """Section 8.4."""
    secret = ZERO
    for index, (psk_id, psk) in enumerate(psks):
        label = psk_id.encode() + index.to_bytes(2, "big") + len(psks).to_bytes(2, "big")
        secret = extract(expand_with_label(extract(ZERO, psk), "derived psk", label, HASH_BYTES), secret)
    return secret


def confirmed_hash(interim: bytes, confirmed_input: bytes) -> bytes:
    """Section 8.2."""
    return suite.digest(interim + confirmed_input)


def interim_hash(confirmed: bytes, confirmation_tag: bytes) -> bytes:
    return suite.digest(confirmed + opaque(confirmation_tag))
