"""Sessions at sockets, which the reader reads, are told what sessions are told that read for themselves."""

import json
import select
from collections.abc import Callable

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from ironwire.limits import Limits
from tests.bounded_stream import socket_stream_pair
from tests.playbook import Stage, identity_of, open_stage, told
from tests.server.in_process import StreamPair
from tests.server.slow_store import slow_stores
from tests.wire import frame_builder
from tests.wire.frame_builder import close, frame, ping, text


def text_to(actor: str, content: str, **more: str) -> bytes:
    payload = {"to": identity_of(actor).client_id, "text": content}
    return text(json.dumps({"type": "text", "payload": payload} | more))


@pytest.fixture(params=["epoll", "no epoll"])
async def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio has its own epoll already."""
    if request.param == "no epoll":
        monkeypatch.delattr(select, "epoll")


everywhere = pytest.mark.usefixtures("platform")


@everywhere
async def test_what_a_session_sends_while_it_waits_for_the_disk_is_taken_after_it_in_order(
    mock_clock: MockClock,
) -> None:
    async with open_stage(limits=Limits(unsettled_envelopes=1), open_store=slow_stores()) as stage:
        await stage.enter("bob", device="phone", stream_pair=socket_stream_pair)
        await stage.enter("alice", "carol", stream_pair=socket_stream_pair)
        alice = stage.actors["alice"]
        await alice.send(text_to("bob", "to the disk"))
        await wait_all_tasks_blocked()
        for content in ("one", "two"):
            await alice.send(text_to("carol", content))
        await stage.play("carol << nothing")
        for content in ("one", "two"):
            assert json.loads(await stage.next_text("carol"))["payload"]["text"] == content


@everywhere
async def test_others_do_not_wait_for_a_flood(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("mallory", "alice", "bob", "carol", stream_pair=socket_stream_pair)
        await stage.actors["mallory"].send(text_to("carol", "flood") * 1_000)
        await stage.actors["alice"].send(text_to("bob", "Hello"))
        assert json.loads(await stage.next_text("bob"))["payload"]["text"] == "Hello"
        assert len(stage.actors["carol"].take_events()) < 500


@everywhere
async def test_a_peer_that_vanishes_is_offline_at_once(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob", stream_pair=socket_stream_pair)
        await stage.actors["bob"].hang_up()
        await wait_all_tasks_blocked()
        await stage.play("""
            alice >> {"type":"text","payload":{"to":"$bob","text":"Hello"}}
            alice << {"type":"error","payload":{"msg":"user_offline","user":"$bob"}}
            alice >> close 1000
            alice << close 1000
        """)


@everywhere
async def test_the_newer_session_of_a_device_replaces_one_whose_peer_never_stops(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice.old", device="phone", stream_pair=socket_stream_pair)
        await stage.actors["alice.old"].send(text_to("nobody", "flood") * 500)
        await stage.enter("alice.new", device="phone", stream_pair=socket_stream_pair)
        await wait_all_tasks_blocked()
        assert "close 4409 replaced by a newer session of this device" in told_so_far(stage, "alice.old")
        await stage.play("""
            alice.new >> {"type":"ping"}
            alice.new << {"type":"pong"}
        """)


@everywhere
async def test_a_session_that_waits_for_the_disk_takes_part_in_a_drain(mock_clock: MockClock) -> None:
    async with open_stage(limits=Limits(unsettled_envelopes=1), open_store=slow_stores()) as stage:
        await stage.enter("bob", device="phone", stream_pair=socket_stream_pair)
        await stage.enter("alice", stream_pair=socket_stream_pair)
        await stage.actors["alice"].send(text_to("bob", "one", id="1") + text_to("bob", "two", id="2"))
        await wait_all_tasks_blocked()
        await stage.actors["alice"].send(text_to("bob", "three", id="3"))
        await stage.server.guard.on_shutdown()
        assert "close 1012 retry_ms=5000" in told_so_far(stage, "alice")


@everywhere
async def test_silence_ends_a_session_at_a_socket_too(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", stream_pair=socket_stream_pair)
        await stage.play("""
            alice << ping
            alice << close 4408 no sign of life
        """)


SOME = [
    text_to("bob", "live", id="1"),
    text_to("carol", "stored", id="2"),
    text_to("nobody", "lost", id="3"),
    text_to("bob", "x" * 3_000),
    text('{"type":"ping","id":"4"}'),
    text('{"type":"groups","id":"5"}'),
    text('{"type":"blocks"}'),
    text('{"type":"devices","id":"6"}'),
    text('{"type":"resume","id":"7"}'),
    text('{"type":"ack","payload":{"upto":9}}'),
    text("[]"),
    frame_builder.binary(b"\x00"),
    ping(b"?"),
    frame_builder.pong(),
    *frame_builder.fragments(frame_builder.TEXT, b'{"type":', b'"ping"}'),
    text('{"type":"ping"}') * 30,
]
LAST = [b"", close(1000), frame(frame_builder.TEXT, b"\xff"), frame(0x3, b"x"), text("x" * 70_000)]


async def transcript(stream_pair: StreamPair, chunks: list[bytes]) -> list[list[str]]:
    """The frames that two clients get when one of them sends these bytes."""
    async with open_stage() as stage:
        await stage.enter("carol", device="phone")
        await stage.enter("alice", "bob", stream_pair=stream_pair)
        for chunk in chunks:
            await stage.actors["alice"].send(chunk)
            await wait_all_tasks_blocked()
        return [told_so_far(stage, actor) for actor in ("alice", "bob", "carol")]


def told_so_far(stage: Stage, actor: str) -> list[str]:
    return [told(event) for event in stage.actors[actor].take_events()]


@st.composite
def chunked(draw: Callable[[st.SearchStrategy[list[int]]], list[int]], frames: list[bytes]) -> list[bytes]:
    whole = b"".join(frames)
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    return [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.lists(st.sampled_from(SOME), max_size=8), st.sampled_from(LAST)).flatmap(
        lambda frames: chunked([*frames[0], frames[1]])
    )
)
@example([text_to("bob", "live", id="1") + text_to("carol", "stored", id="2") + close(1000)])
@example([text_to("carol", "stored", id="2") + text('{"type":"resume","id":"7"}') + close(1000)])
def test_the_same_bytes_have_the_same_answers_whoever_reads_them(chunks: list[bytes]) -> None:
    by_the_reader = trio.run(transcript, socket_stream_pair, chunks, clock=MockClock())
    by_the_session = trio.run(transcript, memory_stream_pair, chunks, clock=MockClock())
    assert by_the_reader == by_the_session
