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

from ironwire.close_codes import CloseCode
from ironwire.counting import figure
from ironwire.delivery.outbox import Ending, Outbox
from ironwire.delivery.pump import Pump
from ironwire.errors import IronWireError
from ironwire.ids import ClientId, DeviceId, EndpointId
from ironwire.protocol.auth import Principal
from ironwire.protocol.holding import Hold
from ironwire.store.contract.operations import Number
from ironwire.store.contract.records import MailboxId

REPLACED = Ending(CloseCode.REPLACED, "replaced by a newer session of this device")

_session_numbers = count(1)


class TooManySessions(IronWireError):
    """The client has as many live sessions as one may have."""


class Uncommitted:
    """Backpressure: cost of this session's uncommitted envelopes. The reader pauses at `limits.unsettled_envelopes`."""

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
class Endpoint:
    """A session as the hub knows it, compared by identity. A session with a mailbox has its pump; one of a client
    that speaks more than the seed protocol has its hold.
    """

    principal: Principal
    outbox: Outbox = field(repr=False)
    pump: Pump | None = field(repr=False, default=None)
    unsettled: Uncommitted = field(repr=False, factory=Uncommitted)
    hold: Hold | None = field(repr=False, default=None)
    session: int = field(repr=False, default=0)
    """Which of its device's sessions it is."""
    endpoint_id: EndpointId = field(init=False, repr=False)
    """The same for every session of one device."""

    @endpoint_id.default
    def _endpoint_id(self) -> EndpointId:
        client, device = self.principal.client, self.principal.device
        return EndpointId(client, device, 0 if device is not None else next(_session_numbers))

    def number(self, n: int | None) -> Number | None:
        """What numbers an envelope of this session; None where there is no mailbox to count it, or no `n`."""
        return None if n is None or self.pump is None else Number(self.pump.mailbox, self.session, n)


@frozen
class HubStatistics:
    clients: int = figure("Clients with at least one session.")
    sessions: int = figure("Authenticated sessions.")


class Hub:
    def __init__(self, *, sessions_per_client: int) -> None:
        self._sessions_per_client = sessions_per_client
        self._admitted: dict[ClientId, tuple[Principal, ...]] = {}
        """Of each session that is attached, or will be. Two are the same only if they are the same object."""
        self._endpoints: dict[ClientId, tuple[Endpoint, ...]] = {}
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
    def attached(self, endpoint: Endpoint) -> Iterator[None]:
        """Attach a session that is admitted, while the block runs. An older session of the same device is closed with
        4409.
        """
        self._attach(endpoint)
        try:
            yield
        finally:
            self._detach(endpoint)

    def sessions_of(self, client: ClientId) -> Sequence[Endpoint]:
        return self._endpoints.get(client, ())

    def device_session(self, client: ClientId, device: DeviceId) -> Endpoint | None:
        """The live session of one device; there is never more than one."""
        return self.session_at(EndpointId(client, device))

    def session_at(self, endpoint_id: EndpointId) -> Endpoint | None:
        """The live session that the endpoint has now."""
        return next(
            (endpoint for endpoint in self.sessions_of(endpoint_id.client) if endpoint.endpoint_id == endpoint_id), None
        )

    def pump_of(self, mailbox: MailboxId) -> Pump | None:
        """The way to the device of this mailbox, while it has a live session."""
        return self._pumps.get(mailbox)

    def everyone(self) -> Iterator[Endpoint]:
        """Every live session, in no particular order."""
        for endpoints in self._endpoints.values():
            yield from endpoints

    def statistics(self) -> HubStatistics:
        return HubStatistics(clients=len(self._endpoints), sessions=self._sessions)

    def _attach(self, endpoint: Endpoint) -> None:
        client, device = endpoint.principal.client, endpoint.principal.device
        endpoints = self._endpoints.get(client, ())
        replaced = [other for other in endpoints if device is not None and other.principal.device == device]
        remaining = tuple(other for other in endpoints if other not in replaced)
        for other in replaced:
            self._unplug(other)
            self._dismiss(other.principal)
            other.outbox.close(REPLACED)
        self._endpoints[client] = (*remaining, endpoint)
        if endpoint.pump is not None:
            self._pumps[endpoint.pump.mailbox] = endpoint.pump
        self._sessions += 1 - len(replaced)

    def _detach(self, endpoint: Endpoint) -> None:
        client = endpoint.principal.client
        self._unplug(endpoint)
        endpoints = self._endpoints.get(client, ())
        remaining = tuple(other for other in endpoints if other is not endpoint)
        self._sessions -= len(endpoints) - len(remaining)
        if remaining:
            self._endpoints[client] = remaining
        else:
            self._endpoints.pop(client, None)

    def _dismiss(self, principal: Principal) -> None:
        client = principal.client
        remaining = tuple(other for other in self._admitted.get(client, ()) if other is not principal)
        if remaining:
            self._admitted[client] = remaining
        else:
            self._admitted.pop(client, None)

    def _unplug(self, endpoint: Endpoint) -> None:
        pump = endpoint.pump
        if pump is not None and self._pumps.get(pump.mailbox) is pump:
            del self._pumps[pump.mailbox]
