"""What a blocked client sends goes nowhere, and nothing that it is told gives that away."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ironwire.close_codes import CloseCode
from ironwire.delivery.outbox import Ending
from ironwire.handlers.history import HistoryHandler
from ironwire.ids import ClientId, DeviceId, MessageId
from ironwire.limits import Limits
from ironwire.store.contract.operations import AddBlock, RemoveBlock
from ironwire.store.contract.records import Quota
from ironwire.store.memory.store import MemoryStore
from ironwire.wire.messages import File, History, Receipt, Text
from tests.house import ALICE, BOB, NOW_MS, PHONE, Rooms, taken

LAPTOP = DeviceId("laptop")
URL = "/media/00000000-0000-4000-8000-000000000000.bin"
LIMITS = Limits(mailbox_envelopes=2)


class House(Rooms):
    """A hub and its delivery, in one of two worlds: Bob has blocked Alice, or has not."""

    def __init__(self, nursery: trio.Nursery) -> None:
        store = MemoryStore(Quota.of(LIMITS))
        super().__init__(nursery, store, keeps_history=True)
        self.history = HistoryHandler(store, is_kept=True)


@pytest.fixture(params=["blocked", "not blocked"])
def is_blocked(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "blocked")


@pytest.fixture
async def house(nursery: trio.Nursery, is_blocked: bool) -> House:
    house = House(nursery)
    if is_blocked:
        await house.delivery.change(BOB, AddBlock(BOB, ALICE))
    return house


ACCEPTED = {"type": "accepted", "id": "1", "payload": {"ts": NOW_MS}}
DUPLICATE = {"type": "accepted", "id": "1", "payload": {"ts": NOW_MS, "duplicate": True}}
OFFLINE = {"type": "error", "id": "1", "payload": {"msg": "user_offline", "user": BOB}}
FULL = {"type": "error", "id": "1", "payload": {"msg": "mailbox_full", "user": BOB}}


# --- the same replies as ever: every test here runs in both worlds ---------------------------------------------------


@pytest.mark.parametrize("message", [Text(BOB, "Hello"), File(BOB, URL)])
async def test_between_seed_sessions(house: House, is_blocked: bool, message: Text | File) -> None:
    alice, bob = house.seat(ALICE), house.seat(BOB)
    house.delivery.envelopes.submit(alice, message, MessageId("1"))
    house.delivery.envelopes.submit(alice, message, None)
    assert taken(alice) == [ACCEPTED]
    assert len(taken(bob)) == (0 if is_blocked else 2)


async def test_to_one_who_is_not_there(house: House) -> None:
    alice = house.seat(ALICE)
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("1"))
    assert taken(alice) == [OFFLINE]


async def test_to_one_whose_only_session_is_ending(house: House) -> None:
    alice, bob = house.seat(ALICE), house.seat(BOB)
    bob.outbox.close(Ending(CloseCode.RESTART, "retry_ms=5000"))
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("1"))
    assert taken(alice) == [OFFLINE]


@pytest.mark.parametrize("message", [Text(BOB, "Hello"), File(BOB, URL), Receipt(BOB, [MessageId("0")], "read")])
async def test_to_a_mailbox(house: House, is_blocked: bool, message: Text | File | Receipt) -> None:
    alice = house.seat(ALICE)
    bob_phone = await house.seat_device(BOB, PHONE)
    for _ in range(2):
        house.delivery.envelopes.submit(alice, message, MessageId("1"))
    await wait_all_tasks_blocked()
    assert taken(alice) == [ACCEPTED, DUPLICATE]
    assert len(taken(bob_phone)) == (0 if is_blocked else 1)


async def test_from_a_device_to_a_seed_session(house: House, is_blocked: bool) -> None:
    alice_phone = await house.seat_device(ALICE, PHONE)
    alice_laptop = await house.seat_device(ALICE, LAPTOP)
    bob = house.seat(BOB)
    house.delivery.envelopes.submit(alice_phone, Text(BOB, "Hello"), MessageId("1"))
    await wait_all_tasks_blocked()
    assert taken(alice_phone) == [ACCEPTED]
    assert [frame["payload"]["to"] for frame in taken(alice_laptop)] == [BOB]
    assert len(taken(bob)) == (0 if is_blocked else 1)


async def test_from_a_device_to_one_who_is_not_there(house: House) -> None:
    alice_phone = await house.seat_device(ALICE, PHONE)
    house.delivery.envelopes.submit(alice_phone, Text(BOB, "Hello"), MessageId("1"))
    await wait_all_tasks_blocked()
    assert taken(alice_phone) == [OFFLINE]


async def test_a_receipt_to_one_without_a_device(house: House) -> None:
    alice, bob = house.seat(ALICE), house.seat(BOB)
    house.delivery.envelopes.submit(alice, Receipt(BOB, [MessageId("0")], "read"), MessageId("1"))
    assert taken(alice) == [OFFLINE]
    assert taken(bob) == []


async def test_to_a_full_mailbox(house: House) -> None:
    alice, carol = house.seat(ALICE), house.seat(ClientId("c" * 64))
    await house.seat_device(BOB, PHONE)
    for _ in range(LIMITS.mailbox_envelopes):
        house.delivery.envelopes.submit(carol, Text(BOB, "Hello"), None)
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("1"))
    await wait_all_tasks_blocked()
    assert taken(alice) == [FULL]


# --- what else a block is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_blocked", [True])
async def test_nothing_of_what_was_blocked_is_in_the_history_of_the_blocker(house: House, is_blocked: bool) -> None:
    alice, bob_phone = house.seat(ALICE), await house.seat_device(BOB, PHONE)
    house.delivery.envelopes.submit(alice, Text(BOB, "blocked"), None)
    house.delivery.envelopes.submit(bob_phone, Text(ALICE, "still said"), None)
    await wait_all_tasks_blocked()
    await house.history.page(bob_phone, History(ALICE, 9), None)
    *_, page = taken(bob_phone)
    assert [envelope["text"]["text"] for envelope in page["payload"]["envelopes"]] == ["still said"]


@pytest.mark.parametrize("is_blocked", [True])
async def test_a_block_goes_one_way_and_ends(house: House, is_blocked: bool) -> None:
    alice, bob = house.seat(ALICE), house.seat(BOB)
    house.delivery.envelopes.submit(bob, Text(ALICE, "Hello"), None)
    assert [frame["payload"]["text"] for frame in taken(alice)] == ["Hello"]
    await house.delivery.change(BOB, RemoveBlock(BOB, ALICE))
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello again"), None)
    assert [frame["payload"]["text"] for frame in taken(bob)] == ["Hello again"]
