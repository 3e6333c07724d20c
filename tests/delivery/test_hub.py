"""The hub against a dictionary, in every order of coming and going."""

from contextlib import ExitStack

import hypothesis.strategies as st
import pytest
from attrs import define
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ironwire.delivery.hub import REPLACED, Endpoint, Hub, TooManySessions
from ironwire.delivery.outbox import Outbox
from ironwire.delivery.pump import Pump
from ironwire.ids import ClientId, DeviceId
from ironwire.limits import Limits
from ironwire.protocol.auth import Principal
from ironwire.protocol.mailbox import Window
from ironwire.store.contract.records import MailboxId, Quota
from ironwire.store.memory.store import MemoryStore

CLIENTS = [ClientId(digit * 64) for digit in "ab"]
DEVICES = [DeviceId("phone"), DeviceId("laptop")]
MOST_SESSIONS = 3


STORE = MemoryStore(Quota.of(Limits()))


def seat_of(client: ClientId, device: DeviceId | None = None) -> Endpoint:
    outbox = Outbox(most_frames=16, most_bytes=1024, ring=lambda: None)
    pump = None if device is None else Pump(mailbox_of(client, device), Window(0, 0, 1, 1), STORE, outbox)
    return Endpoint(Principal(client, device), outbox, pump)


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

    @rule(client=st.sampled_from(CLIENTS), device=st.none() | st.sampled_from(DEVICES))
    def attach(self, client: ClientId, device: DeviceId | None) -> None:
        guest = Guest(seat_of(client, device), ExitStack())
        replaced = [seat for seat in self.seated[client] if device is not None and seat.principal.device == device]
        remaining = [seat for seat in self.seated[client] if seat not in replaced]
        if len(remaining) == MOST_SESSIONS:
            with pytest.raises(TooManySessions):
                guest.leaving.enter_context(self.hub.admitted(guest.seat.principal))
            assert guest.seat.outbox.ending is None
            return
        guest.leaving.enter_context(self.hub.admitted(guest.seat.principal))
        guest.leaving.enter_context(self.hub.attached(guest.seat))
        assert [seat.outbox.ending for seat in replaced] == [REPLACED] * len(replaced)
        self.seated[client] = [*remaining, guest.seat]
        self.guests.append(guest)

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
    with hub.admitted(old.principal), hub.attached(old), hub.admitted(new.principal), hub.attached(new):
        assert hub.sessions_of(CLIENTS[0]) == (new,)


def test_who_is_admitted_and_not_attached_yet_counts() -> None:
    """Several of one device are one: the newest will take the place of the others."""
    hub = Hub(sessions_per_client=2)
    phone, laptop, seed = (Principal(CLIENTS[0], device) for device in (*DEVICES, None))
    with hub.admitted(phone), hub.admitted(Principal(CLIENTS[0], DEVICES[0])), hub.admitted(laptop):
        with pytest.raises(TooManySessions), hub.admitted(seed):
            pass
        with hub.admitted(Principal(CLIENTS[1], None)):
            pass
    with hub.admitted(seed), hub.admitted(Principal(CLIENTS[0], None)):
        with pytest.raises(TooManySessions), hub.admitted(seed):
            pass
        with pytest.raises(TooManySessions), hub.admitted(phone):
            pass
