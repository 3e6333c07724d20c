"""Calls as clients see them: docs/protocol.md, section 7.4, each rule a conversation. Bob has two sessions."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from ironwire.limits import Limits
from ironwire.server.operator.config import TurnSettings
from tests.playbook import Stage, auth_frame, open_stage, told, verify_frame

CALL, OTHER_CALL, THIRD_CALL = ("1" * 32, "2" * 32, "3" * 32)
TS = '{"ts":1790000000000}'
PATIENT = Limits(ping_after_seconds=1000)


def offer(to: str, call: str = CALL, id_: str = "1") -> str:
    payload = f'{{"to":"${to}","call":"{call}","sdp":"v=0","media":"audio"}}'
    return f'{{"type":"call_offer","id":"{id_}","payload":{payload}}}'


def offered(by: str, call: str = CALL) -> str:
    return f'{{"type":"call_offer","payload":{{"from":"${by}","call":"{call}","sdp":"v=0","media":"audio"}}}}'


def ended(by: str, reason: str, call: str = CALL) -> str:
    return f'{{"type":"call_end","payload":{{"from":"${by}","call":"{call}","reason":"{reason}"}}}}'


def accepted(id_: str) -> str:
    return f'{{"type":"accepted","id":"{id_}","payload":{TS}}}'


@asynccontextmanager
async def ringing(limits: Limits = PATIENT, others: Sequence[str] = ()) -> AsyncIterator[Stage]:
    """Alice has called Bob."""
    async with open_stage(limits=limits) as stage:
        await stage.enter("alice", "bob", "bob.desk", *others)
        await stage.play(f"""
            alice    >> {offer("bob")}
            alice    << {accepted("1")}
            bob      << {offered("alice")}
            bob.desk << {offered("alice")}
        """)
        yield stage


async def test_a_call_from_its_offer_to_its_end(mock_clock: MockClock) -> None:
    candidate = '{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host","sdp_mid":"0","sdp_mline_index":0}'
    named = f'{{"type":"call_candidate","payload":{{"to":"$bob","call":"{CALL}","candidate":{candidate}}}}}'
    passed = f'{{"type":"call_candidate","payload":{{"from":"$alice","call":"{CALL}","candidate":{candidate}}}}}'
    async with ringing() as stage:
        await stage.play(f"""
            bob      >> {{"type":"call_ringing","payload":{{"to":"$alice","call":"{CALL}"}}}}
            alice    << {{"type":"call_ringing","payload":{{"from":"$bob","call":"{CALL}"}}}}
            alice    >> {named}
            bob      << {passed}
            bob.desk << {passed}
            bob      >> {{"type":"call_answer","id":"a","payload":{{"to":"$alice","call":"{CALL}","sdp":"v=1"}}}}
            bob      << {accepted("a")}
            alice    << {{"type":"call_answer","payload":{{"from":"$bob","call":"{CALL}","sdp":"v=1"}}}}
            bob.desk << {ended("alice", "answered_elsewhere")}
            alice    >> {named}
            bob      << {passed}
            ... 100 s
            alice    >> {{"type":"call_end","payload":{{"to":"$bob","call":"{CALL}","reason":"hangup"}}}}
            bob      << {ended("alice", "hangup")}
        """)


async def test_one_session_declines_for_all(mock_clock: MockClock) -> None:
    async with ringing() as stage:
        await stage.play(f"""
            bob.desk >> {{"type":"call_end","payload":{{"to":"$alice","call":"{CALL}","reason":"declined"}}}}
            alice    << {ended("bob", "declined")}
            bob      << {ended("alice", "declined")}
            bob.desk << nothing
        """)


async def test_a_call_that_nobody_answers_ends(mock_clock: MockClock) -> None:
    async with ringing(Limits(call_ring_seconds=20)) as stage:
        await stage.play(f"""
            ... 19 s
            alice    << nothing
            ... 2 s
            alice    << {ended("bob", "timeout")}
            bob      << {ended("alice", "timeout")}
            bob.desk << {ended("alice", "timeout")}
        """)


async def test_a_device_that_comes_while_it_rings_is_rung(mock_clock: MockClock) -> None:
    async with ringing() as stage:
        await stage.actors["bob"].hang_up()
        await stage.actors["bob.desk"].hang_up()
        await stage.enter("bob.phone")
        await stage.play(f"""
            bob.phone << {offered("alice")}
            bob.phone >> {{"type":"call_answer","payload":{{"to":"$alice","call":"{CALL}","sdp":"v=1"}}}}
            alice     << {{"type":"call_answer","payload":{{"from":"$bob","call":"{CALL}","sdp":"v=1"}}}}
        """)


async def test_a_connection_without_a_device_that_breaks_ends_the_call(mock_clock: MockClock) -> None:
    async with ringing() as stage:
        await stage.actors["alice"].hang_up()
        await stage.play(f"""
            bob      << {ended("alice", "disconnected")}
            bob.desk << {ended("alice", "disconnected")}
        """)


def resumed(by: str) -> str:
    return f'{{"type":"call_resumed","payload":{{"from":"${by}","call":"{CALL}"}}}}'


def update(to: str, sdp: str = "v=2") -> str:
    return f'{{"type":"call_update","payload":{{"to":"${to}","call":"{CALL}","kind":"offer","sdp":"{sdp}"}}}}'


def updated(by: str, sdp: str = "v=2") -> str:
    return f'{{"type":"call_update","payload":{{"from":"${by}","call":"{CALL}","kind":"offer","sdp":"{sdp}"}}}}'


@asynccontextmanager
async def talking() -> AsyncIterator[Stage]:
    """Bob's phone has answered a call of Alice's phone."""
    async with open_stage(limits=PATIENT) as stage:
        await stage.enter("alice", "bob", device="phone")
        await stage.play(f"""
            alice >> {offer("bob")}
            alice << {accepted("1")}
            bob   << {offered("alice")}
            bob   >> {{"type":"call_answer","payload":{{"to":"$alice","call":"{CALL}","sdp":"v=1"}}}}
            alice << {{"type":"call_answer","payload":{{"from":"$bob","call":"{CALL}","sdp":"v=1"}}}}
        """)
        yield stage


async def come_back(stage: Stage, actor: str, *said: str) -> None:
    """Authenticate as the phone again; `said` is what comes between `auth_ok` and `caught_up`."""
    await stage.connect(actor)
    await stage.actors[actor].send(auth_frame(actor, device="phone"))
    challenge = json.loads(await stage.next_text(actor))["challenge"]
    await stage.actors[actor].send(verify_frame(actor, bytes.fromhex(challenge)))
    assert '"auth_ok"' in await stage.next_text(actor)
    for line in said:
        await stage.play(f"{actor} << {line}")
    assert '"caught_up"' in await stage.next_text(actor)


async def test_a_call_outlives_a_cut_of_5_seconds(mock_clock: MockClock) -> None:
    async with talking() as stage:
        await stage.actors["alice"].hang_up()
        await stage.play(f"""
            bob   << nothing
            bob   >> {update("alice")}
            ... 5 s
            bob   << nothing
        """)
        await come_back(stage, "alice", resumed("bob"), updated("bob"))
        await stage.play(f"""
            bob   << {resumed("alice")}
            ... 60 s
            bob   << nothing
            alice >> {{"type":"call_end","payload":{{"to":"$bob","call":"{CALL}","reason":"hangup"}}}}
            bob   << {ended("alice", "hangup")}
        """)


async def test_a_cut_of_20_seconds_ends_the_call_on_both_sides_once(mock_clock: MockClock) -> None:
    async with talking() as stage:
        await stage.actors["alice"].hang_up()
        await stage.play(f"""
            ... 14 s
            bob   << nothing
            ... 6 s
            bob   << {ended("alice", "disconnected")}
        """)
        await come_back(stage, "alice", ended("bob", "disconnected"))
        await stage.actors["alice"].hang_up()
        await come_back(stage, "alice")
        await stage.play("bob << nothing")


async def test_both_sides_may_be_cut_at_once(mock_clock: MockClock) -> None:
    async with talking() as stage:
        for actor in ("alice", "bob"):
            await stage.actors[actor].hang_up()
        await trio.sleep(5)
        await come_back(stage, "alice", resumed("bob"))
        await come_back(stage, "bob", resumed("alice"))
        await stage.play(f"""
            alice << {resumed("bob")}
            bob   >> {update("alice")}
            alice << {updated("bob")}
        """)
        for actor in ("alice", "bob"):
            await stage.actors[actor].hang_up()
        await trio.sleep(20)
        await come_back(stage, "alice", ended("bob", "disconnected"))
        await come_back(stage, "bob", ended("alice", "disconnected"))


async def test_a_call_goes_on_ringing_while_the_callers_phone_is_cut(mock_clock: MockClock) -> None:
    async with open_stage(limits=PATIENT) as stage:
        await stage.enter("alice", device="phone")
        await stage.enter("bob")
        await stage.play(f"""
            alice >> {offer("bob")}
            alice << {accepted("1")}
            bob   << {offered("alice")}
        """)
        await stage.actors["alice"].hang_up()
        await stage.play(f"""
            ... 5 s
            bob   >> {{"type":"call_answer","id":"a","payload":{{"to":"$alice","call":"{CALL}","sdp":"v=1"}}}}
            bob   << {accepted("a")}
        """)
        answered = f'{{"type":"call_answer","payload":{{"from":"$bob","call":"{CALL}","sdp":"v=1"}}}}'
        await come_back(stage, "alice", resumed("bob"), answered)
        await stage.play(f"bob << {resumed('alice')}")


async def test_a_newer_session_of_the_device_has_the_call(mock_clock: MockClock) -> None:
    """The older one has not noticed yet that its network is gone."""
    async with talking() as stage:
        old = stage.actors["bob"]
        await come_back(stage, "bob", resumed("alice"))
        assert told(old.take_events()[0]) == "close 4409 replaced by a newer session of this device"
        await stage.play(f"""
            alice << {resumed("bob")}
            ... 60 s
            alice >> {update("bob")}
            bob   << {updated("alice")}
            bob   >> {update("alice", "v=3")}
            alice << {updated("bob", "v=3")}
        """)


async def test_an_update_before_the_answer_is_a_conflict(mock_clock: MockClock) -> None:
    async with ringing() as stage:
        await stage.play(f"""
            alice    >> {update("bob")}
            alice    << {{"type":"error","payload":{{"msg":"conflict","detail":"this call was not answered yet"}}}}
            bob      << nothing
            bob.desk << nothing
        """)


async def test_of_two_calls_that_cross_one_goes_on(mock_clock: MockClock) -> None:
    async with ringing() as stage:
        await stage.play(f"""
            bob      >> {offer("alice", OTHER_CALL, "2")}
            bob      << {accepted("2")}
            bob      << {ended("alice", "glare", OTHER_CALL)}
            alice    << nothing
            bob      >> {offer("alice", "0" * 32, "3")}
            bob      << {accepted("3")}
            alice    << {ended("bob", "glare")}
            bob      << {ended("alice", "glare")}
            bob.desk << {ended("alice", "glare")}
            alice    << {offered("bob", "0" * 32)}
        """)


async def test_whom_one_has_blocked_hears_it_ring(mock_clock: MockClock) -> None:
    async with open_stage(limits=PATIENT) as stage:
        await stage.enter("alice", "bob")
        await stage.play(f"""
            bob   >> {{"type":"block","id":"b","payload":{{"client":"$alice"}}}}
            bob   << {accepted("b")}
            alice >> {offer("bob")}
            alice << {accepted("1")}
            bob   << nothing
            ... 92 s
            alice << {ended("bob", "timeout")}
            bob   << nothing
        """)


async def test_what_is_refused(mock_clock: MockClock) -> None:
    def error(id_: str, payload: str) -> str:
        return f'{{"type":"error","id":"{id_}","payload":{{{payload}}}}}'

    no_such = '"msg":"not_found","detail":"there is no such call with this client"'
    async with ringing(Limits(calls_per_client=1, call_candidates=1), others=["carol"]) as stage:
        candidate = f'{{"to":"$bob","call":"{CALL}","candidate":{{"candidate":""}}}}'
        passed = (
            f'{{"type":"call_candidate","payload":{{"from":"$alice","call":"{CALL}","candidate":{{"candidate":""}}}}}}'
        )
        await stage.play(f"""
            carol >> {offer("dave", OTHER_CALL, "1")}
            carol << {error("1", '"msg":"user_offline","user":"$dave"')}
            carol >> {offer("bob", CALL, "2")}
            carol << {error("2", '"msg":"conflict","detail":"a call with this id is under way: choose another id"')}
            carol >> {{"type":"call_end","id":"3","payload":{{"to":"$bob","call":"{CALL}","reason":"hangup"}}}}
            carol << {error("3", no_such)}
            carol >> {offer("carol", OTHER_CALL, "4")}
            carol << {error("4", '"msg":"invalid","detail":"a client cannot call itself"')}
            alice >> {offer("carol", OTHER_CALL, "5")}
            alice << {error("5", '"msg":"quota","detail":"a client may have 1 calls at a time: end one of them"')}
            alice >> {{"type":"call_answer","id":"6","payload":{{"to":"$bob","call":"{CALL}","sdp":"v=1"}}}}
            alice << {error("6", '"msg":"conflict","detail":"this call does not ring here"')}
            alice >> {{"type":"call_candidate","payload":{candidate}}}
            alice >> {{"type":"call_candidate","id":"7","payload":{candidate}}}
            alice << {error("7", '"msg":"quota","detail":"one side may name 1 candidates in a call"')}
            bob   << {passed}
            bob   << nothing
        """)


async def test_a_server_that_has_no_turn_says_so(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice")
        await stage.play("""
            alice >> {"type":"ice_servers","id":"1"}
            alice << {"type":"ice_servers","id":"1","payload":{"servers":[]}}
        """)


async def test_credentials_for_turn_end_and_name_nobody(mock_clock: MockClock) -> None:
    turn = TurnSettings(urls=("stun:turn.example:3478", "turn:turn.example:3478"), secret="north", ttl_seconds=600)
    # printf 1790000600:0001020304050607 | openssl dgst -sha1 -hmac north -binary | base64
    entry = (
        '{"urls":["turn:turn.example:3478"],"username":"1790000600:0001020304050607",'
        '"credential":"tkgi1+G2bluDY4QNYCD03Xr1H9U="}'
    )
    async with open_stage(turn=turn) as stage:
        await stage.enter("alice")
        servers = f'[{{"urls":["stun:turn.example:3478"]}},{entry}]'
        await stage.play(f"""
            alice >> {{"type":"ice_servers","id":"1"}}
            alice << {{"type":"ice_servers","id":"1","payload":{{"servers":{servers},"expires":1790000600000}}}}
        """)
