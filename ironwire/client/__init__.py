'''The client library: an identity, a connection that comes back by itself, files up and down.

    async def echo(server: str, key: Path) -> None:
        """Answer every text with itself, for ever."""
        identity = load_identity(key)
        async with connect(server, identity) as client:
            async for event in client:
                match event:
                    case Received(DeliveredText(sender, text)):
                        await client.send_text(sender, text)
                    case Disconnected(reason, retry_seconds):
                        print(f"{reason}; the next attempt in {retry_seconds:.0f} s")

Every error is a branch of `ClientError`, drawn in `ironwire.client.errors`. Callers own deadlines: `trio.fail_after`
around the call.

`connect(server, identity, device=DeviceId("phone"))` makes it a device: nothing is lost while the program is away.
`open_device` does not wait for a server: conversations can be read, and messages be queued, without one.
`client.groups`, `client.presence` and `client.calls` hold what their names say. A text goes to a group as to a client.

Programs import from here and from nowhere below; docs/client.md explains every name.
'''

from ironwire.client.calls import OwnCalls
from ironwire.client.client import Client
from ironwire.client.connection.dial import Backoff
from ironwire.client.connection.outgoing import new_message_id
from ironwire.client.connection.urls import ServerAddress
from ironwire.client.device_log import OwnDeviceLog
from ironwire.client.errors import (
    AuthenticationRefused,
    CallFailed,
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    DeviceInUse,
    DeviceLogDisputed,
    InvalidServerAddress,
    KeystoreError,
    LocalStoreError,
    MediaError,
    NotTheProtocol,
    Refused,
    SessionEnded,
    TransferFailed,
)
from ironwire.client.events import (
    Connected,
    Connection,
    DeviceRenewed,
    Disconnected,
    Event,
    HistoryProgress,
    Lost,
    Missed,
    Queued,
    Received,
    Settled,
)
from ironwire.client.groups import OwnGroups
from ironwire.client.messages import OwnMessages
from ironwire.client.opening import connect, open_device
from ironwire.client.own_history import OwnHistory
from ironwire.client.passing import Progress
from ironwire.client.presence import OwnPresence
from ironwire.client.sealed_files import FileTerms, as_file_message, file_link, parse_file_link, sealed_file
from ironwire.client.store.amendments import Amendment
from ironwire.client.store.device_keys import DeviceKeys, KeptLog, open_device_keys, open_log
from ironwire.client.store.device_owner import DeviceOwner, OwnerGone
from ironwire.client.store.handover_lines import Stored
from ironwire.client.store.keystore import (
    Account,
    LinkedDevice,
    create_identity,
    keep_account,
    load_account,
    load_identity,
    read_client_id,
    read_linked_device,
)
from ironwire.client.store.reading import read_everything, read_history
from ironwire.client.store.records import (
    Conversation,
    HistoryEntry,
    Owner,
    Said,
    Sendable,
    conversation_of,
    default_store_path,
)
from ironwire.client.store.sealed import StoreKey
from ironwire.client.store.store import LocalStore
from ironwire.client.transfer import (
    Downloaded,
    FileDescription,
    FileMetadata,
    Uploaded,
    download,
    download_sealed,
    upload,
    upload_sealed,
)
from ironwire.close_codes import CloseCode
from ironwire.crypto.signing import Identity
from ironwire.e2e.bodies import DeleteBody, EditBody, FileBody, MessageName, ReactionBody, SealedFile
from ironwire.e2e.content import Content
from ironwire.e2e.conversations.events import (
    CommitRefused,
    DeviceLinked,
    DevicesChanged,
    GroupRenamed,
    LogDisputed,
    MembersChanged,
    MessagesHeld,
    NotEncrypted,
    OwnRecordsChanged,
    Secured,
    Unreadable,
)
from ironwire.e2e.own_records import Kind as OwnKind
from ironwire.e2e.own_records import OwnRecord
from ironwire.errors import InvalidId
from ironwire.ids import (
    Address,
    CallId,
    ClientId,
    DeviceId,
    GroupId,
    MessageId,
    parse_address,
    parse_client_id,
    parse_device_id,
    parse_group_id,
)
from ironwire.paths import default_identity_path
from ironwire.protocol.devices.log import DeviceLog, LoggedDevice
from ironwire.protocol.devices.log_reader import Extended, Forked, KeyCopied, RolledBack
from ironwire.protocol.devices.safety import in_groups, safety_number
from ironwire.wire.messages import (
    Accepted,
    Candidate,
    CaughtUp,
    DeliveredFile,
    DeliveredReceipt,
    DeliveredText,
    Device,
    DeviceLogChanged,
    Error,
    File,
    GroupChanged,
    GroupDetails,
    GroupMember,
    GroupSummary,
    IceServer,
    IceServerList,
    MlsMessage,
    PresenceUpdate,
    Receipt,
    RelayedAnswer,
    RelayedCandidate,
    RelayedEnd,
    RelayedOffer,
    RelayedResumed,
    RelayedRinging,
    RelayedTyping,
    RelayedUpdate,
    Text,
)

