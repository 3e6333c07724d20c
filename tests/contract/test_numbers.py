"""Every store settles each number of a device once, in order, and answers it the same again."""

import pytest
from attrs import evolve

from ironwire.ids import GroupId
from ironwire.limits import UNANSWERED_ENVELOPES
from ironwire.store.contract.operations import (
    AlreadySettled,
    Append,
    Appended,
    Forget,
    Held,
    MailboxFull,
    NotMember,
    NumberRefused,
    Operation,
    OutOfTurn,
    RefuseNumber,
    Remove,
    Result,
    SessionOver,
    ToClient,
    Undeliverable,
)
from ironwire.store.contract.records import Mailbox, Number, Quota, RefusedSpan
from ironwire.store.contract.store import Store
from tests.contract.builders import (
    ANN,
    BOB,
    CAT,
    LAPTOP,
    PHONE,
    apply,
    envelope,
    mailbox_of,
    numbered,
    registered,
    texts,
)
from tests.contract.conftest import OpenStore

TWO = Quota(mailbox_envelopes=2, mailbox_bytes=1_000_000, devices_per_client=3)
NO_GROUP = GroupId("#" + "0" * 32)


def to_bob(phone: Mailbox, n: int, text: str = "hello", id: str | None = None) -> Append:  # noqa: A002  # the frame's
    return numbered(envelope(ANN, BOB, text, device=PHONE, id=id), phone, n)


async def standing(store: Store) -> tuple[int, tuple[RefusedSpan, ...]]:
    box = await mailbox_of(store, ANN, PHONE)
    return box.sent, box.refused


async def test_a_number_is_accepted_once(store: Store) -> None:
    phone, bobs = await registered(store, ANN, PHONE), await registered(store, BOB, PHONE)
    results = await store.apply([to_bob(phone, 1, "one"), to_bob(phone, 1, "another"), to_bob(phone, 2, "two")])
    assert [type(result) for result in results] == [Appended, AlreadySettled, Appended]
    assert results[1] == AlreadySettled(None)
    assert await texts(store, bobs) == [(1, "one"), (2, "two")]
    assert await standing(store) == (2, ())


async def test_a_hole_changes_nothing(store: Store) -> None:
    phone, bobs = await registered(store, ANN, PHONE), await registered(store, BOB, PHONE)
    assert await apply(store, to_bob(phone, 2)) == OutOfTurn(1)
    assert await apply(store, RefuseNumber(Number(phone.id, phone.session, 7), "invalid")) == OutOfTurn(1)
    assert await texts(store, bobs) == []
    assert await standing(store) == (0, ())


async def test_every_refusal_uses_its_number_up_and_is_told_again(open_store: OpenStore) -> None:
    async with open_store(TWO) as store:
        phone, _ = await registered(store, ANN, PHONE), await registered(store, BOB, PHONE)
        nobody = numbered(envelope(ANN, CAT, device=PHONE), phone, 3)
        to_group = numbered(envelope(ANN, NO_GROUP, device=PHONE), phone, 5)
        refused = RefuseNumber(Number(phone.id, phone.session, 6), "rate_limited")
        batch: list[Operation] = [to_bob(phone, 1), to_bob(phone, 2), nobody, to_bob(phone, 4), to_group, refused]
        results = await store.apply(batch)
        expected: list[type[Result]] = [Appended, Appended, Undeliverable, MailboxFull, NotMember, NumberRefused]
        assert [type(result) for result in results] == expected
        assert await store.apply(batch) == [
            AlreadySettled(None),
            AlreadySettled(None),
            AlreadySettled("user_offline"),
            AlreadySettled("mailbox_full"),
            AlreadySettled("not_found"),
            AlreadySettled("rate_limited"),
        ]
        assert await standing(store) == (
            6,
            (
                RefusedSpan(3, 3, "user_offline"),
                RefusedSpan(4, 4, "mailbox_full"),
                RefusedSpan(5, 5, "not_found"),
                RefusedSpan(6, 6, "rate_limited"),
            ),
        )


