"""A watcher ends up knowing what it should see, whatever happened on the way there; and nobody else pays for it."""

import json
from contextlib import AbstractContextManager
from typing import Any

import hypothesis.strategies as st
import pytest
import trio
from attrs import define, field
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, multiple, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.delivery.hub import Endpoint, Hub
from ironwire.delivery.outbox import Outbox
from ironwire.errors import StoreError
from ironwire.handlers.presence import CATCH_UP_SECONDS, TURN_CLIENTS, PresenceHandler
from ironwire.ids import ClientId, DeviceId, MessageId
from ironwire.protocol.auth import Principal
from ironwire.store.contract.records import Quota
from ironwire.store.memory.state import MemoryState
from ironwire.store.memory.store import MemoryGlance, MemoryStore
from ironwire.wire.messages import Presence, PresenceAllow, PresenceWatch, Typing
from ironwire.wire.messages.presence import GivenStatus, Status

ALICE, BOB = CLIENTS = [ClientId(digit * 64) for digit in "ab"]
CAROL = ClientId("c" * 64)
PHONE = DeviceId("phone")
NOW_MS = 1_790_000_000_000
MOST_FRAMES = 20


class Blocklist(MemoryGlance):
    """A glance of which only the blocks matter, and which can fail."""

    def __init__(self) -> None:
        super().__init__(MemoryState())
        self.blocks: set[tuple[ClientId, ClientId]] = set()
        self.fails = False

    def blocks_of(self, client: ClientId) -> frozenset[ClientId]:
        if self.fails:
            raise StoreError("the disk is gone")
        return frozenset(blocked for blocker, blocked in self.blocks if blocker == client)


@define(eq=False)
class Guest:
    """A session, and what a client would make of what it was told: one that forgets everything when it watches anew,
    and one that keeps what it knew of those it still watches.
    """

    endpoint: Endpoint
    seat: AbstractContextManager[None]
    forgetful: dict[str, str] = field(factory=dict)
    retentive: dict[str, str] = field(factory=dict)
    watching: list[ClientId] = field(factory=list)
    announced: dict[str, list[ClientId]] = field(factory=dict)
    """The lists that were asked for, by the id of the question."""
    in_force: list[ClientId] = field(factory=list)
    """The list that was answered last."""

    def read(self) -> None:
        for frame in map(json.loads, self.endpoint.outbox.take()):
            if frame["type"] == "accepted":
                self.forgetful = {}
                watched = self.in_force = self.announced[frame["id"]]
                self.retentive = {client: status for client, status in self.retentive.items() if client in watched}
            elif frame["type"] == "presence":
                update = frame["payload"]
                assert update["client"] in self.in_force
                self.forgetful[update["client"]] = self.retentive[update["client"]] = update["status"]


class House:
    """A handler, and sessions that come and go."""

    def __init__(self) -> None:
        self.blocklist = Blocklist()
        store = MemoryStore(Quota(1, 1, 1))
        store.glance = self.blocklist
        self.hub = Hub(sessions_per_client=10_000)
        self.handler = PresenceHandler(self.hub, store, lambda: NOW_MS)

    def enter(self, client: ClientId, device: DeviceId | None = None) -> Guest:
        outbox = Outbox(most_frames=MOST_FRAMES, most_bytes=100_000, ring=lambda: None)
        endpoint = Endpoint(Principal(client, device), outbox)
        seat = self.hub.attached(endpoint)
        seat.__enter__()
        self.hub.open(endpoint)
        self.handler.arrived(endpoint)
        return Guest(endpoint, seat)

    def leave(self, guest: Guest) -> None:
        guest.seat.__exit__(None, None, None)
        self.handler.left(guest.endpoint)

    def say(self, guest: Guest, status: Status) -> None:
        self.handler.say(guest.endpoint, Presence(status), None)

    def allow(self, guest: Guest, *clients: ClientId) -> None:
        self.handler.allow(guest.endpoint, PresenceAllow(list(clients)), None)

    def watch(self, guest: Guest, *clients: ClientId) -> None:
        question = MessageId(str(len(guest.announced)))
        guest.announced[question] = guest.watching = list(clients)
        self.handler.watch(guest.endpoint, PresenceWatch(list(clients)), question)


def taken(guest: Guest) -> list[Any]:
    return [(frame["type"], frame.get("payload")) for frame in map(json.loads, guest.endpoint.outbox.take())]


def update(client: ClientId, status: GivenStatus) -> tuple[str, Any]:
    return ("presence", {"client": client, "status": status})


ACCEPTED = ("accepted", {"ts": NOW_MS})


# --- against a model -------------------------------------------------------------------------------------------------

some_clients = st.lists(st.sampled_from(CLIENTS), unique=True)


