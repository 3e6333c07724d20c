"""What was committed, on its way to the devices and sessions of all whom it concerns."""

from collections.abc import Callable, Sequence

from ironwire.hub.hub import Attachment, Hub
from ironwire.store.operations import Placed, Stored
from ironwire.store.records import Envelope


def offer(hub: Hub, placed: Sequence[Placed], envelope: Envelope) -> None:
    """Bring every place that the envelope was given to the device's session, where there is one."""
    for place in placed:
        pump = hub.pump_of(place.mailbox)
        if pump is not None:
            pump.offer(place.seq, envelope, is_own=place.is_own)


def spread(
    hub: Hub, stored: Stored, envelope: Envelope, live_text: Callable[[], bytes], *, but: Attachment | None = None
) -> None:
    """Offer every device its entry, and give every session without a mailbox the frame that `live_text` makes; `but`
    is the session that sent it.
    """
    offer(hub, stored.placed, envelope)
    text = None
    for client in stored.owed_live:
        for seat in hub.sessions_of(client):
            if seat.pump is None and seat is not but:
                text = text or live_text()
                seat.outbox.put(text)
