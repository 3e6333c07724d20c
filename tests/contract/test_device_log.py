"""Device logs in the contract of `ironwire/store/contract/store.py`, promise by promise, on every store."""

from collections.abc import Sequence

import pytest
from attrs import evolve

from ironwire.crypto.signing import PublicKey
from ironwire.ids import ClientId, DeviceId
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import FIRST_PREV, LogEntry, LogOp, SignedEntry
from ironwire.store.contract.device_log import KeptEntry, LogPage
from ironwire.store.contract.operations import (
    AlreadyLogged,
    DeviceNameTaken,
    DeviceNotLogged,
    Logged,
    LogMoved,
    LogRefused,
    Operation,
    Register,
    TooManyDevices,
)
from ironwire.store.contract.records import Mailbox, Quota
from ironwire.store.contract.store import Store
from tests.contract.builders import (
    ANN,
    BOB,
    LAPTOP,
    PHONE,
    TABLET,
    append,
    apply,
    envelope,
    log_entry,
    logged,
    mailbox_of,
    registered,
    texts,
)
from tests.contract.conftest import OpenStore

K1, K2, K3, K4 = (bytes([number]) * 32 for number in range(1, 5))


def _empty(client: ClientId = ANN) -> DeviceLog:
    return DeviceLog(PublicKey(bytes.fromhex(client)))


async def _append(store: Store, *changes: tuple[LogOp, Sequence[bytes]], client: ClientId = ANN) -> DeviceLog:
    """Put entries into a log that is empty until now."""
    log = _empty(client)
    for op, keys in changes:
        entry = log_entry(log, op, *keys)
        result = await apply(store, logged(entry))
        assert isinstance(result, Logged)
        log = log.append(entry)
    return log


async def _bound(store: Store, device: DeviceId, key: bytes, now_ms: int = 1_000) -> Mailbox:
    result = await apply(store, Register(ANN, device, now_ms, key))
    assert isinstance(result, Mailbox)
    return result


def _kept(log: DeviceLog) -> list[KeptEntry]:
    return [KeptEntry(each.entry.encode(), each.signature) for each in log.entries]


# --- the chain -------------------------------------------------------------------------------------------------------


async def test_a_log_is_read_page_by_page(store: Store) -> None:
    assert await store.device_log(ANN, first=0, limit=9) is None
    log = await _append(store, (LogOp.ADD, [K1]), (LogOp.ADD, [K2]), (LogOp.REMOVE, [K1]))
    assert log.head is not None
    kept = _kept(log)
    for first, limit, expected in [(0, 9, kept), (0, 2, kept[:2]), (2, 9, kept[2:]), (3, 9, []), (99, 9, [])]:
        assert await store.device_log(ANN, first=first, limit=limit) == LogPage(expected, log.head)
    assert await store.device_log(BOB, first=0, limit=9) is None


async def test_an_entry_is_taken_only_where_it_follows(store: Store) -> None:
    first, other = (log_entry(_empty(), LogOp.ADD, key) for key in (K1, K2))
    second = log_entry(_empty().append(first), LogOp.ADD, K2)
    third = log_entry(_empty().append(first, second), LogOp.REMOVE, K1)
    assert await apply(store, logged(second)) == LogMoved(None)
    assert isinstance(await apply(store, logged(first)), Logged)
    assert await apply(store, logged(other)) == LogMoved(first.head)
    assert await apply(store, logged(third)) == LogMoved(first.head)
    strange = evolve(second, entry=evolve(second.entry, prev=other.head.hash))
    assert await apply(store, logged(strange)) == LogMoved(first.head)
    assert await apply(store, logged(first)) == AlreadyLogged()
    assert isinstance(await apply(store, logged(second)), Logged)
    assert await apply(store, logged(first)) == AlreadyLogged()
    assert await store.device_log(ANN, first=0, limit=9) == LogPage(_kept(_empty().append(first, second)), second.head)


async def test_of_two_entries_for_one_place_in_a_batch_the_first_is_taken(store: Store) -> None:
    first, other = (log_entry(_empty(), LogOp.ADD, key) for key in (K1, K2))
    results = await store.apply([logged(first), logged(other), logged(first)])
    assert [type(result) for result in results] == [Logged, LogMoved, AlreadyLogged]


