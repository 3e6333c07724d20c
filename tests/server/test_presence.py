"""Typing and presence as clients meet them: docs/protocol.md, section 7.3, each rule a conversation."""

import json

from trio.testing import MockClock

from ironwire.limits import Limits
from tests.playbook import Stage, identity_of, open_stage


async def watching(stage: Stage, watcher: str, watched: str) -> None:
    """Let the watcher watch one client, who allows it already; what it is seen as comes next."""
    question = f'{{"type":"presence_watch","id":"w","payload":{{"clients":["${watched}"]}}}}'
    await stage.play(f"""
        {watcher} >> {question}
        {watcher} << {{"type":"accepted","id":"w","payload":{{"ts":1790000000000}}}}
    """)


# --- presence --------------------------------------------------------------------------------------------------------


async def test_a_client_is_seen_by_those_whom_it_allows(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob", "carol")
        await stage.play("""
            bob   >> {"type":"presence_allow","id":"1","payload":{"clients":["$alice"]}}
            bob   << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            bob   >> {"type":"presence","id":"2","payload":{"status":"online"}}
            bob   << {"type":"accepted","id":"2","payload":{"ts":1790000000000}}
            alice >> {"type":"presence_watch","id":"3","payload":{"clients":["$bob","$carol"]}}
            alice << {"type":"accepted","id":"3","payload":{"ts":1790000000000}}
            alice << {"type":"presence","payload":{"client":"$bob","status":"online"}}
            carol >> {"type":"presence_watch","id":"4","payload":{"clients":["$bob"]}}
            carol << {"type":"accepted","id":"4","payload":{"ts":1790000000000}}
            bob   >> {"type":"presence","payload":{"status":"busy"}}
            alice << {"type":"presence","payload":{"client":"$bob","status":"busy"}}
            bob   >> {"type":"presence_allow","payload":{"clients":["$carol"]}}
            alice << {"type":"presence","payload":{"client":"$bob","status":"offline"}}
            carol << {"type":"presence","payload":{"client":"$bob","status":"busy"}}
            alice << nothing
            carol << nothing
            bob   << nothing
        """)


async def test_whoever_says_nothing_or_allows_nobody_is_offline(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob", "carol")
        await stage.play("""
            bob   >> {"type":"presence_allow","payload":{"clients":["$alice"]}}
            carol >> {"type":"presence","payload":{"status":"online"}}
            alice >> {"type":"presence_watch","id":"1","payload":{"clients":["$bob","$carol"]}}
            alice << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            alice << nothing
        """)


async def test_the_newest_word_of_a_live_session_counts(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob", "bob.too")
        await stage.play("""
            bob     >> {"type":"presence_allow","payload":{"clients":["$alice"]}}
            bob     >> {"type":"presence","payload":{"status":"online"}}
            bob.too << nothing
            bob.too >> {"type":"presence","payload":{"status":"away"}}
            alice   << nothing
        """)
        await watching(stage, "alice", "bob")
        await stage.play("""
            alice   << {"type":"presence","payload":{"client":"$bob","status":"away"}}
            bob     >> {"type":"presence","payload":{"status":"busy"}}
            alice   << {"type":"presence","payload":{"client":"$bob","status":"busy"}}
        """)
        await stage.actors["bob"].hang_up()
        await stage.play("""
            alice   << {"type":"presence","payload":{"client":"$bob","status":"away"}}
        """)
        await stage.actors["bob.too"].hang_up()
        await stage.play("""
            alice   << {"type":"presence","payload":{"client":"$bob","status":"offline"}}
        """)


async def test_who_is_allowed_is_forgotten_with_the_last_session(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play("""
            bob   >> {"type":"presence_allow","payload":{"clients":["$alice"]}}
            bob   >> {"type":"presence","payload":{"status":"online"}}
            alice << nothing
        """)
        await watching(stage, "alice", "bob")
        await stage.play("""
            alice << {"type":"presence","payload":{"client":"$bob","status":"online"}}
        """)
        await stage.actors["bob"].hang_up()
        await stage.play("""
            alice << {"type":"presence","payload":{"client":"$bob","status":"offline"}}
        """)
        await stage.enter("bob")
        await stage.play("""
            bob   >> {"type":"presence","payload":{"status":"online"}}
            alice << nothing
            bob   >> {"type":"presence_allow","payload":{"clients":["$alice"]}}
            alice << {"type":"presence","payload":{"client":"$bob","status":"online"}}
        """)


async def test_a_device_that_comes_back_in_time_keeps_what_its_client_allows(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice")
        await stage.enter("bob", device="phone")
        await stage.play("""
            bob   >> {"type":"presence_allow","payload":{"clients":["$alice"]}}
            bob   >> {"type":"presence","payload":{"status":"online"}}
            bob   << nothing
        """)
        await watching(stage, "alice", "bob")
        await stage.play("""
            alice   << {"type":"presence","payload":{"client":"$bob","status":"online"}}
        """)
        await stage.enter("bob.again", device="phone")
        await stage.play("""
            alice     << {"type":"presence","payload":{"client":"$bob","status":"offline"}}
            bob.again >> {"type":"presence","payload":{"status":"online"}}
            alice     << {"type":"presence","payload":{"client":"$bob","status":"online"}}
        """)


async def test_a_new_list_replaces_the_old_one_and_says_again_who_is_there(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob", "carol")
        for friend in ("bob", "carol"):
            await stage.play(f"""
                {friend} >> {{"type":"presence_allow","payload":{{"clients":["$alice"]}}}}
                {friend} >> {{"type":"presence","payload":{{"status":"online"}}}}
                {friend} << nothing
            """)
        await watching(stage, "alice", "bob")
        await stage.play("""
            alice << {"type":"presence","payload":{"client":"$bob","status":"online"}}
        """)
        await watching(stage, "alice", "bob")
        await stage.play("""
            alice << {"type":"presence","payload":{"client":"$bob","status":"online"}}
        """)
        await watching(stage, "alice", "carol")
        await stage.play("""
            alice << {"type":"presence","payload":{"client":"$carol","status":"online"}}
            bob   >> {"type":"presence","payload":{"status":"busy"}}
            alice << nothing
        """)


async def test_a_blocked_client_sees_offline_whatever_is_allowed(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play("""
            bob   >> {"type":"presence_allow","payload":{"clients":["$alice"]}}
            bob   >> {"type":"presence","payload":{"status":"online"}}
            bob   << nothing
        """)
        await watching(stage, "alice", "bob")
        await stage.play("""
            alice << {"type":"presence","payload":{"client":"$bob","status":"online"}}
            bob   >> {"type":"block","payload":{"client":"$alice"}}
            alice << {"type":"presence","payload":{"client":"$bob","status":"offline"}}
            bob   >> {"type":"presence","payload":{"status":"away"}}
            alice << nothing
            bob   >> {"type":"unblock","payload":{"client":"$alice"}}
            alice << {"type":"presence","payload":{"client":"$bob","status":"away"}}
        """)


async def test_a_list_is_bounded_and_a_status_is_one_of_three(mock_clock: MockClock) -> None:
    many = json.dumps([f"{number:064x}" for number in range(501)])
    async with open_stage() as stage:
        await stage.enter("alice")
        for verb in ("presence_allow", "presence_watch"):
            detail = "payload.clients must have 0 to 500 items"
            await stage.play(f"""
                alice >> {{"type":"{verb}","id":"1","payload":{{"clients":{many}}}}}
                alice << {{"type":"error","id":"1","payload":{{"msg":"invalid","detail":"{detail}"}}}}
            """)
        detail = "payload.status must be one of online, away, busy"
        await stage.play(f"""
            alice >> {{"type":"presence","id":"2","payload":{{"status":"offline"}}}}
            alice << {{"type":"error","id":"2","payload":{{"msg":"invalid","detail":"{detail}"}}}}
        """)


async def test_what_does_not_fit_into_half_an_outbox_follows_later(mock_clock: MockClock) -> None:
    friends = [f"friend{number}" for number in range(12)]
    async with open_stage(limits=Limits(outbox_frames=16)) as stage:
        await stage.enter("alice", *friends)
        for friend in friends:
            await stage.play(f"""
                {friend} >> {{"type":"presence_allow","payload":{{"clients":["$alice"]}}}}
                {friend} >> {{"type":"presence","payload":{{"status":"online"}}}}
                {friend} << nothing
            """)
        everyone = json.dumps([identity_of(friend).client_id for friend in friends])
        await stage.play(f"""
            alice >> {{"type":"presence_watch","id":"1","payload":{{"clients":{everyone}}}}}
            alice << {{"type":"accepted","id":"1","payload":{{"ts":1790000000000}}}}
        """)
        told = [json.loads(await stage.next_text("alice"))["payload"]["client"] for _ in friends]
        assert sorted(told) == sorted(json.loads(everyone))
        await stage.play("alice << nothing")


# --- typing ----------------------------------------------------------------------------------------------------------


async def test_typing_reaches_every_session_of_the_client_and_is_accepted_if_there_is_none(
    mock_clock: MockClock,
) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "alice.too", "bob")
        await stage.enter("bob.phone", device="phone")
        await stage.play("""
            alice     >> {"type":"typing","id":"1","payload":{"to":"$bob","typing":true}}
            alice     << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            bob       << {"type":"typing","payload":{"from":"$alice","typing":true}}
            bob.phone << {"type":"typing","payload":{"from":"$alice","typing":true}}
            alice     >> {"type":"typing","payload":{"to":"$bob","typing":false}}
            bob       << {"type":"typing","payload":{"from":"$alice","typing":false}}
            alice     >> {"type":"typing","id":"2","payload":{"to":"$carol","typing":true}}
            alice     << {"type":"accepted","id":"2","payload":{"ts":1790000000000}}
            alice     >> {"type":"typing","payload":{"to":"$alice","typing":true}}
            alice     << nothing
            alice.too << nothing
        """)


async def test_typing_to_one_who_blocked_the_typist_is_accepted_and_reaches_nobody(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play("""
            bob   >> {"type":"block","id":"1","payload":{"client":"$alice"}}
            bob   << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            alice >> {"type":"typing","id":"2","payload":{"to":"$bob","typing":true}}
            alice << {"type":"accepted","id":"2","payload":{"ts":1790000000000}}
            bob   << nothing
        """)


async def test_typing_in_a_group_reaches_its_other_members_and_nobody_outside_it(
    mock_clock: MockClock,
) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob", "carol", "dave")
        await stage.play("""
            alice >> {"type":"group_create","id":"1","payload":{"clients":["$bob","$carol"]}}
        """)
        group = ""
        for member in ("alice", "alice", "bob", "carol"):  # the answer to alice, and what is told to all three
            frame = json.loads(await stage.next_text(member))
            group = frame["payload"].get("group", group)
        typing = f'{{"from":"$alice","typing":true,"group":"{group}"}}'
        no_group = '{"msg":"not_found","detail":"no such group"}'
        nowhere = "#" + "0" * 32
        await stage.play(f"""
            bob   >> {{"type":"block","id":"2","payload":{{"client":"$alice"}}}}
            bob   << {{"type":"accepted","id":"2","payload":{{"ts":1790000000000}}}}
            alice >> {{"type":"typing","id":"3","payload":{{"to":"{group}","typing":true}}}}
            alice << {{"type":"accepted","id":"3","payload":{{"ts":1790000000000}}}}
            bob   << {{"type":"typing","payload":{typing}}}
            carol << {{"type":"typing","payload":{typing}}}
            alice << nothing
            dave  >> {{"type":"typing","id":"4","payload":{{"to":"{group}","typing":true}}}}
            dave  << {{"type":"error","id":"4","payload":{no_group}}}
            dave  >> {{"type":"typing","id":"5","payload":{{"to":"{nowhere}","typing":true}}}}
            dave  << {{"type":"error","id":"5","payload":{no_group}}}
            carol << nothing
        """)
