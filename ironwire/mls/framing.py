"""How content is signed, tagged, encrypted and enveloped: RFC 9420, sections 6 to 6.3."""

from typing import Annotated, Self

from attrs import frozen

from ironwire.crypto.padding import padded_size
from ironwire.crypto.signing import Identity
from ironwire.errors import MLSError
from ironwire.mls import messages as msg
from ironwire.mls import suite
from ironwire.mls.codec import U16, U64, Cursor, Opaque, Select, Struct, need, opaque
from ironwire.mls.nodes import KeyPackage
from ironwire.mls.secret_tree import SecretTree
from ironwire.mls.suite import KEY_BYTES, NONCE_BYTES, VERSION

PUBLIC, PRIVATE = 1, 2
"""Wire formats that content is signed for."""
_SAMPLE_BYTES = 32
_GUARD_BYTES = 4
_LABEL = "FramedContentTBS"


@frozen
class FramedContent(Struct):
    group_id: Opaque
    epoch: U64
    sender: msg.AnySender
    authenticated_data: Opaque
    content: Annotated[msg.Content, msg.CONTENTS]

    @property
    def member(self) -> int:
        """The sender's leaf.

        Raises:
            MLSError: it is not sent by a member.
        """
        if not isinstance(self.sender, msg.MemberSender):
            raise MLSError("a message of somebody who is no member")
        return self.sender.leaf


@frozen
class FramedContentAuth(Struct):
    """A signature, and the confirmation tag that commits alone have. Its encoding depends on the content."""

    signature: Opaque
    confirmation_tag: bytes | None = None

    def encode(self) -> bytes:
        return opaque(self.signature) + (b"" if self.confirmation_tag is None else opaque(self.confirmation_tag))

    @classmethod
    def read_for(cls, content: msg.Content, cursor: Cursor) -> Self:
        return cls(cursor.opaque(), cursor.opaque() if isinstance(content, msg.Commit) else None)


@frozen
class AuthenticatedContent:
    """Content with its authentication, as it is hashed and referred to, in whatever envelope it came."""

    wire_format: int
    content: FramedContent
    auth: FramedContentAuth

    @classmethod
    def sign(
        cls,
        key: Identity,
        wire_format: int,
        content: FramedContent,
        context: msg.GroupContext,
        tag: bytes | None = None,
    ) -> Self:
        signed = to_be_signed(wire_format, content, context)
        return cls(wire_format, content, FramedContentAuth(suite.sign_with_label(key, _LABEL, signed), tag))

    def encode(self) -> bytes:
        return self.wire_format.to_bytes(2, "big") + self.content.encode() + self.auth.encode()

    def verify(self, key: bytes, context: msg.GroupContext) -> None:
        """Raises:
        MLSError: the signature was not made by `key` in this epoch.
        """
        signed = to_be_signed(self.wire_format, self.content, context)
        suite.verify_with_label(key, _LABEL, signed, self.auth.signature)

    def confirmed_hash_input(self) -> bytes:
        """The part of a commit that goes into the confirmed transcript hash (section 8.2)."""
        return self.wire_format.to_bytes(2, "big") + self.content.encode() + opaque(self.auth.signature)


def to_be_signed(wire_format: int, content: FramedContent, context: msg.GroupContext) -> bytes:
    """Section 6.1."""
    signed = VERSION.to_bytes(2, "big") + wire_format.to_bytes(2, "big") + content.encode()
    return signed + context.encode() if isinstance(content.sender, msg.MemberSender | msg.NewMemberCommit) else signed


# --- public messages (section 6.2) -----------------------------------------------------------------------------------


@frozen
class PublicMessage(Struct):
    content: FramedContent
    auth: FramedContentAuth
    membership_tag: bytes | None

    def encode(self) -> bytes:
        tag = b"" if self.membership_tag is None else opaque(self.membership_tag)
        return self.content.encode() + self.auth.encode() + tag

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        content = FramedContent.read(cursor)
        auth = FramedContentAuth.read_for(content.content, cursor)
        return cls(content, auth, cursor.opaque() if isinstance(content.sender, msg.MemberSender) else None)

    @property
    def authenticated(self) -> AuthenticatedContent:
        return AuthenticatedContent(PUBLIC, self.content, self.auth)

    def verify_membership(self, membership_key: bytes, context: msg.GroupContext) -> None:
        """Raises:
        MLSError: it was not sent by somebody who knows the secrets of this epoch.
        """
        expected = _membership_tag(self.authenticated, membership_key, context)
        need(suite.same(expected, self.membership_tag or b""), "the membership tag is wrong")


