"""The messages between programs over the socket of a device (`handover.py`), each on a line of JSON.

    {"verb": "keep", "frames": ["<frame of docs/protocol.md, with an id>", …], "is_awaited": true}
    {"verb": "stored", "ids": […], "waiting": 3, "reason": ""}
    {"verb": "ask", "frame": "<frame>"}
    {"verb": "ask_terms", "to": "<client or group>"}
    {"verb": "give_history", "device": "<device key>", "since": 0}
    {"verb": "terms", "is_encrypted": true, "upload_bytes": 31457280}
    {"verb": "ask_code", "to": "<client or group>"}
    {"verb": "code", "digits": "<30 digits>"}
    {"verb": "answered", "frame": "<frame>"}
    {"verb": "failed", "kind": "ended", "detail": "removed", "code": 4403}

They are checked as strictly as frames are.
"""

from typing import Any, Literal

import orjson
from attrs import frozen

from ironwire.client import errors
from ironwire.client.sealed_files import FileTerms
from ironwire.e2e.bodies import DeviceKeyHex
from ironwire.ids import Address, MessageId
from ironwire.wire.messages.fields import UnixMs
from ironwire.wire.strict import Fault, strict_converter

_Kind = Literal["auth", "ended", "protocol", "connection", "store"]


@frozen
class Keep:
    """Send these, in their order; with or without an answer to each. Idempotent: a frame whose id the device has sent
    or queued before is not sent again. `inside` goes in the place of the only frame, encrypted: an object of
    docs/between-devices.md, section 11.2.
    """

    frames: list[str]
    is_awaited: bool
    inside: str | None = None


@frozen
class AskServer:
    """Ask the server a question."""

    frame: str


@frozen
class AskTerms:
    """Say how a file goes to a client or group."""

    to: Address


@frozen
class GiveHistory:
    """Give the own device with this key the messages since then: its person has said yes."""

    device: DeviceKeyHex
    since: UnixMs


@frozen
class AskCode:
    """Say the epoch code of a conversation."""

    to: Address


@frozen
class Code:
    """The code; None: the device is not in the conversation, or it is not encrypted."""

    digits: str | None = None


@frozen
class Stored:
    """These are kept. `waiting` messages have no answer yet; `reason` is why nothing is sent now, or empty."""

    ids: list[MessageId]
    waiting: int
    reason: str


@frozen
class Answered:
    """The server's answer."""

    frame: str


@frozen
class Failed:
    """There is no answer, for a reason of that kind."""

    kind: _Kind
    detail: str
    code: int = 0

    @classmethod
    def of(cls, error: errors.ClientError) -> "Failed":
        match error:
            case errors.AuthenticationRefused(reason):
                return cls("auth", reason)
            case errors.SessionEnded(code, reason):
                return cls("ended", reason, code)
            case errors.LocalStoreError():
                return cls("store", str(error))
            case errors.NotTheProtocol():
                return cls("protocol", str(error))
            case _:
                return cls("connection", str(error))

    def error(self) -> errors.ClientError:
        """The exception, as it was where it was raised."""
        match self.kind:
            case "auth":
                return errors.AuthenticationRefused(self.detail)
            case "ended":
                return errors.SessionEnded(self.code, self.detail)
            case "store":
                return errors.LocalStoreError(self.detail)
            case "protocol":
                return errors.NotTheProtocol(self.detail)
            case "connection":
                return errors.ConnectionFailed(self.detail)


Line = Keep | AskServer | AskTerms | GiveHistory | FileTerms | AskCode | Code | Stored | Answered | Failed

_VERBS: dict[str, type[Any]] = {
    "keep": Keep,
    "ask": AskServer,
    "ask_terms": AskTerms,
    "give_history": GiveHistory,
    "terms": FileTerms,
    "ask_code": AskCode,
    "code": Code,
    "stored": Stored,
    "answered": Answered,
    "failed": Failed,
}
_NAMES = {kind: verb for verb, kind in _VERBS.items()}
_converter = strict_converter()


def encode_line(line: Line) -> bytes:
    return orjson.dumps({"verb": _NAMES[type(line)], **_converter.unstructure(line)}) + b"\n"


def decode_line(text: bytes) -> Line:
    try:
        said = orjson.loads(text)
        line: Line = _converter.structure(said, _VERBS[said.pop("verb")])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise errors.NotTheProtocol(
            f"not a line of the device's socket: its verb is one of {', '.join(_VERBS)}"
        ) from None
    except Fault as fault:
        raise errors.NotTheProtocol(fault.about("the line")) from None
    return line
