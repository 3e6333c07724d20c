"""Blocks as clients meet them: docs/protocol.md, section 7.5, each rule a conversation."""

from trio.testing import MockClock

from ironwire.limits import Limits
from tests.playbook import identity_of, open_stage


async def test_a_client_lists_whom_it_has_blocked(mock_clock: MockClock) -> None:
    blocked = ",".join(sorted(f'"{identity_of(actor).client_id}"' for actor in ("alice", "carol")))
    async with open_stage() as stage:
        await stage.enter("bob", "bob.too")
        await stage.play(f"""
            bob     >> {{"type":"blocks","id":"1"}}
            bob     << {{"type":"blocks","id":"1","payload":{{"clients":[]}}}}
            bob     >> {{"type":"block","id":"2","payload":{{"client":"$carol"}}}}
            bob     >> {{"type":"block","id":"3","payload":{{"client":"$alice"}}}}
            bob     >> {{"type":"block","id":"4","payload":{{"client":"$alice"}}}}
            bob     << {{"type":"accepted","id":"2","payload":{{"ts":1790000000000}}}}
            bob     << {{"type":"accepted","id":"3","payload":{{"ts":1790000000000}}}}
            bob     << {{"type":"accepted","id":"4","payload":{{"ts":1790000000000}}}}
            bob.too >> {{"type":"blocks"}}
            bob.too << {{"type":"blocks","payload":{{"clients":[{blocked}]}}}}
            bob     >> {{"type":"unblock","payload":{{"client":"$carol"}}}}
            bob     >> {{"type":"unblock","id":"5","payload":{{"client":"$carol"}}}}
            bob     << {{"type":"accepted","id":"5","payload":{{"ts":1790000000000}}}}
            bob     >> {{"type":"blocks"}}
            bob     << {{"type":"blocks","payload":{{"clients":["$alice"]}}}}
        """)


async def test_nobody_blocks_itself(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("bob")
        itself = '{"msg":"invalid","detail":"a client cannot block itself"}'
        await stage.play(f"""
            bob >> {{"type":"block","id":"1","payload":{{"client":"$bob"}}}}
            bob << {{"type":"error","id":"1","payload":{itself}}}
            bob >> {{"type":"block","payload":{{"client":"$bob"}}}}
            bob << {{"type":"error","payload":{itself}}}
        """)


async def test_blocks_are_bounded_and_one_that_stands_may_be_repeated(mock_clock: MockClock) -> None:
    too_many = '{"msg":"quota","detail":"this client has blocked as many as one may: unblock another first"}'
    async with open_stage(limits=Limits(blocks_per_client=1)) as stage:
        await stage.enter("bob")
        await stage.play(f"""
            bob >> {{"type":"block","id":"1","payload":{{"client":"$alice"}}}}
            bob << {{"type":"accepted","id":"1","payload":{{"ts":1790000000000}}}}
            bob >> {{"type":"block","id":"2","payload":{{"client":"$carol"}}}}
            bob << {{"type":"error","id":"2","payload":{too_many}}}
            bob >> {{"type":"block","id":"3","payload":{{"client":"$alice"}}}}
            bob << {{"type":"accepted","id":"3","payload":{{"ts":1790000000000}}}}
        """)


async def test_what_a_blocked_client_sends_is_accepted_and_goes_nowhere(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.enter("bob.phone", device="phone")
        await stage.play("""
            bob       >> {"type":"block","id":"1","payload":{"client":"$alice"}}
            bob       << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            alice     >> {"type":"text","id":"1","payload":{"to":"$bob","text":"Hello"}}
            alice     << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            bob       << nothing
            bob.phone << nothing
            bob       >> {"type":"unblock","id":"2","payload":{"client":"$alice"}}
            bob       << {"type":"accepted","id":"2","payload":{"ts":1790000000000}}
            bob.phone << nothing
            alice     >> {"type":"text","id":"2","payload":{"to":"$bob","text":"Hi"}}
            alice     << {"type":"accepted","id":"2","payload":{"ts":1790000000000}}
            bob       << {"type":"text","payload":{"from":"$alice","text":"Hi"}}
            bob.phone << {"type":"text","seq":1,"id":"2","payload":{"from":"$alice","text":"Hi","ts":1790000000000}}
        """)


async def test_a_block_says_nothing_about_groups(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play("""
            bob   >> {"type":"block","id":"1","payload":{"client":"$alice"}}
            bob   << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            alice >> {"type":"group_create","payload":{"clients":["$bob"]}}
        """)
        created = await stage.next_text("bob")
        group = created.partition('"group":"')[2].partition('"')[0]
        hello = f'{{"from":"$alice","text":"Hello","group":"{group}"}}'
        await stage.play(f"""
            alice >> {{"type":"text","payload":{{"to":"{group}","text":"Hello"}}}}
            bob   << {{"type":"text","payload":{hello}}}
        """)
