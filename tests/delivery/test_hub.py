"""The hub against a dictionary, in every order of coming and going."""

from contextlib import ExitStack

import hypothesis.strategies as st
import pytest
from attrs import define
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ironwire.delivery.hub import REPLACED, Endpoint, Hub, TooManySessions
from ironwire.delivery.outbox import Outbox
from ironwire.delivery.pump import Pump, Window
from ironwire.ids import ClientId, DeviceId
from ironwire.limits import Limits
from ironwire.protocol.auth import Principal
from ironwire.store.contract.records import MailboxId, Quota
from ironwire.store.memory.store import MemoryStore

CLIENTS = [ClientId(digit * 64) for digit in "ab"]
DEVICES = [DeviceId("phone"), DeviceId("laptop")]
MOST_SESSIONS = 3


STORE = MemoryStore(Quota.of(Limits()))


def seat_of(client: ClientId, device: DeviceId | None = None) -> Endpoint:
    outbox = Outbox(most_frames=16, most_bytes=1024, ring=lambda: None)
    if device is None:
        return Endpoint(Principal(client, device), outbox)
    return Endpoint(Principal(client, device), outbox, Pump(STORE, outbox))


def mailbox_of(client: ClientId, device: DeviceId) -> MailboxId:
    return MailboxId(CLIENTS.index(client) * len(DEVICES) + DEVICES.index(device))


@define(eq=False)
class Guest:
    """A session: its seat, and how it leaves."""

    seat: Endpoint
    leaving: ExitStack


class HubMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub(sessions_per_client=MOST_SESSIONS)
        self.seated: dict[ClientId, list[Endpoint]] = {client: [] for client in CLIENTS}
        self.guests: list[Guest] = []
        """Everyone who came and has not left; some of them have been replaced."""
        self.opened: set[Endpoint] = set()

    @property
    def waiting(self) -> list[Guest]:
        """Those who are attached, and were never opened."""
        return [guest for guest in self.guests if guest.seat not in self.opened]

    @rule(client=st.sampled_from(CLIENTS), device=st.none() | st.sampled_from(DEVICES))
    def attach(self, client: ClientId, device: DeviceId | None) -> None:
        guest = Guest(seat_of(client, device), ExitStack())
        here = [guest.seat for guest in self.guests if guest.seat.outbox.ending is None]
        others = [seat.principal.device for seat in here if seat.principal.client == client]
        if len({other for other in others if other not in (None, device)}) + others.count(None) == MOST_SESSIONS:
            with pytest.raises(TooManySessions):
                guest.leaving.enter_context(self.hub.attached(guest.seat))
            assert not self.hub.open(guest.seat)
            return
        guest.leaving.enter_context(self.hub.attached(guest.seat))
        self.guests.append(guest)

    @precondition(lambda self: self.waiting)
    @rule(pick=st.integers(min_value=0))
    def open(self, pick: int) -> None:
        seat = self.waiting[pick % len(self.waiting)].seat
        client, device = seat.principal.client, seat.principal.device
        if seat.pump is not None and device is not None:
            seat.pump.open(mailbox_of(client, device), 1, Window(0, 0, 1, 1))
        replaced = [other for other in self.seated[client] if device is not None and other.principal.device == device]
        assert self.hub.open(seat)
        assert [other.outbox.ending for other in replaced] == [REPLACED] * len(replaced)
        self.seated[client] = [*(other for other in self.seated[client] if other not in replaced), seat]
        self.opened.add(seat)

    @precondition(lambda self: self.guests)
    @rule(pick=st.integers(min_value=0))
    def leave(self, pick: int) -> None:
        guest = self.guests.pop(pick % len(self.guests))
        guest.leaving.close()
        seats = self.seated[guest.seat.principal.client]
        self.seated[guest.seat.principal.client] = [seat for seat in seats if seat is not guest.seat]

    @invariant()
    def everyone_sits_where_the_model_says(self) -> None:
        for client, seats in self.seated.items():
            assert list(self.hub.sessions_of(client)) == seats
            for device in DEVICES:
                expected = next((seat for seat in seats if seat.principal.device == device), None)
                assert self.hub.device_session(client, device) is expected
                pump = None if expected is None else expected.pump
                assert self.hub.pump_of(mailbox_of(client, device)) is pump
        everyone = [seat for seats in self.seated.values() for seat in seats]
        assert set(self.hub.everyone()) == set(everyone)

    @invariant()
    def nobody_who_sits_was_told_to_leave(self) -> None:
        assert all(seat.outbox.ending is None for seat in self.hub.everyone())

    @invariant()
    def it_counts_what_there_is(self) -> None:
        statistics = self.hub.statistics()
        assert statistics.sessions == sum(len(seats) for seats in self.seated.values())
        assert statistics.clients == sum(1 for seats in self.seated.values() if seats)


TestHub = HubMachine.TestCase


def test_a_session_that_fails_leaves_its_seat() -> None:
    hub = Hub(sessions_per_client=1)
    with pytest.raises(RuntimeError, match="oops"), hub.attached(seat_of(CLIENTS[0])):
        raise RuntimeError("oops")
    assert hub.statistics().sessions == 0


def test_a_device_at_the_limit_can_still_be_replaced() -> None:
    hub = Hub(sessions_per_client=1)
    old, new = seat_of(CLIENTS[0], DeviceId("phone")), seat_of(CLIENTS[0], DeviceId("phone"))
    for seat in (old, new):
        assert seat.pump is not None
        seat.pump.open(MailboxId(1), 1, Window(0, 0, 1, 1))
    with hub.attached(old):
        assert hub.open(old)
        with hub.attached(new):
            assert hub.sessions_of(CLIENTS[0]) == (old,), "until the new one is registered"
            assert hub.open(new)
            assert hub.sessions_of(CLIENTS[0]) == (new,)
            assert old.outbox.ending == REPLACED
        assert not hub.open(old)


def test_who_is_attached_and_not_open_yet_counts() -> None:
    """Several of one device are one: the newest will take the place of the others."""
    hub = Hub(sessions_per_client=2)
    first, second, laptop = (seat_of(CLIENTS[0], device) for device in (DEVICES[0], *DEVICES))
    seeds = [seat_of(CLIENTS[0]) for _ in range(3)]
    with hub.attached(first), hub.attached(second), hub.attached(laptop):
        with pytest.raises(TooManySessions), hub.attached(seeds[0]):
            pass
        with hub.attached(seat_of(CLIENTS[1])):
            pass
    with hub.attached(seeds[0]), hub.attached(seeds[1]):
        for one_more in (seeds[2], first):
            with pytest.raises(TooManySessions), hub.attached(one_more):
                pass
    assert hub.statistics().sessions == 0
