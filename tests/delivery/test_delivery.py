"""Nothing is told before the commit, what comes meanwhile is committed together, and nothing drops silently."""

from collections.abc import Sequence

import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.close_codes import CloseCode
from ironwire.delivery.committer import BATCH_COST, QUIET_SECONDS
from ironwire.delivery.hub import Endpoint
from ironwire.delivery.outbox import Ending, Outbox
from ironwire.errors import StoreError
from ironwire.ids import DeviceId, MessageId
from ironwire.protocol.auth import Principal
from ironwire.store.contract.operations import AddBlock, Operation, Remove, Removed, Result, SessionOver, Sweep
from ironwire.store.contract.records import MailboxId
from ironwire.wire.messages import Error, Receipt, Text
from tests.house import ALICE, BOB, CAROL, NOW_MS, PHONE, House, accepted, taken, text_from

# --- where nobody has a mailbox --------------------------------------------------------------------------------------


async def test_between_seed_sessions_nothing_waits_and_nothing_is_stored(house: House) -> None:
    alice, bob, bob_too = house.seat(ALICE), house.seat(BOB), house.seat(BOB)
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("1"))
    assert taken(bob) == taken(bob_too) == [text_from(ALICE, "Hello")]
    assert taken(alice) == [accepted("1")]
    await wait_all_tasks_blocked()
    assert house.store.batches == []


async def test_one_session_that_takes_it_is_enough(house: House) -> None:
    alice, slow, quick = house.seat(ALICE), house.seat(BOB, most_frames=1), house.seat(BOB)
    for number in ("1", "2"):
        house.delivery.envelopes.submit(alice, Text(BOB, number), MessageId(number))
    assert taken(alice) == [accepted("1"), accepted("2")]
    assert taken(slow) == [text_from(ALICE, "1")]
    assert slow.outbox.ending == Ending(CloseCode.TOO_SLOW, "too slow")
    assert taken(quick) == [text_from(ALICE, "1"), text_from(ALICE, "2")]


async def test_a_recipient_whose_only_session_is_ending_is_offline(house: House) -> None:
    alice, bob = house.seat(ALICE), house.seat(BOB)
    bob.outbox.close(Ending(CloseCode.RESTART, "retry_ms=5000"))
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("1"))
    assert taken(alice) == [{"type": "error", "id": "1", "payload": {"msg": "user_offline", "user": BOB}}]
    assert house.delivery.statistics().undeliverable_total.total == 1


async def test_a_receipt_goes_to_devices_only(house: House) -> None:
    alice, bob = house.seat(ALICE), house.seat(BOB)
    house.delivery.envelopes.submit(alice, Receipt(BOB, [MessageId("1")], "read"), None)
    assert taken(bob) == []
    assert taken(alice) == [{"type": "error", "payload": {"msg": "user_offline", "user": BOB}}]


async def test_accepted_for_one_without_a_device_means_handed_over_and_no_more(house: House) -> None:
    """The README and section 4 of the protocol say so: what a stalled session has not taken is lost with it."""
    alice, bob = house.seat(ALICE), house.seat(BOB)
    for number in range(5):
        house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId(str(number)))
    assert taken(alice) == [accepted(str(number)) for number in range(5)]
    house.leave(bob)
    bob = house.seat(BOB)
    await wait_all_tasks_blocked()
    assert taken(bob) == []
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("5"))
    assert taken(bob) == [text_from(ALICE, "Hello")]


# --- where somebody has one ------------------------------------------------------------------------------------------


async def test_an_envelope_costs_a_place_in_each_mailbox_that_it_may_go_to(house: House) -> None:
    """Else somebody with sixteen devices would write thirty-one entries at the price of one."""
    phone = await house.seat_device(ALICE, PHONE)
    await house.seat_device(ALICE, DeviceId("watch"))
    for name in ("laptop", "tablet"):
        await house.seat_device(BOB, DeviceId(name))
    house.store.release = trio.Event()
    house.delivery.envelopes.submit(phone, Text(BOB, "Hello"), None)
    assert phone.unsettled.count == 3
    house.delivery.envelopes.submit(phone, Text(ALICE, "a note"), None)
    assert phone.unsettled.count == 3 + 2
    house.delivery.envelopes.submit(phone, Text(CAROL, "nobody"), None)
    assert phone.unsettled.count == 3 + 2 + 1
    house.store.release.set()


async def test_nobody_is_told_anything_before_the_commit(house: House) -> None:
    alice, bob = house.seat(ALICE), house.seat(BOB)
    bob_phone = await house.seat_device(BOB, PHONE)
    house.store.release = trio.Event()
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("1"))
    await wait_all_tasks_blocked()
    assert taken(alice) == taken(bob) == taken(bob_phone) == []
    assert alice.unsettled.count == 1
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert taken(alice) == [accepted("1")]
    assert taken(bob) == [text_from(ALICE, "Hello")]
    assert [frame["seq"] for frame in taken(bob_phone)] == [1]
    assert alice.unsettled.count == 0


