"""Devices and their mailboxes (docs/protocol.md, section 5)."""

from typing import Annotated, ClassVar, Literal

from attrs import field

from ironwire.ids import DeviceId, GroupId
from ironwire.limits import DEVICES_PER_CLIENT
from ironwire.record import record
from ironwire.wire.messages.base import Answer, ClientMessage, Members, ServerMessage
from ironwire.wire.messages.fields import WIRE_KEY, Count, Items, UnixMs


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
    `groups` names the groups with a lost change; `more_groups` says that there are others (section 5).
    """

    verb: ClassVar[str] = "gap"

    first: Count = field(metadata={WIRE_KEY: "from"})
    last: Count = field(metadata={WIRE_KEY: "to"})
    reason: Literal["expired", "full"]
    groups: Annotated[list[GroupId], Items(1, 100)] | None = None
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
    """One of the client's devices: when it was registered and last connected, and how many envelopes wait for it."""

    device: DeviceId
    created: UnixMs
    seen: UnixMs
    waiting: Count


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
