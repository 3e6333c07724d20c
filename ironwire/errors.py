"""The exceptions of IronWire.

    IronWireError
    ├── InvalidId              a malformed client id, device id, ... (ids)
    ├── WireError              malformed input from a peer
    │   ├── InvalidMessage     one frame's content: answered with `error invalid`, the session goes on
    │   └── FrameViolation     the frame layer itself: the connection closes with `code`
    ├── SigningError           an invalid key or signature, or a statement that should have had a good one
    │   ├── InvalidPublicKey
    │   ├── InvalidSignature
    │   ├── InvalidCertificate
    │   └── InvalidLogEntry    of a device log
    │       └── MisplacedLogEntry
    ├── MLSError               what a peer sent, or what was asked, breaks RFC 9420; nothing was changed
    ├── TransportClosed        the peer is gone
    ├── StoreError             the durable store has failed
    │   ├── StoreFull          there is no room left on the disk
    │   └── BackupError        a backup cannot be made, or is not a whole one
    ├── AdminError             a request of the operator has failed
    ├── ConfigError            an invalid setting
    ├── NoHome                 the user has no home folder
    ├── E2EError               what another device wrote, or a person typed, is not what it should be (`ironwire.e2e`)
    │   ├── InvalidFile        an encrypted file
    │   ├── InvalidContent     the inside of a message
    │   │   └── UpdateNeeded   it is of a newer version
    │   ├── InvalidRecoveryCode
    │   ├── InvalidBackup
    │   ├── InvalidArchive
    │   └── InvalidLink        a text that links a device, or the answer to it
    └── ClientError            errors of the client library: see `ironwire.client.errors`

A `WireError` is always the peer's fault. No message of these exceptions carries a key, a token or a message body.
"""

from attrs import frozen

from ironwire.close_codes import CloseCode


class IronWireError(Exception):
    """The root of the tree."""


class InvalidId(IronWireError, ValueError):
    """A string is not a valid identifier."""


class WireError(IronWireError):
    """A peer violated the protocol."""


@frozen(slots=False)
class InvalidMessage(WireError):
    """One frame does not hold a message of the protocol (section 1).

    `detail` names the field for people; `id` and `n` are the frame's own where they could be read, so that the reply
    can carry the one, and the other is used up.
    """

    detail: str
    id: str | None = None
    n: int | None = None

    def __str__(self) -> str:
        return self.detail


class UnknownVerb(InvalidMessage):
    """A message of a newer protocol: a client ignores it."""


@frozen(slots=False)
class FrameViolation(WireError):
    """The byte stream broke RFC 6455 or a limit: close with `code` and `reason`."""

    code: CloseCode
    reason: str

    def __str__(self) -> str:
        return f"{self.code} {self.reason}"


class SigningError(IronWireError):
    """A key or a signature is invalid."""


class InvalidPublicKey(SigningError):
    """The bytes do not encode an acceptable Ed25519 public key."""


class InvalidSignature(SigningError):
    """The signature was not made by that key over that text."""


class InvalidCertificate(SigningError):
    """The bytes are no certificate, or not one for that device at that time."""


class InvalidLogEntry(SigningError):
    """The bytes are no entry of that client's device log, or the log forbids the change."""


class MisplacedLogEntry(InvalidLogEntry):
    """The entry is a good one, and does not follow on the last one of the log."""


class MLSError(IronWireError):
    """Bytes or a request that RFC 9420 does not allow. The group stands as it did before."""


class TransportClosed(IronWireError):
    """The peer closed the connection, or it broke."""


class StoreError(IronWireError):
    """The durable store cannot do what was asked; nothing was accepted."""


class StoreFull(StoreError):
    """The disk or the quota of the store is full; stored data is intact and readable."""


class BackupError(StoreError):
    """A backup cannot be made, is incomplete, or cannot be restored; existing data is unchanged."""


class AdminError(IronWireError):
    """A server did not carry out a request of its operator."""


class ConfigError(IronWireError):
    """Settings cannot be used. Each argument is one fault: it names the key, the value and what is allowed."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class NoHome(IronWireError):
    """A file in the home folder is needed, and the user has none."""


class E2EError(IronWireError):
    """What only devices read cannot be read. The server could not have known."""


class InvalidFile(E2EError):
    """An encrypted file was cut or changed, or is not the one that was sent."""


class InvalidContent(E2EError):
    """The inside of a message is not of this protocol."""


class UpdateNeeded(InvalidContent):
    """The inside of a message is of a newer version of the protocol, or of a kind that this version does not know."""


class InvalidRecoveryCode(E2EError, ValueError):
    """A recovery code was mistyped."""


class InvalidBackup(E2EError):
    """A backup does not open with this recovery code, or was changed."""


class InvalidArchive(E2EError):
    """A part of an archived history cannot be read."""


class InvalidLink(E2EError):
    """A text that links a device is not one, or the answer to it was not made for it."""


class ClientError(IronWireError):
    """The client library could not do what was asked."""