async def test_a_session_without_a_mailbox_that_comes_before_the_commit_gets_it_too(house: House) -> None:
    alice = house.seat(ALICE)
    await house.seat_device(BOB, PHONE)
    house.store.release = trio.Event()
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("1"))
    house.delivery.envelopes.submit(alice, Receipt(BOB, [MessageId("0")], "read"), None)
    await wait_all_tasks_blocked()
    bob = house.seat(BOB)
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert taken(bob) == [text_from(ALICE, "Hello")]


async def test_where_the_store_cannot_be_read_the_commit_answers(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> int:
        raise StoreError("the disk is gone")

    alice, bob = house.seat(ALICE), house.seat(BOB)
    monkeypatch.setattr(house.store.glance, "mailbox_count", fail)
    house.store.fails = True
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("1"))
    await wait_all_tasks_blocked()
    assert [(frame["id"], frame["payload"]["msg"]) for frame in taken(alice)] == [("1", "internal")]
    house.store.fails = False
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("1"))
    await wait_all_tasks_blocked()
    assert taken(alice) == [accepted("1")]
    assert taken(bob) == [text_from(ALICE, "Hello")]


async def test_a_new_session_is_told_of_no_gap_where_the_one_before_had_acknowledged(house: House) -> None:
    """The new one is registered before the last ack of the other is committed."""
    alice = house.seat(ALICE)
    old = await house.seat_device(BOB, PHONE)
    for number in ("1", "2"):
        house.delivery.envelopes.submit(alice, Text(BOB, number), MessageId(number))
    await wait_all_tasks_blocked()
    house.store.release = trio.Event()
    new: list[Endpoint] = []

    async def come() -> None:
        new.append(await house.seat_again(BOB, PHONE))

    house.nursery.start_soon(come)
    await wait_all_tasks_blocked()
    house.delivery.ack(old, 1, None)  # during the commit
    house.leave(old)
    house.delivery.envelopes.submit(alice, Text(BOB, "3"), MessageId("3"))  # its commit takes the ack along
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert [frame.get("seq", frame["type"]) for frame in taken(new[0])] == [2, 3, "caught_up"]
    assert [box.acked for box in await house.store.mailboxes_of(BOB)] == [1]


async def test_a_session_that_was_replaced_acknowledges_nothing_any_more(house: House) -> None:
    """What it erased would be a gap for the one that has taken its place."""
    alice = house.seat(ALICE)
    old = await house.seat_device(BOB, PHONE)
    house.delivery.envelopes.submit(alice, Text(BOB, "1"), MessageId("1"))
    await wait_all_tasks_blocked()
    new = await house.seat_again(BOB, PHONE)
    house.delivery.ack(old, 1, MessageId("a"))
    house.delivery.envelopes.submit(alice, Text(BOB, "2"), MessageId("2"))
    await wait_all_tasks_blocked()
    assert [frame.get("seq", frame["type"]) for frame in taken(new)] == [1, "caught_up", 2]
    assert [box.acked for box in await house.store.mailboxes_of(BOB)] == [0]


async def test_a_registration_that_fails_leaves_the_older_session_alone(house: House) -> None:
    alice, old = house.seat(ALICE), await house.seat_device(BOB, PHONE)
    house.store.fails = True
    with structlog.testing.capture_logs(), pytest.raises(StoreError):
        await house.seat_again(BOB, PHONE)
    house.store.fails = False
    house.delivery.envelopes.submit(alice, Text(BOB, "still here"), None)
    await wait_all_tasks_blocked()
    assert [frame["seq"] for frame in taken(old)] == [1]
    assert old.outbox.ending is None


async def test_a_session_that_leaves_during_its_registration_is_not_opened_by_it(
    house: House, nursery: trio.Nursery
) -> None:
    old = await house.seat_device(BOB, PHONE)
    house.store.release = trio.Event()
    outbox = Outbox(most_frames=9, most_bytes=9_999, ring=lambda: None)
    new = Endpoint(Principal(BOB, PHONE), outbox, house.delivery.pump(outbox))
    opened: list[bool] = []

    async def come() -> None:
        with leaving, house.hub.attached(new):
            await house.delivery.register(new, lambda _: opened.append(house.hub.open(new)))

    leaving = trio.CancelScope()
    nursery.start_soon(come)
    await wait_all_tasks_blocked()
    leaving.cancel()
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert opened == [False]
    assert old.outbox.ending is None
    assert house.hub.sessions_of(BOB) == (old,)


