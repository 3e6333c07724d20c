"""What went to a group, once it is committed: to the devices and sessions of all whom it concerns."""

from collections.abc import Callable

from ironwire.hub.hub import Attachment, Hub
from ironwire.store.operations import Stored
from ironwire.store.records import Entry, Envelope


def spread(
    hub: Hub, stored: Stored, envelope: Envelope, live_text: Callable[[], bytes], *, but: Attachment | None = None
) -> None:
    """Offer every device its entry, and give every session without a mailbox the frame that `live_text` makes; `but`
    is the session that sent it.
    """
    for place in stored.placed:
        seat = hub.device_session(place.client, place.device)
        if seat is not None and seat.pump is not None and seat.pump.mailbox == place.mailbox:
            seat.pump.offer(Entry(place.seq, envelope, place.is_own))
    text = None
    for client in stored.owed_live:
        for seat in hub.sessions_of(client):
            if seat.pump is None and seat is not but:
                text = text or live_text()
                seat.outbox.put(text)
