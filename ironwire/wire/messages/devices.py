"""Devices, their mailboxes, and the logs of their keys (docs/protocol.md, sections 5 and 9)."""

from typing import Annotated, ClassVar, Literal

from attrs import field

from ironwire.ids import ClientId, ConversationId, DeviceId
from ironwire.limits import DEVICES_PER_CLIENT, LOG_ENTRIES
from ironwire.record import record
from ironwire.wire.messages.base import Answer, ClientMessage, Members, ServerMessage
from ironwire.wire.messages.fields import WIRE_KEY, Count, Items, LogEntryHex, Sha256Hex, SignatureHex, UnixMs


@record
class Ack(ClientMessage):
    """Everything up to `upto` is safe with this device: cumulative, may be repeated. With an id it is answered by
    `accepted`, once it is committed (section 5).
    """

    verb: ClassVar[str] = "ack"

    upto: Count


@record
class CaughtUp(ServerMessage):
    """Every waiting entry has been delivered, up to `seq`; later deliveries are live (section 5)."""

    verb: ClassVar[str] = "caught_up"

    seq: Count


@record
class Gap(ServerMessage):
    """The entries `first` to `last` of the mailbox are gone: they have expired, or the mailbox was full when they came.
    `groups` names the groups and other conversations with a lost change; `more_groups` says that there are others
    (section 5).
    """

    verb: ClassVar[str] = "gap"

    first: Count = field(metadata={WIRE_KEY: "from"})
    last: Count = field(metadata={WIRE_KEY: "to"})
    reason: Literal["expired", "full"]
    groups: Annotated[list[ConversationId], Items(1, 100)] | None = None
    more_groups: bool = False


@record
class Devices(ClientMessage):
    """Asks for this client's devices (section 5)."""

    verb: ClassVar[str] = "devices"


@record
class DeviceRemove(ClientMessage):
    """Deletes one of this client's devices with its mailbox (section 5)."""

    verb: ClassVar[str] = "device_remove"

    device: DeviceId

    def surcharge(self, members: Members) -> int:
        return 9


@record
class Device:
    """One of the client's devices: when it was registered and last connected, how many envelopes wait for it, and the
    key that its mailbox belongs to, if there is one.
    """

    device: DeviceId
    created: UnixMs
    seen: UnixMs
    waiting: Count
    device_key: Sha256Hex | None = None


@record
class DeviceList(Answer):
    """The answer to `devices`, oldest first (section 5)."""

    verb: ClassVar[str] = "devices"

    devices: Annotated[list[Device], Items(0, DEVICES_PER_CLIENT)]


@record
class DeviceRemoved(Answer):
    """The answer to `device_remove` (section 5)."""

    verb: ClassVar[str] = "device_removed"

    device: DeviceId


@record
class DeviceLogRead(ClientMessage):
    """Asks for a client's device log, from the entry with index `first` on (section 9.3)."""

    verb: ClassVar[str] = "device_log"

    client: ClientId
    first: Count = field(metadata={WIRE_KEY: "from"}, default=0)

    def surcharge(self, members: Members) -> int:
        return 9


@record
class LoggedEntry:
    """One entry of a device log, with the signature of its client (section 9.1)."""

    entry: LogEntryHex
    sig: SignatureHex


@record
class DeviceLogPage(Answer):
    """The answer to `device_log`. `index` and `head` are those of the last entry that the log has; with `more`, there
    are entries behind those that are given (section 9.3).
    """

    verb: ClassVar[str] = "device_log"

    client: ClientId
    entries: Annotated[list[LoggedEntry], Items(0, LOG_ENTRIES)]
    index: Count
    head: Sha256Hex
    more: bool = False


@record
class DeviceLogAppend(ClientMessage):
    """Puts an entry behind the last one of this client's device log (section 9.3)."""

    verb: ClassVar[str] = "device_log_append"

    entry: LogEntryHex
    sig: SignatureHex

    def surcharge(self, members: Members) -> int:
        return 9


@record
class DeviceLogChanged(ServerMessage):
    """The client's device log has an entry more, whose index and head these are: an envelope to all its devices
    (section 9.3).
    """

    verb: ClassVar[str] = "device_log_changed"

    client: ClientId
    index: Count
    head: Sha256Hex
    ts: UnixMs | None = None
    device: DeviceId | None = None
