"""Encrypted conversations in the contract of `ironwire/store/contract/store.py`, promise by promise, on every store."""

from collections.abc import Sequence

import pytest
from attrs import evolve

from ironwire.ids import ClientId, ConversationId, DeviceId, GroupId, Role
from ironwire.protocol.conversations.key_packages import POOL_PACKAGES
from ironwire.protocol.conversations.names import pair_id
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.conversations.tasks import Task
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp
from ironwire.store.contract.conversations import (
    COMMITS_BYTES,
    ConversationSummary,
    KeptCommit,
    Pool,
    StoredConversation,
    group_after,
)
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.operations import (
    AddBlock,
    Advanced,
    AlreadySettled,
    Append,
    Appended,
    AskedToRejoin,
    AskToRejoin,
    ClaimedPackage,
    ClaimPackages,
    ConversationMoved,
    Duplicate,
    Encrypted,
    EpochPassed,
    MailboxFull,
    NotMember,
    Operation,
    PackageKnown,
    PackagesClaimed,
    PackagesPublished,
    PublishPackages,
    Register,
    Remove,
    SessionOver,
    TooManyGroups,
    TooManyPackages,
)
from ironwire.store.contract.records import Quota, RefusedSpan
from ironwire.store.contract.store import Store
from tests.contract.builders import (
    ANN,
    BOB,
    CAT,
    LAPTOP,
    PHONE,
    TABLET,
    WIDE,
    append,
    apply,
    change,
    commit,
    counted,
    envelope,
    keyed,
    log_entry,
    logged,
    mailbox_of,
    numbered,
    package,
    registered,
    say,
    state,
    texts,
)
from tests.contract.conftest import OpenStore

PAIR = pair_id(ANN, BOB)
GROUP = GroupId("#" + "1" * 32)
OTHER = GroupId("#" + "2" * 32)
K1, K2, K3, K4 = (bytes([number]) * 32 for number in range(1, 5))
ANN_1, ANN_2, BOB_1, CAT_1 = Leaf(ANN, K1), Leaf(ANN, K2), Leaf(BOB, K3), Leaf(CAT, K4)
BOTH: dict[ClientId, Role] = {ANN: "admin", BOB: "admin"}
CLUB: dict[ClientId, Role] = {ANN: "admin", BOB: "member"}


@pytest.fixture
async def people(store: Store) -> Store:
    """Ann with two devices, Bob and Cat with one each."""
    await keyed(store, ANN, PHONE, K1)
    await keyed(store, ANN, LAPTOP, K2)
    await keyed(store, BOB, PHONE, K3)
    await keyed(store, CAT, PHONE, K4)
    await forget_what_waits(store)
    return store


async def forget_what_waits(store: Store) -> None:
    await store.expire(before_ms=1_000, archived_before_ms=0)


async def begin(
    store: Store, conversation: ConversationId, *slots: Leaf, roster: dict[ClientId, Role]
) -> StoredConversation:
    """The first epoch, by the first leaf's device; a group is made for it."""
    group = None
    if conversation == GROUP:
        group = change(GROUP, 0, roster)
    after = state(conversation, 1, 1, roster, *slots)
    made = commit(after, slots[0], PHONE, seen=(0, 0), added=slots[1:], group=group)
    assert isinstance(await apply(store, made), Advanced)
    return after


async def waits(store: Store, client: ClientId, device: DeviceId) -> list[str]:
    """The texts that wait, those of the device log left out."""
    box = await mailbox_of(store, client, device)
    return [text for _, text in await texts(store, box) if not text.isdigit()]


async def names(store: Store, client: ClientId) -> list[ConversationId]:
    """The conversations of a client."""
    return [each.id for each in await store.conversations_of(Leaf(client, K1), after=None, limit=9)]


# --- generations and epochs ------------------------------------------------------------------------------------------


