"""Everything that the client library raises.

    ClientError
    ├── InvalidServerAddress   what was typed is not the address of a server
    ├── KeystoreError          the identity file cannot be used: permissions, passphrase, damage
    ├── DeviceLogDisputed      a server shows another device log of this client than the one that is known here
    ├── LocalStoreError        the device's own store cannot be used: the disk is full, damage
    │   └── DeviceInUse        another program has it
    ├── ConnectionFailed       no session could be opened; trying again may help
    ├── ConnectionLost         a session broke; trying again helps, and `Client` does so by itself
    ├── NotTheProtocol         whatever answered is not an IronWire server of this protocol: trying again does not help
    ├── AuthenticationRefused  the server does not accept this identity (close code 1008)
    ├── SessionEnded           the server closed with a code that means "stop" (docs/protocol.md, section 6)
    ├── Refused                the server answered one request with `error`; the session goes on
    ├── TransferFailed         an upload or a download did not happen; no half of a file is left behind
    ├── CallFailed             a call did not come about, or no sound got through
    └── MediaError             a file cannot be sent as a voice message, a circle or a picture

Each message says what happened and, where there is something to do, what.
"""

from pathlib import Path

from attrs import frozen

from ironwire.close_codes import CloseCode
from ironwire.errors import ClientError
from ironwire.ids import Address
from ironwire.wire.messages import ErrorCode


def _why(code: int, reason: str) -> str:
    """The server's own words, for people; the number only where there are none."""
    if reason:
        return f" ({reason})"
    return "" if code == CloseCode.NO_CLOSE_FRAME else f" (close code {code})"


class InvalidServerAddress(ClientError, ValueError):
    """Not a place where a server can be."""


class KeystoreError(ClientError):
    """The identity file cannot be read, unlocked or written."""


class DeviceLogDisputed(ClientError):
    """Entries of this client's device log contradict each other: somebody else signs with its key. Both are kept."""


class LocalStoreError(ClientError):
    """The file in which a device keeps its messages cannot be opened, read or written."""


@frozen(slots=False)
class DeviceInUse(LocalStoreError):
    """Another program has the device's file open. `pid` is that of the process, where it said so."""

    path: Path
    pid: int | None

    def __str__(self) -> str:
        which = "another program" if self.pid is None else f"another program (process {self.pid})"
        return f"{self.path} is in use by {which}, which alone takes what comes: end it, or name another device"


class ConnectionFailed(ClientError):
    """The server could not be reached, or did not answer in time."""


@frozen(slots=False)
class ConnectionLost(ClientError):
    """The connection ended with a close code after which one reconnects; 1006 stands for none.

    `spread_seconds` is the time over which the server asks its clients to spread their return, if it does.
    """

    code: int
    reason: str
    spread_seconds: float | None = None

    def __str__(self) -> str:
        if self.code == CloseCode.RESTART:
            # Its reason is a number for programs.
            return "the server restarts"
        return f"the connection was lost{_why(self.code, self.reason)}"


class NotTheProtocol(ClientError):
    """The other side answers, but not as an IronWire server."""


@frozen(slots=False)
class AuthenticationRefused(ClientError):
    """The server does not let this identity in; `reason` is its own word for why."""

    reason: str

    def __str__(self) -> str:
        return f"the server refused the identity: {self.reason}"


@frozen(slots=False)
class SessionEnded(ClientError):
    """The session is over and must not be opened again by itself; `code` is a close code of section 6."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"the session is over{_why(self.code, self.reason)}"


@frozen(slots=False)
class Refused(ClientError):
    """The server answered `error` to one message. Nothing was accepted."""

    code: ErrorCode
    detail: str | None = None
    user: Address | None = None
    retry_after_ms: int | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


@frozen(slots=False)
class TransferFailed(ClientError):
    """A file did not get across. `status` is the HTTP status where there was an answer."""

    detail: str
    status: int | None = None

    def __str__(self) -> str:
        return self.detail if self.status is None else f"{self.detail} (HTTP status {self.status})"


class CallFailed(ClientError):
    """There is no call: nobody took it, it ended before it began, or the two sides cannot reach each other."""


class MediaError(ClientError):
    """A file is not what it was to be sent as."""


__all__ = [
    "AuthenticationRefused",
    "CallFailed",
    "ClientError",
    "ConnectionFailed",
    "ConnectionLost",
    "DeviceInUse",
    "DeviceLogDisputed",
    "InvalidServerAddress",
    "KeystoreError",
    "LocalStoreError",
    "MediaError",
    "NotTheProtocol",
    "Refused",
    "SessionEnded",
    "TransferFailed",
]