async def test_an_ack_is_answered_after_its_commit_or_with_why_it_was_not_committed(
    house: House, mock_clock: MockClock
) -> None:
    alice, bob_phone = house.seat(ALICE), await house.seat_device(BOB, PHONE)
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), None)
    await wait_all_tasks_blocked()
    (text,) = taken(bob_phone)
    house.store.release, house.store.fails = trio.Event(), True
    house.delivery.ack(bob_phone, text["seq"], MessageId("a"))
    mock_clock.jump(QUIET_SECONDS)
    await wait_all_tasks_blocked()
    assert (taken(bob_phone), bob_phone.unsettled.count) == ([], 1)
    with structlog.testing.capture_logs():
        house.store.release.set()
        await wait_all_tasks_blocked()
    (failed,) = taken(bob_phone)
    assert (failed["type"], failed["id"], failed["payload"]["msg"]) == ("error", "a", "internal")
    assert bob_phone.unsettled.count == 0
    house.store.fails = False
    house.delivery.ack(bob_phone, text["seq"], MessageId("a"))
    mock_clock.jump(QUIET_SECONDS)
    await wait_all_tasks_blocked()
    assert taken(bob_phone) == [accepted("a")]
    assert [box.acked for box in await house.store.mailboxes_of(BOB)] == [1]


async def test_a_device_is_not_removed_from_under_its_newest_session_by_an_older_one(house: House) -> None:
    former, newest = await house.seat_device(BOB, PHONE), await house.seat_again(BOB, PHONE)
    assert former.pump is not None
    assert newest.pump is not None
    assert await house.delivery.remove(BOB, PHONE, lambda: None, former.pump.session) == SessionOver()
    assert [box.id for box in await house.delivery.mailboxes_of(BOB)] == [newest.pump.mailbox]


async def test_what_is_committed_after_a_block_is_not_stored_for_whoever_blocked(house: House) -> None:
    alice = house.seat(ALICE)
    await house.seat_device(BOB, PHONE)
    for _ in range(3 * BATCH_COST):
        house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), None)
    await house.delivery.change(BOB, AddBlock(BOB, ALICE))
    (at_the_block,) = await house.store.mailboxes_of(BOB)
    await wait_all_tasks_blocked()
    (in_the_end,) = await house.store.mailboxes_of(BOB)
    assert in_the_end.tail == at_the_block.tail


async def test_what_comes_during_a_commit_goes_into_the_next_one_together(house: House) -> None:
    alice = house.seat(ALICE)
    bob_phone = await house.seat_device(BOB, PHONE)
    house.store.batches.clear()
    house.store.release = trio.Event()
    house.delivery.envelopes.submit(alice, Text(BOB, "0"), None)
    await wait_all_tasks_blocked()
    for number in range(1, 6):
        house.delivery.envelopes.submit(alice, Text(BOB, str(number)), None)
    assert house.delivery.statistics().operations_waiting == 5
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert house.store.batches == [1, 5]
    assert [(frame["seq"], frame["payload"]["text"]) for frame in taken(bob_phone)] == [
        (number + 1, str(number)) for number in range(6)
    ]


async def test_what_one_session_sends_to_another_keeps_its_order_whichever_way_it_goes(house: House) -> None:
    alice, carol = house.seat(ALICE), house.seat(CAROL)
    await house.seat_device(BOB, PHONE)
    house.store.release = trio.Event()
    house.delivery.envelopes.submit(alice, Text(BOB, "to a mailbox"), MessageId("1"))
    house.delivery.envelopes.submit(alice, Text(CAROL, "to a live session"), MessageId("2"))
    assert taken(carol) == []
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert taken(alice) == [accepted("1"), accepted("2")]
    assert taken(carol) == [text_from(ALICE, "to a live session")]


async def test_a_store_that_fails_accepts_nothing_and_works_again_later(house: House) -> None:
    alice = house.seat(ALICE)
    bob_phone = await house.seat_device(BOB, PHONE)
    house.store.fails = True
    with structlog.testing.capture_logs():
        house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("1"))
        await wait_all_tasks_blocked()
    assert taken(alice) == [
        {"type": "error", "id": "1", "payload": {"msg": "internal", "detail": "the message could not be stored"}}
    ]
    assert taken(bob_phone) == []
    house.store.fails = False
    house.delivery.envelopes.submit(alice, Text(BOB, "Hello"), MessageId("1"))
    await wait_all_tasks_blocked()
    assert taken(alice) == [accepted("1")]
    assert [frame["id"] for frame in taken(bob_phone)] == ["1"]
    statistics = house.delivery.statistics()
    assert statistics.accepted_total.total == 1
    assert {key: count for key, count in statistics.refused_total.counts.items() if count} == {("text", "internal"): 1}
    assert statistics.settled_seconds.cumulative[-1] == statistics.batch_operations.cumulative[-1] == 3


