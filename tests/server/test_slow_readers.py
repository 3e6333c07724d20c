"""Peers that do not read: each loses its own session, and nobody else waits (docs/protocol.md, section 6)."""

import json

import pytest
import trio
from trio.testing import MockClock
from wsproto.events import CloseConnection

import ironwire.server.core
from ironwire.delivery.hub import Hub
from ironwire.limits import Limits
from tests.bounded_stream import bounded
from tests.playbook import Stage, auth_frame, identity_of, open_stage, verify_frame
from tests.wire.frame_builder import text

SMALL = Limits(outbox_frames=16, outbox_bytes=64 * 1024)
PIPE_BYTES = 1024
HALF_A_PIPE = "x" * 500


def text_to(actor: str, content: str) -> bytes:
    return text(json.dumps({"type": "text", "payload": {"to": identity_of(actor).client_id, "text": content}}))


async def chat(stage: Stage, one: str, other: str) -> None:
    """A conversation that takes no time, unless somebody holds it up."""
    started = trio.current_time()
    for number in range(10):
        for sender, recipient in ((one, other), (other, one)):
            await stage.actors[sender].send(text_to(recipient, str(number)))
            assert json.loads(await stage.next_text(recipient))["payload"]["text"] == str(number)
    assert trio.current_time() == started


async def test_a_reader_that_stalls_is_cut_and_nobody_else_waits(mock_clock: MockClock) -> None:
    async with open_stage(limits=SMALL) as stage:
        await stage.enter("alice", "carol", "dave")
        await stage.enter("bob", stream_pair=bounded(PIPE_BYTES))
        stage.actors["bob"].stall()
        await stage.actors["alice"].send(*[text_to("bob", HALF_A_PIPE)] * 4)
        await chat(stage, "carol", "dave")
        await trio.sleep(SMALL.write_seconds - 0.1)
        await chat(stage, "carol", "dave")
        await stage.play("alice << nothing")
        await trio.sleep(0.2)
        await stage.play("""
            alice >> {"type":"text","payload":{"to":"$bob","text":"Hello"}}
            alice << {"type":"error","payload":{"msg":"user_offline","user":"$bob"}}
        """)
        stage.actors["bob"].resume()
        with trio.fail_after(10):
            while (event := await stage.actors["bob"].event()) is not None:
                assert not isinstance(event, CloseConnection)
        await chat(stage, "carol", "dave")


async def test_a_reader_that_goes_on_in_time_loses_nothing(mock_clock: MockClock) -> None:
    async with open_stage(limits=SMALL) as stage:
        await stage.enter("alice")
        await stage.enter("bob", stream_pair=bounded(PIPE_BYTES))
        stage.actors["bob"].stall()
        for number in range(10):
            await stage.actors["alice"].send(text_to("bob", f"{number} {HALF_A_PIPE}"))
        await trio.sleep(SMALL.write_seconds - 0.1)
        stage.actors["bob"].resume()
        for number in range(10):
            assert json.loads(await stage.next_text("bob"))["payload"]["text"].startswith(f"{number} ")


async def test_an_outbox_that_overflows_ends_its_session_with_4508_after_what_waited(mock_clock: MockClock) -> None:
    async with open_stage(limits=SMALL) as stage:
        await stage.enter("alice", "carol", "dave")
        await stage.enter("bob", stream_pair=bounded(PIPE_BYTES))
        stage.actors["bob"].stall()
        blocking = 2
        for _ in range(blocking):
            await stage.actors["alice"].send(text_to("bob", HALF_A_PIPE))
            await chat(stage, "carol", "dave")  # lets the writer take it
        for number in range(SMALL.outbox_frames):
            await stage.actors["alice"].send(text_to("bob", str(number)))
        await stage.play("""
            alice << nothing
            alice >> {"type":"text","payload":{"to":"$bob","text":"one too many"}}
            alice << {"type":"error","payload":{"msg":"user_offline","user":"$bob"}}
        """)
        stage.actors["bob"].resume()
        for _ in range(blocking):
            await stage.next_text("bob")
        for number in range(SMALL.outbox_frames):
            assert json.loads(await stage.next_text("bob"))["payload"]["text"] == str(number)
        await stage.play("bob << close 4508 too slow")


