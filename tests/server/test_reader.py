"""One task reads the sockets of all sessions; a session notices no difference to reading its own."""

import contextvars
import json
import select
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from ironwire.delivery.outbox import Ending, Outbox
from ironwire.errors import FrameViolation, TransportClosed
from ironwire.limits import Limits
from ironwire.server.listener.direct import SocketTransport
from ironwire.server.session.reader import Feed, PolledFeed, Reader, Wait
from ironwire.server.session.scheduler import ROUND_BYTES, ROUND_SESSIONS
from ironwire.wire.frames import Payload
from tests.playbook import Stage, StreamPair, identity_of, open_stage, socket_stream_pair, told
from tests.server.slow_store import slow_stores
from tests.turns import counted_by_turn
from tests.wire import frame_builder
from tests.wire.frame_builder import close, frame, ping, text

LIMITS = Limits()
LINGER_NONE = struct.pack("ii", 1, 0)


def text_to(actor: str, content: str, **more: str) -> bytes:
    payload = {"to": identity_of(actor).client_id, "text": content}
    return text(json.dumps({"type": "text", "payload": payload} | more))


# --- one session's socket --------------------------------------------------------------------------------------------


@define(eq=False)
class Line:
    """A socket that a reader reads, what was taken from it, and the peer's end."""

    reader: Reader
    wait: Wait | None = None
    """Has to be awaited for each message, if it is given."""
    taken: list[Payload] = field(init=False, factory=list)
    flushes: int = field(init=False, default=0)
    peer: socket.socket = field(init=False)
    transport: SocketTransport = field(init=False)
    outbox: Outbox = field(init=False)
    feed: Feed = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.peer, ours = socket.socketpair()
        ours.setblocking(False)
        self.transport = SocketTransport(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), b"", LIMITS)
        self.transport.authenticated()
        self.outbox = Outbox(most_frames=10, most_bytes=1000, ring=lambda: None)
        self.feed = self.reader.feed(self.transport, self.outbox, self.take, self.flush)

    def take(self, batch: list[Payload]) -> Iterator[Wait]:
        for message in batch:
            self.taken.append(message)
            if self.wait is not None:
                yield self.wait

    def flush(self) -> None:
        self.flushes += 1

    async def serve(self) -> None:
        try:
            while True:
                for wait in await self.feed.next():
                    await wait()
        finally:
            self.feed.close()
            await self.transport.abort()


@pytest.fixture
async def reader(nursery: trio.Nursery) -> Reader:
    reader = Reader()
    nursery.start_soon(reader.run)
    return reader


async def test_a_round_reads_so_many_sessions_and_the_others_in_the_next_ones(
    reader: Reader, nursery: trio.Nursery
) -> None:
    count = 2 * ROUND_SESSIONS + 10
    lines = [Line(reader) for _ in range(count)]
    for line in lines:
        nursery.start_soon(line.serve)
    await wait_all_tasks_blocked()
    for line in lines:
        line.peer.send(text("Hello"))
    with counted_by_turn(lambda: sum(len(line.taken) for line in lines)) as by_turn:
        await wait_all_tasks_blocked()
    assert sorted(filter(None, by_turn)) == [10, ROUND_SESSIONS, ROUND_SESSIONS]
    for line in lines:
        line.peer.close()


async def test_a_round_ends_when_much_was_read(reader: Reader, nursery: trio.Nursery) -> None:
    one = text("x" * 60_000)
    lines = [Line(reader) for _ in range(20)]
    for line in lines:
        nursery.start_soon(line.serve)
    await wait_all_tasks_blocked()
    for line in lines:
        line.peer.send(one)
    with counted_by_turn(lambda: sum(len(line.taken) for line in lines)) as by_turn:
        await wait_all_tasks_blocked()
    assert sum(by_turn) == len(lines)
    assert max(by_turn) <= ROUND_BYTES // len(one) + 1


async def test_a_session_that_is_handed_over_is_not_read_and_goes_on_in_order(
    reader: Reader, nursery: trio.Nursery
) -> None:
    gate = trio.Event()
    line = Line(reader, gate.wait)
    nursery.start_soon(line.serve)
    line.peer.send(text("one") + text("two"))
    await wait_all_tasks_blocked()
    line.peer.send(text("three"))
    with trio.fail_after(5):
        await wait_all_tasks_blocked(0.01)  # the loop comes to rest, although the socket is readable
    assert line.taken == ["one"]
    gate.set()
    await wait_all_tasks_blocked()
    assert line.taken == ["one", "two", "three"]


async def test_a_descriptor_is_never_read_for_who_had_it_before(reader: Reader, nursery: trio.Nursery) -> None:
    with trio.CancelScope() as leaving:
        old = Line(reader)

        async def serve_until_left() -> None:
            with leaving:
                await old.serve()

        nursery.start_soon(serve_until_left)
        await wait_all_tasks_blocked()
    number = old.transport.descriptor
    leaving.cancel()
    await wait_all_tasks_blocked()
    assert old.transport.descriptor == -1
    new = Line(reader)
    while new.transport.descriptor != number:  # the peer's end may have got the number
        new = Line(reader)
    nursery.start_soon(new.serve)
    await wait_all_tasks_blocked()
    old.feed.close()  # again, which concerns nobody else
    new.peer.send(text("Hello"))
    await wait_all_tasks_blocked()
    assert (old.taken, new.taken) == ([], ["Hello"])
    with pytest.raises(TransportClosed):
        await old.transport.receive()


