"""Devices are asked to commit what is to be committed, whatever becomes of the store, of them and of others."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ironwire.crypto.signing import PublicKey
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.delivery.outbox import Outbox
from ironwire.errors import StoreError
from ironwire.handlers.tasks import TaskHandler
from ironwire.ids import ClientId, Role
from ironwire.protocol.auth import Principal
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.conversations.tasks import LEASE_SECONDS
from ironwire.store.contract.operations import AskedToRejoin, AskToRejoin, Remove
from ironwire.store.memory.store import MemoryStore
from tests.contract.builders import ANN, BOB, LAPTOP, PHONE, WIDE, apply, commit, keyed, state

PAIR = pair_id(ANN, BOB)
BOTH: dict[ClientId, Role] = {ANN: "admin", BOB: "admin"}
K1, K2, K3 = (bytes([number]) * 32 for number in range(1, 4))


@pytest.fixture
async def store() -> MemoryStore:
    """Ann with two devices and Bob with one, all in one conversation."""
    store = MemoryStore(WIDE)
    leaves = [
        await keyed(store, client, device, key)
        for client, device, key in ((ANN, PHONE, K1), (ANN, LAPTOP, K2), (BOB, PHONE, K3))
    ]
    await apply(store, commit(state(PAIR, 1, 1, BOTH, *leaves), leaves[0], PHONE, seen=(0, 0)))
    return store


@contextmanager
def here(hub: Hub, client: ClientId, key: bytes) -> Iterator[Endpoint]:
    outbox = Outbox(most_frames=100, most_bytes=100_000, ring=lambda: None)
    endpoint = Endpoint(Principal(client, PHONE if key != K2 else LAPTOP, PublicKey(key)), outbox)
    with ExitStack() as stay:
        stay.enter_context(hub.attached(endpoint))
        assert hub.open(endpoint)
        yield endpoint


def asked(endpoint: Endpoint) -> list[dict[str, Any]]:
    frames = [json.loads(frame) for frame in endpoint.outbox.take()]
    return [frame["payload"] for frame in frames if frame["type"] == "mls_task"]


async def test_a_store_that_fails_loses_no_task(
    store: MemoryStore, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise StoreError("the disk is gone")

    hub = Hub(sessions_per_client=9)
    tasks = TaskHandler(hub, store)
    await apply(store, AskToRejoin(Leaf(BOB, K3), (PAIR,)))
    with here(hub, ANN, K1) as ann:
        tasks.arrived(ann)
        for read in ("conversations_with_tasks", "tasks"):
            with monkeypatch.context() as broken:
                broken.setattr(store, read, fail)
                with pytest.raises(StoreError):
                    await tasks.ask()
        await tasks.ask()
        assert [task["readd"] for task in asked(ann)] == [[{"client": BOB, "device_key": K3.hex()}]]
    assert tasks.statistics().asked_total == 1


async def test_a_device_that_leaves_is_followed_at_once(store: MemoryStore, autojump_clock: MockClock) -> None:
    hub = Hub(sessions_per_client=9)
    tasks = TaskHandler(hub, store)
    operation = AskToRejoin(Leaf(BOB, K3), (PAIR,))
    tasks.watch(operation, await apply(store, operation))
    with here(hub, ANN, K2) as laptop:
        with here(hub, ANN, K1) as phone:
            await tasks.ask()
            assert (len(asked(phone)), asked(laptop)) == (1, [])
        tasks.left(phone)
        await tasks.ask()
        assert len(asked(laptop)) == 1
        await tasks.ask()
        assert asked(laptop) == []
        await trio.sleep(LEASE_SECONDS)
        await tasks.ask()
        assert len(asked(laptop)) == 1


async def test_nobody_is_asked_for_what_is_done_or_by_a_failed_batch(
    store: MemoryStore, autojump_clock: MockClock
) -> None:
    hub = Hub(sessions_per_client=9)
    tasks = TaskHandler(hub, store)
    with here(hub, ANN, K1) as ann:
        tasks.arrived(ann)
        tasks.watch(Remove(ANN, LAPTOP), StoreError("the disk is gone"))
        tasks.watch(AskToRejoin(Leaf(BOB, K3), (PAIR,)), AskedToRejoin((PAIR,)))
        await tasks.ask()
        removal = Remove(ANN, LAPTOP)
        tasks.watch(removal, await apply(store, removal))
        await tasks.ask()
        assert [task["remove"] for task in asked(ann)] == [[{"client": ANN, "device_key": K2.hex()}]]
        done = commit(state(PAIR, 1, 2, BOTH, Leaf(ANN, K1), None, Leaf(BOB, K3)), Leaf(ANN, K1), PHONE)
        tasks.watch(done, await apply(store, done))
        await trio.sleep(2 * LEASE_SECONDS)
        await tasks.ask()
        assert asked(ann) == []
