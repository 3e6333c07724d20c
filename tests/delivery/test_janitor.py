"""`delivery/janitor.py` on a virtual clock: when it expires, when it scrubs, and what it counts as old."""

from collections.abc import Callable

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from ironwire.delivery.delivery import Delivery
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.delivery.janitor import DAY_MS, EXPIRE_SECONDS, SCRUB_SECONDS, Janitor
from ironwire.delivery.outbox import Outbox
from ironwire.errors import StoreError
from ironwire.limits import Limits
from ironwire.protocol.auth import Principal
from ironwire.store.contract.maintenance import Expired, StoreStatistics
from ironwire.store.contract.operations import Register
from ironwire.store.memory.store import MemoryStore
from tests.contract.builders import ANN, PHONE, WIDE, registered

START_MS = 100 * DAY_MS


class WatchedStore(MemoryStore):
    """Notes at which virtual second it was cleaned, and fails on demand."""

    def __init__(self) -> None:
        super().__init__(WIDE)
        self.scrubbed_at: list[float] = []
        self.expired: list[tuple[float, int, int]] = []
        self.is_failing = False

    async def expire(self, *, before_ms: int, archived_before_ms: int) -> Expired:
        self.expired.append((trio.current_time(), before_ms, archived_before_ms))
        return await super().expire(before_ms=before_ms, archived_before_ms=archived_before_ms)

    async def scrub(self) -> None:
        await super().scrub()
        self.scrubbed_at.append(trio.current_time())
        self.is_failing = False

    def statistics(self) -> StoreStatistics:
        return evolve(super().statistics(), is_failing=self.is_failing)


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


def now_ms() -> int:
    return START_MS + int(trio.current_time() * 1_000)


@pytest.fixture
def hub() -> Hub:
    return Hub(sessions_per_client=9)


@pytest.fixture
def delivery(hub: Hub, store: WatchedStore) -> Delivery:
    return Delivery(hub, store, now_ms, Limits(), keeps_history=False)


def janitor(
    store: WatchedStore,
    delivery: Delivery,
    *,
    retention_days: float = 30,
    history_days: float = 0,
    clock: Callable[[], int] = now_ms,
) -> Janitor:
    return Janitor(store, delivery, Limits(retention_days=retention_days), clock, history_days)


async def test_it_expires_at_the_start_and_every_hour(
    store: WatchedStore, delivery: Delivery, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(janitor(store, delivery, history_days=2).run)
    await trio.sleep(2.5 * EXPIRE_SECONDS)
    assert [at for at, *_ in store.expired] == [0, EXPIRE_SECONDS, 2 * EXPIRE_SECONDS]
    assert store.expired[0][1:] == (START_MS - 30 * DAY_MS, START_MS - 2 * DAY_MS)


async def test_nothing_expires_while_the_clock_is_not_believed(
    store: WatchedStore, delivery: Delivery, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    believed_from = 1.5 * EXPIRE_SECONDS
    clock_of = Janitor(
        store, delivery, Limits(), now_ms, 0, is_clock_believed=lambda: trio.current_time() >= believed_from
    )
    nursery.start_soon(clock_of.run)
    await trio.sleep(2.5 * EXPIRE_SECONDS)
    assert [at for at, *_ in store.expired] == [2 * EXPIRE_SECONDS]
    assert len(store.scrubbed_at) > 1, "what was erased is overwritten all the same"


async def test_without_a_history_nothing_archived_is_kept(
    store: WatchedStore, delivery: Delivery, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(janitor(store, delivery).run)
    await trio.sleep(1)
    assert store.expired[0][2] == START_MS


async def test_nothing_is_older_than_the_clock(
    store: WatchedStore, delivery: Delivery, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(janitor(store, delivery, clock=lambda: 5).run)
    await trio.sleep(1)
    assert store.expired[0][1] == 0


async def test_it_scrubs_within_a_minute_of_a_change_and_not_without_one(
    store: WatchedStore, delivery: Delivery, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(janitor(store, delivery).run)
    await trio.sleep(5 * SCRUB_SECONDS + 1)
    assert store.scrubbed_at == [0], "once at the start, for what a crash has left"
    await store.apply([Register(ANN, PHONE, 1)])
    await trio.sleep(5 * SCRUB_SECONDS)
    assert store.scrubbed_at == [0, 6 * SCRUB_SECONDS]


async def test_what_expired_is_scrubbed_too(
    store: WatchedStore, delivery: Delivery, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(janitor(store, delivery).run)
    await trio.sleep(EXPIRE_SECONDS + 1)
    assert store.scrubbed_at == [0, EXPIRE_SECONDS]


async def test_a_store_that_failed_is_tried_again_every_minute(
    store: WatchedStore, delivery: Delivery, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(janitor(store, delivery).run)
    await trio.sleep(1)
    store.is_failing = True
    await trio.sleep(SCRUB_SECONDS)
    assert store.scrubbed_at == [0, SCRUB_SECONDS]
    assert not store.is_failing


async def test_its_errors_are_its_callers(
    store: WatchedStore, delivery: Delivery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise StoreError("broken")

    monkeypatch.setattr(store, "scrub", fail)
    with pytest.raises(StoreError):
        await janitor(store, delivery).run()


async def test_a_device_with_a_live_session_is_seen_and_none_is_revived(
    store: WatchedStore, delivery: Delivery, hub: Hub, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    outbox = Outbox(most_frames=99, most_bytes=99_999, ring=lambda: None)
    endpoint = Endpoint(Principal(ANN, PHONE), outbox, delivery.pump(outbox))
    opened: list[bool] = []
    nursery.start_soon(delivery.run)
    nursery.start_soon(janitor(store, delivery, retention_days=0.5).run)
    with hub.attached(endpoint):
        await delivery.register(endpoint, lambda _: opened.append(hub.open(endpoint)))
        await trio.sleep(2 * DAY_MS / 1_000)
        (seen,) = await store.mailboxes_of(ANN)
        assert now_ms() - seen.seen_ms <= EXPIRE_SECONDS * 1_000
        await delivery.remove(ANN, PHONE, lambda: None)
        await trio.sleep(2 * EXPIRE_SECONDS)
        assert await store.mailboxes_of(ANN) == []
    await registered(store, ANN, PHONE, now_ms=now_ms())
    await trio.sleep(DAY_MS / 1_000)
    assert await store.mailboxes_of(ANN) == []
