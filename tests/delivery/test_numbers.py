"""Numbers where the store fails, and where a session ends with something on its way: nothing is used up that the store
does not know, and nothing of a former session is accepted any more.
"""

import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from ironwire.delivery.hub import Endpoint
from ironwire.ids import ClientId, MessageId
from ironwire.protocol.holding import Hold
from ironwire.wire.messages import Error, Text
from tests.house import ALICE, BOB, CAROL, PHONE, House, taken

SLOWLY = Error("rate_limited", retry_after_ms=500)


def say(house: House, seat: Endpoint, *numbers: int, to: ClientId = BOB) -> None:
    for n in numbers:
        house.delivery.envelopes.submit(seat, Text(to, str(n)), MessageId(str(n)), n)


def answers(seat: Endpoint) -> list[tuple[str, str]]:
    told = [(frame["id"], frame["payload"]) for frame in taken(seat)]
    return [(id_, payload.get("msg", "accepted")) for id_, payload in told]


async def sent(house: House) -> int:
    (box,) = await house.store.mailboxes_of(ALICE)
    return box.sent


async def test_what_the_store_could_not_write_down_uses_no_number_up(house: House) -> None:
    await house.seat_device(BOB, PHONE)
    alice = evolve(await house.seat_device(ALICE, PHONE), hold=Hold())
    house.store.release = trio.Event()
    house.store.fails = True
    say(house, alice, 1)
    await wait_all_tasks_blocked()
    say(house, alice, 2)
    house.delivery.envelopes.refuse(alice, SLOWLY, MessageId("3"), 3)
    house.store.release.set()
    await wait_all_tasks_blocked()
    house.store.fails = False
    house.delivery.envelopes.refuse(alice, SLOWLY, MessageId("4"), 4)
    await wait_all_tasks_blocked()
    told = answers(alice)
    assert told == [("1", "internal"), ("2", "internal"), ("3", "internal"), ("4", "rate_limited")]
    assert await sent(house) == 0
    await house.delivery.resume(alice, MessageId("r"))
    assert [frame["payload"]["sent"] for frame in taken(alice)] == [0]
    say(house, alice, 1, 2)
    await wait_all_tasks_blocked()
    assert answers(alice) == [("1", "accepted"), ("2", "accepted")]
    assert await sent(house) == 2


async def test_a_failure_behind_a_refusal_is_what_counts(house: House) -> None:
    await house.seat_device(BOB, PHONE)
    hold = Hold()
    alice = evolve(await house.seat_device(ALICE, PHONE), hold=hold)
    hold.refused_at_reading(SLOWLY, trio.current_time())
    house.store.fails = True
    house.delivery.envelopes.refuse(alice, SLOWLY, MessageId("1"), 1)
    await wait_all_tasks_blocked()
    assert answers(alice) == [("1", "internal")]
    assert hold.code == "internal"
    assert hold.is_broken


async def test_a_mailbox_that_is_full_uses_up_what_waits_behind_it(house: House) -> None:
    await house.seat_device(BOB, PHONE)
    hold = Hold()
    alice = evolve(await house.seat_device(ALICE, PHONE), hold=hold)
    house.store.release = trio.Event()
    say(house, alice, 1)
    await wait_all_tasks_blocked()
    hold.refused_at_commit(Error("mailbox_full", user=CAROL))
    say(house, alice, 2, 3)
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert answers(alice) == [("1", "accepted"), ("2", "mailbox_full"), ("3", "mailbox_full")]
    assert await sent(house) == 3


async def test_nothing_of_a_former_session_is_accepted_any_more(house: House) -> None:
    bob = await house.seat_device(BOB, PHONE)
    former = evolve(await house.seat_device(ALICE, PHONE), hold=Hold())
    house.store.release = trio.Event()
    say(house, former, 1)
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def come_again() -> None:
            alice = await house.seat_again(ALICE, PHONE)
            assert await sent(house) == 1
            say(house, alice, 2)

        await wait_all_tasks_blocked()
        say(house, former, 2, 3)
        house.store.release.set()
    await wait_all_tasks_blocked()
    assert [frame["payload"]["text"] for frame in taken(bob)] == ["1", "2"]
    assert former.outbox.ending is not None
    assert former.outbox.ending.code == 4409


async def test_what_reached_nobody_after_all_counts_as_refused(house: House) -> None:
    bob = house.seat(BOB)
    alice = evolve(await house.seat_device(ALICE, PHONE), hold=Hold())
    house.store.release = trio.Event()
    say(house, alice, 1)
    await wait_all_tasks_blocked()
    house.leave(bob)
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert answers(alice) == [("1", "user_offline")]
    say(house, alice, 1)
    await wait_all_tasks_blocked()
    assert answers(alice) == [("1", "user_offline")]
