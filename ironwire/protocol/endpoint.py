"""The name of one end of a conversation between two clients: what a signal is addressed to."""

from attrs import frozen

from ironwire.ids import ClientId, DeviceId


@frozen
class EndpointId:
    """A device, whichever session it has at the moment, or one session of a client that named no device."""

    client: ClientId
    device: DeviceId | None
    session: int = 0
    """Tells the sessions without a device apart; 0 for a device."""