async def test_the_rules_of_logs_hold(store: Store) -> None:
    log = await _append(store, (LogOp.ADD, [K1]), (LogOp.ADD, [K2]), (LogOp.REMOVE, [K1]))
    assert log.head is not None

    def forced(op: LogOp, *keys: bytes) -> SignedEntry:
        assert log.head is not None
        devices = tuple(map(PublicKey, keys))
        return SignedEntry(LogEntry(log.client, 3, log.head.hash, op, False, 1_000, devices), bytes(64))

    for entry in [forced(LogOp.ADD, K1), forced(LogOp.ADD, K2), forced(LogOp.REMOVE, K3), forced(LogOp.SNAPSHOT, K1)]:
        assert isinstance(await apply(store, logged(entry)), LogRefused)
    assert await store.device_log(ANN, first=0, limit=9) == LogPage(_kept(log), log.head)


async def test_a_log_begins_at_its_beginning(store: Store) -> None:
    """A reader may begin with a snapshot; the store keeps all of a log."""
    snapshot = LogEntry(_empty().client, 5, K4, LogOp.SNAPSHOT, True, 1_000, (PublicKey(K1),))
    assert await apply(store, logged(SignedEntry(snapshot, bytes(64)))) == LogMoved(None)
    at_zero = evolve(snapshot, index=0, prev=FIRST_PREV)
    assert isinstance(await apply(store, logged(SignedEntry(at_zero, bytes(64)))), Logged)


async def test_a_log_has_as_many_devices_as_a_client_may(open_store: OpenStore) -> None:
    async with open_store(Quota(99, 9_999, devices_per_client=2)) as store:
        log = await _append(store, (LogOp.ADD, [K1]), (LogOp.ADD, [K2]))
        assert await apply(store, logged(log_entry(log, LogOp.ADD, K3))) == TooManyDevices()
        assert await apply(store, logged(log_entry(log, LogOp.SNAPSHOT, K1, K2, K3))) == TooManyDevices()
        assert isinstance(await apply(store, logged(log_entry(log, LogOp.SNAPSHOT, K3, K4))), Logged)


# --- devices and their mailboxes -------------------------------------------------------------------------------------


async def test_a_mailbox_belongs_to_a_key_that_is_in_the_log(store: Store) -> None:
    assert await apply(store, Register(ANN, PHONE, 1_000, K1)) == DeviceNotLogged("unknown")
    log = await _append(store, (LogOp.ADD, [K1]), (LogOp.ADD, [K2]))
    box = await _bound(store, PHONE, K1)
    assert (box.device_key, box.session) == (K1, 1)
    again = await _bound(store, PHONE, K1)
    assert (again.id, again.session) == (box.id, 2)
    assert (await mailbox_of(store, ANN, PHONE)).device_key == K1
    assert await apply(store, Register(ANN, PHONE, 1_000, K2)) == DeviceNameTaken()
    assert await apply(store, Register(ANN, LAPTOP, 1_000, K1)) == DeviceNameTaken()
    assert await apply(store, Register(BOB, PHONE, 1_000, K1)) == DeviceNotLogged("unknown")
    await apply(store, logged(log_entry(log, LogOp.REMOVE, K1)))
    assert await apply(store, Register(ANN, PHONE, 1_000, K1)) == DeviceNotLogged("removed")
    assert (await _bound(store, PHONE, K2)).epoch != box.epoch


