"""What one client may ask for in a time: docs/protocol.md, section 6, each rule a conversation with the server."""

import json

import pytest
from trio.testing import MockClock

from ironwire.ids import ClientId, GroupId
from ironwire.limits import Limits
from ironwire.server.session.rates import Rates
from ironwire.server.session.refusals import REFUSALS
from ironwire.wire.messages import (
    Ack,
    ClientMessage,
    File,
    GroupAdd,
    GroupCreate,
    GroupInfo,
    GroupLeave,
    GroupRemove,
    GroupRename,
    GroupRole,
    History,
    PresenceWatch,
    Text,
    Typing,
    UploadToken,
)
from tests.playbook import identity_of, open_stage
from tests.wire.frame_builder import text

ALICE = ClientId("a1" * 32)
BOB = ClientId("b0" * 32)
BOB_ID = identity_of("bob").client_id
HERE, ELSEWHERE = GroupId("#" + "0" * 32), GroupId("#" + "1" * 32)
SLOW = Limits(messages_per_second=2, messages_at_once=3)


async def test_what_is_too_much_is_refused_by_its_id_and_what_was_there_passes(mock_clock: MockClock) -> None:
    async with open_stage(limits=SLOW) as stage:
        await stage.enter("alice", "bob")
        await stage.play("""
            alice >> {"type":"text","id":"1","payload":{"to":"$bob","text":"one"}}
            alice >> {"type":"text","id":"2","payload":{"to":"$bob","text":"two"}}
            alice >> {"type":"text","id":"3","payload":{"to":"$bob","text":"three"}}
            alice << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            alice << {"type":"accepted","id":"2","payload":{"ts":1790000000000}}
            alice << {"type":"accepted","id":"3","payload":{"ts":1790000000000}}
            alice >> {"type":"text","id":"4","payload":{"to":"$bob","text":"four"}}
            alice << {"type":"error","id":"4","payload":{"msg":"rate_limited","retry_after_ms":501}}
            alice >> []
            alice << {"type":"error","payload":{"msg":"rate_limited","retry_after_ms":501}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"one"}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"two"}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"three"}}
            bob   << nothing
            ... 0.501 s
            alice >> {"type":"text","id":"4","payload":{"to":"$bob","text":"four"}}
            alice << {"type":"accepted","id":"4","payload":{"ts":1790000000000}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"four"}}
        """)


async def test_of_a_batch_that_is_too_much_as_much_passes_as_may(mock_clock: MockClock) -> None:
    async with open_stage(limits=SLOW) as stage:
        await stage.enter("alice", "bob")
        await stage.play("\n".join(f'alice >> {{"type":"devices","id":"{number}"}}' for number in range(5)))
        replies = [json.loads(await stage.next_text("alice")) for _ in range(5)]
    assert {reply["id"]: reply["type"] for reply in replies} == {
        "0": "devices",
        "1": "devices",
        "2": "devices",
        "3": "error",
        "4": "error",
    }


async def test_a_client_has_one_allowance_for_all_its_sessions_and_others_have_theirs(mock_clock: MockClock) -> None:
    async with open_stage(limits=SLOW) as stage:
        await stage.enter("alice", "alice.phone", "bob")
        await stage.play("""
            alice       >> {"type":"devices","id":"1"}
            alice       << {"type":"devices","id":"1","payload":{"devices":[]}}
            alice.phone >> {"type":"devices","id":"2"}
            alice.phone << {"type":"devices","id":"2","payload":{"devices":[]}}
            alice       >> {"type":"devices","id":"3"}
            alice       << {"type":"devices","id":"3","payload":{"devices":[]}}
            alice.phone >> {"type":"devices","id":"4"}
            alice.phone << {"type":"error","id":"4","payload":{"msg":"rate_limited","retry_after_ms":501}}
            bob         >> {"type":"devices","id":"5"}
            bob         << {"type":"devices","id":"5","payload":{"devices":[]}}
        """)


