"""Backups of clients, as every store keeps them."""

import pytest

from ironwire.ids import BackupName
from ironwire.store.contract.records import Quota
from ironwire.store.contract.store import Store
from tests.contract.builders import ANN, BOB
from tests.contract.conftest import OpenStore

ONE, TWO, THREE = (BackupName(digit * 32) for digit in "123")


async def test_a_backup_is_found_by_its_name(store: Store) -> None:
    assert await store.backup(ONE) is None
    assert await store.keep_backup(ANN, ONE, b"first", 1_000) is None
    assert await store.keep_backup(BOB, TWO, b"\0" * 1_000_000, 1_000) is None
    assert await store.backup(ONE) == b"first"
    assert await store.backup(TWO) == b"\0" * 1_000_000
    assert await store.backup(THREE) is None


async def test_the_next_one_takes_its_place(store: Store) -> None:
    await store.keep_backup(ANN, ONE, b"first", 1_000)
    assert await store.keep_backup(ANN, ONE, b"second", 2_000) is None
    assert await store.backup(ONE) == b"second"


async def test_nobody_else_writes_under_the_name(store: Store) -> None:
    await store.keep_backup(ANN, ONE, b"of ann", 1_000)
    for body in (b"of bob", b""):
        assert await store.keep_backup(BOB, ONE, body, 2_000) == "not_yours"
    assert await store.backup(ONE) == b"of ann"


async def test_an_empty_one_removes_it(store: Store) -> None:
    await store.keep_backup(ANN, ONE, b"first", 1_000)
    assert await store.keep_backup(ANN, ONE, b"", 2_000) is None
    assert await store.keep_backup(ANN, TWO, b"", 2_000) is None
    assert await store.backup(ONE) is None
    assert await store.keep_backup(BOB, ONE, b"free again", 3_000) is None


async def test_a_client_has_two(store: Store) -> None:
    for name in (ONE, TWO):
        assert await store.keep_backup(ANN, name, b"mine", 1_000) is None
    assert await store.keep_backup(ANN, THREE, b"one too many", 1_000) == "too_many"
    assert await store.keep_backup(ANN, TWO, b"newer", 1_000) is None
    assert await store.keep_backup(BOB, THREE, b"of bob", 1_000) is None
    assert await store.backup(ONE) == b"mine"
    await store.keep_backup(ANN, ONE, b"", 1_000)
    assert await store.keep_backup(ANN, BackupName("4" * 32), b"again two", 1_000) is None


async def test_all_together_have_so_much_room(open_store: OpenStore) -> None:
    quota = Quota(mailbox_envelopes=1, mailbox_bytes=1_000, devices_per_client=1, backup_bytes=100)
    async with open_store(quota) as store:
        assert await store.keep_backup(ANN, ONE, bytes(60), 1_000) is None
        assert await store.keep_backup(BOB, TWO, bytes(41), 1_000) == "no_room"
        assert await store.keep_backup(BOB, TWO, bytes(40), 1_000) is None
        assert await store.keep_backup(ANN, ONE, bytes(61), 1_000) == "no_room"
        assert await store.keep_backup(ANN, ONE, b"x" * 60, 1_000) is None
        assert await store.backup(ONE) == b"x" * 60


async def test_erasing_a_client_takes_its_backups(store: Store) -> None:
    for client, name in ((ANN, ONE), (ANN, TWO), (BOB, THREE)):
        await store.keep_backup(client, name, b"kept", 1_000)
    await store.erase(ANN)
    assert [await store.backup(name) for name in (ONE, TWO, THREE)] == [None, None, b"kept"]


@pytest.mark.parametrize("days", [0, 10_000])
async def test_a_backup_stays_when_everything_else_expires(store: Store, days: int) -> None:
    await store.keep_backup(ANN, ONE, b"kept", 1_000)
    await store.expire(before_ms=days * 86_400_000, archived_before_ms=days * 86_400_000)
    assert await store.backup(ONE) == b"kept"
