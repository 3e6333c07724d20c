"""The contract of `ironwire/store/contract/store.py`, promise by promise, on every store."""

import pytest
import trio

from ironwire.ids import ClientId, DeviceId, GroupId, MessageId
from ironwire.store.contract.directory import Group
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.maintenance import Expired
from ironwire.store.contract.operations import (
    Acked,
    Acknowledge,
    AddBlock,
    Appended,
    Duplicate,
    Forget,
    Forgotten,
    IdTaken,
    LostPlace,
    MailboxFull,
    NoSuchDevice,
    Placed,
    Register,
    Remove,
    Removed,
    SessionOver,
    TooManyDevices,
    Touch,
    Touched,
    Undeliverable,
)
from ironwire.store.contract.records import Mailbox, MailboxId, Quota
from ironwire.store.contract.store import Store
from tests.contract.builders import (
    ANN,
    BOB,
    CAT,
    LAPTOP,
    PHONE,
    TABLET,
    append,
    apply,
    change,
    envelope,
    mailbox_of,
    registered,
    texts,
)
from tests.contract.conftest import OpenStore

# --- devices ---------------------------------------------------------------------------------------------------------


async def test_a_device_is_registered_once_and_its_mailbox_begins_empty(store: Store) -> None:
    first = await registered(store, ANN, PHONE, 1_000)
    assert (first.acked, first.tail, first.waiting, first.waiting_bytes) == (0, 0, 0, 0)
    again = await registered(store, ANN, PHONE, 2_000)
    assert (again.id, again.epoch, again.created_ms, again.seen_ms) == (first.id, first.epoch, 1_000, 2_000)
    assert await store.mailboxes_of(ANN) == [again]


async def test_a_device_was_never_seen_earlier_than_before(store: Store) -> None:
    await registered(store, ANN, PHONE, 2_000)
    assert (await registered(store, ANN, PHONE, 1_000)).seen_ms == 2_000


async def test_exact_reads_see_whatever_was_applied_before_the_call(store: Store) -> None:
    """The caches that a glance has filled before must not answer for it."""
    group, sent = GroupId("#" + "1" * 32), append(envelope(BOB, ANN, id="1"), is_live=True)
    assert store.glance.group(group) is None
    assert not store.glance.blocks_of(ANN)
    assert not store.glance.mailbox_count(ANN)
    await store.apply([Register(ANN, PHONE, 1_000), change(group, 0, {ANN: "admin"}), AddBlock(ANN, CAT), sent])
    assert [box.device for box in await store.mailboxes_of(ANN)] == [PHONE]
    assert await store.group(group) == Group(group, 1, None, {ANN: "admin"})
    assert [membership.group for membership in await store.groups_of(ANN)] == [group]
    assert await store.blocks_of(ANN) == {CAT}
    assert await store.recall(BOB, None, MessageId("1"), sent.digest) == Duplicate(1_000)


async def test_mailboxes_are_listed_oldest_first_and_of_one_client(store: Store) -> None:
    await store.apply([Register(ANN, PHONE, 1), Register(BOB, PHONE, 1), Register(ANN, LAPTOP, 1)])
    assert [box.device for box in await store.mailboxes_of(ANN)] == [PHONE, LAPTOP]
    assert [store.glance.mailbox_count(client) for client in (ANN, BOB, CAT)] == [2, 1, 0]
    assert store.glance.mailbox_counts([BOB, CAT, ANN, BOB]) == [1, 0, 2, 1]
    assert await store.mailboxes_of(CAT) == []


async def test_a_client_has_so_many_devices_and_no_more(open_store: OpenStore) -> None:
    async with open_store(Quota(mailbox_envelopes=9, mailbox_bytes=999, devices_per_client=2)) as store:
        await store.apply([Register(ANN, PHONE, 1), Register(ANN, LAPTOP, 1)])
        assert await apply(store, Register(ANN, TABLET, 1)) == TooManyDevices()
        assert isinstance(await apply(store, Register(ANN, PHONE, 2)), Mailbox)
        assert await store.apply([Remove(ANN, LAPTOP), Register(ANN, TABLET, 1)])
        assert [box.device for box in await store.mailboxes_of(ANN)] == [PHONE, TABLET]


