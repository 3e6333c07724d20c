"""What was committed, on its way to the devices and sessions of all whom it concerns."""

from collections.abc import Callable

from ironwire.delivery.hub import Endpoint, Hub
from ironwire.errors import StoreError
from ironwire.store.contract.operations import Append, ChangeGroup, Operation, Result, Stored


def wake_pumps(hub: Hub, operation: Operation, result: Result | StoreError) -> None:
    """Offer each entry that was committed to its device's session, where there is one; and note each place that a full
    mailbox has lost, because that has to be told.
    """
    if not isinstance(result, Stored) or not isinstance(operation, Append | ChangeGroup):
        return
    envelope = operation.envelope
    for place in result.placed:
        pump = hub.pump_of(place.mailbox)
        if pump is not None:
            pump.offer(place.seq, envelope, is_own=place.is_own)
    for lost in result.lost:
        pump = hub.pump_of(lost.mailbox)
        if pump is not None:
            pump.note(lost.seq)


def fan_out(hub: Hub, stored: Stored, live_text: Callable[[], bytes], *, but: Endpoint | None = None) -> None:
    """Give every session without a mailbox that is owed it the frame that `live_text` makes; `but` is the session that
    sent it.
    """
    text = None
    for client in stored.owed_live:
        for endpoint in hub.sessions_of(client):
            if endpoint.pump is None and endpoint is not but:
                text = text or live_text()
                endpoint.outbox.put(text)
