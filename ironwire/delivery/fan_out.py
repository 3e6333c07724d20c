"""What was committed, on its way to the devices and sessions of all whom it concerns."""

from collections.abc import Callable

from ironwire.delivery.hub import Attachment, Hub
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


def spread(
    hub: Hub, stored: Stored, envelope: Envelope, live_text: Callable[[], bytes], *, but: Attachment | None = None
) -> None:
    """Offer every device its entry, and give every session without a mailbox the frame that `live_text` makes; `but`
    is the session that sent it.
    """
    offer(hub, stored, envelope)
    text = None
    for client in stored.owed_live:
        for seat in hub.sessions_of(client):
            if seat.pump is None and seat is not but:
                text = text or live_text()
                seat.outbox.put(text)
