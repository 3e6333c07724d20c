"""Refusals are sticky (docs/protocol.md, section 4): what one session sends is accepted in the order in which it was
sent, whatever is refused on the way.
"""

import json
from typing import Any

from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.limits import Limits
from ironwire.server.session.refusals import HELD_BACK, REFUSALS
from tests.playbook import Stage, identity_of, open_stage, told
from tests.wire import frame_builder

BOB = identity_of("bob").client_id
SLOW = Limits(messages_per_second=2, messages_at_once=3)


def text(number: int, said: str | None = None) -> bytes:
    payload = {"to": BOB, "text": said or str(number)}
    return frame_builder.text(json.dumps({"type": "text", "id": str(number), "payload": payload}))


async def replies(stage: Stage, actor: str, count: int) -> list[dict[str, Any]]:
    return [json.loads(await stage.next_text(actor)) for _ in range(count)]


async def test_after_a_refusal_nothing_is_accepted_until_the_client_says_resume(mock_clock: MockClock) -> None:
    held = '"detail":"an earlier message of this session was refused: say resume, then send again from there"'
    async with open_stage(limits=SLOW) as stage:
        await stage.enter("bob")
        await stage.enter("alice", device="phone")
        await stage.play("""
            alice >> {"type":"devices","id":"a"}
            alice >> {"type":"devices","id":"b"}
            alice >> {"type":"text","id":"1","payload":{"to":"$bob","text":"one"}}
            alice >> {"type":"text","id":"2","payload":{"to":"$bob","text":"two"}}
            alice >> {"type":"text","id":"3","payload":{"to":"$bob","text":"three"}}
            bob   << {"type":"text","payload":{"from":"$alice","text":"one"}}
            ... 2 s
            alice >> {"type":"text","id":"4","payload":{"to":"$bob","text":"four"}}
            alice >> {"type":"group_create","id":"5","payload":{"clients":[]}}
            alice >> {"type":"ping","id":"6"}
            alice >> {"type":"resume","id":"7"}
            alice >> {"type":"text","id":"2","payload":{"to":"$bob","text":"two"}}
        """)
        answers = [await stage.next_text("alice") for _ in range(10)]
        assert [answer for answer in answers if "devices" not in answer] == [
            '{"type":"error","id":"2","payload":{"msg":"rate_limited","retry_after_ms":501}}',
            f'{{"type":"error","id":"3","payload":{{"msg":"rate_limited",{held},"retry_after_ms":501,"held":true}}}}',
            '{"type":"accepted","id":"1","payload":{"ts":1790000000000}}',
            f'{{"type":"error","id":"4","payload":{{"msg":"rate_limited",{held},"retry_after_ms":0,"held":true}}}}',
            f'{{"type":"error","id":"5","payload":{{"msg":"rate_limited",{held},"retry_after_ms":0,"held":true}}}}',
            '{"type":"pong","id":"6"}',
            '{"type":"accepted","id":"7","payload":{"ts":1790000000000,"sent":0}}',
            '{"type":"accepted","id":"2","payload":{"ts":1790000000000}}',
        ]
        await stage.play("""
            bob << {"type":"text","payload":{"from":"$alice","text":"two"}}
            bob << nothing
        """)


async def test_a_session_of_the_seed_protocol_is_never_held(mock_clock: MockClock) -> None:
    async with open_stage(limits=SLOW) as stage:
        await stage.enter("alice", "bob")
        await stage.actors["alice"].send(*map(text, range(1, 6)))
        answers = await replies(stage, "alice", 5)
        assert [(answer["type"], "held" in answer.get("payload", {})) for answer in answers] == [
            ("accepted", False),
            ("accepted", False),
            ("accepted", False),
            ("error", False),
            ("error", False),
        ]
        await stage.play("""
            ... 1 s
            alice >> {"type":"text","id":"6","payload":{"to":"$bob","text":"six"}}
            alice << {"type":"accepted","id":"6","payload":{"ts":1790000000000}}
            alice >> {"type":"resume","id":"7"}
            alice << {"type":"accepted","id":"7","payload":{"ts":1790000000000}}
        """)


