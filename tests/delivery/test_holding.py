"""Refusals that are decided at the commit hold a session too: what it had sent behind the refused envelope is refused,
in the same batch and in those that wait.
"""

import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from ironwire.delivery.hub import Endpoint
from ironwire.ids import ClientId, MessageId
from ironwire.protocol.holding import Hold
from ironwire.wire.messages import Text
from tests.house import ALICE, BOB, CAROL, PHONE, House, taken


def say(house: House, seat: Endpoint, *ids: str, to: ClientId = BOB) -> None:
    for id_ in ids:
        house.delivery.envelopes.submit(seat, Text(to, id_), MessageId(id_))


def answers(seat: Endpoint) -> list[tuple[str, str, bool]]:
    told = [(frame["id"], frame["payload"]) for frame in taken(seat)]
    return [(id_, payload.get("msg", "accepted"), payload.get("held", False)) for id_, payload in told]


async def test_what_waits_behind_an_envelope_that_could_not_be_stored_is_refused(house: House) -> None:
    await house.seat_device(BOB, PHONE)
    await house.seat_device(CAROL, PHONE)
    alice = evolve(await house.seat_device(ALICE, PHONE), hold=Hold())
    house.store.release = trio.Event()
    house.store.fails = True
    say(house, alice, "1")
    await wait_all_tasks_blocked()
    say(house, alice, "2", "3", to=CAROL)
    committed = len(house.store.batches)
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert answers(alice) == [("1", "internal", False), ("2", "internal", True), ("3", "internal", True)]
    assert len(house.store.batches) == committed, "what is held needs no store"

    house.store.fails = False
    await house.delivery.resume(alice, MessageId("4"))
    say(house, alice, "1", "2")
    await wait_all_tasks_blocked()
    assert answers(alice) == [("4", "accepted", False), ("1", "accepted", False), ("2", "accepted", False)]


async def test_other_sessions_of_the_client_go_on(house: House) -> None:
    await house.seat_device(BOB, PHONE)
    alice = evolve(await house.seat_device(ALICE, PHONE), hold=Hold())
    other = evolve(house.seat(ALICE), hold=Hold())
    house.store.release = trio.Event()
    house.store.fails = True
    say(house, alice, "1")
    await wait_all_tasks_blocked()
    say(house, alice, "2")
    say(house, other, "3")
    house.store.fails = False
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert ("3", "accepted", False) in answers(other)


async def test_a_session_goes_on_when_all_that_it_had_sent_has_its_answer(house: House, nursery: trio.Nursery) -> None:
    await house.seat_device(BOB, PHONE)
    alice = evolve(await house.seat_device(ALICE, PHONE), hold=Hold())
    house.store.release = trio.Event()
    say(house, alice, "1")
    nursery.start_soon(house.delivery.resume, alice, MessageId("2"))
    await wait_all_tasks_blocked()
    assert answers(alice) == []
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert [id_ for id_, _, _ in answers(alice)] == ["1", "2"]