async def test_a_device_that_had_no_key_keeps_its_mailbox_when_it_gets_one(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    other = await registered(store, ANN, LAPTOP)
    await apply(store, append(envelope(BOB, ANN, "early")))
    await _append(store, (LogOp.ADD, [K1]))
    bound = await _bound(store, PHONE, K1)
    assert (bound.id, bound.device_key) == (box.id, K1)
    assert [text for _, text in await texts(store, bound)] == ["early", "0"]
    plain = await registered(store, ANN, PHONE)
    assert (plain.id, plain.device_key) == (box.id, K1)
    assert (await mailbox_of(store, ANN, LAPTOP)) == evolve(other, tail=2, waiting=2, waiting_bytes=plain.waiting_bytes)


async def test_a_removal_takes_the_mailbox_along_and_tells_all_others(store: Store) -> None:
    log = await _append(store, (LogOp.ADD, [K1]), (LogOp.ADD, [K2]))
    phone, laptop = await _bound(store, PHONE, K1), await _bound(store, LAPTOP, K2)
    tablet, bobs = await registered(store, ANN, TABLET), await registered(store, BOB, PHONE)
    await apply(store, append(envelope(BOB, ANN, "hello")))
    result = await apply(store, logged(log_entry(log, LogOp.REMOVE, K2)))
    assert isinstance(result, Logged)
    assert result.removed == (LAPTOP,)
    assert [(place.device, place.seq, place.is_own) for place in result.stored.placed] == [
        (PHONE, 2, False),
        (TABLET, 2, False),
    ]
    assert result.stored.owed == (ANN,)
    assert {box.id for box in await store.mailboxes_of(ANN)} == {phone.id, tablet.id}
    assert await texts(store, laptop) == []
    assert [text for _, text in await texts(store, phone)] == ["hello", "2"]
    assert [text for _, text in await texts(store, bobs)] == ["hello"]


async def test_a_snapshot_takes_the_mailboxes_of_all_whom_it_does_not_name(store: Store) -> None:
    log = await _append(store, (LogOp.ADD, [K1]), (LogOp.ADD, [K2]))
    await _bound(store, PHONE, K1)
    await _bound(store, LAPTOP, K2)
    result = await apply(store, logged(log_entry(log, LogOp.SNAPSHOT, K3)))
    assert isinstance(result, Logged)
    assert sorted(result.removed) == [LAPTOP, PHONE]
    assert await store.mailboxes_of(ANN) == []


async def test_what_is_left_of_a_large_mailbox_is_erased_afterwards(open_store: OpenStore) -> None:
    async with open_store(Quota(2_000, 10**6, devices_per_client=2)) as store:
        log = await _append(store, (LogOp.ADD, [K1]))
        box = await _bound(store, PHONE, K1)
        await store.apply([append(envelope(BOB, ANN, str(number))) for number in range(600)])
        result = await apply(store, logged(log_entry(log, LogOp.REMOVE, K1)))
        assert isinstance(result, Logged)
        rest: list[Operation] = [*result.rest]
        await store.apply(rest)
        assert await texts(store, box) == []
        assert store.statistics().waiting_envelopes == 0


async def test_a_full_mailbox_does_not_keep_a_device_from_being_removed(open_store: OpenStore) -> None:
    async with open_store(Quota(1, 9_999, devices_per_client=2)) as store:
        log = await _append(store, (LogOp.ADD, [K1]))
        box = await _bound(store, PHONE, K1)
        await apply(store, append(envelope(BOB, ANN, "fills it")))
        result = await apply(store, logged(log_entry(log, LogOp.ADD, K2)))
        assert isinstance(result, Logged)
        assert [(lost.mailbox, lost.seq) for lost in result.stored.lost] == [(box.id, 2)]


# --- how long a log lives --------------------------------------------------------------------------------------------


async def test_a_log_survives_the_last_device(store: Store) -> None:
    log = await _append(store, (LogOp.ADD, [K1]))
    assert log.head is not None
    await _bound(store, PHONE, K1, now_ms=1_000)
    expired = await store.expire(before_ms=2_000, archived_before_ms=0)
    assert expired.devices == 1
    assert await store.device_log(ANN, first=0, limit=9) == LogPage(_kept(log), log.head)
    assert (await _bound(store, PHONE, K1)).device_key == K1


@pytest.mark.parametrize("changes", [1, 3])
async def test_an_erased_client_has_no_log(store: Store, changes: int) -> None:
    steps: list[tuple[LogOp, Sequence[bytes]]] = [(LogOp.ADD, [K1]), (LogOp.ADD, [K2]), (LogOp.REMOVE, [K1])]
    await _append(store, *steps[:changes])
    await _append(store, *steps, client=BOB)
    assert (await store.erase(ANN)).log_entries == changes
    assert await store.device_log(ANN, first=0, limit=9) is None
    assert await apply(store, Register(ANN, PHONE, 1_000, K1)) == DeviceNotLogged("unknown")
    assert await store.device_log(BOB, first=0, limit=9) is not None
    assert isinstance(await apply(store, logged(log_entry(_empty(), LogOp.ADD, K1))), Logged)
