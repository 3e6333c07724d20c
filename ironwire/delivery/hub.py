"""The live sessions of this server, by client and device, and the last step of what was committed on its way to them.

    attached   counts as a session of its client; nothing reaches it, and it replaces nobody
    open       is reached by everything, and has replaced an older session of its device

A session is attached before its device is registered, and opened by the result of that: a registration that is refused
or fails leaves the older session alone. Rule: `open` is called in the order of commits, when the registration is
settled. What was committed before is in the mailbox as the registration found it; what is committed after finds the
session open.

Rule: a session that leaves removes itself and nobody else. One that was replaced and ends later finds another in its
place, and leaves that one alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from itertools import count
from typing import Concatenate, ParamSpec, TypeVar

import trio
from attrs import field, frozen

from ironwire.close_codes import CloseCode
from ironwire.counting import figure
from ironwire.delivery.outbox import INTERNAL_ERROR, Ending, Outbox
from ironwire.delivery.pump import Pump
from ironwire.errors import IronWireError, StoreError
from ironwire.ids import ClientId, DeviceId, EndpointId
from ironwire.protocol.auth import Principal
from ironwire.protocol.holding import Hold
from ironwire.store.contract import operations as op
from ironwire.store.contract.records import MailboxId, Number

REPLACED = Ending(CloseCode.REPLACED, "replaced by a newer session of this device")

_session_numbers = count(1)

Component = TypeVar("Component")
Arguments = ParamSpec("Arguments")


class TooManySessions(IronWireError):
    """The client has as many live sessions as one may have."""


class Uncommitted:
    """Backpressure: cost of this session's uncommitted envelopes. The reader pauses at `limits.unsettled_envelopes`."""

    __slots__ = ("_waiters", "count")

    def __init__(self) -> None:
        self.count = 0
        self._waiters: trio.lowlevel.ParkingLot | None = None
        """While the session's task waits: most never do."""

    def begin(self, cost: int) -> None:
        self.count += cost

    def settle(self, cost: int) -> None:
        self.count -= cost
        if self._waiters is not None:
            self._waiters.unpark_all()
            self._waiters = None

    async def wait_below(self, most: int) -> None:
        while self.count >= most:
            if self._waiters is None:
                self._waiters = trio.lowlevel.ParkingLot()
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
    endpoint_id: EndpointId = field(init=False, repr=False)
    """The endpoint that this is a session of: the same for every session of one device."""

    @endpoint_id.default
    def _endpoint_id(self) -> EndpointId:
        client, device = self.principal.client, self.principal.device
        return EndpointId(client, device, 0 if device is not None else next(_session_numbers))

    def number(self, n: int | None) -> Number | None:
        """The number of an envelope of this session; None where there is no mailbox to count it, or no `n`."""
        return None if n is None or self.pump is None else Number(self.pump.mailbox, self.pump.session, n)


