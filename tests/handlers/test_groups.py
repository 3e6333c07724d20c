"""What the handler of groups promises beyond the single conversation: commits, races and failures."""

from functools import partial
from itertools import count
from typing import Any

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from ironwire.delivery.hub import Endpoint
from ironwire.errors import StoreError
from ironwire.handlers.groups import GroupHandler
from ironwire.ids import ClientId, GroupId, MessageId
from ironwire.limits import Limits
from ironwire.protocol.group import Change
from ironwire.wire.messages import GroupAdd, GroupCreate, GroupLeave, GroupRename, Text
from tests.house import ALICE, BOB, CAROL, NOW_MS, PHONE, House, accepted, taken

CLUB = GroupId("#" + "0" * 32)


@pytest.fixture
def handler(house: House) -> GroupHandler:
    numbers = count()

    def random_bytes(size: int) -> bytes:
        return next(numbers).to_bytes(size, "big")

    return GroupHandler(house.store, house.delivery, lambda: NOW_MS, random_bytes, Limits().group_members)


async def ask(
    handler: GroupHandler, endpoint: Endpoint, request: GroupCreate | Change, message_id: str | None = None
) -> None:
    await handler.change(endpoint, request, None if message_id is None else MessageId(message_id))


async def founded(house: House, handler: GroupHandler, *clients: ClientId) -> list[Endpoint]:
    """Sessions of Alice, who has made the group, and of its other members."""
    seats = [house.seat(client) for client in (ALICE, *clients)]
    await ask(handler, seats[0], GroupCreate(list(clients)))
    for seat in seats:
        seat.outbox.take()
    return seats


def epochs(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["payload"]["epoch"] for frame in frames if frame["type"] == "group_changed"]


async def test_nobody_is_told_of_a_change_before_the_commit(house: House, handler: GroupHandler) -> None:
    alice, bob = await founded(house, handler, BOB)
    house.store.release = trio.Event()
    house.nursery.start_soon(ask, handler, alice, GroupAdd(CLUB, [CAROL]), "1")
    await wait_all_tasks_blocked()
    assert taken(alice) == taken(bob) == []
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert epochs(taken(bob)) == [2]
    told, reply = taken(alice)
    assert epochs([told]) == [2]
    assert reply == {"type": "accepted", "id": "1", "payload": {"ts": NOW_MS, "group": CLUB, "epoch": 2}}


async def test_a_change_is_told_even_if_whoever_asked_for_it_has_left(house: House, handler: GroupHandler) -> None:
    alice, bob = await founded(house, handler, BOB)
    house.store.release = trio.Event()
    async with trio.open_nursery() as session:
        session.start_soon(ask, handler, alice, GroupRename(CLUB, "club"))
        await wait_all_tasks_blocked()
        session.cancel_scope.cancel()
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert epochs(taken(bob)) == [2]


async def test_who_was_removed_meanwhile_cannot_write_any_more(house: House, handler: GroupHandler) -> None:
    alice, bob = await founded(house, handler, BOB)
    house.store.release = trio.Event()
    house.nursery.start_soon(ask, handler, bob, GroupLeave(CLUB))
    await wait_all_tasks_blocked()
    house.delivery.envelopes.submit(bob, Text(CLUB, "one more thing"), MessageId("1"))
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert [frame["type"] for frame in taken(alice)] == ["group_changed"]
    assert [frame["payload"].get("msg") for frame in taken(bob)] == [None, "not_found"]


async def test_a_change_that_lost_the_race_is_decided_anew(house: House, handler: GroupHandler) -> None:
    alice, bob = await founded(house, handler, BOB)
    house.store.release = trio.Event()
    for endpoint, request, name in (
        (alice, GroupAdd(CLUB, [CAROL]), "add"),
        (bob, GroupLeave(CLUB), "leave"),
        (alice, GroupRename(CLUB, "club"), "rename"),
        (alice, GroupRename(CLUB, "guild", if_epoch=1), "picky"),
    ):
        house.nursery.start_soon(ask, handler, endpoint, request, name)
        await wait_all_tasks_blocked()
    house.store.release.set()
    await wait_all_tasks_blocked()
    answers = {frame["id"]: frame["payload"] for frame in taken(alice) + taken(bob) if "id" in frame}
    assert {answers[name]["epoch"] for name in ("add", "leave", "rename")} == {2, 3, 4}
    assert answers["picky"]["msg"] == "conflict"
    group = await house.store.group(CLUB)
    assert group is not None
    assert (group.epoch, group.name, set(group.roles)) == (4, "club", {ALICE, CAROL})


async def test_the_same_request_twice_at_once_is_carried_out_once(house: House, handler: GroupHandler) -> None:
    alice, _ = await founded(house, handler, BOB)
    house.store.release = trio.Event()
    for _ in range(2):  # as after a reconnect: the first session still waits for the commit
        house.nursery.start_soon(partial(ask, handler, alice, GroupAdd(CLUB, [CAROL]), "1"))
    await wait_all_tasks_blocked()
    house.store.release.set()
    await wait_all_tasks_blocked()
    frames = taken(alice)
    answers = [frame["payload"] for frame in frames if frame["type"] == "accepted"]
    assert epochs(frames) == [2]
    assert sorted(answers, key=lambda answer: "duplicate" in answer) == [
        {"ts": NOW_MS, "group": CLUB, "epoch": 2},
        {"ts": NOW_MS, "duplicate": True, "group": CLUB},
    ]


async def test_a_store_that_fails_changes_nothing_and_says_so(house: House, handler: GroupHandler) -> None:
    alice, bob = await founded(house, handler, BOB)
    house.store.fails = True
    with structlog.testing.capture_logs():
        with pytest.raises(StoreError):
            await ask(handler, alice, GroupAdd(CLUB, [CAROL]))
        house.delivery.envelopes.submit(alice, Text(CLUB, "Hello"), MessageId("1"))
        await wait_all_tasks_blocked()
    assert taken(bob) == []
    assert [frame["payload"]["msg"] for frame in taken(alice)] == ["internal"]


async def test_a_member_who_reads_too_slowly_loses_the_session_and_nobody_else_anything(
    house: House, handler: GroupHandler
) -> None:
    alice, bob = await founded(house, handler, BOB)
    slow = house.seat(BOB, most_frames=1)
    for number in ("1", "2"):
        house.delivery.envelopes.submit(alice, Text(CLUB, number), MessageId(number))
    await wait_all_tasks_blocked()
    assert taken(alice) == [accepted("1"), accepted("2")]
    assert [frame["payload"]["text"] for frame in taken(bob)] == ["1", "2"]
    assert slow.outbox.ending is not None


async def test_a_group_message_is_one_operation_and_one_envelope(house: House, handler: GroupHandler) -> None:
    alice, _, _ = await founded(house, handler, BOB, CAROL)
    bob, carol = await house.seat_device(BOB, PHONE), await house.seat_device(CAROL, PHONE)
    house.store.batches.clear()
    house.delivery.envelopes.submit(alice, Text(CLUB, "Hello"), None)
    await wait_all_tasks_blocked()
    assert house.store.batches == [1]
    assert [[frame["payload"] for frame in taken(seat)] for seat in (bob, carol)] == [
        [{"from": ALICE, "text": "Hello", "ts": NOW_MS, "group": CLUB}]
    ] * 2
    entries = [
        (await house.store.read(seat.pump.mailbox, after=0, limit=9))[0]
        for seat in (bob, carol)
        if seat.pump is not None
    ]
    assert entries[0].envelope is entries[1].envelope