class PresenceMachine(RuleBasedStateMachine):
    """The model remembers who said what in which order, and works out from that what everybody should see."""

    guests = Bundle("guests")

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.here: list[Guest] = []
        """Those who were not replaced."""
        self.said: list[tuple[Guest, Status]] = []
        self.allowed: dict[ClientId, list[ClientId]] = {}

    @initialize(target=guests)
    def everybody_is_here_and_sees_everybody(self) -> Any:
        guests = [self.enter(client) for client in (*CLIENTS, *CLIENTS)]
        for guest in guests:
            self.allow(guest, CLIENTS)
            self.watch(guest, CLIENTS)
            self.say(guest, "online")
        return multiple(*guests)

    @rule(target=guests, client=st.sampled_from(CLIENTS), device=st.sampled_from([None, PHONE]))
    def enter(self, client: ClientId, device: DeviceId | None = None) -> Guest:
        guest = self.house.enter(client, device)
        for other in self.here:
            if device is not None and other.endpoint.principal == guest.endpoint.principal:
                self._is_over(other)
                break
        self.here.append(guest)
        return guest

    @rule(guest=consumes(guests))
    def leave(self, guest: Guest) -> None:
        self.house.leave(guest)
        if guest in self.here:
            self._is_over(guest)
        client = guest.endpoint.principal.client
        if all(other.endpoint.principal.client != client for other in self.here):
            self.allowed.pop(client, None)

    @rule(guest=guests, status=st.sampled_from(["online", "away", "busy"]))
    def say(self, guest: Guest, status: Status) -> None:
        self.house.say(guest, status)
        if guest in self.here:
            self.said.append((guest, status))

    @rule(guest=guests, clients=some_clients)
    def allow(self, guest: Guest, clients: list[ClientId]) -> None:
        self.house.allow(guest, *clients)
        if guest in self.here:
            self.allowed[guest.endpoint.principal.client] = clients

    @rule(guest=guests, clients=some_clients)
    def watch(self, guest: Guest, clients: list[ClientId]) -> None:
        if guest.endpoint.outbox.statistics().frames_waiting == MOST_FRAMES:
            guest.read()  # or the answer would be one frame too many
        self.house.watch(guest, *clients)

    @rule(blocker=st.sampled_from(CLIENTS), blocked=st.sampled_from(CLIENTS))
    def block_or_unblock(self, blocker: ClientId, blocked: ClientId) -> None:
        self.house.blocklist.blocks ^= {(blocker, blocked)}
        self.house.handler.changed(blocker)

    @rule(guest=guests)
    def something_else_is_on_its_way(self, guest: Guest) -> None:
        outbox = guest.endpoint.outbox
        while outbox.ending is None and outbox.statistics().frames_waiting <= MOST_FRAMES // 2:
            outbox.put(b'{"type":"text"}')

    @rule(guest=guests)
    def read(self, guest: Guest) -> None:
        guest.read()

    @rule(fails=st.booleans())
    def the_store_fails_or_works(self, fails: bool) -> None:
        self.house.blocklist.fails = fails

    @rule()
    def turn(self) -> None:
        self.run(seconds=0)

    @rule()
    def settle(self) -> None:
        """Everybody reads, and everybody is told: then all know what they should."""
        self.house.blocklist.fails = False
        for guest in self.here:
            guest.read()
        self.run(seconds=2 * CATCH_UP_SECONDS)
        for guest in self.here:
            guest.read()
            for client in guest.watching:
                expected = self.seen(client, guest.endpoint.principal.client)
                assert guest.forgetful.get(client, "offline") == expected
                assert guest.retentive.get(client, "offline") == expected

    def teardown(self) -> None:
        self.settle()
        for guest in self.here:
            assert guest.endpoint.outbox.ending is None
            self.house.leave(guest)
        assert self.house.handler.statistics().sessions_watching == 0

    def _is_over(self, guest: Guest) -> None:
        self.here.remove(guest)
        self.said = [(speaker, status) for speaker, status in self.said if speaker is not guest]

    def seen(self, client: ClientId, by: ClientId) -> GivenStatus:
        if by not in self.allowed.get(client, []) or (client, by) in self.house.blocklist.blocks:
            return "offline"
        words: list[Status] = [word for guest, word in self.said if guest.endpoint.principal.client == client]
        return words[-1] if words else "offline"

    def run(self, seconds: float) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.house.handler.tell)
                nursery.start_soon(self.house.handler.catch_up)
                await trio.sleep(seconds)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()

        trio.run(main, clock=MockClock(autojump_threshold=0))


TestPresence = PresenceMachine.TestCase


# --- by example ------------------------------------------------------------------------------------------------------


@pytest.fixture
def house(autojump_clock: MockClock, nursery: trio.Nursery) -> House:
    house = House()
    nursery.start_soon(house.handler.tell)
    nursery.start_soon(house.handler.catch_up)
    return house


