"""One class per verb and direction: the messages of clients, and those of the server.

A message is the content of a frame's `payload`. `id`, `n` and `seq` stand beside the payload; they belong to the frame,
and `codec.py` passes them beside the message. docs/protocol.md is the law; `docs/schema/` is generated from these
classes.
"""

from typing import get_args

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
    DeviceRemove,
    DeviceRemoved,
    Devices,
    Gap,
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

ClientMessage = (
    Auth
    | Verify
    | Text
    | File
    | Ack
    | Receipt
    | Devices
    | DeviceRemove
    | History
    | GroupCreate
    | GroupAdd
    | GroupRemove
    | GroupLeave
    | GroupRole
    | GroupRename
    | GroupInfo
    | Groups
    | Typing
    | Presence
    | PresenceAllow
    | PresenceWatch
    | Block
    | Unblock
    | Blocks
    | CallOffer
    | CallRinging
    | CallAnswer
    | CallCandidate
    | CallUpdate
    | CallEnd
    | IceServers
    | UploadToken
    | Resume
    | Ping
)

ServerMessage = (
    AuthChallenge
    | AuthOk
    | DeliveredText
    | DeliveredFile
    | DeliveredReceipt
    | GroupChanged
    | Accepted
    | Error
    | CaughtUp
    | Gap
    | DeviceList
    | DeviceRemoved
    | HistoryPage
    | GroupDetails
    | GroupList
    | RelayedTyping
    | PresenceUpdate
    | BlockList
    | RelayedOffer
    | RelayedRinging
    | RelayedAnswer
    | RelayedCandidate
    | RelayedUpdate
    | RelayedResumed
    | RelayedEnd
    | IceServerList
    | UploadGrant
    | Pong
)

DELIVERIES = (DeliveredText, DeliveredFile, DeliveredReceipt, GroupChanged)
"""Messages that a mailbox delivers, numbered by the frame's `seq`."""

NUMBERED = (Text, File, Receipt)
"""What a device may number by the frame's `n`."""

CLIENT_MESSAGES: tuple[type[ClientMessage], ...] = get_args(ClientMessage)
SERVER_MESSAGES: tuple[type[ServerMessage], ...] = get_args(ServerMessage)

__all__ = [
    "CLIENT_MESSAGES",
    "DELIVERIES",
    "NUMBERED",
    "SERVER_MESSAGES",
    "WIRE_KEY",
    "Accepted",
    "Ack",
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
