"""What was committed, on its way to the devices and sessions of all whom it concerns."""

from collections.abc import Callable

from ironwire.delivery.hub import Endpoint, Hub
from ironwire.errors import StoreError
from ironwire.ids import ClientId
from ironwire.store.contract.operations import Append, Appended, ChangeGroup, Operation, Result


def wake_pumps(hub: Hub, operation: Operation, result: Result | StoreError) -> None:
    """Offer each entry that was committed to its device's session, where there is one; and note each place that a full
    mailbox has lost, because the device has to be told of it.
    """
    if not isinstance(result, Appended) or not isinstance(operation, Append | ChangeGroup):
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


def fan_out(hub: Hub, stored: Appended, live_frame: Callable[[], bytes] | None, but: Endpoint | None = None) -> bool:
    """Hand the frame that `live_frame` makes to the sessions without a mailbox that are owed it, `but` one; None stands
    for an envelope that is for devices alone. Returns whether one took it.
    """
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