async def test_of_one_who_came_and_went_meanwhile_nobody_is_told(house: House) -> None:
    alice, bob = house.enter(ALICE), house.enter(BOB)
    house.allow(bob, ALICE)
    house.watch(alice, BOB)
    assert taken(alice) == [ACCEPTED]
    house.say(bob, "online")
    house.leave(bob)
    await wait_all_tasks_blocked()
    assert taken(alice) == []


async def test_a_device_that_is_replaced_is_seen_as_its_new_session_says(house: House) -> None:
    alice, old = house.enter(ALICE), house.enter(BOB, PHONE)
    house.allow(old, ALICE)
    house.watch(alice, BOB)
    house.say(old, "busy")
    await wait_all_tasks_blocked()
    new = house.enter(BOB, PHONE)
    house.say(old, "away")
    await wait_all_tasks_blocked()
    house.say(new, "online")
    house.leave(old)
    await wait_all_tasks_blocked()
    updates = [frame for frame in taken(alice) if frame != ACCEPTED]
    assert updates == [update(BOB, status) for status in ("busy", "offline", "online")]
    house.leave(new)
    await wait_all_tasks_blocked()
    assert taken(alice) == [update(BOB, "offline")]


async def test_of_many_words_in_one_turn_the_last_is_told(house: House) -> None:
    alice, bob = house.enter(ALICE), house.enter(BOB)
    house.allow(bob, ALICE)
    house.watch(alice, BOB)
    for status in ("online", "busy", "away"):
        house.say(bob, status)
    await wait_all_tasks_blocked()
    assert taken(alice) == [ACCEPTED, update(BOB, "away")]


async def test_who_left_just_before_the_list_was_sent_again_is_said_to_be_offline(house: House) -> None:
    alice, bob = house.enter(ALICE), house.enter(BOB)
    house.allow(bob, ALICE)
    house.say(bob, "online")
    house.watch(alice, BOB)
    assert taken(alice) == [ACCEPTED, update(BOB, "online")]
    house.leave(bob)
    house.watch(alice, BOB)
    assert taken(alice) == [ACCEPTED, update(BOB, "offline")]
    house.watch(alice, BOB)
    await wait_all_tasks_blocked()
    assert taken(alice) == [ACCEPTED]


async def test_a_slow_reader_misses_what_was_between_and_its_session_goes_on(house: House) -> None:
    alice, bob = house.enter(ALICE), house.enter(BOB)
    house.allow(bob, ALICE)
    house.watch(alice, BOB)
    while alice.endpoint.outbox.statistics().frames_waiting < MOST_FRAMES:
        alice.endpoint.outbox.put(b'{"type":"text"}')
    for status in ("online", "busy"):
        house.say(bob, status)
        await wait_all_tasks_blocked()
    assert alice.endpoint.outbox.ending is None
    assert house.handler.statistics().dropped_total == 2
    assert update(BOB, "busy") not in taken(alice)
    await trio.sleep(CATCH_UP_SECONDS)
    await wait_all_tasks_blocked()
    assert taken(alice) == [update(BOB, "busy")]


async def test_telling_many_leaves_others_their_turns(house: House) -> None:
    bob = house.enter(BOB)
    friends = [ClientId(f"{number:064x}") for number in range(8 * TURN_CLIENTS)]
    guests = [house.enter(friend) for friend in friends]
    house.allow(bob, *friends)
    for guest in guests:
        house.watch(guest, BOB)
        guest.endpoint.outbox.take()
    house.say(bob, "online")
    turns = 0
    while any(guest.endpoint.outbox.statistics().frames_waiting == 0 for guest in guests):
        await trio.lowlevel.checkpoint()
        turns += 1
    assert turns >= 4  # of two tasks, either may come first in a turn


async def test_a_crowd_that_is_not_allowed_is_not_looked_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    bob, friend = house.enter(BOB), house.enter(ALICE)
    for guest in [friend, *(house.enter(CAROL) for _ in range(500))]:
        house.watch(guest, BOB)
    house.allow(bob, ALICE)
    looked_up: list[ClientId] = []
    sessions_of = house.hub.sessions_of

    def counted(client: ClientId) -> Any:
        looked_up.append(client)
        return sessions_of(client)

    monkeypatch.setattr(house.hub, "sessions_of", counted)
    house.say(bob, "online")
    await wait_all_tasks_blocked()
    assert looked_up == [ALICE]


async def test_typing_is_dropped_for_a_slow_reader_and_nothing_else_happens(house: House) -> None:
    alice, bob = house.enter(ALICE), house.enter(BOB)
    for _ in range(3 * MOST_FRAMES):
        house.handler.typing(alice.endpoint, Typing(BOB, True), None)
    assert len(taken(bob)) == MOST_FRAMES // 2
    assert bob.endpoint.outbox.ending is None
    assert taken(alice) == []
