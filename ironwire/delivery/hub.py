"""The live sessions of this server, by client and device.

A session is admitted first, which decides whether its client has too many, and attached when everything it needs is
there: to register its device takes a commit, and nothing may be kept for a session that is then refused.

Rule: whoever leaves removes itself and nobody else. A session that was replaced and ends later finds another in its
place, and leaves that one alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import trio
from attrs import field, frozen

from ironwire.delivery.outbox import Ending, Outbox
from ironwire.delivery.pump import Pump
from ironwire.errors import IronWireError
from ironwire.ids import ClientId, DeviceId
from ironwire.protocol.auth import Principal
from ironwire.protocol.endpoint import EndpointId
from ironwire.protocol.holding import Hold
from ironwire.store.contract.records import MailboxId

REPLACED = Ending(4409, "replaced by a newer session of this device")

_session_numbers = count(1)


class TooManySessions(IronWireError):
    """The client has as many live sessions as one may have."""


class Unsettled:
    """What the envelopes of one session that wait for their commit will cost: one for each place in a mailbox, and more
    for a large one. Its reader reads on when that is little.
    """

    __slots__ = ("_waiters", "count")

    def __init__(self) -> None:
        self.count = 0
        self._waiters = trio.lowlevel.ParkingLot()

    def begin(self, cost: int) -> None:
        self.count += cost

    def settle(self, cost: int) -> None:
        self.count -= cost
        if self._waiters:  # hardly ever, and to ask is a tenth of waking nobody
            self._waiters.unpark_all()

    async def wait_below(self, most: int) -> None:
        while self.count >= most:
            await self._waiters.park()


@frozen(eq=False)
class Attachment:
    """A session's seat in the hub. Two are the same only if they are the same object. A session with a mailbox has
    its pump; one of a client that speaks more than the seed protocol has what may hold it.
    """

    principal: Principal
    outbox: Outbox = field(repr=False)
    pump: Pump | None = field(repr=False, default=None)
    unsettled: Unsettled = field(repr=False, factory=Unsettled)
    hold: Hold | None = field(repr=False, default=None)
    endpoint: EndpointId = field(init=False, repr=False)
    """The same for every session of one device."""

    @endpoint.default
    def _endpoint(self) -> EndpointId:
        client, device = self.principal.client, self.principal.device
        return EndpointId(client, device, 0 if device is not None else next(_session_numbers))


@frozen
class HubStatistics:
    clients: int
    """Clients that have at least one session."""
    sessions: int
    """Sessions that are authenticated."""


class Hub:
    def __init__(self, *, sessions_per_client: int) -> None:
        self._sessions_per_client = sessions_per_client
        self._admitted: dict[ClientId, tuple[Principal, ...]] = {}
        """Of each session that is attached, or will be. Two are the same only if they are the same object."""
        self._seats: dict[ClientId, tuple[Attachment, ...]] = {}
        self._pumps: dict[MailboxId, Pump] = {}
        self._sessions = 0

    @contextmanager
    def admitted(self, principal: Principal) -> Iterator[None]:
        """Count a session as one of its client's while the block runs, or until a newer one of its device is attached.

        Raises:
            TooManySessions: at the limit, and there is nothing to replace.
        """
        client, device = principal.client, principal.device
        everyone = self._admitted.get(client, ())
        others = [other.device for other in everyone if device is None or other.device != device]
        if others.count(None) + len({*others} - {None}) >= self._sessions_per_client:
            raise TooManySessions(f"a client may have {self._sessions_per_client} sessions")
        self._admitted[client] = (*everyone, principal)
        try:
            yield
        finally:
            self._dismiss(principal)

    @contextmanager
    def attached(self, attachment: Attachment) -> Iterator[None]:
        """Seat a session that is admitted, while the block runs. An older session of the same device is closed with
        4409.
        """
        self._attach(attachment)
        try:
            yield
        finally:
            self._detach(attachment)

    def sessions_of(self, client: ClientId) -> Sequence[Attachment]:
        return self._seats.get(client, ())

    def device_session(self, client: ClientId, device: DeviceId) -> Attachment | None:
        """The live session of one device; there is never more than one."""
        return self.session_at(EndpointId(client, device))

    def session_at(self, endpoint: EndpointId) -> Attachment | None:
        """The live session that an endpoint has now."""
        return next((seat for seat in self.sessions_of(endpoint.client) if seat.endpoint == endpoint), None)

    def pump_of(self, mailbox: MailboxId) -> Pump | None:
        """The way to the device of this mailbox, while it has a live session."""
        return self._pumps.get(mailbox)

    def everyone(self) -> Iterator[Attachment]:
        """Every seat, in no order that means anything."""
        for seats in self._seats.values():
            yield from seats

    def statistics(self) -> HubStatistics:
        return HubStatistics(clients=len(self._seats), sessions=self._sessions)

    def _attach(self, attachment: Attachment) -> None:
        client, device = attachment.principal.client, attachment.principal.device
        seats = self._seats.get(client, ())
        replaced = [seat for seat in seats if device is not None and seat.principal.device == device]
        remaining = tuple(seat for seat in seats if seat not in replaced)
        for seat in replaced:
            self._unplug(seat)
            self._dismiss(seat.principal)
            seat.outbox.close(REPLACED)
        self._seats[client] = (*remaining, attachment)
        if attachment.pump is not None:
            self._pumps[attachment.pump.mailbox] = attachment.pump
        self._sessions += 1 - len(replaced)

    def _detach(self, attachment: Attachment) -> None:
        client = attachment.principal.client
        self._unplug(attachment)
        seats = self._seats.get(client, ())
        remaining = tuple(seat for seat in seats if seat is not attachment)
        self._sessions -= len(seats) - len(remaining)
        if remaining:
            self._seats[client] = remaining
        else:
            self._seats.pop(client, None)

    def _dismiss(self, principal: Principal) -> None:
        client = principal.client
        remaining = tuple(other for other in self._admitted.get(client, ()) if other is not principal)
        if remaining:
            self._admitted[client] = remaining
        else:
            self._admitted.pop(client, None)

    def _unplug(self, attachment: Attachment) -> None:
        pump = attachment.pump
        if pump is not None and self._pumps.get(pump.mailbox) is pump:
            del self._pumps[pump.mailbox]