async def test_an_ack_is_never_refused(mock_clock: MockClock) -> None:
    async with open_stage(limits=SLOW) as stage:
        await stage.enter("bob", device="phone")
        await stage.enter("alice")
        await stage.play("""
            alice >> {"type":"text","payload":{"to":"$bob","text":"one"}}
            bob   << {"type":"text","seq":1,"payload":{"from":"$alice","text":"one","ts":1790000000000}}
            bob   >> {"type":"devices"}
            bob   >> {"type":"devices"}
            bob   >> {"type":"devices"}
            bob   >> {"type":"devices"}
            bob   >> {"type":"ack","payload":{"upto":1}}
        """)
        for _ in range(3):
            assert json.loads(await stage.next_text("bob"))["type"] == "devices"
        await stage.play("""
            bob << {"type":"error","payload":{"msg":"rate_limited","retry_after_ms":501}}
            ... 2 s
            bob >> {"type":"devices","id":"1"}
        """)
        (device,) = json.loads(await stage.next_text("bob"))["payload"]["devices"]
    assert device["waiting"] == 0


async def test_bytes_have_an_allowance_of_their_own(mock_clock: MockClock) -> None:
    large = text(json.dumps({"type": "text", "payload": {"to": identity_of("bob").client_id, "text": "x" * 40_000}}))
    limits = Limits(bytes_per_second=10_000, bytes_at_once=64 * 1024)
    async with open_stage(limits=limits) as stage:
        await stage.enter("alice", "bob")
        await stage.actors["alice"].send(large)
        await stage.actors["alice"].send(large)
        refused = json.loads(await stage.next_text("alice"))
        assert refused["payload"]["msg"] == "rate_limited"
        assert 1_000 < refused["payload"]["retry_after_ms"] < 2_000
        assert len(await stage.next_text("bob")) > 40_000
        await stage.play("""
            alice >> {"type":"devices","id":"1"}
            alice << {"type":"devices","id":"1","payload":{"devices":[]}}
            bob   << nothing
        """)


async def test_what_costs_much_counts_for_several(mock_clock: MockClock) -> None:
    limits = Limits(messages_per_second=1, messages_at_once=10)
    many = ",".join(f'"{number:064x}"' for number in range(9))
    async with open_stage(limits=limits) as stage:
        await stage.enter("alice")
        await stage.play(f"""
            alice >> {{"type":"presence_watch","id":"1","payload":{{"clients":[{many}]}}}}
            alice << {{"type":"accepted","id":"1","payload":{{"ts":1790000000000}}}}
            alice >> {{"type":"devices","id":"2"}}
            alice << {{"type":"error","id":"2","payload":{{"msg":"rate_limited","retry_after_ms":1001}}}}
            ... 1.001 s
            alice >> {{"type":"presence_watch","id":"3","payload":{{"clients":[{many}]}}}}
            alice << {{"type":"error","id":"3","payload":{{"msg":"rate_limited","retry_after_ms":10000}}}}
            ... 10 s
            alice >> {{"type":"presence_watch","id":"4","payload":{{"clients":[{many}]}}}}
            alice << {{"type":"accepted","id":"4","payload":{{"ts":1790000000000}}}}
        """)


async def test_whoever_goes_on_is_closed_with_1013_and_nobody_else(mock_clock: MockClock) -> None:
    async with open_stage(limits=SLOW) as stage:
        await stage.enter("alice", "bob")
        flood = text('{"type":"devices"}') * 100
        for _ in range(11):
            await stage.actors["alice"].send(flood)
        events = [await stage.actors["alice"].event()]
        while getattr(events[-1], "code", None) is None:
            events.append(await stage.actors["alice"].event())
        assert getattr(events[-1], "code", None) == 1013
        refused = [event for event in events if "rate_limited" in getattr(event, "data", "")]
        assert len(refused) == REFUSALS.burst + 1
        await stage.play("""
            bob >> {"type":"devices","id":"1"}
            bob << {"type":"devices","id":"1","payload":{"devices":[]}}
        """)


