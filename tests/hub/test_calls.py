"""Calls among live sessions: what a slow one costs, and what is counted. The rules: tests/server/test_calls.py."""

import pytest

from ironwire.hub.calls import CallDesk, CallsStatistics
from ironwire.hub.ice import IceDesk
from ironwire.hub.outbox import Ending
from ironwire.ids import CallId, MessageId
from ironwire.wire.messages import CallEnd, CallOffer
from tests.hub.house import ALICE, BOB, CAROL, LIMITS, NOW_MS, House, accepted, taken

CALL = CallId("1" * 32)
OFFER = CallOffer(BOB, CALL, "v=0", "audio")


@pytest.fixture
def desk(house: House) -> CallDesk:
    ice = IceDesk((), "", 600, lambda: NOW_MS, bytes)
    return CallDesk(house.hub, house.store, ice, LIMITS, lambda: NOW_MS)


async def test_a_session_that_reads_nothing_loses_its_place_and_no_other_does(house: House, desk: CallDesk) -> None:
    alice, slow, quick = house.seat(ALICE), house.seat(BOB, most_frames=1), house.seat(BOB)
    slow.outbox.put(b"something waits")
    desk.answer(alice, OFFER, MessageId("1"))
    assert taken(alice) == [accepted("1")]
    assert slow.outbox.ending == Ending(4508, "too slow")
    assert [frame["type"] for frame in taken(quick)] == ["call_offer"]
    desk.left(slow)
    assert taken(alice) == []


async def test_only_offers_that_were_accepted_are_counted(house: House, desk: CallDesk) -> None:
    alice, _ = house.seat(ALICE), house.seat(BOB)
    desk.answer(alice, CallOffer(CAROL, CALL, "v=0", "audio"), None)
    assert [frame["payload"]["msg"] for frame in taken(alice)] == ["user_offline"]
    desk.answer(alice, OFFER, None)
    assert desk.statistics() == CallsStatistics(live=1, offered_total=1)
    desk.answer(alice, CallEnd(BOB, CALL, "hangup"), None)
    assert desk.statistics() == CallsStatistics(live=0, offered_total=1)
    assert taken(alice) == [], "without an id, what was carried out is not answered"
