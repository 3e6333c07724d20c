"""What was committed, on its way to the devices and sessions of all whom it concerns."""

from collections.abc import Callable

from ironwire.delivery.hub import Endpoint, Hub
from ironwire.store.contract.operations import Stored
from ironwire.store.contract.records import Envelope


def offer(hub: Hub, stored: Stored, envelope: Envelope) -> None:
    """Bring every place that the envelope was given to the device's session, where there is one; and every place that a
    full mailbox has lost, because that has to be told.
    """
    for place in stored.placed:
        pump = hub.pump_of(place.mailbox)
        if pump is not None:
            pump.offer(place.seq, envelope, is_own=place.is_own)
    for lost in stored.lost:
        pump = hub.pump_of(lost.mailbox)
        if pump is not None:
            pump.note(lost.seq)


def fan_out(
    hub: Hub, stored: Stored, envelope: Envelope, live_text: Callable[[], bytes], *, but: Endpoint | None = None
) -> None:
    """Offer every device its entry, and give every session without a mailbox the frame that `live_text` makes; `but`
    is the session that sent it.
    """
    offer(hub, stored, envelope)
    text = None
    for client in stored.owed_live:
        for endpoint in hub.sessions_of(client):
            if endpoint.pump is None and endpoint is not but:
                text = text or live_text()
                endpoint.outbox.put(text)