def protect_public(message: AuthenticatedContent, membership_key: bytes, context: msg.GroupContext) -> PublicMessage:
    return PublicMessage(message.content, message.auth, _membership_tag(message, membership_key, context))


def _membership_tag(message: AuthenticatedContent, membership_key: bytes, context: msg.GroupContext) -> bytes:
    return suite.mac(membership_key, to_be_signed(PUBLIC, message.content, context) + message.auth.encode())


# --- private messages (section 6.3) ----------------------------------------------------------------------------------


def protect_private(
    message: AuthenticatedContent, sender_data_secret: bytes, secrets: SecretTree
) -> tuple[msg.PrivateMessage, SecretTree]:
    """The message, and the secret tree without the key that it took."""
    content = message.content
    leaf, kind = content.member, msg.CONTENTS.tag(content.content)
    generation = secrets.next_generation(leaf, kind)
    key, nonce, secrets = secrets.take(leaf, kind, generation)
    guard = suite.random(_GUARD_BYTES)
    plaintext = content.content.encode() + message.auth.encode()
    plaintext += bytes(padded_size(len(plaintext)) - len(plaintext))
    head = opaque(content.group_id) + content.epoch.to_bytes(8, "big") + bytes([kind])
    ciphertext = suite.seal(key, _guarded(nonce, guard), head + opaque(content.authenticated_data), plaintext)
    key, nonce = sender_data_key(sender_data_secret, ciphertext)
    sender = suite.seal(key, nonce, head, msg.SenderData(leaf, generation, guard).encode())
    message_parts = (content.group_id, content.epoch, kind, content.authenticated_data, sender, ciphertext)
    return msg.PrivateMessage(*message_parts), secrets


def unprotect_private(
    message: msg.PrivateMessage, sender_data_secret: bytes, secrets: SecretTree
) -> tuple[AuthenticatedContent, SecretTree]:
    """The content, whose signature is still to be verified, and the secret tree to keep once it is.

    Raises:
        MLSError: the message does not open, or was opened before.
    """
    head = opaque(message.group_id) + message.epoch.to_bytes(8, "big") + bytes([message.content_type])
    key, nonce = sender_data_key(sender_data_secret, message.ciphertext)
    sender = msg.SenderData.decode(suite.unseal(key, nonce, head, message.encrypted_sender_data))
    key, nonce, secrets = secrets.take(sender.leaf, message.content_type, sender.generation)
    associated = head + opaque(message.authenticated_data)
    cursor = Cursor.over(suite.unseal(key, _guarded(nonce, sender.reuse_guard), associated, message.ciphertext))
    content: msg.Content = msg.CONTENTS.case(message.content_type).read(cursor)  # type: ignore[assignment]  # a case of CONTENTS
    auth = FramedContentAuth.read_for(content, cursor)
    need(not any(cursor.rest()), "padding that is not zero")
    framed = FramedContent(
        message.group_id, message.epoch, msg.MemberSender(sender.leaf), message.authenticated_data, content
    )
    return AuthenticatedContent(PRIVATE, framed, auth), secrets


def sender_data_key(secret: bytes, ciphertext: bytes) -> tuple[bytes, bytes]:
    """Section 6.3.2."""
    sample = ciphertext[:_SAMPLE_BYTES]
    key = suite.expand_with_label(secret, "key", sample, KEY_BYTES)
    return key, suite.expand_with_label(secret, "nonce", sample, NONCE_BYTES)


def _guarded(nonce: bytes, guard: bytes) -> bytes:
    start = bytes(one ^ other for one, other in zip(nonce, guard, strict=False))
    return start + nonce[_GUARD_BYTES:]


# --- the envelope of every message (section 6) -----------------------------------------------------------------------

_BODIES = Select(2, {1: PublicMessage, 2: msg.PrivateMessage, 3: msg.Welcome, 4: msg.MLSGroupInfo, 5: KeyPackage})
Body = PublicMessage | msg.PrivateMessage | msg.Welcome | msg.MLSGroupInfo | KeyPackage


@frozen
class MLSMessage(Struct):
    version: U16
    body: Annotated[Body, _BODIES]


def envelope(body: Body) -> bytes:
    return MLSMessage(VERSION, body).encode()


def open_envelope(data: bytes) -> Body:
    """Raises:
    MLSError: `data` is not one message of this version.
    """
    message = MLSMessage.decode(data)
    need(message.version == VERSION, "a message of another version")
    return message.body
