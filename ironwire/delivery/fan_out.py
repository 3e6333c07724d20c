"""What was committed, on its way to the devices and sessions of all whom it concerns."""

from collections.abc import Callable

from ironwire.delivery.hub import Endpoint, Hub
from ironwire.ids import ClientId
from ironwire.store.contract.operations import Appended
from ironwire.store.contract.records import Envelope


def fan_out(
    hub: Hub,
    stored: Appended,
    envelope: Envelope,
    live_frame: Callable[[], bytes] | None,
    but: Endpoint | None = None,
) -> bool:
    """Offer each device its entry, and hand the frame that `live_frame` makes to the sessions without a mailbox, `but`
    one; None stands for an envelope that is for devices alone. Returns whether a session without a mailbox took it.
    """
    _offer(hub, stored, envelope)
    is_taken = False
    if live_frame is not None:
        frame = None
        for client in stored.owed:
            for endpoint in hub.sessions_of(client):
                if endpoint.pump is None and endpoint is not but:
                    frame = frame or live_frame()
                    is_taken = endpoint.outbox.put(frame) or is_taken
    return is_taken


def hand_over(hub: Hub, client: ClientId, frame: bytes) -> bool:
    """Put the frame into the outbox of each session of the client that has no mailbox. Returns whether one took it:
    what such a session is given counts as delivered.
    """
    is_taken = False
    for endpoint in hub.sessions_of(client):
        if endpoint.pump is None:
            is_taken = endpoint.outbox.put(frame) or is_taken
    return is_taken


def is_live(hub: Hub, client: ClientId) -> bool:
    """Whether the client has a session that takes an envelope without a mailbox."""
    for endpoint in hub.sessions_of(client):  # noqa: SIM110  # `any` takes three times as long
        if endpoint.pump is None and endpoint.outbox.ending is None:
            return True
    return False


def _offer(hub: Hub, stored: Appended, envelope: Envelope) -> None:
    """Bring each place that the envelope was given to the device's session, where there is one; and each place that a
    full mailbox has lost, because the device has to be told of it.
    """
    for place in stored.placed:
        pump = hub.pump_of(place.mailbox)
        if pump is not None:
            pump.offer(place.seq, envelope, is_own=place.is_own)
    for lost in stored.lost:
        pump = hub.pump_of(lost.mailbox)
        if pump is not None:
            pump.note(lost.seq)
