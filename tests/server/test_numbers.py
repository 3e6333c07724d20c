"""Numbered sending (docs/protocol.md, section 4.1): after a reconnect a device learns what became of what it sent."""

import json
from typing import Any

import pytest
from trio.testing import MockClock

from ironwire.limits import UNANSWERED_ENVELOPES, Limits
from tests.playbook import Stage, auth_frame, identity_of, open_stage, verify_frame
from tests.wire import frame_builder

BOB, CAROL = identity_of("bob").client_id, identity_of("carol").client_id
SLOW = Limits(messages_per_second=2, messages_at_once=3)
REFUSED_BEFORE = "this n was refused before"


def text(n: int, said: str | None = None, to: str = BOB) -> bytes:
    payload = {"to": to, "text": str(n) if said is None else said}
    return frame_builder.text(json.dumps({"type": "text", "id": f"id {n}", "n": n, "payload": payload}))


async def answers(stage: Stage, actor: str, count: int) -> list[tuple[str, str]]:
    """To which id, and which."""
    frames = [json.loads(await stage.next_text(actor)) for _ in range(count)]
    return [(frame.get("id", ""), frame["payload"].get("msg", frame["type"])) for frame in frames]


async def welcome(stage: Stage, actor: str, device: str = "phone") -> dict[str, Any]:
    """Connect the device anew; what `auth_ok` says."""
    await stage.connect(actor)
    await stage.actors[actor].send(auth_frame(actor, device=device))
    challenge = json.loads(await stage.next_text(actor))["challenge"]
    await stage.actors[actor].send(verify_frame(actor, bytes.fromhex(challenge)))
    payload: dict[str, Any] = json.loads(await stage.next_text(actor))["payload"]
    assert json.loads(await stage.next_text(actor))["type"] == "caught_up"
    return payload


async def texts_of(stage: Stage, actor: str, count: int) -> list[str]:
    got = [json.loads(await stage.next_text(actor))["payload"]["text"] for _ in range(count)]
    await stage.play(f"{actor} << nothing")
    return got


