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
