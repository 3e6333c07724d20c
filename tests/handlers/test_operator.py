"""The operator's requests on a hub with sessions: who is thrown out, who is told, and what is left."""

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio
from attrs import frozen
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.close_codes import CloseCode
from ironwire.counting import Distribution, tallied
from ironwire.delivery.hub import Endpoint
from ironwire.delivery.janitor import DAY_MS, FileJanitor, Janitor
from ironwire.delivery.outbox import Ending
from ironwire.errors import StoreError
from ironwire.handlers.groups import GroupHandler
from ironwire.handlers.operator import REQUESTS, Admin, Ban, Erase, Observe, Request, Unban
from ironwire.ids import ClientId, GroupId, MessageId, Role
from ironwire.limits import Limits
from ironwire.protocol.conversations.slots import Leaf
from ironwire.store.clock import TrustedClock
from ironwire.store.contract.operations import Advanced
from ironwire.store.files.blobs import Blobs
from ironwire.store.invites import Invites
from ironwire.store.survey import Survey
from ironwire.wire.messages import GroupCreate, Text
from tests.contract.builders import apply, commit, state
from tests.house import ALICE, BOB, CAROL, NOW_MS, PHONE, House, taken

CLUB = GroupId("#" + "0" * 32)


@frozen
class Numbers:
    """What a part might say of itself."""

    here: int
    is_well: bool
    by_verb_total: object
    seconds: Distribution


@pytest.fixture
def handler(house: House) -> GroupHandler:
    return GroupHandler(house.store, house.delivery, lambda: NOW_MS, bytes, Limits().group_members)


@pytest.fixture
def admin(house: House, handler: GroupHandler, tmp_path: Path) -> Admin:
    numbers = Numbers(3, True, tallied("verb", {"text": 2, "file": 5}), Distribution((1.0,), (4, 1), 7.5))
    parts: dict[str, Callable[[], attrs.AttrsInstance]] = {"part": lambda: numbers}
    janitor = Janitor(house.store, house.delivery, Limits(), lambda: NOW_MS, 0)
    files = FileJanitor(Blobs(tmp_path / "media"), lambda: NOW_MS, 30)
    invites = Invites(tmp_path / "invites", lambda: NOW_MS)
    survey = Survey(tmp_path)
    clock = TrustedClock(tmp_path, lambda: NOW_MS, DAY_MS)
    return Admin(house.store, house.hub, house.delivery, handler, janitor, files, invites, survey, clock, parts)


def endings(*seats: Endpoint) -> list[Ending | None]:
    return [seat.outbox.ending for seat in seats]


async def test_a_ban_ends_every_session_of_the_client_and_no_other(house: House, admin: Admin) -> None:
    phone, seed, other = await house.seat_device(ALICE, PHONE), house.seat(ALICE), house.seat(BOB)
    assert await admin.answer(Ban(ALICE)) == {"is_news": True, "sessions": 2}
    assert endings(phone, seed, other) == [Ending(CloseCode.REMOVED, "banned by the operator")] * 2 + [None]
    assert house.store.glance.is_banned(ALICE)
    assert await admin.answer(Unban(ALICE)) == {"is_news": True}
    assert await admin.answer(Unban(ALICE)) == {"is_news": False}


