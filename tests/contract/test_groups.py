"""Groups in the contract of `ironwire/store/contract/store.py`, promise by promise, on every store."""

from hashlib import blake2b

import orjson
import pytest
import trio

from ironwire.ids import ClientId, DeviceId, GroupId, MessageId, Role
from ironwire.store.contract.directory import Group
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.operations import (
    Acknowledge,
    Appended,
    ChangeGroup,
    Duplicate,
    EpochPassed,
    IdTaken,
    LostPlace,
    NotMember,
    Placed,
    Register,
    Remove,
    TooManyGroups,
)
from ironwire.store.contract.records import Envelope, Quota
from ironwire.store.contract.store import Store
from tests.contract.builders import (
    ANN,
    BOB,
    CAT,
    LAPTOP,
    PHONE,
    WIDE,
    append,
    apply,
    change,
    envelope,
    mailbox_of,
    registered,
    texts,
)
from tests.contract.conftest import OpenStore

CLUB, OTHER = GroupId("#" + "1" * 32), GroupId("#" + "2" * 32)


async def test_a_group_is_made_changed_and_ended_an_epoch_at_a_time(store: Store) -> None:
    assert await store.group(CLUB) is None
    await apply(store, change(CLUB, 0, {ANN: "admin", BOB: "member"}, name="club"))
    assert await store.group(CLUB) == Group(CLUB, 1, "club", {ANN: "admin", BOB: "member"})
    await apply(store, change(CLUB, 1, {ANN: "member", CAT: "member", BOB: "admin"}))
    group = await store.group(CLUB)
    assert group == Group(CLUB, 2, None, {ANN: "member", BOB: "admin", CAT: "member"})
    assert list(group.roles) == [ANN, BOB, CAT]
    await apply(store, change(CLUB, 2, {}))
    assert await store.group(CLUB) is None
    assert await apply(store, change(CLUB, 3, {ANN: "admin"})) == EpochPassed()


