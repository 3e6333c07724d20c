"""One class per verb and direction, in a module of its subject; it declares all that is particular to the verb.

A message is the content of a frame's `payload`. `id`, `n` and `seq` stand beside the payload; they belong to the frame,
and `codec.py` passes them beside the message. docs/protocol.md is the law; `docs/schema/` is generated from these
classes.
"""

from typing import TypeVar

from ironwire.wire.messages import calls, devices, envelopes, groups, presence, session, uploads
from ironwire.wire.messages.base import Answer, ClientMessage, ServerMessage
from ironwire.wire.messages.calls import (
    CallAnswer,
    CallCandidate,
    CallEnd,
    CallOffer,
    CallRinging,
    CallUpdate,
    Candidate,
    IceServer,
    IceServerList,
    IceServers,
    RelayedAnswer,
    RelayedCandidate,
    RelayedEnd,
    RelayedOffer,
    RelayedResumed,
    RelayedRinging,
    RelayedUpdate,
)
from ironwire.wire.messages.devices import (
    Ack,
    CaughtUp,
    Device,
    DeviceList,
    DeviceLogAppend,
    DeviceLogChanged,
    DeviceLogPage,
    DeviceLogRead,
    DeviceRemove,
    DeviceRemoved,
    Devices,
    Gap,
    LoggedEntry,
)
from ironwire.wire.messages.envelopes import (
    ArchivedEnvelope,
    DeliveredFile,
    DeliveredReceipt,
    DeliveredText,
    File,
    History,
    HistoryPage,
    Receipt,
    Text,
)
from ironwire.wire.messages.fields import (
    WIRE_KEY,
    ErrorCode,
    FileKind,
    Milliseconds,
    Pixels,
    ReceiptState,
    ShortText,
    Waveform,
    wire_key,
)
from ironwire.wire.messages.groups import (
    GroupAdd,
    GroupChanged,
    GroupCreate,
    GroupDetails,
    GroupInfo,
    GroupLeave,
    GroupList,
    GroupMember,
    GroupRemove,
    GroupRename,
    GroupRole,
    Groups,
    GroupSummary,
)
from ironwire.wire.messages.presence import (
    Block,
    BlockList,
    Blocks,
    Presence,
    PresenceAllow,
    PresenceUpdate,
    PresenceWatch,
    RelayedTyping,
    Typing,
    Unblock,
)
from ironwire.wire.messages.session import (
    Accepted,
    Auth,
    AuthChallenge,
    AuthOk,
    Error,
    Ping,
    Pong,
    RefusedNumbers,
    Resume,
    ServerLimits,
    Verify,
)
from ironwire.wire.messages.uploads import UploadGrant, UploadToken

Direction = TypeVar("Direction", ClientMessage, ServerMessage)


def _declared(direction: type[Direction]) -> tuple[type[Direction], ...]:
    """The classes of one direction, in the order in which the modules of their subjects declare them."""
    subjects = (session, envelopes, devices, groups, presence, calls, uploads)
    return tuple(
        kind
        for subject in subjects
        for kind in vars(subject).values()
        if isinstance(kind, type) and issubclass(kind, direction) and kind.__module__ == subject.__name__
    )


CLIENT_MESSAGES = _declared(ClientMessage)
SERVER_MESSAGES = _declared(ServerMessage)

DELIVERIES = (DeliveredText, DeliveredFile, DeliveredReceipt, GroupChanged, DeviceLogChanged)
"""Messages that a mailbox delivers, numbered by the frame's `seq`."""

NUMBERED = (Text, File, Receipt)
"""Envelopes that a device may number by the frame's `n`."""

__all__ = [
    "CLIENT_MESSAGES",
    "DELIVERIES",
    "NUMBERED",
    "SERVER_MESSAGES",
    "WIRE_KEY",
    "Accepted",
    "Ack",
    "Answer",
    "ArchivedEnvelope",
    "Auth",
    "AuthChallenge",
    "AuthOk",
    "Block",
    "BlockList",
    "Blocks",
    "CallAnswer",
    "CallCandidate",
    "CallEnd",
    "CallOffer",
    "CallRinging",
    "CallUpdate",
    "Candidate",
    "CaughtUp",
    "ClientMessage",
    "DeliveredFile",
    "DeliveredReceipt",
    "DeliveredText",
    "Device",
    "DeviceList",
    "DeviceLogAppend",
    "DeviceLogChanged",
    "DeviceLogPage",
    "DeviceLogRead",
    "DeviceRemove",
    "DeviceRemoved",
    "Devices",
    "Error",
    "ErrorCode",
    "File",
    "FileKind",
    "Gap",
    "GroupAdd",
    "GroupChanged",
    "GroupCreate",
    "GroupDetails",
    "GroupInfo",
    "GroupLeave",
    "GroupList",
    "GroupMember",
    "GroupRemove",
    "GroupRename",
    "GroupRole",
    "GroupSummary",
    "Groups",
    "History",
    "HistoryPage",
    "IceServer",
    "IceServerList",
    "IceServers",
    "LoggedEntry",
    "Milliseconds",
    "Ping",
    "Pixels",
    "Pong",
    "Presence",
    "PresenceAllow",
    "PresenceUpdate",
    "PresenceWatch",
    "Receipt",
    "ReceiptState",
    "RefusedNumbers",
    "RelayedAnswer",
    "RelayedCandidate",
    "RelayedEnd",
    "RelayedOffer",
    "RelayedResumed",
    "RelayedRinging",
    "RelayedTyping",
    "RelayedUpdate",
    "Resume",
    "ServerLimits",
    "ServerMessage",
    "ShortText",
    "Text",
    "Typing",
    "Unblock",
    "UploadGrant",
    "UploadToken",
    "Verify",
    "Waveform",
    "wire_key",
]
