"""What a device session may ask, and must not do: docs/protocol.md, sections 4 and 5, each rule a conversation."""

import trio.testing
from trio.testing import MockClock

from ironwire.limits import Limits
from tests.playbook import open_stage


async def test_devices_are_listed_and_a_removed_one_is_told(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", device="phone")
        unknown = '{"msg":"not_found","detail":"this client has no such device"}'
        phone = '{"device":"phone","created":1790000000000,"seen":1790000000000,"waiting":0}'
        await stage.play(f"""
            alice >> {{"type":"devices","id":"1"}}
            alice << {{"type":"devices","id":"1","payload":{{"devices":[{phone}]}}}}
            alice >> {{"type":"device_remove","id":"2","payload":{{"device":"laptop"}}}}
            alice << {{"type":"error","id":"2","payload":{unknown}}}
            alice >> {{"type":"device_remove","id":"3","payload":{{"device":"phone"}}}}
            alice << {{"type":"device_removed","id":"3","payload":{{"device":"phone"}}}}
            alice << close 4403 this device was removed
        """)


async def test_an_ack_of_what_was_never_delivered_is_misuse(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", device="phone")
        await stage.play("""
            alice >> {"type":"ack","payload":{"upto":1}}
            alice << close 4400 ack of 1, and the last delivered is 0
        """)


async def test_an_ack_with_an_id_is_answered_and_one_without_is_not(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("bob", device="phone")
        await stage.enter("alice")
        await stage.play("""
            alice >> {"type":"text","id":"1","payload":{"to":"$bob","text":"x"}}
            alice << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            bob   << {"type":"text","seq":1,"id":"1","payload":{"from":"$alice","text":"x","ts":1790000000000}}
            bob   >> {"type":"ack","payload":{"upto":1}}
            bob   << nothing
            bob   >> {"type":"ack","id":"a","payload":{"upto":1}}
            bob   << {"type":"accepted","id":"a","payload":{"ts":1790000000000}}
            bob   >> {"type":"ack","id":"b","payload":{"upto":0}}
            bob   << {"type":"accepted","id":"b","payload":{"ts":1790000000000}}
            alice >> {"type":"ack","payload":{"upto":1}}
            alice << nothing
            alice >> {"type":"ack","id":"a","payload":{"upto":1}}
            alice << {"type":"error","id":"a","payload":{"msg":"invalid","detail":"a session without a device has no mailbox"}}
        """)  # noqa: E501  # one frame, one line


async def test_a_full_mailbox_takes_nothing_until_half_of_it_is_gone(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(mailbox_envelopes=2)) as stage:
        await stage.enter("bob", device="phone")
        await stage.enter("alice")
        text = '{"from":"$alice","text":"x","ts":1790000000000}'
        await stage.play(f"""
            alice >> {{"type":"text","id":"1","payload":{{"to":"$bob","text":"x"}}}}
            alice << {{"type":"accepted","id":"1","payload":{{"ts":1790000000000}}}}
            bob   << {{"type":"text","seq":1,"id":"1","payload":{text}}}
            alice >> {{"type":"text","id":"2","payload":{{"to":"$bob","text":"x"}}}}
            alice << {{"type":"accepted","id":"2","payload":{{"ts":1790000000000}}}}
            bob   << {{"type":"text","seq":2,"id":"2","payload":{text}}}
            alice >> {{"type":"text","id":"3","payload":{{"to":"$bob","text":"x"}}}}
            alice << {{"type":"error","id":"3","payload":{{"msg":"mailbox_full","user":"$bob"}}}}
            bob   >> {{"type":"ack","payload":{{"upto":1}}}}
        """)
        await trio.testing.wait_all_tasks_blocked()
        await stage.play(f"""
            alice >> {{"type":"text","id":"3","payload":{{"to":"$bob","text":"x"}}}}
            alice << {{"type":"accepted","id":"3","payload":{{"ts":1790000000000}}}}
            bob   << {{"type":"text","seq":3,"id":"3","payload":{text}}}
        """)


async def test_ones_own_full_device_refuses_nothing_and_is_told_what_it_lost(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(mailbox_envelopes=1)) as stage:
        await stage.enter("alice.old", device="old")
        await stage.enter("bob")
        await stage.enter("alice", device="laptop")
        for number in range(1, 4):
            await stage.play(f"""
                alice     >> {{"type":"text","id":"{number}","payload":{{"to":"$bob","text":"x"}}}}
                alice     << {{"type":"accepted","id":"{number}","payload":{{"ts":1790000000000}}}}
                bob       << {{"type":"text","payload":{{"from":"$alice","text":"x"}}}}
            """)
        text = '{"from":"$alice","text":"x","ts":1790000000000,"device":"laptop","to":"$bob"}'
        await stage.play(f"""
            alice.old << {{"type":"text","seq":1,"id":"1","payload":{text}}}
            alice.old << {{"type":"gap","payload":{{"from":2,"to":2,"reason":"full"}}}}
            alice.old << {{"type":"gap","payload":{{"from":3,"to":3,"reason":"full"}}}}
        """)
        await stage.play("""alice.old >> {"type":"ack","payload":{"upto":3}}""")
        await trio.testing.wait_all_tasks_blocked()
        await stage.play(f"""
            alice     >> {{"type":"text","id":"4","payload":{{"to":"$bob","text":"x"}}}}
            alice     << {{"type":"accepted","id":"4","payload":{{"ts":1790000000000}}}}
            alice.old << {{"type":"text","seq":4,"id":"4","payload":{text}}}
        """)