async def test_an_id_counts_once_for_its_device_and_only_with_its_body(house: House) -> None:
    alice = house.seat(ALICE)
    bob_phone = await house.seat_device(BOB, PHONE)
    for content in ("Hello", "Hello", "Bye"):
        house.delivery.envelopes.submit(alice, Text(BOB, content), MessageId("1"))
    await wait_all_tasks_blocked()
    duplicate = {"type": "accepted", "id": "1", "payload": {"ts": NOW_MS, "duplicate": True}}
    taken_id = {"msg": "invalid", "detail": "id was used for another message"}
    assert taken(alice) == [accepted("1"), duplicate, {"type": "error", "id": "1", "payload": taken_id}]
    assert len(taken(bob_phone)) == 1


async def test_the_senders_other_devices_get_a_copy_that_says_to_whom(house: House) -> None:
    alice_phone = await house.seat_device(ALICE, PHONE)
    alice_laptop = await house.seat_device(ALICE, DeviceId("laptop"))
    house.seat(BOB)
    house.delivery.envelopes.submit(alice_phone, Text(BOB, "Hello"), None)
    await wait_all_tasks_blocked()
    assert taken(alice_phone) == []
    assert [frame["payload"] for frame in taken(alice_laptop)] == [
        {"from": ALICE, "text": "Hello", "ts": NOW_MS, "device": "phone", "to": BOB}
    ]


async def test_a_recipient_who_left_before_the_commit_is_offline_and_the_id_may_come_again(house: House) -> None:
    alice_phone = await house.seat_device(ALICE, PHONE)
    bob = house.seat(BOB)
    house.store.release = trio.Event()
    house.delivery.envelopes.submit(alice_phone, Text(BOB, "Hello"), MessageId("1"))
    bob.outbox.close(Ending(CloseCode.RESTART, "retry_ms=5000"))
    house.store.release.set()
    await wait_all_tasks_blocked()
    assert [frame["payload"]["msg"] for frame in taken(alice_phone)] == ["user_offline"]
    bob_again = house.seat(BOB)
    house.delivery.envelopes.submit(alice_phone, Text(BOB, "Hello"), MessageId("1"))
    await wait_all_tasks_blocked()
    assert taken(alice_phone) == [accepted("1")]
    assert taken(bob_again) == [text_from(ALICE, "Hello")]


async def test_what_a_removed_mailbox_held_is_erased_afterwards(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.seat_device(BOB, PHONE)
    rest = (Sweep(MailboxId(1), 250), Sweep(MailboxId(1), 500))
    apply = house.store.apply
    asked: list[Operation] = []

    async def leave_something(batch: Sequence[Operation]) -> list[Result]:
        asked.extend(batch)
        return [Removed(rest) if result == Removed() else result for result in await apply(batch)]

    monkeypatch.setattr(house.store, "apply", leave_something)
    assert await house.delivery.remove(BOB, PHONE, lambda: None) == Removed(rest)
    await wait_all_tasks_blocked()
    assert asked == [Remove(BOB, PHONE), *rest]


@pytest.mark.parametrize("kind", ["text", "ack", "refusal"])
async def test_an_error_in_an_answer_ends_that_session_alone(
    house: House, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    broken, bob_phone, carol = (
        await house.seat_device(ALICE, PHONE),
        await house.seat_device(BOB, PHONE),
        house.seat(CAROL),
    )
    house.delivery.envelopes.submit(carol, Text(ALICE, "Hello"), None)
    await wait_all_tasks_blocked()
    put = Outbox.put

    def fail(outbox: Outbox, frame: bytes) -> bool:
        if outbox is broken.outbox:
            raise ValueError("a mistake of ours")
        return put(outbox, frame)

    monkeypatch.setattr(Outbox, "put", fail)
    match kind:
        case "text":
            house.delivery.envelopes.submit(broken, Text(BOB, "Hello"), MessageId("1"))
        case "ack":
            house.delivery.ack(broken, 1, MessageId("1"))
        case _:
            house.delivery.envelopes.refuse(broken, Error("invalid"), MessageId("1"), n=1)
    house.delivery.envelopes.submit(carol, Text(BOB, "Good morning"), MessageId("2"))
    with structlog.testing.capture_logs() as logs:
        await wait_all_tasks_blocked()
    assert [entry["event"] for entry in logs] == ["a result could not be told"]
    assert broken.outbox.ending == Ending(CloseCode.INTERNAL_ERROR, "internal error")
    assert broken.unsettled.count == 0
    assert taken(carol) == [accepted("2")]
    assert [frame["payload"]["from"] for frame in taken(bob_phone)] == ([ALICE, CAROL] if kind == "text" else [CAROL])
