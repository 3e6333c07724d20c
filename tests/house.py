"""A hub and its delivery without a server, on a store whose commits can be held up or fail."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ironwire.delivery.delivery import Delivery
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.delivery.outbox import Outbox
from ironwire.errors import StoreError
from ironwire.ids import ClientId, DeviceId
from ironwire.limits import Limits
from ironwire.protocol.auth import Principal
from ironwire.store.contract.operations import Operation, Result
from ironwire.store.contract.records import Mailbox, Quota
from ironwire.store.contract.store import Store
from ironwire.store.memory.store import MemoryStore

ALICE, BOB, CAROL = (ClientId(digit * 64) for digit in "abc")
PHONE = DeviceId("phone")
NOW_MS = 1_790_000_000_000
LIMITS = Limits()


class GatedStore(MemoryStore):
    """Commits while `release` is set, or fails if told to."""

    def __init__(self) -> None:
        super().__init__(Quota(LIMITS.mailbox_envelopes, LIMITS.mailbox_bytes, LIMITS.devices_per_client))
        self.release = trio.Event()
        self.release.set()
        self.batches: list[int] = []
        self.fails = False

    async def apply(self, batch: Sequence[Operation]) -> list[Result]:
        self.batches.append(len(batch))
        await self.release.wait()
        if self.fails:
            raise StoreError("the disk is gone")
        return await super().apply(batch)


class Rooms:
    """A hub and its delivery, on any store."""

    def __init__(self, nursery: trio.Nursery, store: Store, *, keeps_history: bool = False) -> None:
        self.nursery = nursery
        self.hub = Hub(sessions_per_client=LIMITS.sessions_per_client)
        self.delivery = Delivery(self.hub, store, lambda: NOW_MS, LIMITS, keeps_history=keeps_history)
        self._guests: dict[Endpoint, ExitStack] = {}
        nursery.start_soon(self.delivery.run)

    def seat(self, client: ClientId, *, most_frames: int = 100) -> Endpoint:
        """A seed session that stays."""
        outbox = Outbox(most_frames=most_frames, most_bytes=100_000, ring=lambda: None)
        endpoint = self._attach(Endpoint(Principal(client, None), outbox))
        self._open(endpoint)
        return endpoint

    async def seat_device(self, client: ClientId, device: DeviceId) -> Endpoint:
        endpoint = await self.seat_again(client, device)
        await wait_all_tasks_blocked()
        endpoint.outbox.take()  # caught_up
        return endpoint

    async def seat_again(self, client: ClientId, device: DeviceId) -> Endpoint:
        """A session of a device, which takes the place of one before it, from its registration on."""
        outbox = Outbox(most_frames=100, most_bytes=100_000, ring=lambda: None)
        pump = self.delivery.pump(outbox)
        endpoint = self._attach(Endpoint(Principal(client, device), outbox, pump))
        if not isinstance(await self.delivery.register(endpoint, lambda _: self._open(endpoint)), Mailbox):
            raise AssertionError("no room for this device")
        pump.begin(partial(self.nursery.start_soon, pump.run))
        return endpoint

    def leave(self, endpoint: Endpoint) -> None:
        """End the stay of somebody who was seated."""
        self._guests.pop(endpoint).close()

    def _attach(self, endpoint: Endpoint) -> Endpoint:
        self._guests[endpoint] = ExitStack()
        self._guests[endpoint].enter_context(self.hub.attached(endpoint))
        return endpoint

    def _open(self, endpoint: Endpoint) -> None:
        assert self.hub.open(endpoint)


class House(Rooms):
    """A hub and its delivery, on a store whose commits can be held up."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.store = GatedStore()
        super().__init__(nursery, self.store)


@pytest.fixture
def house(nursery: trio.Nursery) -> House:
    return House(nursery)


def taken(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in endpoint.outbox.take()]


def accepted(message_id: str) -> dict[str, Any]:
    return {"type": "accepted", "id": message_id, "payload": {"ts": NOW_MS}}


def text_from(client: ClientId, content: str) -> dict[str, Any]:
    return {"type": "text", "payload": {"from": client, "text": content}}