async def test_what_is_held_in_a_lane_uses_its_number_up(open_store: OpenStore) -> None:
    async with open_store(TWO) as store:
        phone, _ = await registered(store, ANN, PHONE), await registered(store, BOB, PHONE)
        await registered(store, CAT, PHONE)
        batch = [evolve(to_bob(phone, n), lane="here") for n in (1, 2, 3)]
        batch += [numbered(envelope(ANN, CAT, device=PHONE), phone, 4, lane="here")]
        assert [type(result) for result in await store.apply(batch)] == [Appended, Appended, MailboxFull, Held]
        assert await texts(store, await mailbox_of(store, CAT, PHONE)) == []
        assert await standing(store) == (4, (RefusedSpan(3, 4, "mailbox_full"),))


async def test_of_older_numbers_nothing_is_said(store: Store) -> None:
    phone, _ = await registered(store, ANN, PHONE), await registered(store, BOB, PHONE)
    number = Number(phone.id, phone.session, 1)
    last = UNANSWERED_ENVELOPES + 1
    await store.apply([RefuseNumber(evolve(number, n=n), "invalid") for n in range(1, last + 1)])
    assert await apply(store, to_bob(phone, 1)) == OutOfTurn(last + 1)
    assert await apply(store, to_bob(phone, 2)) == AlreadySettled("invalid")
    assert await standing(store) == (last, (RefusedSpan(2, last, "invalid"),))


async def test_a_new_session_ends_what_the_former_one_has_on_its_way(store: Store) -> None:
    former = await registered(store, ANN, PHONE)
    await registered(store, BOB, PHONE)
    await apply(store, to_bob(former, 1))
    newer = await registered(store, ANN, PHONE)
    assert (newer.session, newer.sent) == (former.session + 1, 1)
    assert await apply(store, to_bob(former, 2)) == SessionOver()
    assert isinstance(await apply(store, to_bob(newer, 2)), Appended)


async def test_a_device_that_was_removed_begins_at_1_again(store: Store) -> None:
    phone, _ = await registered(store, ANN, PHONE), await registered(store, BOB, PHONE)
    await apply(store, to_bob(phone, 1))
    await apply(store, Remove(ANN, PHONE))
    assert await apply(store, to_bob(phone, 2)) == SessionOver()
    anew = await registered(store, ANN, PHONE)
    assert (anew.session, anew.sent) == (1, 0)
    assert await apply(store, to_bob(phone, 1)) == SessionOver()
    assert isinstance(await apply(store, to_bob(anew, 1)), Appended)


async def test_each_device_has_its_own_numbers(store: Store) -> None:
    phone, laptop = await registered(store, ANN, PHONE), await registered(store, ANN, LAPTOP)
    await registered(store, BOB, PHONE)
    from_laptop = numbered(envelope(ANN, BOB, device=LAPTOP), laptop, 1)
    assert [type(result) for result in await store.apply([to_bob(phone, 1), from_laptop])] == [Appended, Appended]


async def test_the_id_of_what_has_a_number_is_not_remembered(store: Store) -> None:
    phone, _ = await registered(store, ANN, PHONE), await registered(store, BOB, PHONE)
    results = await store.apply([to_bob(phone, 1, id="same"), to_bob(phone, 2, id="same")])
    assert [type(result) for result in results] == [Appended, Appended]


@pytest.mark.parametrize("id_", [None, "1"])
async def test_what_reached_nobody_after_all_counts_as_refused(store: Store, id_: str | None) -> None:
    phone = await registered(store, ANN, PHONE)
    nowhere = ToClient(BOB, is_live=True)
    sent = evolve(to_bob(phone, 1, id=id_), audience=nowhere, is_archived=True)
    later = evolve(to_bob(phone, 2, "later"), audience=nowhere, is_archived=True)
    await store.apply([sent, later])
    await apply(store, Forget(sent.envelope, sent.number))
    assert await apply(store, sent) == AlreadySettled("user_offline")
    assert await apply(store, later) == AlreadySettled(None)
    history = await store.read_history(ANN, BOB, before=None, limit=9)
    assert [archived.envelope for archived in history] == [later.envelope]
