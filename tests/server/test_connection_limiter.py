"""The limiter counts connections in total and by network, and forgets whoever has left."""

import pytest
import trio
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from ironwire.limits import Limits
from ironwire.server.listener.addresses import TrustedProxies
from ironwire.server.listener.connection_limiter import (
    ConnectionLimiter,
    ConnectionSlot,
    Tally,
)

LIMITS = Limits(
    connections=5,
    connections_per_address=3,
    connections_per_minute=60,
    unauthenticated=4,
    unauthenticated_per_address=2,
    attempts_per_minute=6,
    registrations_per_hour=2,
)
PROXY = "127.0.0.1"
SERVER = ("127.0.0.1", 80)


def limiter_of(limits: Limits = LIMITS) -> ConnectionLimiter:
    return ConnectionLimiter(
        limits, TrustedProxies.parse([PROXY]), lambda origin, server: origin == "https://chat.example"
    )


def entered(limiter: ConnectionLimiter, peer: str) -> ConnectionSlot:
    slot = limiter.enter(peer)
    assert slot is not None
    return slot


async def test_one_address_has_so_many_connections_and_others_theirs(autojump_clock: MockClock) -> None:
    limiter = limiter_of()
    slots = [entered(limiter, "192.0.2.1") for _ in range(2)]
    assert limiter.enter("192.0.2.1") is None, "two have not authenticated"
    slots[0].authenticated()
    slots.append(entered(limiter, "192.0.2.1"))
    slots[1].authenticated()
    assert limiter.enter("192.0.2.1") is None, "three are open"
    slots.append(entered(limiter, "192.0.2.2"))
    slots.pop(0).leave()
    slots.append(entered(limiter, "192.0.2.1"))
    statistics = limiter.statistics()
    assert (statistics.open, statistics.unauthenticated, statistics.addresses) == (4, 3, 2)
    assert statistics.refused_total.counts["connection",] == 2


async def test_in_total_there_are_so_many_and_this_machine_counts_too(autojump_clock: MockClock) -> None:
    limiter = limiter_of()
    slots = [entered(limiter, "127.0.0.1") for _ in range(4)]
    assert limiter.enter("192.0.2.1") is None, "four have not authenticated"
    slots[0].authenticated()
    slots.append(entered(limiter, ""))
    slots[1].authenticated()
    assert limiter.enter("192.0.2.1") is None, "five are open"
    for slot in slots:
        slot.leave()
    statistics = limiter.statistics()
    assert (statistics.open, statistics.unauthenticated, statistics.addresses) == (0, 0, 0)


async def test_new_connections_from_one_address_have_a_rate(autojump_clock: MockClock) -> None:
    limiter = limiter_of(evolve(LIMITS, connections_per_minute=3))
    for _ in range(3):
        entered(limiter, "192.0.2.1").leave()
    assert limiter.enter("192.0.2.1") is None
    entered(limiter, "192.0.2.2").leave()
    await trio.sleep(20)
    entered(limiter, "192.0.2.1").leave()
    assert limiter.enter("192.0.2.1") is None


async def test_behind_a_proxy_a_socket_counts_to_who_asked_for_it(autojump_clock: MockClock) -> None:
    limiter = limiter_of(evolve(LIMITS, unauthenticated=5))
    slots = [entered(limiter, PROXY) for _ in range(4)]
    assert [slot.ask_for_socket("192.0.2.1", None, SERVER) for slot in slots] == [None, None, 429, 429]
    assert [slot.network for slot in slots] == ["192.0.2.1", "192.0.2.1", None, None]
    slots[0].leave()
    assert slots[2].ask_for_socket("192.0.2.1", None, SERVER) == 429, "a refusal is final"
    other = entered(limiter, PROXY)
    assert other.ask_for_socket("192.0.2.9, 192.0.2.1", None, SERVER) is None
    assert limiter.statistics().refused_total.counts["connection",] == 2
    for slot in (*slots[1:], other):
        slot.leave()
    assert limiter.statistics().addresses == 0


async def test_whoever_is_no_proxy_cannot_say_who_it_is(autojump_clock: MockClock) -> None:
    slot = entered(limiter_of(), "198.51.100.1")
    assert slot.ask_for_socket("192.0.2.1", None, SERVER) is None
    assert slot.network == "198.51.100.1"


async def test_a_page_of_another_site_is_refused(autojump_clock: MockClock) -> None:
    limiter = limiter_of()
    assert entered(limiter, PROXY).ask_for_socket("", "https://chat.example", SERVER) is None
    assert entered(limiter, PROXY).ask_for_socket("", "https://evil.example", SERVER) == 403
    assert entered(limiter, PROXY).ask_for_socket("", "null", SERVER) == 403
    assert limiter.statistics().refused_total.counts["origin",] == 2


async def test_attempts_and_registrations_have_rates_of_their_own(autojump_clock: MockClock) -> None:
    limiter = limiter_of()
    slot, local = entered(limiter, "192.0.2.1"), entered(limiter, "127.0.0.1")
    assert [slot.attempt() for _ in range(7)] == [0] * 6 + [10]
    assert [slot.registration() for _ in range(3)] == [0, 0, 1800]
    assert [local.attempt() for _ in range(100)] == [0] * 100
    counts = limiter.statistics().refused_total.counts
    assert (counts["attempt",], counts["registration",]) == (1, 1)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([None, "a", "b"]))))
def test_a_tally_has_what_was_added_and_not_removed(steps: list[tuple[bool, str | None]]) -> None:
    tally: Tally[str] = Tally()
    there: list[str] = []
    for adds, key in steps:
        if adds:
            tally.add(key)
            there += [] if key is None else [key]
        elif key is None or key in there:
            tally.remove(key)
            there = [*there] if key is None else [*there[: there.index(key)], *there[there.index(key) + 1 :]]
    assert [tally[key] for key in (None, "a", "b")] == [0, there.count("a"), there.count("b")]
    assert len(tally) == len(set(there))


@pytest.mark.parametrize("name", ["group_members", "groups_per_client", "blocks_per_client"])
def test_a_limit_cannot_be_more_than_a_list_on_the_wire_holds(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 1_001})
