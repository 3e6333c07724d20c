"""Every store, and the lanes of a batch: after a refusal, nothing more of the same lane goes through."""

from attrs import evolve

from ironwire.ids import Address, GroupId
from ironwire.store.contract.operations import Append, Appended, Held, MailboxFull, Operation
from ironwire.store.contract.records import Quota
from tests.contract.builders import ANN, BOB, CAT, PHONE, append, change, envelope, mailbox_of, registered, texts
from tests.contract.conftest import OpenStore

TWO = Quota(mailbox_envelopes=2, mailbox_bytes=1_000_000, devices_per_client=3)
GROUP = GroupId("#" + "1" * 32)


def to(recipient: Address, text: str, lane: str | None) -> Append:
    return evolve(append(envelope(ANN, recipient, text)), lane=lane)


async def test_after_a_full_mailbox_the_rest_of_its_lane_is_held_and_other_lanes_are_not(open_store: OpenStore) -> None:
    async with open_store(TWO) as store:
        await registered(store, BOB, PHONE)
        await registered(store, CAT, PHONE)
        batch: list[Operation] = [
            to(BOB, "1", "here"),
            to(BOB, "2", "here"),
            to(BOB, "3", "here"),
            to(CAT, "4", "here"),
            evolve(change(GROUP, 0, {ANN: "admin"}), lane="here"),
            to(CAT, "5", "there"),
            to(CAT, "6", None),
        ]
        results = await store.apply(batch)
        assert [type(result) for result in results] == [Appended, Appended, MailboxFull, Held, Held, Appended, Appended]
        assert await store.group(GROUP) is None
        assert [text for _, text in await texts(store, await mailbox_of(store, CAT, PHONE))] == ["5", "6"]


async def test_the_next_batch_begins_anew(open_store: OpenStore) -> None:
    async with open_store(TWO) as store:
        await registered(store, BOB, PHONE)
        await registered(store, CAT, PHONE)
        await store.apply([to(BOB, text, "here") for text in "123"])
        assert type((await store.apply([to(CAT, "4", "here")]))[0]) is Appended


async def test_without_a_lane_nothing_is_held(open_store: OpenStore) -> None:
    async with open_store(TWO) as store:
        await registered(store, BOB, PHONE)
        await registered(store, CAT, PHONE)
        results = await store.apply([*(to(BOB, text, None) for text in "123"), to(CAT, "4", None)])
        assert [type(result) for result in results] == [Appended, Appended, MailboxFull, Appended]
