"""Key packages: published by devices, and claimed by those who add them (docs/protocol.md, section 10.4)."""

from typing import Annotated, ClassVar

from ironwire import limits
from ironwire.ids import ClientId, ConversationId
from ironwire.record import record
from ironwire.wire.messages import fields
from ironwire.wire.messages.base import Answer, ClientMessage, Members, ServerMessage


@record
class MlsDevice:
    """A device of a client, by its key."""

    client: ClientId
    device_key: fields.Sha256Hex


@record
class MlsPublish(ClientMessage):
    """Puts key packages of this device into its pool, a last resort in the place of the former."""

    verb: ClassVar[str] = "mls_publish"

    packages: Annotated[list[fields.MlsBytes], fields.Items(1, limits.PACKAGES_AT_ONCE)]

    def surcharge(self, members: Members) -> int:
        return 10 * len(self.packages)


@record
class MlsPackages(ClientMessage):
    """Asks what is left in the pool of this device."""

    verb: ClassVar[str] = "mls_packages"


@record
class MlsPool(Answer):
    """The answer to `mls_packages`: packages that are left, and whether there is a last resort."""

    verb: ClassVar[str] = "mls_packages"

    count: fields.Count
    last_resort: bool


@record
class MlsClaim(ClientMessage):
    """Takes a key package of each device of `clients`, or of each of `devices`, to add them to a conversation."""

    verb: ClassVar[str] = "mls_claim"

    group: ConversationId
    clients: Annotated[list[ClientId], fields.Items(1, limits.CLAIMED_AT_ONCE)] | None = None
    devices: Annotated[list[MlsDevice], fields.Items(1, limits.CLAIMED_AT_ONCE)] | None = None

    def surcharge(self, members: Members) -> int:
        return len(self.clients or ()) + len(self.devices or ())


@record
class MlsPackage:
    """A key package of a device. `last`: a last resort, so that the device updates itself at once."""

    client: ClientId
    device_key: fields.Sha256Hex
    package: fields.MlsText
    last: bool = False


@record
class MlsLogHead:
    """The last entry of a client's device log, as the server has it."""

    client: ClientId
    index: fields.Count
    head: fields.Sha256Hex


@record
class MlsClaimed(Answer):
    """The answer to `mls_claim`. `missing` are clients of which no device had a package."""

    verb: ClassVar[str] = "mls_claimed"

    packages: Annotated[list[MlsPackage], fields.Items(0, limits.PACKAGES_PER_CLAIM)]
    missing: Annotated[list[ClientId], fields.Items(0, limits.CLAIMED_AT_ONCE)]
    logs: Annotated[list[MlsLogHead], fields.Items(0, limits.CLAIMED_AT_ONCE)]


@record
class MlsLow(ServerMessage):
    """Few packages are left in the pool of this device: publish more."""

    verb: ClassVar[str] = "mls_low"

    count: fields.Count
