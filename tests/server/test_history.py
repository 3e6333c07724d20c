"""The history of docs/protocol.md, section 7.1, as clients meet it."""

import json
from typing import Any

import trio
from trio.testing import MockClock

from ironwire.store.contract.records import HISTORY_BYTES
from tests.playbook import Stage, open_stage


async def test_without_a_history_there_is_none(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice")
        await stage.play("""
            alice >> {"type":"history","id":"h","payload":{"with":"$bob","limit":9}}
            alice << {"type":"error","id":"h","payload":{"msg":"forbidden","detail":"this server keeps no history"}}
        """)


async def test_what_every_device_acknowledged_can_be_read_newest_first_by_either_side(mock_clock: MockClock) -> None:
    async with open_stage(history_days=1) as stage:
        await stage.enter("bob", device="phone")
        await stage.enter("alice")
        await stage.play("""
            alice >> {"type":"text","id":"1","payload":{"to":"$bob","text":"one"}}
            alice << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
            bob   << {"type":"text","seq":1,"id":"1","payload":{"from":"$alice","text":"one","ts":1790000000000}}
            bob   >> {"type":"ack","payload":{"upto":1}}
            bob   >> {"type":"text","payload":{"to":"$alice","text":"two"}}
            alice << {"type":"text","payload":{"from":"$bob","text":"two"}}
            bob   >> {"type":"history","id":"h","payload":{"with":"$alice","limit":9}}
            bob   << {"type":"history","id":"h","payload":{"with":"$alice","envelopes":[{"text":{"from":"$bob","text":"two","ts":1790000000000,"device":"phone"}},{"id":"1","text":{"from":"$alice","text":"one","ts":1790000000000}}]}}
            alice >> {"type":"history","payload":{"with":"$bob","limit":1}}
            alice << {"type":"history","payload":{"with":"$bob","envelopes":[{"text":{"from":"$bob","text":"two","ts":1790000000000,"device":"phone"}}],"before":2}}
            alice >> {"type":"history","payload":{"with":"$bob","limit":1,"before":2}}
            alice << {"type":"history","payload":{"with":"$bob","envelopes":[{"id":"1","text":{"from":"$alice","text":"one","ts":1790000000000}}],"before":1}}
            alice >> {"type":"history","payload":{"with":"$bob","limit":1,"before":1}}
            alice << {"type":"history","payload":{"with":"$bob","envelopes":[]}}
            alice >> {"type":"history","id":"g","payload":{"with":"#00000000000000000000000000000000","limit":1}}
            alice << {"type":"error","id":"g","payload":{"msg":"not_found","detail":"no such group"}}
        """)  # noqa: E501  # one frame, one line


async def test_receipts_are_no_history(mock_clock: MockClock) -> None:
    async with open_stage(history_days=1) as stage:
        await stage.enter("bob", device="phone")
        await stage.enter("alice")
        await stage.play("""
            alice >> {"type":"receipt","id":"r","payload":{"to":"$bob","ids":["1"],"state":"read"}}
            alice << {"type":"accepted","id":"r","payload":{"ts":1790000000000}}
            alice >> {"type":"history","payload":{"with":"$bob","limit":9}}
            alice << {"type":"history","payload":{"with":"$bob","envelopes":[]}}
        """)


async def test_a_page_ends_before_it_gets_too_large_and_all_pages_together_are_whole(mock_clock: MockClock) -> None:
    async with open_stage(history_days=1) as stage:
        await stage.enter("bob", device="phone")
        await stage.enter("alice")
        for number in range(9):
            text = json.dumps({"to": "$bob", "text": f"{number}" + "x" * 60_000})
            await stage.play(f"""
                alice >> {{"type":"text","id":"{number}","payload":{text}}}
                alice << {{"type":"accepted","id":"{number}","payload":{{"ts":1790000000000}}}}
            """)
        pages = [await _page(stage, None)]
        while (before := pages[-1].get("before")) is not None:
            pages.append(await _page(stage, before))
        assert [len(page["envelopes"]) for page in pages] == [4, 4, 1]
        assert all(len(json.dumps(page)) < HISTORY_BYTES + 1_000 for page in pages)
        assert [envelope["id"] for page in pages for envelope in page["envelopes"]] == list("876543210")


async def _page(stage: Stage, before: int | None) -> dict[str, Any]:
    more = "" if before is None else f',"before":{before}'
    await stage.play(f"""alice >> {{"type":"history","payload":{{"with":"$bob","limit":100{more}}}}}""")
    page: dict[str, Any] = json.loads(await stage.next_text("alice"))["payload"]
    return page


async def test_the_history_ends_with_its_days(mock_clock: MockClock) -> None:
    start = trio.current_time()

    def now_ms() -> int:
        return 1_790_000_000_000 + int((trio.current_time() - start) * 1_000)

    async with open_stage(history_days=0.01, now_ms=now_ms) as stage:
        await stage.enter("bob", device="phone")
        await stage.enter("alice")
        await stage.play("""
            alice >> {"type":"text","id":"1","payload":{"to":"$bob","text":"one"}}
        """)
        assert json.loads(await stage.next_text("alice"))["type"] == "accepted"
        assert len((await _page(stage, None))["envelopes"]) == 1
        for _ in range(190):  # more than an hour, with a sign of life every 20 s
            await stage.play("""
                alice >> pong
                bob   >> pong
                ... 20 s
            """)
        assert (await _page(stage, None))["envelopes"] == []


async def test_the_welcome_says_whether_there_is_a_history(mock_clock: MockClock) -> None:
    for days, features in ((0, ["mls"]), (1, ["history", "mls"])):
        async with open_stage(history_days=days) as stage:
            await stage.connect("alice")
            await stage.play("""
                alice >> {"type":"auth","payload":{"token":"$alice","device":"phone"}}
                alice << {"type":"auth_challenge","challenge":"$nonce"}
                alice >> {"type":"verify","payload":{"attempt":"$alice_signs"}}
            """)
            assert json.loads(await stage.next_text("alice"))["payload"]["features"] == features