__all__ = [
    "Accepted",
    "Account",
    "Address",
    "Amendment",
    "AuthenticationRefused",
    "Backoff",
    "CallFailed",
    "CallId",
    "Candidate",
    "CaughtUp",
    "Client",
    "ClientError",
    "ClientId",
    "CloseCode",
    "CommitRefused",
    "Connected",
    "Connection",
    "ConnectionFailed",
    "ConnectionLost",
    "Content",
    "Conversation",
    "DeleteBody",
    "DeliveredFile",
    "DeliveredReceipt",
    "DeliveredText",
    "Device",
    "DeviceId",
    "DeviceInUse",
    "DeviceKeys",
    "DeviceLinked",
    "DeviceLog",
    "DeviceLogChanged",
    "DeviceLogDisputed",
    "DeviceOwner",
    "DeviceRenewed",
    "DevicesChanged",
    "Disconnected",
    "Downloaded",
    "EditBody",
    "Error",
    "Event",
    "Extended",
    "File",
    "FileBody",
    "FileDescription",
    "FileMetadata",
    "FileTerms",
    "Forked",
    "GroupChanged",
    "GroupDetails",
    "GroupId",
    "GroupMember",
    "GroupRenamed",
    "GroupSummary",
    "HistoryEntry",
    "HistoryProgress",
    "IceServer",
    "IceServerList",
    "Identity",
    "InvalidId",
    "InvalidServerAddress",
    "KeptLog",
    "KeyCopied",
    "KeystoreError",
    "LinkedDevice",
    "LocalStore",
    "LocalStoreError",
    "LogDisputed",
    "LoggedDevice",
    "Lost",
    "MediaError",
    "MembersChanged",
    "MessageId",
    "MessageName",
    "MessagesHeld",
    "Missed",
    "MlsMessage",
    "NotEncrypted",
    "NotTheProtocol",
    "OwnCalls",
    "OwnDeviceLog",
    "OwnGroups",
    "OwnHistory",
    "OwnKind",
    "OwnMessages",
    "OwnPresence",
    "OwnRecord",
    "OwnRecordsChanged",
    "Owner",
    "OwnerGone",
    "PresenceUpdate",
    "Progress",
    "Queued",
    "ReactionBody",
    "Receipt",
    "Received",
    "Refused",
    "RelayedAnswer",
    "RelayedCandidate",
    "RelayedEnd",
    "RelayedOffer",
    "RelayedResumed",
    "RelayedRinging",
    "RelayedTyping",
    "RelayedUpdate",
    "RolledBack",
    "Said",
    "SealedFile",
    "Secured",
    "Sendable",
    "ServerAddress",
    "SessionEnded",
    "Settled",
    "StoreKey",
    "Stored",
    "Text",
    "TransferFailed",
    "Unreadable",
    "Uploaded",
    "as_file_message",
    "connect",
    "conversation_of",
    "create_identity",
    "default_identity_path",
    "default_store_path",
    "download",
    "download_sealed",
    "file_link",
    "in_groups",
    "keep_account",
    "load_account",
    "load_identity",
    "new_message_id",
    "open_device",
    "open_device_keys",
    "open_log",
    "parse_address",
    "parse_client_id",
    "parse_device_id",
    "parse_file_link",
    "parse_group_id",
    "read_client_id",
    "read_everything",
    "read_history",
    "read_linked_device",
    "safety_number",
    "sealed_file",
    "upload",
    "upload_sealed",
]
