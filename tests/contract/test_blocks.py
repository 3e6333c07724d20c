"""Blocks in the contract of `ironwire/store/contract/store.py`, promise by promise, on every store."""

from ironwire.store.contract.operations import (
    Acknowledge,
    AddBlock,
    Append,
    Appended,
    Blocked,
    Duplicate,
    MailboxFull,
    Operation,
    Placed,
    RemoveBlock,
    TooManyBlocks,
    Unblocked,
    Undeliverable,
)
from ironwire.store.contract.records import Quota
from ironwire.store.contract.store import Store
from tests.contract.builders import ANN, BOB, CAT, LAPTOP, PHONE, append, apply, envelope, mailbox_of, registered, texts
from tests.contract.conftest import OpenStore


async def test_a_block_holds_until_it_is_ended_and_in_one_direction(store: Store) -> None:
    assert await store.blocks_of(ANN) == frozenset()
    assert await store.apply([AddBlock(ANN, BOB), AddBlock(ANN, CAT), AddBlock(ANN, BOB)]) == [Blocked()] * 3
    assert await store.blocks_of(ANN) == {BOB, CAT}
    assert await store.blocks_of(BOB) == frozenset()
    assert await store.apply([RemoveBlock(ANN, BOB), RemoveBlock(ANN, BOB), RemoveBlock(BOB, CAT)]) == [Unblocked()] * 3
    assert await store.blocks_of(ANN) == {CAT}


async def test_a_client_blocks_so_many_and_no_more(open_store: OpenStore) -> None:
    async with open_store(Quota(99, 9_999, devices_per_client=1, blocks_per_client=1)) as store:
        results = await store.apply([AddBlock(ANN, BOB), AddBlock(ANN, CAT), AddBlock(ANN, BOB)])
        assert results == [Blocked(), TooManyBlocks(), Blocked()]
        assert await store.apply([RemoveBlock(ANN, BOB), AddBlock(ANN, CAT)]) == [Unblocked(), Blocked()]
        assert await store.blocks_of(ANN) == {CAT}


async def test_what_is_blocked_reaches_the_senders_own_devices_alone(store: Store) -> None:
    box, own = await registered(store, ANN, PHONE), await registered(store, BOB, LAPTOP)
    sent = append(envelope(BOB, ANN, "unwanted", device=PHONE, id="1"), is_archived=True)
    await apply(store, AddBlock(ANN, BOB))
    assert await apply(store, sent) == Appended((Placed(own.id, BOB, LAPTOP, 1, is_own=True),))
    assert await apply(store, sent) == Duplicate(1_000)
    assert await texts(store, box) == []
    assert (await mailbox_of(store, ANN, PHONE)).tail == 0
    assert await texts(store, own) == [(1, "unwanted")]
    assert [page.envelope.id for page in await store.read_history(BOB, ANN, before=None, limit=9)] == ["1"]
    assert await store.read_history(ANN, BOB, before=None, limit=9) == []
    await apply(store, Acknowledge(own.id, 1))
    assert await apply(store, sent) == Duplicate(1_000)


async def test_what_is_sent_meets_the_blocks_that_the_operations_before_it_left(store: Store) -> None:
    box = await registered(store, ANN, PHONE)

    def said(text: str) -> Append:
        return append(envelope(BOB, ANN, text))

    batch: list[Operation] = [
        said("1"),
        AddBlock(ANN, BOB),
        said("2"),
        RemoveBlock(ANN, BOB),
        said("3"),
        AddBlock(ANN, BOB),
    ]
    results = await store.apply(batch)
    assert [result.owed for result in results if isinstance(result, Appended)] == [(ANN,), (), (ANN,)]
    assert await apply(store, said("4")) == Appended(())
    assert await texts(store, box) == [(1, "1"), (2, "3")]


async def test_what_is_blocked_is_kept_from_those_without_a_mailbox_too(store: Store) -> None:
    await apply(store, AddBlock(ANN, BOB))
    assert await apply(store, append(envelope(BOB, ANN), is_live=True)) == Appended(())
    assert await apply(store, append(envelope(CAT, ANN), is_live=True)) == Appended((), owed=(ANN,))


async def test_a_block_that_was_erased_holds_no_more(store: Store) -> None:
    await store.apply([AddBlock(ANN, BOB), append(envelope(BOB, ANN), is_live=True)])
    await store.erase(ANN)
    assert await apply(store, append(envelope(BOB, ANN), is_live=True)) == Appended((), owed=(ANN,))


async def test_the_blocked_learn_of_absence_and_of_fullness_as_ever(open_store: OpenStore) -> None:
    async with open_store(Quota(mailbox_envelopes=1, mailbox_bytes=9_999, devices_per_client=1)) as store:
        sent = append(envelope(BOB, ANN, id="1"))
        await apply(store, AddBlock(ANN, BOB))
        assert await apply(store, sent) == Undeliverable()
        await registered(store, ANN, PHONE)
        await apply(store, append(envelope(CAT, ANN)))
        assert await apply(store, sent) == MailboxFull()