def ends_session_on_error(
    settle: Callable[Concatenate[Component, Endpoint, Arguments], None],
) -> Callable[Concatenate[Component, Endpoint, Arguments], None]:
    """Let an error of a method that settles a request of a session end that session: its answer may be lost, and the
    client comes back and asks again.
    """

    @wraps(settle)
    def settle_or_end(
        self: Component, endpoint: Endpoint, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> None:
        try:
            settle(self, endpoint, *args, **kwargs)
        except Exception:
            endpoint.outbox.close(INTERNAL_ERROR)
            raise

    return settle_or_end


@frozen
class HubStatistics:
    clients: int = figure("Clients with at least one session.")
    sessions: int = figure("Authenticated sessions.")


class Hub:
    def __init__(self, *, sessions_per_client: int) -> None:
        self._sessions_per_client = sessions_per_client
        self._attached: dict[ClientId, tuple[Endpoint, ...]] = {}
        """The open ones included, and without those that were replaced."""
        self._open: dict[ClientId, tuple[Endpoint, ...]] = {}
        self._pumps: dict[MailboxId, Pump] = {}
        self._sessions = 0

    def attached(self, endpoint: Endpoint) -> AbstractContextManager[None]:
        """Count a session as one of its client's while the block runs, or until it is replaced.

        Raises:
            TooManySessions: at the limit, and there is nothing to replace.
        """
        return _Attachment(self, endpoint)

    def open(self, endpoint: Endpoint) -> bool:
        """Let everything reach an attached session. An older session of the same endpoint is closed with 4409. False:
        the session has left meanwhile.
        """
        client = endpoint.principal.client
        if endpoint not in self._attached.get(client, ()):
            return False
        older = self.session_at(endpoint.endpoint_id)
        if older is not None:
            self._remove(older)
            older.outbox.close(REPLACED)
        self._open[client] = (*self.sessions_of(client), endpoint)
        self._sessions += 1
        if endpoint.pump is not None:
            self._pumps[endpoint.pump.mailbox] = endpoint.pump
        return True

    def sessions_of(self, client: ClientId) -> Sequence[Endpoint]:
        return self._open.get(client, ())

    def device_session(self, client: ClientId, device: DeviceId) -> Endpoint | None:
        """The live session of one device."""
        return self.session_at(EndpointId(client, device))

    def session_at(self, endpoint_id: EndpointId) -> Endpoint | None:
        """The live session that the endpoint has now; there is never more than one."""
        return next(
            (endpoint for endpoint in self.sessions_of(endpoint_id.client) if endpoint.endpoint_id == endpoint_id), None
        )

    def pump_of(self, mailbox: MailboxId) -> Pump | None:
        """The pump of this mailbox, while its device has a live session."""
        return self._pumps.get(mailbox)

    def everyone(self) -> Iterator[Endpoint]:
        """Every live session, in no particular order."""
        for endpoints in self._open.values():
            yield from endpoints

    def is_live(self, client: ClientId) -> bool:
        """Whether the client has a session that takes an envelope without a mailbox."""
        for endpoint in self.sessions_of(client):  # noqa: SIM110  # `any` takes three times as long
            if endpoint.pump is None and endpoint.outbox.ending is None:
                return True
        return False

    def hand_over(self, client: ClientId, frame: bytes) -> bool:
        """Put the frame into the outbox of each session of the client that has no mailbox. Returns whether one took it:
        what such a session is given counts as delivered.
        """
        is_taken = False
        for endpoint in self.sessions_of(client):
            if endpoint.pump is None:
                is_taken = endpoint.outbox.put(frame) or is_taken
        return is_taken

    def fan_out(self, stored: op.Appended, live_frame: Callable[[], bytes] | None, but: Endpoint | None = None) -> bool:
        """Hand the frame that `live_frame` makes to the sessions without a mailbox that are owed it, `but` one; None
        stands for an envelope that is for devices alone. Returns whether one took it.
        """
        is_taken = False
        if live_frame is not None:
            frame = None
            for client in stored.owed:
                for endpoint in self.sessions_of(client):
                    if endpoint.pump is None and endpoint is not but:
                        frame = frame or live_frame()
                        is_taken = endpoint.outbox.put(frame) or is_taken
        return is_taken

    def wake_pumps(self, operation: op.Operation, result: op.Result | StoreError) -> None:
        """Offer each entry that was committed to its device's session, where there is one; and note each place that a
        full mailbox has lost, because the device has to be told of it.
        """
        if isinstance(result, op.Appended):
            if not isinstance(operation, op.Carrying):
                return
        elif isinstance(result, op.Logged) and isinstance(operation, op.AppendToLog):
            result = result.stored
        else:
            return
        envelope = operation.envelope
        for place in result.placed:
            pump = self._pumps.get(place.mailbox)
            if pump is not None:
                pump.offer(place.seq, envelope, is_own=place.is_own)
        for lost in result.lost:
            pump = self._pumps.get(lost.mailbox)
            if pump is not None:
                pump.note(lost.seq)

    def statistics(self) -> HubStatistics:
        return HubStatistics(clients=len(self._open), sessions=self._sessions)

    def _attach(self, endpoint: Endpoint) -> None:
        client = endpoint.principal.client
        everyone = self._attached.get(client, ())
        others = {other.endpoint_id for other in everyone} - {endpoint.endpoint_id}
        if len(others) >= self._sessions_per_client:
            raise TooManySessions(f"a client may have {self._sessions_per_client} sessions")
        self._attached[client] = (*everyone, endpoint)

    def _remove(self, endpoint: Endpoint) -> None:
        _drop(self._attached, endpoint)
        if _drop(self._open, endpoint):
            self._sessions -= 1
            pump = endpoint.pump
            if pump is not None and self._pumps.get(pump.mailbox) is pump:
                del self._pumps[pump.mailbox]


@frozen(eq=False)
class _Attachment:
    """The block of a session in `Hub.attached`. A generator would keep a frame for each session."""

    _hub: Hub
    _endpoint: Endpoint

    def __enter__(self) -> None:
        self._hub._attach(self._endpoint)

    def __exit__(self, *_: object) -> None:
        self._hub._remove(self._endpoint)


def _drop(among: dict[ClientId, tuple[Endpoint, ...]], endpoint: Endpoint) -> bool:
    """Take the endpoint out; returns whether it was in."""
    client = endpoint.principal.client
    endpoints = among.get(client, ())
    remaining = tuple(other for other in endpoints if other is not endpoint)
    if remaining:
        among[client] = remaining
    else:
        among.pop(client, None)
    return len(remaining) < len(endpoints)