async def test_a_full_mailbox_holds_what_was_sent_behind_it(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(mailbox_envelopes=2)) as stage:
        for actor in ("bob", "carol"):
            await stage.enter(actor, device="phone")
            await stage.actors[actor].hang_up()
        await stage.enter("alice", device="phone")
        to_carol = f'{{"type":"text","id":"c","payload":{{"to":"{identity_of("carol").client_id}","text":""}}}}'
        await stage.actors["alice"].send(*map(text, range(1, 4)), frame_builder.text(to_carol))
        answers = {answer["id"]: answer for answer in await replies(stage, "alice", 4)}
        assert [answers[id_]["type"] for id_ in ("1", "2", "3", "c")] == ["accepted", "accepted", "error", "error"]
        assert answers["3"]["payload"] == {"msg": "mailbox_full", "user": BOB}
        assert answers["c"]["payload"]["msg"] == "mailbox_full"
        assert answers["c"]["payload"]["held"] is True
        await stage.play(f"""
            alice >> {{"type":"resume"}}
            alice >> {to_carol}
            alice << {{"type":"accepted","id":"c","payload":{{"ts":1790000000000}}}}
        """)


async def test_many_texts_in_a_pipeline_over_the_rate_arrive_all_and_in_order(mock_clock: MockClock) -> None:
    limits = Limits(messages_per_second=20, messages_at_once=40)
    waiting = list(range(340))
    async with open_stage(limits=limits) as stage:
        await stage.enter("bob")
        await stage.enter("alice", device="phone")
        alice = stage.actors["alice"]
        while waiting:
            await alice.send(*map(text, waiting))
            refused, wait_ms = [], 0
            for answer in await replies(stage, "alice", len(waiting)):
                if answer["type"] == "error":
                    refused.append(int(answer["id"]))
                    wait_ms = answer["payload"]["retry_after_ms"]
            if refused:
                await stage.play(f"""
                    ... {wait_ms / 1000 + 1} s
                    alice >> {{"type":"resume"}}
                """)
            waiting = sorted(refused)
        got = [json.loads(await stage.next_text("bob"))["payload"]["text"] for _ in range(340)]
        assert got == [str(number) for number in range(340)]
        await stage.play("bob << nothing")


async def test_what_is_dear_goes_through_after_the_time_that_was_told(mock_clock: MockClock) -> None:
    """A text to a group of two counts for three: what is paid for the frame itself has to be there again."""
    async with open_stage(limits=Limits(messages_per_second=1, messages_at_once=6)) as stage:
        await stage.enter("bob", "alice", device="phone")
        await stage.play("""
            alice >> {"type":"group_create","id":"g","payload":{"clients":["$bob"]}}
        """)
        told = {answer["type"]: answer for answer in await replies(stage, "alice", 2)}
        group = told["accepted"]["payload"]["group"]
        dear = f'{{"type":"text","id":"1","payload":{{"to":"{group}","text":""}}}}'
        await stage.actors["alice"].send(frame_builder.text(dear))
        await stage.play('alice << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}')
        await stage.actors["alice"].send(frame_builder.text(dear.replace('"1"', '"2"')))
        (refused,) = await replies(stage, "alice", 1)
        await stage.play(f"""
            ... {refused["payload"]["retry_after_ms"] / 1000} s
            alice >> {{"type":"resume"}}
            alice >> {dear.replace('"1"', '"2"')}
            alice << {{"type":"accepted","id":"2","payload":{{"ts":1790000000000}}}}
        """)


async def test_what_is_held_back_is_a_flood_only_where_it_is_very_much(mock_clock: MockClock) -> None:
    assert HELD_BACK.burst > 10 * REFUSALS.burst
    async with open_stage(limits=Limits(messages_per_second=1, messages_at_once=1)) as stage:
        await stage.enter("alice", device="phone")
        for expected in (HELD_BACK.burst, REFUSALS.burst):
            frames = int(expected) + 1
            while frames > 0:
                part = min(frames, 5_000)
                await stage.actors["alice"].send(*[text(1)] * part)
                await replies(stage, "alice", part)
                frames -= part
        await stage.play("alice << close 1013 too much, for too long")


async def test_large_frames_that_are_held_back_count_by_their_size(mock_clock: MockClock) -> None:
    limits = Limits(messages_per_second=1, messages_at_once=1, bytes_at_once=10**9, bytes_per_second=10**9)
    large = text(1, "x" * 30_000)
    async with open_stage(limits=limits) as stage:
        await stage.enter("alice", device="phone")
        for _ in range(int(HELD_BACK.burst + 30 * REFUSALS.burst) // 30 // 100 + 2):
            await stage.actors["alice"].send(*[large] * 100)
            await wait_all_tasks_blocked()
        heard = [told(event) for event in stage.actors["alice"].take_events()]
        assert "close 1013 too much, for too long" in heard