@pytest.mark.parametrize("goes", ["leaves", "half", "reset"])
async def test_the_end_of_a_connection_comes_after_what_was_sent_before_it(goes: str, reader: Reader) -> None:
    line = Line(reader)
    if goes == "reset":
        listener = socket.create_server(("127.0.0.1", 0))
        line.peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
        ours.setblocking(False)
        listener.close()
        line.transport = SocketTransport(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), b"", LIMITS)
        line.feed = reader.feed(line.transport, line.outbox, line.take, line.flush)
        line.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    else:
        line.peer.send(text("last words"))
    if goes == "half":
        line.peer.shutdown(socket.SHUT_WR)
    else:
        line.peer.close()
    with trio.fail_after(5), pytest.raises(TransportClosed):
        await line.serve()
    assert line.taken == ([] if goes == "reset" else ["last words"])
    line.peer.close()


async def test_a_violation_comes_after_what_was_sent_before_it(reader: Reader) -> None:
    line = Line(reader)
    line.peer.send(text("fine") + frame(frame_builder.TEXT, b"x", mask=None) + text("never seen"))
    with trio.fail_after(5), pytest.raises(FrameViolation):
        await line.serve()
    assert line.taken == ["fine"]


async def test_a_session_with_an_ending_is_read_no_more(reader: Reader, nursery: trio.Nursery) -> None:
    line = Line(reader)
    line.outbox.close(Ending(1012, "later"))
    line.peer.send(text("one"))
    with trio.fail_after(5):
        assert [*await line.feed.next()] == []
    line.peer.send(text("two"))
    await wait_all_tasks_blocked(0.01)
    assert line.taken == ["one"]


async def test_a_mistake_in_one_session_is_its_own(reader: Reader, nursery: trio.Nursery) -> None:
    class Mistake(Exception):
        pass

    def fail(batch: list[Payload]) -> Iterator[Wait]:
        raise Mistake

    good, bad = Line(reader), Line(reader)
    bad.feed = reader.feed(bad.transport, bad.outbox, fail, bad.flush)
    nursery.start_soon(good.serve)
    for line in (good, bad):
        line.peer.send(text("Hello"))
    with trio.fail_after(5), pytest.raises(Mistake):
        await bad.serve()
    await wait_all_tasks_blocked()
    assert good.taken == ["Hello"]


async def test_what_is_taken_knows_whose_session_it_is(reader: Reader) -> None:
    client: contextvars.ContextVar[str] = contextvars.ContextVar("client", default="nobody")
    seen: list[str] = []
    line = Line(reader)

    def note(batch: list[Payload]) -> Iterator[Wait]:
        seen.append(client.get())
        line.outbox.close(Ending(1012, "later"))
        return iter(())

    line.feed = reader.feed(line.transport, line.outbox, note, line.flush)
    client.set("alice")
    line.peer.send(text("Hello"))
    with trio.fail_after(5):
        await line.feed.next()
    assert seen == ["alice"]


async def test_a_ping_has_the_session_flushed(reader: Reader, nursery: trio.Nursery) -> None:
    line = Line(reader)
    nursery.start_soon(line.serve)
    line.peer.send(ping(b"?"))
    await wait_all_tasks_blocked()
    assert (line.taken, line.flushes) == ([], 1)


async def test_without_epoll_a_session_reads_for_itself(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.delattr(select, "epoll")
    reader = Reader()
    line = Line(reader)
    assert not isinstance(line.feed, PolledFeed)
    line.peer.send(text("Hello") + close(1000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        with pytest.raises(TransportClosed):
            await line.serve()
        nursery.cancel_scope.cancel()
    assert line.taken == ["Hello"]


# --- a server whose peers are at sockets -----------------------------------------------------------------------------


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


async def test_others_do_not_wait_for_a_flood(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("mallory", "alice", "bob", "carol", stream_pair=socket_stream_pair)
        await stage.actors["mallory"].send(text_to("carol", "flood") * 1_000)
        await stage.actors["alice"].send(text_to("bob", "Hello"))
        assert json.loads(await stage.next_text("bob"))["payload"]["text"] == "Hello"
        assert len(stage.actors["carol"].take_events()) < 500


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
    """What two clients are told, of whom one sends these bytes."""
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
def test_the_same_bytes_have_the_same_answers_whoever_reads_them(chunks: list[bytes]) -> None:
    by_the_reader = trio.run(transcript, socket_stream_pair, chunks, clock=MockClock())
    by_the_session = trio.run(transcript, memory_stream_pair, chunks, clock=MockClock())
    assert by_the_reader == by_the_session
