"""Removing a device, on a store whose commits can be held up."""

import trio
from trio.testing import wait_all_tasks_blocked

from ironwire.delivery.hub import Endpoint
from ironwire.handlers.devices import REMOVED, DeviceHandler
from ironwire.ids import DeviceId, MessageId
from ironwire.wire.messages import DeviceRemove
from tests.house import BOB, PHONE, House, taken

DESK = DeviceId("desk")


async def test_a_removal_ends_the_session_of_that_commit_and_not_one_that_registers_in_the_same_batch(
    house: House,
) -> None:
    handler = DeviceHandler(house.hub, house.delivery)
    desk, phone = await house.seat_device(BOB, DESK), await house.seat_device(BOB, PHONE)
    again: list[Endpoint] = []

    async def come_again() -> None:
        again.append(await house.seat_again(BOB, PHONE))

    house.store.release = trio.Event()
    house.delivery.touch_devices()
    await wait_all_tasks_blocked()  # now a batch is under way, and what is asked for waits for the next
    house.nursery.start_soon(handler.remove, desk, DeviceRemove(PHONE), MessageId("1"))
    await wait_all_tasks_blocked()
    house.nursery.start_soon(come_again)
    await wait_all_tasks_blocked()
    house.store.release.set()
    await wait_all_tasks_blocked()
    (newest,) = again
    assert (phone.outbox.ending, newest.outbox.ending) == (REMOVED, None)
    assert [box.device for box in await house.store.mailboxes_of(BOB)] == [DESK, PHONE]
    assert [frame["type"] for frame in taken(desk)] == ["device_removed"]
