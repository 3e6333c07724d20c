"""Revoking a device, on a store whose commits can be held up."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ironwire.crypto.signing import DeviceKey, Identity
from ironwire.delivery.hub import Endpoint
from ironwire.errors import StoreError
from ironwire.handlers.device_log import REVOKED, DeviceLogHandler
from ironwire.ids import DeviceId, MessageId
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp, sign_entry
from ironwire.store.contract.operations import Register
from ironwire.wire.messages import DeviceLogAppend
from tests.contract.builders import logged
from tests.house import NOW_MS, PHONE, House, taken

DESK = DeviceId("desk")
ALICE = Identity.from_seed(b"alice".ljust(32))
KEY = DeviceKey.from_seed(b"phone".ljust(32)).public_key


async def test_a_revocation_ends_the_session_of_that_commit_and_not_one_that_registers_in_the_same_batch(
    house: House,
) -> None:
    """The one that comes back has proven the identity's key, and gets a new mailbox under the old name."""
    client, log = ALICE.client_id, DeviceLog(ALICE.public_key)
    added = sign_entry(ALICE, log.next_entry(LogOp.ADD, [KEY], time_ms=NOW_MS))
    await house.store.apply([logged(added), Register(client, PHONE, NOW_MS, KEY.raw)])
    removed = sign_entry(ALICE, log.append(added).next_entry(LogOp.REMOVE, [KEY], time_ms=NOW_MS))
    handler = DeviceLogHandler(house.hub, house.delivery, house.store, lambda: NOW_MS)
    desk, phone = await house.seat_device(client, DESK), await house.seat_device(client, PHONE)
    again: list[Endpoint] = []

    async def come_again() -> None:
        again.append(await house.seat_again(client, PHONE))

    house.store.release = trio.Event()
    house.delivery.touch_devices()
    await wait_all_tasks_blocked()  # now a batch is under way, and what is asked for waits for the next
    request = DeviceLogAppend(removed.entry.encode().hex(), removed.signature.hex())
    house.nursery.start_soon(handler.append, desk, request, MessageId("1"))
    await wait_all_tasks_blocked()
    house.nursery.start_soon(come_again)
    await wait_all_tasks_blocked()
    house.store.release.set()
    await wait_all_tasks_blocked()
    (newest,) = again
    assert (phone.outbox.ending, newest.outbox.ending) == (REVOKED, None)
    assert [box.device_key for box in await house.store.mailboxes_of(client)] == [None, None]
    assert sorted(frame["type"] for frame in taken(desk)) == ["accepted", "device_log_changed"]


async def test_a_store_that_fails_revokes_nobody(house: House) -> None:
    client, log = ALICE.client_id, DeviceLog(ALICE.public_key)
    added = sign_entry(ALICE, log.next_entry(LogOp.ADD, [KEY], time_ms=NOW_MS))
    await house.store.apply([logged(added), Register(client, PHONE, NOW_MS, KEY.raw)])
    removed = sign_entry(ALICE, log.append(added).next_entry(LogOp.REMOVE, [KEY], time_ms=NOW_MS))
    handler = DeviceLogHandler(house.hub, house.delivery, house.store, lambda: NOW_MS)
    desk, phone = await house.seat_device(client, DESK), await house.seat_device(client, PHONE)
    house.store.fails = True
    request = DeviceLogAppend(removed.entry.encode().hex(), removed.signature.hex())
    with pytest.raises(StoreError):
        await handler.append(desk, request, MessageId("1"))
    assert (phone.outbox.ending, taken(desk)) == (None, [])