async def test_a_ban_that_cannot_be_stored_ends_nothing(
    house: House, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> bool:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(house.store, "ban", fail)
    seat = house.seat(ALICE)
    with pytest.raises(StoreError):
        await admin.answer(Ban(ALICE))
    assert endings(seat) == [None]


async def test_the_groups_of_the_erased_are_told_and_keep_an_admin(
    house: House, handler: GroupHandler, admin: Admin
) -> None:
    seat, bob = house.seat(ALICE), house.seat(BOB)
    await handler.change(seat, GroupCreate([BOB, CAROL]), MessageId("1"))
    (made,) = taken(bob)
    house.leave(seat)
    answer = await admin.answer(Erase(ALICE))
    assert answer["groups"] == 1
    (told,) = taken(bob)
    assert told["payload"] == {
        "group": made["payload"]["group"],
        "epoch": 2,
        "by": ALICE,
        "added": [],
        "removed": [ALICE],
        "roles": [{"client": BOB, "role": "admin"}],
    } | {key: told["payload"][key] for key in ("ts", "device") if key in told["payload"]}
    assert await house.store.groups_of(ALICE) == []
    group = await house.store.group(made["payload"]["group"])
    assert group is not None
    assert group.roles == {BOB: "admin", CAROL: "member"}


async def test_an_encrypted_group_of_the_erased_gets_the_admin_that_its_roster_gets(
    house: House, handler: GroupHandler, admin: Admin
) -> None:
    """The member with the smallest id of those in the roster, and not the one with the oldest membership."""
    seat = house.seat(ALICE)
    smallest, oldest = sorted([BOB, CAROL])
    await handler.change(seat, GroupCreate([oldest, smallest]), MessageId("1"))
    (membership,) = await house.store.groups_of(ALICE)
    roster: dict[ClientId, Role] = {ALICE: "admin", oldest: "member", smallest: "member"}
    device = Leaf(ALICE, b"a" * 32)
    begun = commit(state(membership.group, 1, 1, roster, device), device, PHONE, seen=(0, 0))
    assert isinstance(await apply(house.store, begun), Advanced)
    house.leave(seat)
    await admin.answer(Erase(ALICE))
    group = await house.store.group(membership.group)
    assert group is not None
    assert group.roles == {oldest: "member", smallest: "admin"}


async def test_the_group_of_the_erased_alone_is_over(house: House, handler: GroupHandler, admin: Admin) -> None:
    seat = house.seat(ALICE)
    await handler.change(seat, GroupCreate([]), MessageId("1"))
    house.leave(seat)
    await admin.answer(Erase(ALICE))
    assert await house.store.group(CLUB) is None


async def test_what_the_erased_has_sent_until_it_left_is_erased_too(
    house: House, admin: Admin, autojump_clock: MockClock
) -> None:
    """A session that is told to go may have work in the queue, and may take its time."""
    house.delivery.envelopes.keeps_history = True
    phone = await house.seat_device(ALICE, PHONE)
    house.store.release = trio.Event()
    house.delivery.envelopes.submit(phone, Text(ALICE, "a note to myself"), MessageId("1"))
    house.nursery.start_soon(admin.answer, Erase(ALICE))
    await wait_all_tasks_blocked()
    assert endings(phone) == [Ending(CloseCode.REMOVED, "erased by the operator")]
    house.delivery.envelopes.submit(phone, Text(ALICE, "another"), MessageId("2"))
    house.leave(phone)
    house.store.release.set()
    await trio.sleep(1)
    assert await house.store.mailboxes_of(ALICE) == []
    assert list(await house.store.read_history(ALICE, ALICE, before=None, limit=9)) == []


async def test_a_session_that_came_while_its_client_was_erased_ends_as_well(
    house: House, admin: Admin, autojump_clock: MockClock
) -> None:
    """Its mailbox is gone: nothing would ever come to it."""
    house.store.release = trio.Event()
    house.nursery.start_soon(admin.answer, Erase(ALICE))
    await wait_all_tasks_blocked()
    late = house.seat(ALICE)
    house.store.release.set()
    await trio.sleep(1)
    assert endings(late) == [Ending(CloseCode.REMOVED, "erased by the operator")]


async def test_statistics_become_numbers(admin: Admin) -> None:
    answer = await admin.answer(Observe())
    part = {"here": 3, "is_well": True, "by_verb_total": 7, "seconds": {"count": 5, "sum": 7.5}}
    assert answer["parts"] == {"part": part}


def test_every_request_has_a_verb() -> None:
    assert {*REQUESTS.values()} == {*Request.__args__}
