"""Calls among live sessions: what a slow one costs, and what is counted. The rules: tests/server/test_calls.py."""

import pytest

from ironwire.handlers.calls import CallHandler, CallsStatistics
from ironwire.handlers.ice import IceHandler
from ironwire.ids import CallId, MessageId
from ironwire.wire.messages import CallAnswer, CallCandidate, CallEnd, CallOffer, CallUpdate, Candidate
from tests.house import ALICE, BOB, CAROL, LIMITS, NOW_MS, PHONE, House, accepted, taken

CALL = CallId("1" * 32)
OFFER = CallOffer(BOB, CALL, "v=0", "audio")


@pytest.fixture
def handler(house: House) -> CallHandler:
    ice = IceHandler((), "", 600, lambda: NOW_MS, bytes)
    return CallHandler(house.hub, house.store, ice, LIMITS, lambda: NOW_MS)


async def test_a_session_that_reads_too_slowly_is_not_rung_and_stays(house: House, handler: CallHandler) -> None:
    """Whoever calls without end could drive it out otherwise."""
    alice, slow, quick = house.seat(ALICE), house.seat(BOB, most_frames=2), house.seat(BOB)
    slow.outbox.put(b"{}")
    handler.offer(alice, OFFER, MessageId("1"))
    assert taken(alice) == [accepted("1")]
    assert taken(slow) == [{}]
    assert [frame["type"] for frame in taken(quick)] == ["call_offer"]
    handler.signal(alice, CallEnd(BOB, CALL, "hangup"), None)
    assert taken(slow) == [], "who was not told that it rings is not told of the end"
    assert slow.outbox.ending is None


async def test_where_nobody_reads_there_is_nobody_to_ring(house: House, handler: CallHandler) -> None:
    alice, slow = house.seat(ALICE), house.seat(BOB, most_frames=2)
    slow.outbox.put(b"{}")
    handler.offer(alice, OFFER, None)
    assert [frame["payload"]["msg"] for frame in taken(alice)] == ["user_offline"]


async def test_candidates_drive_nobody_out(house: House, handler: CallHandler) -> None:
    alice, bob = house.seat(ALICE), house.seat(BOB, most_frames=8)
    handler.offer(alice, OFFER, None)
    for _ in range(20):
        handler.signal(alice, CallCandidate(BOB, CALL, Candidate("candidate:1")), None)
    assert bob.outbox.ending is None
    assert [frame["type"] for frame in taken(bob)] == ["call_offer"] + ["call_candidate"] * 3


async def test_who_comes_back_stays_however_much_rings(house: House, handler: CallHandler) -> None:
    """Two who call with all they may say could keep somebody out otherwise."""
    ear = house.seat(BOB)
    for number, caller in enumerate((ALICE, CAROL)):
        seat = house.seat(caller)
        for each in range(4):
            call = CallId(f"{number}{each}" * 16)
            handler.offer(seat, CallOffer(BOB, call, "v=0" * 1_000, "audio"), None)
            for _ in range(64):
                handler.signal(seat, CallCandidate(BOB, call, Candidate("\x01" * 300)), None)
            assert len(taken(ear)) > 1
        assert taken(seat) == []
    back = house.seat(BOB, most_frames=100)
    handler.arrived(back)
    assert back.outbox.ending is None
    assert 1 < len(taken(back)) <= 50


async def test_only_offers_that_were_accepted_are_counted(house: House, handler: CallHandler) -> None:
    alice, _ = house.seat(ALICE), house.seat(BOB)
    handler.offer(alice, CallOffer(CAROL, CALL, "v=0", "audio"), None)
    assert [frame["payload"]["msg"] for frame in taken(alice)] == ["user_offline"]
    handler.offer(alice, OFFER, None)
    assert handler.statistics() == CallsStatistics(live=1, offered_total=1)
    handler.signal(alice, CallEnd(BOB, CALL, "hangup"), None)
    assert handler.statistics() == CallsStatistics(live=0, offered_total=1)
    assert taken(alice) == [], "without an id, what was carried out is not answered"


async def test_updates_drive_nobody_out(house: House, handler: CallHandler) -> None:
    """Who answered a call agreed to talk, not to be flooded; what is not passed on is not lost without a word."""
    alice, bob = house.seat(ALICE), house.seat(BOB, most_frames=8)
    handler.offer(alice, OFFER, None)
    handler.signal(bob, CallAnswer(ALICE, CALL, "v=0"), None)
    taken(alice)
    taken(bob)
    for number in range(20):
        handler.update(alice, CallUpdate(BOB, CALL, "offer", f"v={number}"), None)
    assert bob.outbox.ending is None
    assert [frame["payload"]["sdp"] for frame in taken(bob)] == ["v=0", "v=1", "v=2", "v=3"]
    errors = [frame["payload"] for frame in taken(alice)]
    assert [(error["msg"], error["retry_after_ms"]) for error in errors] == [("rate_limited", 1_000)] * 16


async def test_a_session_that_was_replaced_takes_no_call_along(house: House, handler: CallHandler) -> None:
    alice, old = house.seat(ALICE), await house.seat_device(BOB, PHONE)
    handler.offer(alice, OFFER, None)
    handler.signal(old, CallAnswer(ALICE, CALL, "v=0"), None)
    new = await house.seat_device(BOB, PHONE)
    handler.arrived(new)
    house.leave(old)
    handler.left(old)
    taken(alice)
    handler.update(alice, CallUpdate(BOB, CALL, "offer", "v=1"), None)
    assert [frame["type"] for frame in taken(new)] == ["call_resumed", "call_update"]