async def test_the_first_commit_makes_a_conversation_and_reaches_everybody(people: Store) -> None:
    assert await people.conversation(PAIR) is None
    after = state(PAIR, 1, 1, BOTH, ANN_1, BOB_1, ANN_2)
    made = commit(after, ANN_1, PHONE, seen=(0, 0), added=[BOB_1, ANN_2])
    result = await apply(people, made)
    assert isinstance(result, Advanced)
    assert [told for told, _ in result.stored] == [made.envelope, *(welcome for _, welcome in made.welcomes)]
    assert [[place.client for place in stored.placed] for _, stored in result.stored] == [[ANN], [BOB], [ANN]]
    assert await people.conversation(PAIR) == people.glance.conversation(PAIR) == after
    assert await waits(people, ANN, PHONE) == ["epoch 1"]
    assert await waits(people, BOB, PHONE) == ["welcome 03"]
    assert await waits(people, ANN, LAPTOP) == ["welcome 02"]
    for client, expected in ((ANN, [PAIR]), (BOB, [PAIR]), (CAT, [])):
        assert await names(people, client) == expected


async def test_a_commit_goes_to_the_devices_before_it_and_welcomes_to_those_after(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    after = state(PAIR, 1, 2, BOTH, ANN_1, None, ANN_2)
    await apply(people, commit(after, ANN_1, PHONE, added=[ANN_2]))
    assert await people.conversation(PAIR) == after
    assert await waits(people, ANN, PHONE) == ["epoch 1", "epoch 2"]
    assert await waits(people, BOB, PHONE) == ["welcome 03", "epoch 2"]
    assert await waits(people, ANN, LAPTOP) == ["welcome 02"]
    await apply(people, commit(state(PAIR, 1, 3, BOTH, ANN_1), ANN_1, PHONE))
    assert await waits(people, BOB, PHONE) == ["welcome 03", "epoch 2"]
    assert await waits(people, ANN, LAPTOP) == ["welcome 02", "epoch 3"]


async def test_of_two_commits_from_one_epoch_the_first_wins(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    first = state(PAIR, 1, 2, BOTH, ANN_1, BOB_1, ANN_2)
    second = state(PAIR, 1, 2, BOTH, ANN_1, BOB_1)
    results = await people.apply([commit(first, ANN_1, PHONE), commit(second, BOB_1, PHONE)])
    assert isinstance(results[0], Advanced)
    assert results[1] == ConversationMoved(1, 2)
    assert await people.conversation(PAIR) == first


@pytest.mark.parametrize("seen", [(0, 0), (1, 0), (1, 2), (2, 1)])
async def test_a_commit_from_another_state_changes_nothing(people: Store, seen: tuple[int, int]) -> None:
    before = await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    after = state(PAIR, 2, 1, BOTH, ANN_1)
    assert await apply(people, commit(after, ANN_1, PHONE, seen=seen)) == ConversationMoved(1, 1)
    assert await people.conversation(PAIR) == before
    assert await waits(people, ANN, PHONE) == ["epoch 1"]
    assert len(await people.commits(PAIR, 1, first=0, limit=9)) == 1
    assert await people.commits(PAIR, 2, first=0, limit=9) == []


async def test_a_commit_that_comes_again_is_known(people: Store) -> None:
    made = commit(state(PAIR, 1, 1, BOTH, ANN_1, BOB_1), ANN_1, PHONE, seen=(0, 0), id="1", added=[BOB_1])
    results = await people.apply([made, made])
    assert results[1] == Duplicate(1_000)
    assert await apply(people, made) == Duplicate(1_000)
    assert await waits(people, BOB, PHONE) == ["welcome 03"]


async def test_the_next_generation_begins_with_the_device_that_makes_it(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, ANN_2, roster=BOTH)
    after = state(PAIR, 5, 1, BOTH, BOB_1, ANN_1)
    assert isinstance(await apply(people, commit(after, BOB_1, PHONE, seen=(1, 1), added=[ANN_1])), Advanced)
    assert await people.conversation(PAIR) == after
    assert await waits(people, BOB, PHONE) == ["welcome 03", "epoch 1"]
    assert await waits(people, ANN, PHONE) == ["epoch 1", "welcome 01"]
    assert await waits(people, ANN, LAPTOP) == ["welcome 02"]
    assert [kept.epoch for kept in await people.commits(PAIR, 1, first=0, limit=9)] == [1]


async def test_rosters_are_followed(people: Store) -> None:
    await begin(people, GROUP, ANN_1, BOB_1, roster=CLUB)
    roster: dict[ClientId, Role] = {ANN: "admin", CAT: "member"}
    step = change(GROUP, 1, roster)
    after = state(GROUP, 1, 2, roster, ANN_1, CAT_1)
    await apply(people, commit(after, ANN_1, PHONE, added=[CAT_1], group=step))
    assert await names(people, BOB) == []
    assert await names(people, CAT) == [GROUP]


async def test_conversations_are_listed_page_by_page(people: Store) -> None:
    own = pair_id(ANN, ANN)
    for conversation in (PAIR, GROUP):
        await begin(people, conversation, BOB_1, ANN_1, roster={BOB: "admin", ANN: "admin"})
    await apply(people, commit(state(PAIR, 1, 2, BOTH, BOB_1), BOB_1, PHONE))
    await begin(people, own, ANN_1, ANN_2, roster={ANN: "admin"})
    expected = [
        ConversationSummary(GROUP, 1, 1, devices=2, is_in=True),
        ConversationSummary(PAIR, 1, 2, devices=1, is_in=False),
        ConversationSummary(own, 1, 1, devices=2, is_in=True),
    ]
    expected.sort(key=lambda each: each.id)
    for after, limit, found in ((None, 9, expected), (None, 2, expected[:2]), (expected[0].id, 1, expected[1:2])):
        assert await people.conversations_of(ANN_1, after=after, limit=limit) == found
    assert [each.is_in for each in await people.conversations_of(ANN_2, after=None, limit=9)] == [
        each.id == own for each in expected
    ]


async def test_those_who_left_a_group_say_nothing_in_it(people: Store) -> None:
    await begin(people, GROUP, ANN_1, BOB_1, roster=CLUB)
    await apply(people, change(GROUP, 1, {ANN: "admin"}))
    assert await apply(people, say(GROUP, BOB_1, PHONE, (1, 1))) == NotMember()


# --- the server group of an encrypted one ----------------------------------------------------------------------------


async def test_the_group_changes_with_the_commit_and_others_are_told(people: Store) -> None:
    """Cat is a member who takes no part in the encrypted conversation."""
    everyone: dict[ClientId, Role] = {ANN: "admin", BOB: "member", CAT: "member"}
    await apply(people, change(GROUP, 0, everyone))
    made = commit(state(GROUP, 1, 1, CLUB, ANN_1, BOB_1), ANN_1, PHONE, seen=(0, 0), added=[BOB_1])
    result = await apply(people, evolve(made, group=change(GROUP, 1, everyone)))
    assert isinstance(result, Advanced)
    _, told = result.stored[-1]
    assert [(place.client, place.device) for place in told.placed] == [(ANN, LAPTOP), (CAT, PHONE)]
    assert told.owed == (ANN, BOB, CAT)
    assert await waits(people, CAT, PHONE) == []  # digits are left out, and the text is the epoch
    group = await people.group(GROUP)
    assert group is not None
    assert (group.epoch, group.roles) == (2, everyone)


async def test_a_group_that_has_moved_refuses_the_commit(people: Store) -> None:
    await begin(people, GROUP, ANN_1, BOB_1, roster=CLUB)
    after = state(GROUP, 1, 2, CLUB, ANN_1)
    made = commit(after, ANN_1, PHONE, group=change(GROUP, 0, CLUB))
    assert await apply(people, made) == EpochPassed()
    assert (await people.conversation(GROUP)) != after
    assert len(await people.commits(GROUP, 1, first=0, limit=9)) == 1


async def test_a_client_in_too_many_groups_refuses_the_commit(open_store: OpenStore) -> None:
    async with open_store(evolve(WIDE, groups_per_client=1)) as store:
        await keyed(store, ANN, PHONE, K1)
        await apply(store, change(OTHER, 0, {ANN: "admin"}))
        made = commit(state(GROUP, 1, 1, {ANN: "admin"}, ANN_1), ANN_1, PHONE, seen=(0, 0))
        assert await apply(store, evolve(made, group=change(GROUP, 0, {ANN: "admin"}))) == TooManyGroups(ANN)
        assert await store.conversation(GROUP) is None


def test_members_in_no_roster_stay_and_those_who_left_stay_away() -> None:
    group: dict[ClientId, Role] = {ANN: "admin", CAT: "member"}
    before: dict[ClientId, Role] = {ANN: "admin", BOB: "member"}
    dan = ClientId("d" * 64)
    assert group_after(group, before, {ANN: "admin", BOB: "member", dan: "admin"}) == {
        ANN: "admin",
        CAT: "member",
        dan: "admin",
    }
    assert group_after(group, before, {BOB: "admin"}) == {CAT: "member"}
    assert group_after(group, {}, {ANN: "member", CAT: "admin"}) == {ANN: "member", CAT: "admin"}


# --- messages --------------------------------------------------------------------------------------------------------


async def test_a_message_reaches_every_other_device(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, ANN_2, roster=BOTH)
    result = await apply(people, say(PAIR, ANN_1, PHONE, (1, 1)))
    assert isinstance(result, Appended)
    assert [(place.client, place.device, place.is_own) for place in result.placed] == [
        (BOB, PHONE, False),
        (ANN, LAPTOP, False),
    ]
    assert result.owed == ()
    assert await waits(people, ANN, PHONE) == ["epoch 1"]
    assert await waits(people, BOB, PHONE) == ["welcome 03", "hello"]


@pytest.mark.parametrize("epoch", [(1, 0), (1, 2), (2, 1), (0, 0)])
async def test_a_message_of_another_epoch_is_refused(people: Store, epoch: tuple[int, int]) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    assert await apply(people, say(PAIR, ANN_1, PHONE, epoch)) == ConversationMoved(1, 1)
    assert await waits(people, BOB, PHONE) == ["welcome 03"]


async def test_only_devices_that_are_in_it_speak(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    for leaf in (CAT_1, ANN_2, Leaf(BOB, K1)):
        assert await apply(people, say(PAIR, leaf, PHONE, (1, 1))) == NotMember()
    assert await apply(people, say(GROUP, ANN_1, PHONE, (1, 1))) == NotMember()


async def test_a_commit_before_it_in_the_batch_counts(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    after = state(PAIR, 1, 2, BOTH, ANN_1, BOB_1)
    batch: list[Operation] = [
        commit(after, BOB_1, PHONE),
        say(PAIR, ANN_1, PHONE, (1, 1)),
        say(PAIR, ANN_1, PHONE, (1, 2)),
    ]
    _, stale, fresh = await people.apply(batch)
    assert stale == ConversationMoved(1, 2)
    assert isinstance(fresh, Appended)


async def test_an_id_stands_for_its_conversation_whatever_the_ciphertext(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    assert isinstance(await apply(people, say(PAIR, ANN_1, PHONE, (1, 1), "once", id="1")), Appended)
    assert await apply(people, say(PAIR, ANN_1, PHONE, (1, 1), "again", id="1", ts=2_000)) == Duplicate(1_000)
    assert await apply(people, say(PAIR, ANN_1, PHONE, (1, 9), "again", id="1")) == Duplicate(1_000)


async def test_a_message_that_was_refused_may_come_again_under_its_id(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    assert await apply(people, say(PAIR, ANN_1, PHONE, (1, 0), id="1")) == ConversationMoved(1, 1)
    assert isinstance(await apply(people, say(PAIR, ANN_1, PHONE, (1, 1), id="1")), Appended)


async def test_a_full_mailbox_refuses_in_a_pair_and_loses_in_a_group(open_store: OpenStore) -> None:
    small = Quota(mailbox_envelopes=100, mailbox_bytes=600, devices_per_client=3)
    async with open_store(small) as store:
        for client, device, key in ((ANN, PHONE, K1), (ANN, LAPTOP, K2), (BOB, PHONE, K3)):
            await keyed(store, client, device, key)
        await begin(store, PAIR, ANN_1, BOB_1, ANN_2, roster=BOTH)
        await begin(store, GROUP, ANN_1, BOB_1, ANN_2, roster=CLUB)
        large = say(PAIR, ANN_1, PHONE, (1, 1), "x" * 560)
        assert await apply(store, large) == MailboxFull()
        result = await apply(store, say(GROUP, ANN_1, PHONE, (1, 1), "x" * 560))
        assert isinstance(result, Appended)
        assert (result.placed, len(result.lost)) == ((), 2)
        own = say(PAIR, BOB_1, PHONE, (1, 1), "x" * 560)
        assert await apply(store, own) == MailboxFull()


async def test_whoever_is_blocked_reaches_nobody_in_a_pair(people: Store) -> None:
    await apply(people, AddBlock(BOB, ANN))
    await begin(people, PAIR, ANN_1, BOB_1, ANN_2, roster=BOTH)
    assert await waits(people, BOB, PHONE) == []
    result = await apply(people, say(PAIR, ANN_1, PHONE, (1, 1)))
    assert isinstance(result, Appended)
    assert await waits(people, BOB, PHONE) == []
    assert await waits(people, ANN, LAPTOP) == ["welcome 02", "hello"]


async def test_what_is_said_in_a_group_reaches_those_who_have_blocked_too(people: Store) -> None:
    await begin(people, GROUP, ANN_1, BOB_1, roster=CLUB)
    await apply(people, AddBlock(BOB, ANN))
    await apply(people, say(GROUP, ANN_1, PHONE, (1, 1)))
    assert await waits(people, BOB, PHONE) == ["welcome 03", "hello"]


# --- nothing in the clear --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["text", "file", "receipt"])
async def test_what_was_encrypted_once_stays_so(people: Store, verb: str) -> None:
    def clear(sender: ClientId, to: ClientId | GroupId) -> Append:
        return append(evolve(envelope(sender, to), verb=verb))

    assert isinstance(await apply(people, clear(ANN, BOB)), Appended)  # which the store remembers
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    await begin(people, GROUP, ANN_1, BOB_1, roster=CLUB)
    for sender, to in ((ANN, BOB), (BOB, ANN), (ANN, GROUP)):
        assert await apply(people, clear(sender, to)) == Encrypted()
    assert isinstance(await apply(people, clear(ANN, CAT)), Appended)


async def test_a_number_is_used_up_by_it(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    box = await mailbox_of(people, ANN, PHONE)
    assert await apply(people, numbered(envelope(ANN, BOB, device=PHONE), box, 1)) == Encrypted()
    after = await mailbox_of(people, ANN, PHONE)
    assert (after.sent, [span.code for span in after.refused]) == (1, ["forbidden"])


async def test_a_message_of_another_epoch_uses_its_number_up(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    box = await mailbox_of(people, ANN, PHONE)
    early = say(PAIR, ANN_1, PHONE, (1, 9), id="1")
    one, two = (say(PAIR, ANN_1, PHONE, (1, 1), text, id="1") for text in ("one", "two"))
    results = await people.apply([counted(early, box, 1), counted(one, box, 2), counted(two, box, 2)])
    assert results[0] == ConversationMoved(1, 1)
    assert isinstance(results[1], Appended)
    assert results[2] == AlreadySettled(None)
    assert await apply(people, counted(two, box, 1)) == AlreadySettled("conflict")
    assert await waits(people, BOB, PHONE) == ["welcome 03", "one"]
    outsider = Leaf(ANN, K4)
    assert await apply(people, counted(say(PAIR, outsider, PHONE, (1, 1)), box, 3)) == NotMember()
    after = await mailbox_of(people, ANN, PHONE)
    assert after.sent == 3
    assert after.refused == (RefusedSpan(1, 1, "conflict"), RefusedSpan(3, 3, "not_found"))


# --- losses and commits ----------------------------------------------------------------------------------------------


async def test_a_lost_commit_is_named_in_the_gap(open_store: OpenStore) -> None:
    small = Quota(mailbox_envelopes=1, mailbox_bytes=1_000, devices_per_client=3)
    async with open_store(small) as store:
        await keyed(store, ANN, PHONE, K1)
        await keyed(store, BOB, PHONE, K3)
        await begin(store, GROUP, ANN_1, BOB_1, roster=CLUB)  # which fills each mailbox
        await begin(store, PAIR, ANN_1, BOB_1, roster=BOTH)
        box = await mailbox_of(store, BOB, PHONE)
        assert await store.losses(box.id, 2, 2) == [Loss(2, 2, "full", (PAIR,))]


async def test_an_expired_commit_is_named_in_the_gap(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    box = await mailbox_of(people, BOB, PHONE)
    await registered(people, BOB, PHONE, 9_000)
    await people.expire(before_ms=5_000, archived_before_ms=0)
    assert await people.losses(box.id, box.tail, box.tail) == [Loss(box.tail, box.tail, "expired", (PAIR,))]


async def test_commits_are_kept_for_those_who_missed_them(people: Store) -> None:
    made = [commit(state(PAIR, 1, 1, BOTH, ANN_1), ANN_1, PHONE, seen=(0, 0))]
    made += [commit(state(PAIR, 1, epoch, BOTH, ANN_1), ANN_1, PHONE, ts=epoch * 1_000) for epoch in range(2, 6)]
    await people.apply(made)
    kept = [KeptCommit(each.after.epoch, each.envelope.payload) for each in made]
    for first, limit, expected in ((0, 9, kept), (2, 2, kept[1:3]), (5, 9, kept[4:]), (6, 9, [])):
        assert await people.commits(PAIR, 1, first=first, limit=limit) == expected
    await people.expire(before_ms=3_000, archived_before_ms=0)
    assert await people.commits(PAIR, 1, first=1, limit=9) == kept[2:]


async def test_a_page_of_commits_ends_when_it_is_large(people: Store) -> None:
    for epoch in range(1, 4):
        made = commit(state(PAIR, 1, epoch, BOTH, ANN_1), ANN_1, PHONE, seen=(min(epoch - 1, 1), epoch - 1))
        told = evolve(made.envelope, payload=b"x" * (COMMITS_BYTES // 2))
        await apply(people, evolve(made, envelope=told))
    assert [each.epoch for each in await people.commits(PAIR, 1, first=1, limit=9)] == [1, 2]


# --- key packages ----------------------------------------------------------------------------------------------------


def publish(device: Leaf, *names: str, last: str | None = None, not_after_ms: int = 9_000) -> PublishPackages:
    packages = [package(name, not_after_ms=not_after_ms) for name in names]
    packages += [] if last is None else [package(last, is_last_resort=True, not_after_ms=not_after_ms)]
    return PublishPackages(device, tuple(packages))


def claim(claimer: ClientId, *targets: Leaf, may_take: bool = True, now_ms: int = 2_000) -> ClaimPackages:
    return ClaimPackages(claimer, PAIR, tuple((target, may_take) for target in targets), now_ms)


async def claimed(store: Store, asked: ClaimPackages) -> Sequence[ClaimedPackage]:
    result = await apply(store, asked)
    assert isinstance(result, PackagesClaimed)
    return result.packages


async def test_packages_are_taken_oldest_first_and_then_the_last_resort(people: Store) -> None:
    assert await apply(people, publish(BOB_1, "1", "2", last="0")) == PackagesPublished(Pool(2, has_last_resort=True))
    given = [(await claimed(people, claim(ANN, BOB_1)))[0] for _ in range(4)]
    assert [(each.data, each.is_last_resort, each.left) for each in given] == [
        (b"package1", False, 1),
        (b"package2", False, 0),
        (b"last resort0", True, 0),
        (b"last resort0", True, 0),
    ]
    assert await people.pool(BOB_1) == Pool(0, has_last_resort=True)


async def test_each_device_gives_one_and_those_without_are_left_out(people: Store) -> None:
    await people.apply([publish(BOB_1, "1"), publish(ANN_1, "2")])
    given = await claimed(people, claim(ANN, BOB_1, CAT_1, ANN_1))
    assert [each.device for each in given] == [BOB_1, ANN_1]
    assert await claimed(people, claim(ANN, BOB_1)) == ()


async def test_whoever_may_not_take_gets_the_last_resort(people: Store) -> None:
    await people.apply([publish(BOB_1, "1", last="0"), publish(CAT_1, "2")])
    given = await claimed(people, claim(ANN, BOB_1, CAT_1, may_take=False))
    assert [each.data for each in given] == [b"last resort0"]
    await apply(people, AddBlock(BOB, ANN))
    assert [each.data for each in await claimed(people, claim(ANN, BOB_1))] == [b"last resort0"]
    assert [each.data for each in await claimed(people, claim(CAT, BOB_1))] == [b"package1"]


async def test_what_has_expired_is_not_given(people: Store) -> None:
    await people.apply([publish(BOB_1, "1", last="0", not_after_ms=3_000), publish(BOB_1, "2")])
    given = await claimed(people, claim(ANN, BOB_1, now_ms=3_000))
    assert [each.data for each in given] == [b"package2"]
    assert await claimed(people, claim(ANN, BOB_1, now_ms=3_000)) == ()
    await people.expire(before_ms=3_001, archived_before_ms=0)
    assert await people.pool(BOB_1) == Pool(0, has_last_resort=False)


async def test_a_package_comes_in_once(people: Store) -> None:
    await apply(people, publish(BOB_1, "1"))
    assert await apply(people, publish(BOB_1, "2", "1")) == PackageKnown(1)
    await claimed(people, claim(ANN, BOB_1))
    assert await apply(people, publish(BOB_1, "1")) == PackageKnown(0)
    same_key = evolve(package("3"), init_key=package("1").init_key)
    assert await apply(people, PublishPackages(BOB_1, (package("4"), same_key))) == PackageKnown(1)
    assert await apply(people, publish(ANN_1, "5", "5")) == PackageKnown(1)
    assert await people.pool(BOB_1) == Pool(0, has_last_resort=False)


async def test_a_last_resort_replaces_the_former(people: Store) -> None:
    await apply(people, publish(BOB_1, last="0"))
    await apply(people, publish(BOB_1, last="1"))
    assert [each.data for each in await claimed(people, claim(ANN, BOB_1))] == [b"last resort1"]
    assert await apply(people, publish(BOB_1, last="0")) == PackageKnown(0)


async def test_a_pool_is_full_at_some_time(people: Store) -> None:
    names = [str(number) for number in range(POOL_PACKAGES)]
    await apply(people, publish(BOB_1, *names, last="last"))
    assert await apply(people, publish(BOB_1, "one more")) == TooManyPackages()
    assert await apply(people, publish(BOB_1, last="another")) == PackagesPublished(
        Pool(POOL_PACKAGES, has_last_resort=True)
    )


async def test_a_device_without_a_mailbox_publishes_nothing(people: Store) -> None:
    assert await apply(people, publish(Leaf(BOB, K1), "1")) == SessionOver()


async def test_it_is_known_for_whom_a_package_was_claimed(people: Store) -> None:
    await people.apply([publish(BOB_1, "1", last="0"), claim(ANN, BOB_1), claim(CAT, BOB_1)])
    refs = [package("1").ref, package("0").ref, b"another"]
    assert await people.claimed(PAIR, ANN, refs) == {refs[0]: BOB_1}
    assert await people.claimed(PAIR, CAT, refs) == {refs[1]: BOB_1}
    assert await people.claimed(GROUP, ANN, refs) == {}
    await people.expire(before_ms=2_000, archived_before_ms=0)
    await people.expire(before_ms=2_001, archived_before_ms=0)
    assert await people.claimed(PAIR, ANN, refs) == {}


# --- tasks -----------------------------------------------------------------------------------------------------------


async def test_a_device_that_first_publishes_is_to_be_added_everywhere(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    await begin(people, GROUP, BOB_1, ANN_1, roster={BOB: "admin", ANN: "member"})
    await apply(people, publish(ANN_2, "1"))
    for conversation in (PAIR, GROUP):
        assert await people.tasks(conversation) == [Task("add", ANN, K2)]
    for client, expected in ((ANN, [GROUP, PAIR]), (BOB, [GROUP, PAIR]), (CAT, [])):
        assert await people.conversations_with_tasks(client) == expected
    await apply(people, commit(state(PAIR, 1, 2, BOTH, ANN_1, BOB_1, ANN_2), ANN_1, PHONE, added=[ANN_2]))
    await apply(people, publish(ANN_2, "2"))
    assert await people.tasks(PAIR) == []
    assert await people.conversations_with_tasks(ANN) == [GROUP]


async def test_a_device_that_is_removed_is_to_be_removed_everywhere(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, ANN_2, roster=BOTH)
    await begin(people, GROUP, ANN_1, BOB_1, roster=CLUB)
    await apply(people, publish(ANN_2, "1", last="0"))
    assert await people.tasks(GROUP) == [Task("add", ANN, K2)]
    await apply(people, AskToRejoin(ANN_2, (PAIR,)))
    await apply(people, Remove(ANN, LAPTOP))
    assert await people.pool(ANN_2) == Pool(0, has_last_resort=False)
    assert await people.tasks(PAIR) == await people.tasks(GROUP) == [Task("remove", ANN, K2)]
    await apply(people, commit(state(PAIR, 1, 2, BOTH, ANN_1, BOB_1), ANN_1, PHONE))
    assert await people.tasks(PAIR) == []


async def test_a_removed_device_that_is_here_again_is_not_to_be_removed(people: Store) -> None:
    log = DeviceLog((await log_of(people)).client)
    for key in (K1, K2):
        log = log.append(entry := log_entry(log, LogOp.ADD, key))
        await apply(people, logged(entry))
    await begin(people, PAIR, ANN_1, BOB_1, ANN_2, roster=BOTH)
    await begin(people, GROUP, ANN_1, BOB_1, ANN_2, roster=CLUB)
    for device in (LAPTOP, PHONE):
        await apply(people, Remove(ANN, device))
    assert await people.tasks(PAIR) == [Task("remove", ANN, K1), Task("remove", ANN, K2)]
    await apply(people, Register(ANN, LAPTOP, 9_000, K2))
    assert await people.tasks(PAIR) == await people.tasks(GROUP) == [Task("remove", ANN, K1)]
    await registered(people, ANN, PHONE, 9_000)
    assert await people.tasks(PAIR) == [Task("remove", ANN, K1)], "that is a mailbox without a key"
    await apply(people, Register(ANN, PHONE, 9_001, K1))
    assert await people.tasks(PAIR) == await people.tasks(GROUP) == []


async def test_a_revoked_device_and_one_that_is_not_seen_are_too(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, ANN_2, roster=BOTH)
    log = DeviceLog((await log_of(people)).client)
    for key in (K1, K2):
        log = log.append(log_entry(log, LogOp.ADD, key))
    await apply(people, logged(log_entry(log, LogOp.REMOVE, K2)))
    assert await people.tasks(PAIR) == [Task("remove", ANN, K2)]
    await registered(people, ANN, PHONE, 9_000)
    await people.expire(before_ms=5_000, archived_before_ms=0)
    assert await people.tasks(PAIR) == [Task("remove", ANN, K2), Task("remove", BOB, K3)]


async def log_of(store: Store) -> DeviceLog:
    from ironwire.crypto.signing import PublicKey

    return DeviceLog(PublicKey(bytes.fromhex(ANN)))


async def test_a_mailbox_without_a_key_concerns_nobody(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    await registered(people, ANN, TABLET)
    await apply(people, Remove(ANN, TABLET))
    assert await people.tasks(PAIR) == []


async def test_a_client_that_leaves_is_to_be_removed(people: Store) -> None:
    await begin(people, GROUP, ANN_1, BOB_1, roster=CLUB)
    await apply(people, change(GROUP, 1, {ANN: "admin", CAT: "member"}))
    assert await people.tasks(GROUP) == [Task("left", BOB)]
    await apply(people, change(GROUP, 2, {ANN: "admin"}))  # Cat was in no roster
    assert await people.tasks(GROUP) == [Task("left", BOB)]
    await apply(people, commit(state(GROUP, 1, 2, {ANN: "admin"}, ANN_1), ANN_1, PHONE))
    assert await people.tasks(GROUP) == []


async def test_a_device_asks_to_be_added_again(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    assert await apply(people, AskToRejoin(BOB_1, (PAIR, GROUP))) == AskedToRejoin((PAIR,))
    assert await apply(people, AskToRejoin(ANN_2, (PAIR,))) == AskedToRejoin((PAIR,))
    assert await apply(people, AskToRejoin(CAT_1, (PAIR,))) == AskedToRejoin(())
    assert await people.tasks(PAIR) == [Task("add", ANN, K2), Task("readd", BOB, K3)]
    after = state(PAIR, 1, 2, BOTH, ANN_1, BOB_1)
    await apply(people, commit(after, ANN_1, PHONE))
    assert await people.tasks(PAIR) == [Task("add", ANN, K2), Task("readd", BOB, K3)]
    await apply(people, commit(evolve(after, epoch=3), ANN_1, PHONE, added=[BOB_1]))
    assert await people.tasks(PAIR) == [Task("add", ANN, K2)]


# --- erasure ---------------------------------------------------------------------------------------------------------


async def test_an_erased_client_is_to_be_removed_and_leaves_no_package(people: Store) -> None:
    await begin(people, PAIR, ANN_1, BOB_1, roster=BOTH)
    own = pair_id(BOB, BOB)
    await begin(people, own, BOB_1, roster={BOB: "admin"})
    await people.apply([publish(BOB_1, "1", "2"), publish(ANN_1, "3"), claim(ANN, BOB_1), claim(BOB, ANN_1)])
    await people.erase(BOB)
    assert await people.pool(BOB_1) == Pool(0, has_last_resort=False)
    assert await people.tasks(PAIR) == [Task("left", BOB), Task("remove", BOB, K3)]
    assert await people.conversation(own) is None
    assert await people.commits(own, 1, first=0, limit=9) == []
    assert await people.tasks(own) == []
    assert await names(people, BOB) == [PAIR]
    for claimer, name in ((ANN, "1"), (BOB, "3")):
        assert await people.claimed(PAIR, claimer, [package(name).ref]) == {}
