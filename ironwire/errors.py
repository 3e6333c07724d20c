"""Every exception that IronWire raises on purpose.

    IronWireError
    ├── InvalidId              a client id, device id, ... that is not one (ids)
    ├── WireError              what a peer sent cannot be understood
    │   ├── InvalidMessage     one frame's content: answered with `error invalid`, the session goes on
    │   └── FrameViolation     the frame layer itself: the connection closes with `code`
    ├── SigningError           a key or a signature that is not valid
    │   ├── InvalidPublicKey
    │   └── InvalidSignature
    ├── MLSError               what a peer sent, or what was asked, breaks RFC 9420; nothing was changed
    ├── TransportClosed        the peer is gone
    ├── StoreError             the durable store cannot do what was asked
    │   ├── StoreFull          there is no room left on the disk
    │   └── BackupError        a backup cannot be made, or is not a whole one
    ├── AdminError             a running server did not do what its operator asked
    ├── ConfigError            a setting that cannot be used
    ├── NoHome                 a file of this user is looked for, who has no home folder
    └── ClientError            everything that the client library raises: see `ironwire.client.errors`

A `WireError` is always the peer's doing. None of these messages carries a key, a token or the body of a message.
"""

from attrs import frozen

from ironwire.close_codes import CloseCode


class IronWireError(Exception):
    """The root of the tree."""


class InvalidId(IronWireError, ValueError):
    """A string is not the identifier it was given as."""


class WireError(IronWireError):
    """A peer sent what the protocol does not allow."""


@frozen(slots=False)
class InvalidMessage(WireError):
    """One frame does not hold a message of the protocol (section 1).

    `detail` names the field for people; `id` is the frame's own id where it could be read, so that the reply can
    carry it.
    """

    detail: str
    id: str | None = None

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
    """A key or a signature is not valid."""


class InvalidPublicKey(SigningError):
    """Not the encoding of an Ed25519 public key that may be used."""


class InvalidSignature(SigningError):
    """The signature was not made by that key over that text."""


class MLSError(IronWireError):
    """Bytes or a request that RFC 9420 does not allow. The group stands as it did before."""


class TransportClosed(IronWireError):
    """The peer closed the connection, or it broke."""


class StoreError(IronWireError):
    """The durable store cannot do what was asked; nothing was accepted."""


class StoreFull(StoreError):
    """There is no room left where the store writes; what stands there is whole, and it can still be read."""


class BackupError(StoreError):
    """A backup cannot be made, is not whole, or cannot be put back; nothing that stood there before was changed."""


class AdminError(IronWireError):
    """A server that runs did not do what its operator asked."""


class ConfigError(IronWireError):
    """Settings cannot be used. Each argument is one fault: it names the key, the value and what is allowed."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class NoHome(IronWireError):
    """A file of this user is looked for, and the user has no home folder."""


class ClientError(IronWireError):
    """The client library could not do what was asked."""