async def test_a_removed_device_is_gone_and_comes_back_as_another(store: Store) -> None:
    first = await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN)))
    assert await apply(store, Remove(ANN, PHONE)) == Removed()
    assert await apply(store, Remove(ANN, PHONE)) == NoSuchDevice()
    assert await store.mailboxes_of(ANN) == []
    assert await store.read(first.id, after=0, limit=9) == []
    second = await registered(store, ANN, PHONE)
    assert second.epoch != first.epoch
    assert second.id != first.id
    assert second.tail == 0
    assert await texts(store, second) == []


async def test_touch_notes_that_a_device_was_seen_and_revives_none(store: Store) -> None:
    box = await registered(store, ANN, PHONE, 1_000)
    assert await store.apply([Touch(box.id, 3_000), Touch(box.id, 2_000)]) == [Touched(), Touched()]
    assert (await mailbox_of(store, ANN, PHONE)).seen_ms == 3_000
    await apply(store, Remove(ANN, PHONE))
    assert await apply(store, Touch(box.id, 4_000)) == Touched()
    assert await store.mailboxes_of(ANN) == []


# --- where an envelope goes ------------------------------------------------------------------------------------------


async def test_an_envelope_goes_to_all_of_the_recipients_devices_and_the_senders_others(store: Store) -> None:
    phone, laptop = await registered(store, ANN, PHONE), await registered(store, ANN, LAPTOP)
    own_phone, own_tablet = await registered(store, BOB, PHONE), await registered(store, BOB, TABLET)
    sent = envelope(BOB, ANN, "hi", device=PHONE, id="1")
    assert await apply(store, append(sent)) == Appended(
        (
            Placed(phone.id, ANN, PHONE, 1, is_own=False),
            Placed(laptop.id, ANN, LAPTOP, 1, is_own=False),
            Placed(own_tablet.id, BOB, TABLET, 1, is_own=True),
        ),
        owed=(ANN,),
    )
    (entry,) = await store.read(own_tablet.id, after=0, limit=9)
    assert (entry.seq, entry.envelope, entry.is_own) == (1, sent, True)
    assert await store.read(own_phone.id, after=0, limit=9) == []
    box = await mailbox_of(store, ANN, LAPTOP)
    assert (box.tail, box.acked, box.waiting, box.waiting_bytes) == (1, 0, 1, len(sent.payload))


async def test_what_is_sent_to_oneself_reaches_every_device_once(store: Store) -> None:
    phone, laptop = await registered(store, ANN, PHONE), await registered(store, ANN, LAPTOP)
    await apply(store, append(envelope(ANN, ANN, "note", device=PHONE)))
    assert await texts(store, phone) == [(1, "note")]
    assert await texts(store, laptop) == [(1, "note")]


async def test_nobody_can_get_it_and_nothing_is_stored(store: Store) -> None:
    own = await registered(store, BOB, LAPTOP)
    assert await apply(store, append(envelope(BOB, ANN, device=PHONE, id="1"))) == Undeliverable()
    assert await texts(store, own) == []
    await registered(store, ANN, PHONE)
    assert isinstance(await apply(store, append(envelope(BOB, ANN, device=PHONE, id="1"))), Appended)


async def test_a_live_session_alone_is_enough_and_the_senders_others_get_their_copy(store: Store) -> None:
    own = await registered(store, BOB, LAPTOP)
    live = append(envelope(BOB, ANN, device=PHONE, id="1"), is_live=True)
    assert await apply(store, live) == Appended((Placed(own.id, BOB, LAPTOP, 1, is_own=True),), owed=(ANN,))
    assert await apply(store, append(envelope(CAT, ANN), is_live=True)) == Appended((), owed=(ANN,))


async def test_an_envelope_for_devices_goes_to_those_of_them_that_are_registered(open_store: OpenStore) -> None:
    async with open_store(Quota(mailbox_envelopes=1, mailbox_bytes=10_000, devices_per_client=3)) as store:
        named = (ANN, PHONE), (CAT, LAPTOP)
        sent = append(envelope(BOB, ANN, device=PHONE, id="1"), *named)
        own, other = await registered(store, BOB, LAPTOP), await registered(store, ANN, LAPTOP)
        assert await apply(store, sent) == Undeliverable()
        phone, laptop = await registered(store, ANN, PHONE), await registered(store, CAT, LAPTOP)
        await store.apply([append(envelope(BOB, CAT)), Acknowledge(own.id, 1), AddBlock(ANN, BOB)])
        placed = (Placed(phone.id, ANN, PHONE, 1, is_own=False),)
        assert await apply(store, sent) == Appended(placed, lost=(LostPlace(laptop.id, 2),)), "neither full nor blocked"
        assert await apply(store, sent) == Duplicate(1_000)
        assert await store.apply([Remove(ANN, PHONE), Remove(CAT, LAPTOP)]) == [Removed(), Removed()]
        assert await apply(store, append(envelope(BOB, ANN, device=PHONE, id="2"), *named)) == Undeliverable()
        assert await texts(store, other) == []