async def test_a_flood_whose_answers_are_not_read_ends_by_itself(mock_clock: MockClock) -> None:
    async with open_stage(limits=SMALL) as stage:
        await stage.enter("carol", "dave")
        await stage.enter("mallory", stream_pair=bounded(PIPE_BYTES))
        stage.actors["mallory"].stall()
        for _ in range(200):
            await stage.actors["mallory"].send(text("[]"))
        await chat(stage, "carol", "dave")
        await trio.sleep(SMALL.write_seconds + 0.1)
        await stage.play("""
            carol >> {"type":"text","payload":{"to":"$mallory","text":"Hello"}}
            carol << {"type":"error","payload":{"msg":"user_offline","user":"$mallory"}}
        """)


async def test_a_drain_does_not_wait_for_those_that_do_not_read(mock_clock: MockClock) -> None:
    limits = Limits(write_seconds=60)
    async with open_stage(limits=limits) as stage:
        await stage.enter("alice")
        await stage.enter("bob", stream_pair=bounded(PIPE_BYTES))
        stage.actors["bob"].stall()
        await stage.actors["alice"].send(*[text_to("bob", HALF_A_PIPE)] * 4)
        await trio.sleep(1)
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.server.guard.on_shutdown)
            await stage.play("alice << close 1012 retry_ms=5000")
            assert trio.current_time() == started
        assert trio.current_time() == started + limits.drain_seconds


@pytest.mark.parametrize(("size", "count"), [(10, 40), (4_000, 40)])
async def test_a_device_gets_its_mail_through_an_outbox_that_is_smaller_than_its_window(
    mock_clock: MockClock, size: int, count: int
) -> None:
    """Else it would be sent too much at once after every connect, and lose its session each time."""
    async with open_stage(limits=SMALL) as stage:
        await stage.enter("alice")
        await stage.enter("bob.phone", device="phone")
        await stage.actors["bob.phone"].hang_up()
        await trio.testing.wait_all_tasks_blocked()
        await stage.actors["alice"].send(*[text_to("bob", "x" * size)] * count)
        await trio.testing.wait_all_tasks_blocked()
        await stage.connect("bob.phone")
        phone = stage.actors["bob.phone"]
        await phone.send(auth_frame("bob", device="phone"))
        challenge = json.loads(await stage.next_text("bob.phone"))["challenge"]
        await phone.send(verify_frame("bob", bytes.fromhex(challenge)))
        assert json.loads(await stage.next_text("bob.phone"))["type"] == "auth_ok"
        for seq in range(1, count + 1):
            assert json.loads(await stage.next_text("bob.phone"))["seq"] == seq
            await phone.send(text(json.dumps({"type": "ack", "payload": {"upto": seq}})))
        assert json.loads(await stage.next_text("bob.phone"))["type"] == "caught_up"


async def test_two_hundred_stalled_readers_cost_what_their_outboxes_hold_and_nobody_waits(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs: list[Hub] = []

    def remembered(*, sessions_per_client: int) -> Hub:
        hubs.append(Hub(sessions_per_client=sessions_per_client))
        return hubs[-1]

    monkeypatch.setattr(ironwire.server.core, "Hub", remembered)
    limits = Limits(outbox_frames=16, outbox_bytes=64 * 1024, sessions_per_client=200)
    async with open_stage(limits=limits) as stage:
        await stage.enter("alice", "carol", "dave")
        crowd = [f"crowd.{number}" for number in range(200)]
        await stage.enter(*crowd, stream_pair=bounded(PIPE_BYTES))
        for member in crowd:
            stage.actors[member].stall()
        most_waiting_bytes = 0
        for _ in range(30):
            await stage.actors["alice"].send(text_to("crowd", "x" * 8_000))
            await chat(stage, "carol", "dave")
            waiting = [seat.outbox.statistics() for seat in hubs[0].everyone()]
            assert max(outbox.frames_waiting for outbox in waiting) <= limits.outbox_frames
            most_waiting_bytes = max(most_waiting_bytes, sum(outbox.bytes_waiting for outbox in waiting))
        assert 200 * 50_000 < most_waiting_bytes <= 200 * limits.outbox_bytes
        await trio.sleep(limits.write_seconds + 0.1)
        stage.actors["alice"].take_events()
        assert hubs[0].statistics().sessions == 3
        await stage.play("""
            alice >> {"type":"text","payload":{"to":"$crowd","text":"Hello"}}
            alice << {"type":"error","payload":{"msg":"user_offline","user":"$crowd"}}
        """)
        await chat(stage, "carol", "dave")