async def test_a_device_learns_what_was_settled_and_goes_on_from_there(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("bob", device="phone")
        assert (await welcome(stage, "alice"))["sent"] == 0
        await stage.actors["alice"].send(text(1), text(2))
        assert await answers(stage, "alice", 2) == [("id 1", "accepted"), ("id 2", "accepted")]
        told = await welcome(stage, "alice")
        assert (told["sent"], told.get("refused")) == (2, None)
        await stage.actors["alice"].send(text(2, "another"), text(3))
        await stage.play("""
            alice << {"type":"accepted","id":"id 2","payload":{"ts":1790000000000,"duplicate":true}}
            alice << {"type":"accepted","id":"id 3","payload":{"ts":1790000000000}}
        """)
        assert await texts_of(stage, "bob", 3) == ["1", "2", "3"]


async def test_a_hole_is_invalid_and_uses_nothing_up(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("bob", "alice", device="phone")
        await stage.actors["alice"].send(text(2), text(1))
        await stage.play("""
            alice << {"type":"error","id":"id 2","payload":{"msg":"invalid","detail":"the next n of this device is 1"}}
            alice << {"type":"accepted","id":"id 1","payload":{"ts":1790000000000}}
        """)
        assert await texts_of(stage, "bob", 1) == ["1"]


async def test_every_refusal_uses_its_number_up(mock_clock: MockClock) -> None:
    no_group = "#" + "0" * 32
    broken = frame_builder.text('{"type":"text","id":"id 1","n":1,"payload":{"to":"somebody","text":""}}')
    async with open_stage() as stage:
        await stage.enter("bob", "alice", device="phone")
        await stage.actors["alice"].send(broken, text(2, to=CAROL), text(3, to=no_group), text(4))
        refused = [("id 1", "invalid"), ("id 2", "user_offline"), ("id 3", "not_found")]
        assert await answers(stage, "alice", 4) == [*refused, ("id 4", "accepted")]
        told = await welcome(stage, "alice")
        assert told["sent"] == 4
        assert told["refused"] == [
            {"from": 1, "to": 1, "msg": "invalid"},
            {"from": 2, "to": 2, "msg": "user_offline"},
            {"from": 3, "to": 3, "msg": "not_found"},
        ]
        await stage.actors["alice"].send(text(2))
        await stage.play(f"""
            alice << {{"type":"error","id":"id 2","payload":{{"msg":"user_offline","detail":"{REFUSED_BEFORE}"}}}}
        """)
        assert await texts_of(stage, "bob", 1) == ["4"]


async def test_what_is_held_uses_its_number_up_and_resume_says_where_to_go_on(mock_clock: MockClock) -> None:
    async with open_stage(limits=SLOW) as stage:
        await stage.enter("bob", "alice", device="phone")
        await stage.actors["alice"].send(*(text(n) for n in range(1, 7)))
        told = await answers(stage, "alice", 6)
        accepted = [id_ for id_, answer in told if answer == "accepted"]
        assert accepted == ["id 1", "id 2", "id 3"]
        assert dict(told) == dict.fromkeys(accepted, "accepted") | dict.fromkeys(
            ["id 4", "id 5", "id 6"], "rate_limited"
        )
        await stage.play("""
            ... 2 s
            alice >> {"type":"resume","id":"r"}
            alice << {"type":"accepted","id":"r","payload":{"ts":1790000000000,"sent":6}}
        """)
        await stage.actors["alice"].send(text(4), text(7, "4"), text(8, "5"))
        assert await answers(stage, "alice", 3) == [
            ("id 4", "rate_limited"),
            ("id 7", "accepted"),
            ("id 8", "accepted"),
        ]
        assert await texts_of(stage, "bob", 5) == ["1", "2", "3", "4", "5"]
        told_again = await welcome(stage, "alice")
        assert (told_again["sent"], told_again["refused"]) == (8, [{"from": 4, "to": 6, "msg": "rate_limited"}])


async def test_a_full_mailbox_uses_up_what_was_sent_behind_it(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(mailbox_envelopes=2)) as stage:
        for actor in ("bob", "carol"):
            await stage.enter(actor, device="phone")
            await stage.actors[actor].hang_up()
        await stage.enter("alice", device="phone")
        await stage.actors["alice"].send(text(1), text(2), text(3), text(4, to=CAROL))
        expected = [("id 1", "accepted"), ("id 2", "accepted"), ("id 3", "mailbox_full"), ("id 4", "mailbox_full")]
        assert await answers(stage, "alice", 4) == expected
        told = await welcome(stage, "alice")
        assert (told["sent"], told["refused"]) == (4, [{"from": 3, "to": 4, "msg": "mailbox_full"}])
        await stage.actors["alice"].send(text(5, to=CAROL))
        assert await answers(stage, "alice", 1) == [("id 5", "accepted")]


async def test_the_numbers_of_long_ago_are_not_known_any_more(mock_clock: MockClock) -> None:
    last = UNANSWERED_ENVELOPES + 1
    async with open_stage() as stage:
        await stage.enter("bob", "alice", device="phone")
        await stage.actors["alice"].send(*(text(n) for n in range(1, last + 1)))
        assert {answer for _, answer in await answers(stage, "alice", last)} == {"accepted"}
        await stage.actors["alice"].send(text(1), text(2))
        assert await answers(stage, "alice", 2) == [("id 1", "invalid"), ("id 2", "accepted")]


async def test_a_device_that_was_removed_begins_at_1_again(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("bob", "alice", device="phone")
        await stage.actors["alice"].send(text(1))
        assert await answers(stage, "alice", 1) == [("id 1", "accepted")]
        await stage.enter("alice.laptop", device="laptop")
        await stage.play("""
            alice.laptop >> {"type":"device_remove","payload":{"device":"phone"}}
            alice.laptop << {"type":"device_removed","payload":{"device":"phone"}}
            alice << close 4403 this device was removed
        """)
        assert (await welcome(stage, "alice"))["sent"] == 0
        await stage.actors["alice"].send(text(1, "anew"))
        assert await answers(stage, "alice", 1) == [("id 1", "accepted")]
        assert await texts_of(stage, "bob", 2) == ["1", "anew"]


async def test_a_session_without_a_device_has_no_numbers(mock_clock: MockClock) -> None:
    detail = "n numbers the messages of a device, and this session has no device"
    async with open_stage() as stage:
        await stage.enter("bob", "alice")
        await stage.play(f"""
            alice >> {{"type":"text","id":"1","n":1,"payload":{{"to":"$bob","text":""}}}}
            alice << {{"type":"error","id":"1","payload":{{"msg":"invalid","detail":"{detail}"}}}}
            alice >> {{"type":"text","id":"2","n":1,"payload":{{"to":"nobody","text":""}}}}
        """)
        assert await answers(stage, "alice", 1) == [("2", "invalid")]
        await stage.play("bob << nothing")


async def test_a_request_has_no_number(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", device="phone")
        detail = "n numbers envelopes, and 'group_create' is none"
        await stage.play(f"""
            alice >> {{"type":"group_create","id":"1","n":1,"payload":{{"clients":[]}}}}
            alice << {{"type":"error","id":"1","payload":{{"msg":"invalid","detail":"{detail}"}}}}
        """)


@pytest.mark.parametrize("history_days", [0, 1])
async def test_numbers_and_ids_go_together(mock_clock: MockClock, history_days: float) -> None:
    async with open_stage(history_days=history_days) as stage:
        await stage.enter("bob", "alice", device="phone")
        by_id = frame_builder.text(json.dumps({"type": "text", "id": "x", "payload": {"to": BOB, "text": "by id"}}))
        await stage.actors["alice"].send(text(1), by_id, text(2), by_id, text(2))
        told = await answers(stage, "alice", 5)
        assert [answer for _, answer in told] == ["accepted"] * 5
        assert await texts_of(stage, "bob", 3) == ["1", "by id", "2"]


async def test_receipts_and_files_have_numbers(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("bob", "alice", device="phone")
        url = "/media/123e4567-e89b-42d3-a456-426614174000.bin"
        await stage.play(f"""
            alice >> {{"type":"receipt","n":1,"payload":{{"to":"$bob","ids":["a"],"state":"read"}}}}
            alice >> {{"type":"file","n":2,"payload":{{"to":"$bob","url":"{url}"}}}}
            alice >> {{"type":"receipt","n":2,"payload":{{"to":"$bob","ids":["b"],"state":"read"}}}}
        """)
        got = [json.loads(await stage.next_text("bob"))["type"] for _ in range(2)]
        assert got == ["receipt", "file"]
        await stage.play("""
            bob << nothing
            alice << nothing
        """)