async def test_a_batch_takes_effect_in_order_and_each_operation_sees_those_before(store: Store) -> None:
    results = await store.apply(
        [
            append(envelope(BOB, ANN, "too early")),
            Register(ANN, PHONE, 1),
            append(envelope(BOB, ANN, "one", id="1")),
            append(envelope(BOB, ANN, "one", id="1")),
            append(envelope(BOB, ANN, "two")),
            Acknowledge(MailboxId(1), 1),
            Remove(BOB, PHONE),
        ]
    )
    assert [type(result) for result in results] == [
        Undeliverable,
        Mailbox,
        Appended,
        Duplicate,
        Appended,
        Acked,
        NoSuchDevice,
    ]
    assert await texts(store, await mailbox_of(store, ANN, PHONE)) == [(2, "two")]


# --- ids -------------------------------------------------------------------------------------------------------------


async def test_an_id_that_comes_again_is_told_when_it_was_accepted(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN, id="1", ts=5_000)))
    assert await apply(store, append(envelope(BOB, ANN, id="1", ts=6_000))) == Duplicate(5_000)
    assert await texts(store, box) == [(1, "hello")]


async def test_an_id_is_known_after_its_envelope_was_acknowledged(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    await store.apply([append(envelope(BOB, ANN, id="1", ts=5_000)), Acknowledge(box.id, 1)])
    assert await apply(store, append(envelope(BOB, ANN, id="1", ts=6_000))) == Duplicate(5_000)


async def test_an_id_with_another_body_is_taken(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    await apply(store, append(envelope(BOB, ANN, "this", id="1")))
    assert await apply(store, append(envelope(BOB, ANN, "that", id="1"))) == IdTaken()
    assert await texts(store, box) == [(1, "this")]


async def test_an_id_that_comes_again_disturbs_nothing_else_of_its_batch(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    known = append(envelope(BOB, ANN, "known", id="k", ts=5_000))
    await store.apply([known, append(envelope(BOB, ANN, "two")), append(envelope(BOB, ANN, "three"))])
    results = await store.apply(
        [
            append(envelope(BOB, ANN, "before")),
            Acknowledge(box.id, 2),
            known,
            Register(CAT, PHONE, 1),
            append(envelope(BOB, CAT, "after", id="a")),
            append(envelope(BOB, CAT, "after", id="a")),
        ]
    )
    assert [type(result) for result in results] == [Appended, Acked, Duplicate, Mailbox, Appended, Duplicate]
    assert await texts(store, box) == [(3, "three"), (4, "before")]
    assert await texts(store, await mailbox_of(store, CAT, PHONE)) == [(1, "after")]


async def test_an_id_is_known_where_its_envelope_would_be_refused_now(open_store: OpenStore) -> None:
    async with open_store(Quota(mailbox_envelopes=2, mailbox_bytes=10_000, devices_per_client=3)) as store:
        box = await registered(store, ANN, PHONE)
        sent = [append(envelope(BOB, ANN, text, id=text, ts=5_000)) for text in ("1", "2")]
        await store.apply(sent)
        assert await apply(store, sent[0]) == Duplicate(5_000)
        await apply(store, Acknowledge(box.id, 1))
        again = await apply(store, append(envelope(BOB, ANN, "3", id="3")))
        assert isinstance(again, Appended), "a repetition does not count as an attempt at a full mailbox"
        await apply(store, Remove(ANN, PHONE))
        assert await apply(store, sent[1]) == Duplicate(5_000)


async def test_an_id_belongs_to_one_device_of_one_client(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    senders = [(BOB, None), (BOB, PHONE), (BOB, LAPTOP), (CAT, PHONE)]
    results = await store.apply([append(envelope(client, ANN, device=device, id="1")) for client, device in senders])
    assert all(isinstance(result, Appended) for result in results)
    assert (await mailbox_of(store, ANN, PHONE)).tail == len(senders)
    assert len(await texts(store, box)) == len(senders)


async def test_a_forgotten_id_may_come_again_and_the_copy_keeps_it(store: Store) -> None:
    own = await registered(store, BOB, LAPTOP)
    sent = envelope(BOB, ANN, device=PHONE, id="1")
    await apply(store, append(sent, is_live=True, is_archived=True))
    assert await apply(store, Forget(sent)) == Forgotten()
    assert [entry.envelope for entry in await store.read(own.id, after=0, limit=9)] == [sent]
    assert await store.read_history(BOB, ANN, before=None, limit=9) == []
    assert isinstance(await apply(store, append(sent, is_live=True)), Appended)
    assert await apply(store, Forget(envelope(BOB, ANN, id="unknown"))) == Forgotten()


async def test_an_id_is_forgotten_when_it_expires(store: Store) -> None:
    await registered(store, ANN, PHONE, 9_000)
    old, young = envelope(BOB, ANN, id="old", ts=1_000), envelope(BOB, ANN, id="young", ts=2_000)
    await store.apply([append(old), append(young)])
    await store.expire(before_ms=2_000, archived_before_ms=9_000)
    assert isinstance(await apply(store, append(old)), Appended)
    assert await apply(store, append(young)) == Duplicate(2_000)


# --- a full mailbox --------------------------------------------------------------------------------------------------


async def test_a_full_mailbox_takes_nothing_for_anyone_and_opens_at_half(open_store: OpenStore) -> None:
    async with open_store(Quota(mailbox_envelopes=4, mailbox_bytes=10_000, devices_per_client=3)) as store:
        full, own = await registered(store, ANN, PHONE), await registered(store, BOB, LAPTOP)
        await store.apply([append(envelope(BOB, ANN, str(number))) for number in range(4)])
        await store.apply([Acknowledge(own.id, 4), Register(ANN, LAPTOP, 1)])
        assert await apply(store, append(envelope(BOB, ANN, "5", id="5"))) == MailboxFull()
        assert await texts(store, own) == []
        assert (await mailbox_of(store, ANN, LAPTOP)).tail == 0
        await apply(store, Acknowledge(full.id, 1))
        assert await apply(store, append(envelope(BOB, ANN, "5", id="5"))) == MailboxFull()
        await apply(store, Acknowledge(full.id, 2))
        assert isinstance(await apply(store, append(envelope(BOB, ANN, "5", id="5"))), Appended)
        assert await texts(store, full) == [(3, "2"), (4, "3"), (5, "5")]


async def test_a_mailbox_is_full_in_bytes_too(open_store: OpenStore) -> None:
    size = len(envelope(BOB, ANN, "x" * 100).payload)
    async with open_store(Quota(mailbox_envelopes=99, mailbox_bytes=2 * size, devices_per_client=3)) as store:
        box = await registered(store, ANN, PHONE)
        three = [append(envelope(BOB, ANN, "x" * 100)) for _ in range(3)]
        assert [type(result) for result in await store.apply(three)] == [Appended, Appended, MailboxFull]
        await apply(store, Acknowledge(box.id, 1))
        assert isinstance(await apply(store, three[0]), Appended)


async def test_a_full_mailbox_of_the_senders_other_device_loses_its_place_and_refuses_nothing(
    open_store: OpenStore,
) -> None:
    async with open_store(Quota(mailbox_envelopes=1, mailbox_bytes=10_000, devices_per_client=3)) as store:
        box, own = await registered(store, ANN, PHONE), await registered(store, BOB, LAPTOP)
        await store.apply([append(envelope(BOB, ANN)), Acknowledge(box.id, 1)])
        assert await apply(store, append(envelope(BOB, ANN, "goes out"))) == Appended(
            (Placed(box.id, ANN, PHONE, 2, is_own=False),), (ANN,), (LostPlace(own.id, 2),)
        )
        assert await texts(store, box) == [(2, "goes out")]
        assert await texts(store, own) == [(1, "hello")]
        assert await apply(store, append(envelope(BOB, ANN))) == MailboxFull(), "now it is the recipient's"
        assert (await mailbox_of(store, BOB, LAPTOP)).tail == 2


async def test_a_recipient_who_is_live_alone_gets_it_although_the_senders_other_device_is_full(
    open_store: OpenStore,
) -> None:
    async with open_store(Quota(mailbox_envelopes=1, mailbox_bytes=10_000, devices_per_client=3)) as store:
        own = await registered(store, BOB, LAPTOP)
        await apply(store, append(envelope(BOB, ANN), is_live=True))
        assert await apply(store, append(envelope(BOB, ANN), is_live=True)) == Appended(
            (), (ANN,), (LostPlace(own.id, 2),)
        )


async def test_what_one_writes_to_oneself_needs_room_in_one_mailbox(open_store: OpenStore) -> None:
    async with open_store(Quota(mailbox_envelopes=1, mailbox_bytes=10_000, devices_per_client=3)) as store:
        phone, stale = await registered(store, ANN, PHONE), await registered(store, ANN, TABLET)
        note = append(envelope(ANN, ANN, "note", device=PHONE))
        await store.apply([note, Acknowledge(phone.id, 1)])
        assert await apply(store, note) == Appended(
            (Placed(phone.id, ANN, PHONE, 2, is_own=False),), (ANN,), (LostPlace(stale.id, 2),)
        )
        assert await apply(store, note) == MailboxFull()
        assert (await mailbox_of(store, ANN, TABLET)).tail == 2


# --- what was lost, and why ------------------------------------------------------------------------------------------


async def test_what_was_lost_has_the_reason_that_it_has(open_store: OpenStore) -> None:
    async with open_store(Quota(mailbox_envelopes=3, mailbox_bytes=10_000, devices_per_client=3)) as store:
        box = await registered(store, BOB, LAPTOP, now_ms=9_000)
        await store.apply([append(envelope(BOB, ANN, ts=ts), is_live=True) for ts in (1, 1, 9_000, 9_000, 9_000)])
        assert await store.losses(box.id, 4, 5) == [Loss(4, 5, "full")]
        await store.expire(before_ms=5_000, archived_before_ms=5_000)
        assert await store.losses(box.id, 1, 2) == [Loss(1, 2, "expired")]
        assert await store.losses(box.id, 4, 5) == [Loss(4, 5, "full")]
        await store.expire(before_ms=9_000, archived_before_ms=9_000)
        assert await store.losses(box.id, 1, 2) == [Loss(1, 2, "expired")]


async def test_numbers_of_both_reasons_are_told_apart(open_store: OpenStore) -> None:
    async with open_store(Quota(mailbox_envelopes=2, mailbox_bytes=10_000, devices_per_client=3)) as store:
        box = await registered(store, BOB, LAPTOP, now_ms=9_000)
        await store.apply([append(envelope(BOB, ANN, ts=1), is_live=True) for _ in range(5)])
        await store.expire(before_ms=5_000, archived_before_ms=5_000)
        assert await store.losses(box.id, 1, 5) == [Loss(1, 2, "expired"), Loss(3, 5, "full")]
        assert await store.losses(box.id, 2, 2) == [Loss(2, 2, "expired")]
        await apply(store, Remove(BOB, LAPTOP))
        assert await store.losses(box.id, 1, 5) == []


# --- acks and reading ------------------------------------------------------------------------------------------------


async def test_acks_are_cumulative_may_be_repeated_and_never_go_back(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    await store.apply([append(envelope(BOB, ANN, str(number))) for number in range(1, 6)])
    await store.apply([Acknowledge(box.id, 3), Acknowledge(box.id, 3), Acknowledge(box.id, 1)])
    assert await texts(store, box) == [(4, "4"), (5, "5")]
    assert (await mailbox_of(store, ANN, PHONE)).acked == 3
    assert (await mailbox_of(store, ANN, PHONE)).waiting == 2


async def test_an_ack_beyond_the_tail_reaches_the_tail_and_not_what_is_to_come(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    await store.apply([append(envelope(BOB, ANN, "1")), Acknowledge(box.id, 99), append(envelope(BOB, ANN, "2"))])
    assert (await mailbox_of(store, ANN, PHONE)).acked == 1
    assert await texts(store, box) == [(2, "2")]


async def test_each_registration_of_a_device_begins_a_session_and_an_older_one_changes_nothing(store: Store) -> None:
    """It may neither erase what the newest was promised, nor remove the device from under it."""
    first = await registered(store, ANN, PHONE)
    await store.apply([append(envelope(BOB, ANN, "1")), append(envelope(BOB, ANN, "2"))])
    second = await registered(store, ANN, PHONE)
    assert (first.id, first.session + 1) == (second.id, second.session)
    assert await apply(store, Acknowledge(first.id, 2, first.session)) == SessionOver()
    assert await apply(store, Remove(ANN, PHONE, first.session)) == SessionOver()
    assert await texts(store, second) == [(1, "1"), (2, "2")]
    assert await apply(store, Acknowledge(second.id, 1, second.session)) == Acked()
    assert await texts(store, second) == [(2, "2")]
    assert isinstance(await apply(store, Remove(ANN, PHONE, second.session)), Removed)
    assert await apply(store, Remove(ANN, PHONE, second.session)) == NoSuchDevice()


async def test_an_ack_of_a_mailbox_that_is_gone_changes_nothing(store: Store) -> None:
    assert await apply(store, Acknowledge(MailboxId(77), 5)) == Acked()


async def test_pages_come_in_order_and_begin_after_a_number(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    await store.apply([append(envelope(BOB, ANN, str(number))) for number in range(1, 8)])
    page = await store.read(box.id, after=2, limit=3)
    assert [entry.seq for entry in page] == [3, 4, 5]
    assert [entry.seq for entry in await store.read(box.id, after=5, limit=3)] == [6, 7]
    assert await store.read(box.id, after=7, limit=3) == []


# --- what expires ----------------------------------------------------------------------------------------------------


async def test_old_envelopes_and_unseen_devices_expire_and_numbers_are_not_given_twice(store: Store) -> None:
    box = await registered(store, ANN, PHONE, 9_000)
    await registered(store, ANN, LAPTOP, 1_000)
    await store.apply([append(envelope(BOB, ANN, str(ts), ts=ts)) for ts in (1_000, 2_000, 3_000)])
    expired = await store.expire(before_ms=2_500, archived_before_ms=9_000)
    assert expired == Expired(entries=4, devices=1)
    assert await texts(store, box) == [(3, "3000")]
    assert [known.device for known in await store.mailboxes_of(ANN)] == [PHONE]
    assert ((await mailbox_of(store, ANN, PHONE)).waiting, (await mailbox_of(store, ANN, PHONE)).tail) == (1, 3)
    await apply(store, append(envelope(BOB, ANN, "next", ts=9_000)))
    assert (await texts(store, box))[-1] == (4, "next")


async def test_age_counts_and_not_order_where_the_clock_was_set_back(store: Store) -> None:
    box = await registered(store, ANN, PHONE, 9_000)
    await store.apply([append(envelope(BOB, ANN, str(ts), ts=ts)) for ts in (1_000, 8_000, 2_000)])
    await store.expire(before_ms=5_000, archived_before_ms=9_000)
    assert await texts(store, box) == [(2, "8000")]


async def test_what_has_expired_makes_room(open_store: OpenStore) -> None:
    async with open_store(Quota(mailbox_envelopes=2, mailbox_bytes=10_000, devices_per_client=3)) as store:
        await registered(store, ANN, PHONE, 9_000)
        full = [append(envelope(BOB, ANN, ts=1_000)) for _ in range(3)]
        assert (await store.apply(full))[-1] == MailboxFull()
        await store.expire(before_ms=2_000, archived_before_ms=9_000)
        assert isinstance(await apply(store, append(envelope(BOB, ANN, ts=3_000))), Appended)


# --- history ---------------------------------------------------------------------------------------------------------


async def history(store: Store, client: ClientId, peer: ClientId) -> list[str]:
    """Ids, newest first, a page of two at a time."""
    ids: list[str] = []
    before = None
    while page := await store.read_history(client, peer, before=before, limit=2):
        assert len(page) <= 2
        ids += [archived.envelope.id or "" for archived in page]
        before = page[-1].number
    return ids


async def test_archived_envelopes_are_read_newest_first_by_either_side(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    pairs = [(ANN, BOB), (BOB, ANN), (ANN, CAT), (BOB, ANN), (ANN, BOB), (ANN, ANN)]
    sent = [envelope(client, to, id=str(number)) for number, (client, to) in enumerate(pairs)]
    await store.apply([append(each, is_live=True, is_archived=True) for each in sent])
    await store.apply([append(envelope(BOB, ANN, id="not archived")), Acknowledge(box.id, 99)])
    assert await history(store, ANN, BOB) == ["4", "3", "1", "0"]
    assert await history(store, BOB, ANN) == ["4", "3", "1", "0"]
    assert await history(store, ANN, ANN) == ["5"]
    assert await history(store, BOB, CAT) == []
    (newest,) = await store.read_history(ANN, BOB, before=None, limit=1)
    assert newest.envelope == sent[4]


async def test_the_history_ends_with_its_age_whatever_waits(store: Store) -> None:
    box = await registered(store, ANN, PHONE, 9_000)
    sent = [append(envelope(BOB, ANN, id=str(ts), ts=ts), is_archived=True) for ts in (1_000, 2_000, 3_000)]
    await store.apply([*sent, Acknowledge(box.id, 1)])
    await store.expire(before_ms=0, archived_before_ms=3_000)
    assert await history(store, ANN, BOB) == ["3000"]
    assert [seq for seq, _ in await texts(store, box)] == [2, 3]


async def test_a_history_longer_than_the_retention_outlives_mailboxes_and_ids(store: Store) -> None:
    box = await registered(store, ANN, PHONE, 9_000)
    sent = append(envelope(BOB, ANN, id="1", ts=1_000), is_archived=True)
    await apply(store, sent)
    assert await store.expire(before_ms=5_000, archived_before_ms=1_000) == Expired(entries=1, devices=0)
    assert await texts(store, box) == []
    assert await history(store, ANN, BOB) == ["1"]
    assert isinstance(await apply(store, sent), Appended)
    assert await history(store, ANN, BOB) == ["1", "1"]


# --- the store as a whole --------------------------------------------------------------------------------------------


async def test_batches_wait_for_each_other_and_reads_see_whole_ones(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    seen = set()

    async def write(name: str) -> None:
        for _ in range(5):
            await store.apply([append(envelope(BOB, ANN, name)) for _ in range(10)])

    async def read(scope: trio.CancelScope) -> None:
        while True:
            seen.add(len(await texts(store, box)) % 10)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as readers:
        readers.start_soon(read, readers.cancel_scope)
        async with trio.open_nursery() as writers:
            writers.start_soon(write, "left")
            writers.start_soon(write, "right")
        readers.cancel_scope.cancel()
    assert seen == {0}
    page = await texts(store, box)
    assert [seq for seq, _ in page] == list(range(1, 101))
    batches = [{text for _, text in page[start : start + 10]} for start in range(0, 100, 10)]
    assert all(len(batch) == 1 for batch in batches)


async def test_a_batch_cancelled_before_it_began_has_not_happened(store: Store) -> None:
    box = await registered(store, ANN, PHONE)
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.apply([append(envelope(BOB, ANN))])
    assert scope.cancelled_caught
    assert await texts(store, box) == []
    await apply(store, append(envelope(BOB, ANN, "next")))
    assert await texts(store, box) == [(1, "next")]


async def test_the_newest_time_is_that_of_whatever_came_last(store: Store) -> None:
    assert await store.newest_ms() is None
    box = await registered(store, ANN, PHONE, now_ms=1_000)
    assert await store.newest_ms() == 1_000
    await store.apply([append(envelope(BOB, ANN, ts=3_000)), append(envelope(BOB, ANN, ts=2_000))])
    assert await store.newest_ms() == 3_000
    await apply(store, Touch(box.id, 4_000))
    assert await store.newest_ms() == 4_000


async def test_statistics_count_what_was_applied(store: Store) -> None:
    before = store.statistics()
    await store.apply([Register(ANN, PHONE, 1), Register(BOB, PHONE, 1)])
    after = store.statistics()
    assert (after.batches_total - before.batches_total, after.operations_total - before.operations_total) == (1, 2)
    assert not after.is_failing


@pytest.mark.parametrize("device", [PHONE, None])
async def test_an_envelope_comes_out_as_it_went_in(store: Store, device: DeviceId | None) -> None:
    box = await registered(store, ANN, PHONE)
    for sent in (
        envelope(BOB, ANN, 'Ünï "\0', device=device, id="é 1", ts=2**53 - 1),
        envelope(BOB, ANN, device=device),
    ):
        await apply(store, append(sent))
        assert (await store.read(box.id, after=0, limit=9))[-1].envelope == sent
