"""What every store owes its operator: bans that last, and clients that are erased with all that is theirs alone."""

from ironwire.ids import DeviceId, MessageId
from ironwire.store.contract.maintenance import Erased
from ironwire.store.contract.operations import AddBlock, Appended, Duplicate
from ironwire.store.contract.store import Store
from tests.contract.builders import (
    ANN,
    BOB,
    CAT,
    LAPTOP,
    PHONE,
    append,
    apply,
    envelope,
    mailbox_of,
    registered,
    texts,
)


async def test_a_ban_holds_until_it_is_ended(store: Store) -> None:
    assert not store.glance.is_banned(ANN)
    assert await store.ban(ANN, 1_000)
    assert not await store.ban(ANN, 2_000)
    assert store.glance.is_banned(ANN)
    assert not store.glance.is_banned(BOB)
    assert await store.unban(ANN)
    assert not await store.unban(ANN)
    assert not store.glance.is_banned(ANN)


async def test_erasing_takes_what_is_the_clients_alone(store: Store) -> None:
    await registered(store, ANN, PHONE)
    await registered(store, ANN, LAPTOP)
    await registered(store, BOB, PHONE)
    await apply(store, append(envelope(BOB, ANN, "to ann", device=PHONE, id="1")))
    await apply(store, append(envelope(ANN, ANN, "to herself", device=PHONE, id="2")))
    erased = await store.erase(ANN)
    assert erased == Erased(devices=2, waiting=4, archived=0, blocks=0, left_to_others=0, log_entries=0)
    assert await store.mailboxes_of(ANN) == []
    assert not store.glance.mailbox_count(ANN)
    assert await texts(store, await mailbox_of(store, BOB, PHONE)) == []


async def test_what_others_are_owed_stays_theirs(store: Store) -> None:
    await registered(store, ANN, PHONE)
    bob = await registered(store, BOB, PHONE)
    await registered(store, BOB, LAPTOP)
    await apply(store, append(envelope(ANN, BOB, "from ann", device=PHONE, id="1")))
    await apply(store, append(envelope(BOB, ANN, "copy of bob's", device=LAPTOP, id="2")))
    erased = await store.erase(ANN)
    assert (erased.devices, erased.waiting, erased.left_to_others) == (1, 1, 2)
    assert await texts(store, bob) == [(1, "from ann"), (2, "copy of bob's")]


async def test_history_and_blocks_of_the_erased_are_forgotten_and_those_of_others_are_not(store: Store) -> None:
    await registered(store, BOB, PHONE)
    mine, theirs = envelope(ANN, BOB, "hello", id="1"), envelope(CAT, BOB, "hello", id="1")
    for sent in (mine, theirs):
        await apply(store, append(sent, is_archived=True))
    await apply(store, AddBlock(ANN, CAT))
    await apply(store, AddBlock(CAT, ANN))
    erased = await store.erase(ANN)
    assert (erased.archived, erased.blocks) == (1, 1)
    assert await store.blocks_of(ANN) == frozenset()
    assert await store.blocks_of(CAT) == {ANN}
    assert await store.read_history(BOB, ANN, before=None, limit=10) == []
    assert len(await store.read_history(BOB, CAT, before=None, limit=10)) == 1
    assert isinstance(await store.recall(CAT, None, MessageId("1"), append(theirs).digest), Duplicate)


async def test_who_was_erased_can_begin_anew(store: Store) -> None:
    before = await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN, "old", id="1")))
    await store.erase(ANN)
    after = await registered(store, ANN, PHONE)
    assert after.epoch != before.epoch
    assert (after.tail, after.waiting) == (0, 0)
    assert isinstance(await apply(store, append(envelope(BOB, ANN, "new", id="2"))), Appended)
    assert await texts(store, after) == [(1, "new")]


async def test_erasing_again_or_an_unknown_client_changes_nothing(store: Store) -> None:
    await registered(store, BOB, DeviceId("other"))
    assert await store.erase(ANN) == Erased(0, 0, 0, 0, 0, 0)
    assert len(await store.mailboxes_of(BOB)) == 1


async def test_the_depth_is_that_of_who_is_left(store: Store) -> None:
    await registered(store, ANN, PHONE)
    await registered(store, BOB, PHONE)
    await apply(store, append(envelope(CAT, ANN, "gone")))
    await apply(store, append(envelope(CAT, BOB, "stays")))
    await store.erase(ANN)
    statistics = store.statistics()
    assert (statistics.mailboxes, statistics.waiting_envelopes) == (1, 1)