async def test_of_two_changes_from_one_epoch_one_wins_in_one_batch_and_across(store: Store) -> None:
    await apply(store, change(CLUB, 0, {ANN: "admin"}))
    first, second = (change(CLUB, 1, {ANN: "admin", client: "member"}) for client in (BOB, CAT))
    results = await store.apply([first, second])
    assert isinstance(results[0], Appended)
    assert results[1] == EpochPassed()
    assert await store.group(CLUB) == Group(CLUB, 2, None, {ANN: "admin", BOB: "member"})
    assert await apply(store, second) == EpochPassed()
    outcomes = []

    async def add(client: ClientId) -> None:
        outcomes.append(type(await apply(store, change(CLUB, 2, {ANN: "admin", client: "member"}))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(add, BOB)
        nursery.start_soon(add, CAT)
    assert sorted(outcomes, key=lambda outcome: outcome.__name__) == [Appended, EpochPassed]
    assert await apply(store, change(CLUB, 0, {ANN: "admin"})) == EpochPassed()


async def test_groups_are_listed_in_the_order_in_which_a_client_joined_them(store: Store) -> None:
    await store.apply([change(CLUB, 0, {ANN: "admin"}), change(OTHER, 0, {BOB: "admin", ANN: "member"})])
    await apply(store, change(CLUB, 1, {ANN: "admin", BOB: "member"}))
    assert [group.group for group in await store.groups_of(ANN)] == [CLUB, OTHER]
    assert [group.group for group in await store.groups_of(BOB)] == [OTHER, CLUB]
    assert await store.groups_of(CAT) == []
    await apply(store, change(CLUB, 2, {BOB: "admin"}))
    await apply(store, change(CLUB, 3, {BOB: "admin", ANN: "member"}))
    assert [group.group for group in await store.groups_of(ANN)] == [OTHER, CLUB]


async def test_a_message_goes_to_all_devices_of_all_members_except_the_one_that_sent_it(store: Store) -> None:
    boxes = [await registered(store, client, device) for client in (ANN, BOB) for device in (PHONE, LAPTOP)]
    outsider = await registered(store, CAT, PHONE)
    await apply(store, change(CLUB, 0, {BOB: "admin", ANN: "member"}))
    sent = envelope(ANN, CLUB, "hi", device=PHONE, id="1")
    assert await apply(store, append(sent)) == Appended(
        (
            Placed(boxes[2].id, BOB, PHONE, 2, is_own=False),
            Placed(boxes[3].id, BOB, LAPTOP, 2, is_own=False),
            Placed(boxes[1].id, ANN, LAPTOP, 2, is_own=False),
        ),
        owed=(BOB, ANN),
    )
    assert [entry.envelope for entry in await store.read(boxes[1].id, after=1, limit=9)] == [sent]
    assert (await mailbox_of(store, ANN, PHONE)).tail == 1
    assert await mailbox_of(store, CAT, PHONE) == outsider


async def test_a_group_without_mailboxes_takes_what_its_members_say(store: Store) -> None:
    await apply(store, change(CLUB, 0, {ANN: "admin", BOB: "member"}))
    assert await apply(store, append(envelope(ANN, CLUB, id="1"))) == Appended((), owed=(ANN, BOB))
    assert await apply(store, append(envelope(ANN, CLUB, id="1", ts=2_000))) == Duplicate(1_000, CLUB)


async def test_only_who_is_a_member_at_the_commit_can_write(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    assert await apply(store, append(envelope(BOB, CLUB))) == NotMember()
    results = await store.apply(
        [
            change(CLUB, 0, {ANN: "admin"}),
            append(envelope(BOB, CLUB, "before", id="before")),
            change(CLUB, 1, {ANN: "admin", BOB: "member"}),
            append(envelope(BOB, CLUB, "during", id="during")),
            change(CLUB, 2, {ANN: "admin"}),
            append(envelope(BOB, CLUB, "after", id="after")),
            append(envelope(BOB, CLUB, "during", id="during")),
        ]
    )
    assert [type(result) for result in results] == [
        Appended,
        NotMember,
        Appended,
        Appended,
        Appended,
        NotMember,
        Duplicate,
    ]
    assert [text for _, text in await texts(store, box)] == ["1", "2", "during", "3"]


async def test_a_change_is_told_to_all_who_were_members_or_are_also_where_it_was_asked_for(store: Store) -> None:
    ann, bob, cat = [await registered(store, client, PHONE) for client in (ANN, BOB, CAT)]
    await apply(store, change(CLUB, 0, {ANN: "admin", BOB: "member"}, device=PHONE))
    result = await apply(store, change(CLUB, 1, {ANN: "admin", CAT: "member"}, device=PHONE))
    assert isinstance(result, Appended)
    assert [(place.client, place.seq) for place in result.placed] == [(ANN, 2), (BOB, 2), (CAT, 1)]
    assert result.owed == (ANN, BOB, CAT)
    await apply(store, append(envelope(ANN, CLUB, "for members")))
    assert await texts(store, ann) == [(1, "1"), (2, "2"), (3, "for members")]
    assert await texts(store, bob) == [(1, "1"), (2, "2")]
    assert await texts(store, cat) == [(1, "2"), (2, "for members")]


async def test_a_full_mailbox_loses_its_place_and_silences_nobody(open_store: OpenStore) -> None:
    async with open_store(Quota(mailbox_envelopes=2, mailbox_bytes=10_000, devices_per_client=3)) as store:
        full, other = await registered(store, ANN, PHONE), await registered(store, BOB, PHONE)
        await apply(store, change(CLUB, 0, {ANN: "admin", BOB: "member"}))
        await store.apply([Acknowledge(other.id, 1), append(envelope(CAT, ANN, "direct"))])
        lost = await store.apply([append(envelope(BOB, CLUB, "lost")), change(CLUB, 1, {ANN: "admin", BOB: "admin"})])
        assert [[place.client for place in result.placed] for result in lost if isinstance(result, Appended)] == [
            [BOB],
            [BOB],
        ]
        assert [result.lost for result in lost if isinstance(result, Appended)] == [
            (LostPlace(full.id, 3),),
            (LostPlace(full.id, 4),),
        ]
        assert await texts(store, full) == [(1, "1"), (2, "direct")]
        assert ((await mailbox_of(store, ANN, PHONE)).tail, (await mailbox_of(store, ANN, PHONE)).waiting) == (4, 2)
        await store.apply([Acknowledge(full.id, 4), append(envelope(BOB, CLUB, "again"))])
        assert await texts(store, full) == [(5, "again")]
        assert (await mailbox_of(store, ANN, PHONE)).waiting == 1


TINY = Quota(mailbox_envelopes=1, mailbox_bytes=10_000, devices_per_client=3, lost_groups=2)


async def test_a_group_whose_change_was_lost_to_fullness_is_named_until_that_is_acknowledged(
    open_store: OpenStore,
) -> None:
    async with open_store(TINY) as store:
        box = await registered(store, ANN, PHONE)
        await apply(store, change(CLUB, 0, {ANN: "member", BOB: "admin"}))
        await apply(store, append(envelope(BOB, CLUB)))
        assert await store.losses(box.id, 2, 2) == [Loss(2, 2, "full")]
        await apply(store, change(CLUB, 1, {BOB: "admin"}))
        await apply(store, change(OTHER, 0, {ANN: "member", BOB: "admin"}))
        await apply(store, append(envelope(BOB, OTHER)))
        assert await store.losses(box.id, 2, 5) == [Loss(2, 5, "full", (CLUB, OTHER))]
        assert await store.losses(box.id, 2, 3) == [Loss(2, 3, "full", (CLUB,))]
        await apply(store, Acknowledge(box.id, 3))
        assert await store.losses(box.id, 4, 5) == [Loss(4, 5, "full", (OTHER,))]


async def test_a_group_whose_change_has_expired_is_named(open_store: OpenStore) -> None:
    async with open_store(TINY) as store:
        box = await registered(store, ANN, PHONE, now_ms=9_000)
        await apply(store, change(CLUB, 0, {ANN: "member", BOB: "admin"}, ts=1))
        await apply(store, change(CLUB, 1, {BOB: "admin"}, ts=1))
        await store.expire(before_ms=5_000, archived_before_ms=5_000)
        assert await store.losses(box.id, 1, 2) == [Loss(1, 1, "expired", (CLUB,)), Loss(2, 2, "full", (CLUB,))]


async def test_more_groups_than_are_remembered_are_not_named_and_that_is_said(open_store: OpenStore) -> None:
    """Somebody who makes group after group cannot fill the disk in the name of one who is away."""
    async with open_store(TINY) as store:
        box = await registered(store, ANN, PHONE)
        clubs = [GroupId("#" + digit * 32) for digit in "12345678"]
        for club in clubs:
            await store.apply([change(club, 0, {ANN: "member", BOB: "admin"}), change(club, 1, {BOB: "admin"})])
        assert await store.losses(box.id, 2, 16) == [Loss(2, 16, "full", tuple(clubs[:2]), more_groups=True)]
        assert await store.losses(box.id, 2, 4) == [Loss(2, 4, "full", tuple(clubs[:2]))]
        await apply(store, change(clubs[0], 2, {ANN: "member", BOB: "admin"}))
        assert await store.losses(box.id, 17, 17) == [Loss(17, 17, "full", (clubs[0],))]
        await apply(store, Acknowledge(box.id, 17))
        await apply(store, append(envelope(BOB, ANN)))
        await apply(store, change(clubs[7], 2, {ANN: "member", BOB: "admin"}))
        assert await store.losses(box.id, 19, 19) == [Loss(19, 19, "full", (clubs[7],))]


async def test_what_a_removed_device_lost_is_forgotten_with_it(open_store: OpenStore) -> None:
    async with open_store(TINY) as store:
        for _ in range(2):
            box = await registered(store, ANN, PHONE)
            assert await store.losses(box.id, 1, 9) == [Loss(1, 9, "full")]
            epoch = 0 if (stands := await store.group(CLUB)) is None else stands.epoch
            for step in range(3):
                await apply(store, change(CLUB, epoch + step, {ANN: "member", BOB: "admin"}))
            assert await store.losses(box.id, 2, 3) == [Loss(2, 3, "full", (CLUB,))]
            await apply(store, Remove(ANN, PHONE))


async def test_an_id_counts_once_for_changes_too(store: Store) -> None:
    first = change(CLUB, 0, {ANN: "admin"}, id="1")
    await apply(store, first)
    assert await apply(store, first) == Duplicate(1_000, CLUB)
    assert await apply(store, change(OTHER, 0, {ANN: "admin"}, id="1", asked=b"another")) == IdTaken()
    assert await apply(store, append(envelope(ANN, CLUB, id="1"))) == IdTaken()
    assert await store.group(OTHER) is None


async def test_what_is_known_under_an_id_can_be_asked(store: Store) -> None:
    made = change(CLUB, 0, {ANN: "admin"}, id="1", device=PHONE)
    assert await store.recall(ANN, PHONE, MessageId("1"), made.digest) is None
    await apply(store, made)
    assert await store.recall(ANN, PHONE, MessageId("1"), made.digest) == Duplicate(1_000, CLUB)
    assert await store.recall(ANN, PHONE, MessageId("1"), b"another") == IdTaken()
    assert await store.recall(ANN, None, MessageId("1"), made.digest) is None


async def test_a_client_is_in_so_many_groups_and_no_more(open_store: OpenStore) -> None:
    async with open_store(Quota(99, 9_999, devices_per_client=1, groups_per_client=1)) as store:
        await apply(store, change(CLUB, 0, {ANN: "admin", BOB: "member"}))
        for refused in (change(OTHER, 0, {CAT: "admin", BOB: "member", ANN: "member"}, id="1"),) * 2:
            assert await apply(store, refused) == TooManyGroups(BOB)
        assert await store.group(OTHER) is None
        results = await store.apply(
            [change(CLUB, 1, {ANN: "admin"}), change(OTHER, 0, {CAT: "admin", BOB: "member"}, id="1")]
        )
        assert [type(result) for result in results] == [Appended, Appended]
        assert isinstance(await apply(store, change(CLUB, 2, {ANN: "member"})), Appended)


async def test_members_without_devices_stay_members(store: Store) -> None:
    await store.apply([Register(ANN, PHONE, 1_000), Register(BOB, PHONE, 1_000), Register(BOB, LAPTOP, 9_000)])
    await apply(store, change(CLUB, 0, {ANN: "admin", BOB: "member"}))
    await apply(store, Remove(BOB, LAPTOP))
    await store.expire(before_ms=5_000, archived_before_ms=5_000)
    assert await store.mailboxes_of(ANN) == await store.mailboxes_of(BOB) == []
    assert await store.group(CLUB) == Group(CLUB, 1, None, {ANN: "admin", BOB: "member"})
    assert await apply(store, append(envelope(ANN, CLUB))) == Appended((), owed=(ANN, BOB))
    back = await registered(store, BOB, PHONE)
    assert isinstance(await apply(store, append(envelope(ANN, CLUB, "welcome back"))), Appended)
    assert await texts(store, back) == [(1, "welcome back")]


async def test_the_history_of_a_group_begins_for_each_when_they_joined(store: Store) -> None:
    async def say(text: str) -> None:
        await apply(store, append(envelope(ANN, CLUB, text, id=text), is_archived=True))

    async def read(client: ClientId) -> list[MessageId | None]:
        page = await store.read_history(client, CLUB, before=None, limit=9)
        older = await store.read_history(client, CLUB, before=page[0].number, limit=1) if page else []
        assert older == page[1:2]
        return [archived.envelope.id for archived in page]

    await apply(store, change(CLUB, 0, {ANN: "admin", BOB: "member"}))
    await say("1")
    await store.apply(
        [
            change(CLUB, 1, {ANN: "admin", BOB: "member", CAT: "member"}),
            append(envelope(CAT, CLUB, id="2"), is_archived=True),
        ]
    )
    assert await read(ANN) == await read(BOB) == ["2", "1"]
    assert await read(CAT) == ["2"]
    await apply(store, change(CLUB, 2, {ANN: "admin", CAT: "member"}))
    await say("3")
    assert await read(BOB) == []
    await apply(store, change(CLUB, 3, {ANN: "admin", CAT: "member", BOB: "member"}))
    assert await read(BOB) == []
    assert await read(CAT) == ["3", "2"]
    assert await store.read_history(ANN, OTHER, before=None, limit=9) == []
    assert await store.read_history(ANN, BOB, before=None, limit=9) == []


@pytest.mark.parametrize("device", [None, PHONE])
async def test_a_change_comes_out_as_it_went_in(store: Store, device: DeviceId | None) -> None:
    box = await registered(store, BOB, PHONE)
    roles: dict[ClientId, Role] = {ANN: "admin", BOB: "member"}
    payload = orjson.dumps({"text": "Ünï"})
    told = Envelope("group_changed", ANN, device, CLUB, MessageId("é 1"), 5_000, payload)
    await apply(store, ChangeGroup(told, blake2b(b"x").digest(), 0, "Ünï \0", roles))
    assert [entry.envelope for entry in await store.read(box.id, after=0, limit=9)] == [told]
    assert await store.group(CLUB) == Group(CLUB, 1, "Ünï \0", roles)


async def test_a_wide_group_is_one_envelope_in_many_mailboxes(open_store: OpenStore) -> None:
    async with open_store(WIDE) as store:
        clients = [ClientId(f"{number:064x}") for number in range(300)]
        await store.apply([Register(client, PHONE, 1) for client in clients])
        await apply(store, change(CLUB, 0, dict.fromkeys(clients, "admin")))
        result = await apply(store, append(envelope(clients[7], CLUB, device=PHONE)))
        assert isinstance(result, Appended)
        assert [place.client for place in result.placed] == [client for client in clients if client != clients[7]]