async def test_what_goes_to_a_group_is_paid_for_by_its_members(mock_clock: MockClock) -> None:
    limits = Limits(messages_per_second=1, messages_at_once=6)
    async with open_stage(limits=limits) as stage:
        await stage.enter("alice", "bob")
        await stage.actors["alice"].send(text(json.dumps({"type": "group_create", "payload": {"clients": [BOB_ID]}})))
        group = json.loads(await stage.next_text("alice"))["payload"]["group"]
        await stage.next_text("bob")
        to_group = text(json.dumps({"type": "text", "payload": {"to": group, "text": "Hello"}}))
        await stage.actors["alice"].send(to_group)
        assert json.loads(await stage.next_text("bob"))["payload"]["text"] == "Hello"
        await stage.actors["alice"].send(to_group)
        await stage.play("""
            alice << {"type":"error","payload":{"msg":"rate_limited","retry_after_ms":3001}}
            bob   << nothing
            ... 3 s
        """)
        await stage.actors["alice"].send(to_group)
        assert json.loads(await stage.next_text("bob"))["payload"]["text"] == "Hello"


@pytest.mark.parametrize(
    ("message", "surcharge"),
    [
        (Text(BOB, "Hello"), 0),
        (Ack(1), 0),
        (Text(HERE, "Hello"), 40),
        (Text(ELSEWHERE, "Hello"), 0),
        (File(HERE, "/media/0.bin"), 40),
        (Typing(BOB, typing=True), 0),
        (Typing(HERE, typing=True), 40),
        (GroupCreate([ALICE, BOB]), 2),
        (GroupAdd(HERE, [ALICE, BOB]), 42),
        (GroupRemove(ELSEWHERE, [ALICE]), 1),
        (GroupRename(HERE, "us"), 40),
        (GroupRole(HERE, BOB, "admin"), 40),
        (GroupLeave(HERE), 40),
        (PresenceWatch([ALICE] * 500), 500),
        (History(BOB, 100), 100),
        (GroupInfo(HERE), 99),
        (UploadToken(), 9),
    ],
)
def test_what_messages_cost_above_others(message: ClientMessage, surcharge: int) -> None:
    members = {HERE: 40}
    assert message.surcharge(lambda group: members.get(group, 0)) == surcharge


def test_what_is_refused_for_its_bytes_is_not_paid_in_messages() -> None:
    rates = Rates(Limits(messages_per_second=1, messages_at_once=5, bytes_per_second=1, bytes_at_once=64 * 1024))
    allowance = rates.allowance(ALICE, 0)
    assert allowance.can_afford(["x" * 64 * 1024], 0)
    assert not any(allowance.can_afford(["xx"] * 4, 0) for _ in range(10))
    assert allowance.refusal_ms("text", 1, 3, 0) == 3001
    assert allowance.can_afford(["xx"] * 4, 8)
    assert rates.statistics().refused_total.counts == {("text",): 1}


def test_whoever_comes_back_has_no_new_allowance() -> None:
    rates = Rates(Limits(messages_per_second=1, messages_at_once=5))
    assert rates.allowance(ALICE, 0).can_afford(["x"] * 5, 0)
    assert not rates.allowance(ALICE, 1).can_afford(["x"] * 2, 1)
    assert rates.allowance(ALICE, 2).can_afford(["x"] * 2, 2)


def test_two_sessions_have_one_allowance_however_long_one_is_silent() -> None:
    rates = Rates(Limits(messages_per_second=1, messages_at_once=5))
    first = rates.allowance(ALICE, 0)
    for number in range(10):
        rates.allowance(ClientId(f"{number:064x}"), 1)
    assert rates.allowance(ALICE, 2) is first


def test_those_who_have_left_are_forgotten() -> None:
    rates = Rates(Limits())
    for number in range(1_000):
        rates.allowance(ClientId(f"{number:064x}"), number)
    assert len(rates._recent) < 10
