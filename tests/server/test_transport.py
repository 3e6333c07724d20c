"""The Transport contract, kept over streams in memory and over TLS."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trustme
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, memory_stream_pump, wait_all_tasks_blocked
from wsproto.events import Ping, Pong, TextMessage

from ironwire.errors import FrameViolation, TransportClosed
from ironwire.limits import Limits
from ironwire.server.session.direct import ODD_FRAMES, UNAUTHENTICATED_BYTES, DirectTransport
from ironwire.server.session.transport import Transport
from tests.server.in_process import send
from tests.server.raw_client import RawClient
from tests.wire.frame_builder import BINARY, CONTINUATION, PONG, TEXT, binary, close, fragments, frame, ping, text

LIMITS = Limits(frame_bytes=1024)

ServerSide = Callable[[Transport], Awaitable[None]]


@asynccontextmanager
async def talk(
    server_side: ServerSide, *, trailing: bytes = b"", tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
) -> AsyncIterator[RawClient]:
    """Run a server side on a transport, and yield the client that talks to it. `trailing` came with the upgrade."""
    near: trio.abc.Stream
    far: trio.abc.Stream
    near, far = memory_stream_pair()
    if tls is not None:
        near = trio.SSLStream(near, tls[0], server_side=True, https_compatible=True)
        far = trio.SSLStream(far, tls[1], server_hostname="localhost", https_compatible=True)

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await server_side(DirectTransport(near, trailing, LIMITS))
        finally:
            await trio.aclose_forcefully(near)

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            yield RawClient(far)
            nursery.cancel_scope.cancel()


class Recorder:
    """A server side that keeps what it receives, answers violations as a session does, and says how it ended."""

    def __init__(self) -> None:
        self.received: list[str | bytes] = []
        self.has_ended = trio.Event()

    async def __call__(self, transport: Transport) -> None:
        try:
            while True:
                self.received += await transport.receive()
        except FrameViolation as violation:
            with trio.move_on_after(LIMITS.close_seconds):
                await transport.close(violation.code, violation.reason)
        except TransportClosed:
            await transport.abort()
        finally:
            self.has_ended.set()


async def echo(transport: Transport) -> None:
    """Send every message back, binary as text."""
    try:
        while True:
            batch = await transport.receive()
            await send(transport, [item.encode() if isinstance(item, str) else item for item in batch])
    except TransportClosed:
        await transport.abort()


# --- the contract ----------------------------------------------------------------------------------------------------


async def test_messages_arrive_whole_and_in_order(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with talk(recorder) as client:
        await client.send(text("one"), binary(b"\x00two"), *fragments(TEXT, b"th", b"r", b"ee"), text(""), binary(b""))
        await client.send(*fragments(BINARY, b"", b"four"), close(1000))
        await recorder.has_ended.wait()
    assert recorder.received == ["one", b"\x00two", "three", "", b"", b"four"]


async def test_messages_arrive_however_the_bytes_are_cut(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with talk(recorder) as client:
        for byte in text("hé") + ping(b"x") + binary(b"yz") + close(1000):
            await client.send(bytes([byte]))
            await wait_all_tasks_blocked()
        await recorder.has_ended.wait()
    assert recorder.received == ["hé", b"yz"]


async def test_frames_in_the_packet_of_the_upgrade_are_received_first(autojump_clock: MockClock) -> None:
    async with talk(echo, trailing=text("early") + text("ear")[:3]) as client:
        await client.send(text("ear")[3:], text("late"))
        assert [await client.message() for _ in range(3)] == ["early", "ear", "late"]


async def test_a_batch_is_sent_as_one_text_message_each(autojump_clock: MockClock) -> None:
    async def server_side(transport: Transport) -> None:
        await send(transport, [b'{"n":1}', "é".encode(), b"", b"x" * 70_000])
        await transport.receive()

    async with talk(server_side) as client:
        assert [await client.message() for _ in range(4)] == ['{"n":1}', "é", "", "x" * 70_000]


async def test_a_ping_is_answered_with_its_data(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with talk(recorder) as client:
        await client.send(ping(b"are you there"))
        event = await client.event()
        assert isinstance(event, Pong)
        assert event.payload == b"are you there"


async def test_a_close_frame_is_answered_and_the_session_ends(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with talk(recorder) as client:
        await client.send(text("last words"), close(1001, "leaving"))
        assert (await client.closing())[0] == 1001
        assert await client.event() is None
        await recorder.has_ended.wait()
    assert recorder.received == ["last words"]


async def test_the_session_of_a_peer_that_vanished_ends(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with talk(recorder) as client:
        await client.send(text("last words"), text("half a frame")[:4])
        await client.stream.aclose()
        await recorder.has_ended.wait()
    assert recorder.received == ["last words"]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param([text("x" * 1025)], 1009, id="too many characters"),
        pytest.param([text("é" * 513)], 1009, id="too many bytes"),
        pytest.param([binary(b"x" * 1025)], 1009, id="too large binary"),
        pytest.param(fragments(TEXT, b"x" * 1000, b"x" * 25), 1009, id="too large in fragments"),
        pytest.param([frame(TEXT, b"x", mask=None)], 1002, id="not masked"),
        pytest.param([frame(TEXT, b"x", rsv=4)], 1002, id="compressed though nobody agreed"),
        pytest.param([frame(0x3, b"x")], 1002, id="reserved opcode"),
        pytest.param([frame(TEXT, b"\xff")], 1007, id="not UTF-8"),
    ],
)
async def test_a_violation_closes_with_its_code_after_what_came_before_it(
    autojump_clock: MockClock, frames: list[bytes], code: int
) -> None:
    recorder = Recorder()
    async with talk(recorder) as client:
        await client.send(text("fine"), *frames, text("never seen"))
        assert (await client.closing())[0] == code
        assert await client.event() is None
        await recorder.has_ended.wait()
    assert recorder.received == ["fine"]


async def test_a_message_of_exactly_the_limit_passes(autojump_clock: MockClock) -> None:
    async with talk(echo) as client:
        await client.send(text("é" * 512))
        assert await client.message() == "é" * 512


async def test_closing_gives_code_and_reason_and_then_the_end(autojump_clock: MockClock) -> None:
    async def server_side(transport: Transport) -> None:
        await transport.close(4409, "replaced")

    async with talk(server_side) as client:
        assert await client.closing() == (4409, "replaced")
        await client.send(close(4409))
        assert await client.event() is None
        await client.stream.aclose()


async def test_nothing_can_be_sent_after_closing(autojump_clock: MockClock) -> None:
    has_refused = trio.Event()

    async def server_side(transport: Transport) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.close, 1000, "")
            await wait_all_tasks_blocked()
            with pytest.raises(TransportClosed):
                await send(transport, [b"too late"])
            has_refused.set()

    async with talk(server_side) as client:
        assert await client.closing() == (1000, "")
        await has_refused.wait()
        await client.stream.aclose()


async def test_last_heard_is_the_time_of_the_last_message(autojump_clock: MockClock) -> None:
    heard: list[float] = []
    has_ended = trio.Event()

    async def server_side(transport: Transport) -> None:
        for _ in range(2):
            await transport.receive()
            heard.append(transport.last_heard)
        has_ended.set()

    async with talk(server_side) as client:
        start = trio.current_time()
        await trio.sleep(3)
        await client.send(text("one"))
        await trio.sleep(4)
        await client.send(text("two"))
        await has_ended.wait()
    assert heard == pytest.approx([start + 3, start + 7])


# --- over TLS --------------------------------------------------------------------------------------------------------


async def test_the_direct_transport_works_over_tls(autojump_clock: MockClock) -> None:
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_tls)
    client_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_tls)

    async def server_side(transport: Transport) -> None:
        await send(transport, [b"hello"])
        await echo(transport)

    async with talk(server_side, trailing=text("early"), tls=(server_tls, client_tls)) as client:
        assert [await client.message(), await client.message()] == ["hello", "early"]
        await client.send(text("x" * 1000), text("y"), close(1000))
        assert [await client.message(), await client.message()] == ["x" * 1000, "y"]
        assert await client.closing() == (1000, "")
        assert await client.event() is None


# --- what only the direct transport promises -------------------------------------------------------------------------


def direct_pair(pair: Callable[..., tuple[trio.abc.Stream, trio.abc.Stream]]) -> tuple[DirectTransport, RawClient]:
    server, client = pair()
    return DirectTransport(server, b"", LIMITS), RawClient(client)


async def test_one_read_yields_every_message_in_it() -> None:
    transport, client = direct_pair(memory_stream_pair)
    transport.authenticated()
    await client.send(*(text(str(n)) for n in range(500)))
    assert await transport.receive() == [str(n) for n in range(500)]


async def test_an_unauthenticated_peer_is_read_in_small_pieces() -> None:
    transport, client = direct_pair(memory_stream_pair)
    await client.send(*(text(str(n)) for n in range(500)))
    heard: list[object] = []
    while len(heard) < 500:
        messages = await transport.receive()
        assert len(messages) <= UNAUTHENTICATED_BYTES // 6
        heard += messages
    assert heard == [str(n) for n in range(500)]


async def test_one_batch_is_one_write() -> None:
    server, client = memory_stream_pair()
    writes = 0

    async def count_and_pump() -> None:
        nonlocal writes
        writes += 1
        memory_stream_pump(server.send_stream, client.receive_stream)

    server.send_stream.send_all_hook = count_and_pump
    await send(DirectTransport(server, b"", LIMITS), [b"x"] * 100)
    assert writes == 1
    assert len(await client.receive_some()) == 300


async def test_a_pong_never_cuts_into_a_message_and_only_the_newest_waits(autojump_clock: MockClock) -> None:
    transport, client = direct_pair(lockstep_stream_pair)
    received: list[str | bytes] = []

    async def read() -> None:
        while True:
            received.extend(await transport.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(send, transport, [b"x" * 5000, b"y" * 5000])
        await wait_all_tasks_blocked()
        for n in range(100):
            await client.send(ping(b"%d" % n))
        await client.send(text("the reader reads on"))
        await wait_all_tasks_blocked()
        assert received == ["the reader reads on"]
        events = [await client.event() for _ in range(3)]
        nursery.cancel_scope.cancel()
    assert events == [TextMessage("x" * 5000), TextMessage("y" * 5000), Pong(b"99")]


async def test_a_peer_that_pings_and_does_not_read_is_cut(autojump_clock: MockClock) -> None:
    transport, client = direct_pair(lockstep_stream_pair)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, ping(b"?"))
        with pytest.raises(TransportClosed):
            await transport.receive()
    assert trio.current_time() - start == pytest.approx(LIMITS.write_seconds)
    with pytest.raises(trio.BrokenResourceError):
        await client.send(text("the stream is closed"))


@pytest.mark.parametrize(
    "odd", [ping(b"?"), frame(PONG), frame(CONTINUATION, b"", fin=False)], ids=["pings", "pongs", "fragments"]
)
async def test_so_many_control_frames_and_fragments_may_come_and_no_more(odd: bytes, autojump_clock: MockClock) -> None:
    transport, client = direct_pair(memory_stream_pair)
    begin, end = frame(TEXT, b"", fin=False), frame(CONTINUATION, b"")
    await client.send(begin, odd * (int(ODD_FRAMES.burst) - 2), end)
    assert await transport.receive() == [""]
    await trio.sleep(1)
    await client.send(begin, odd * (int(ODD_FRAMES.per_second) - 2), end)
    assert await transport.receive() == [""]
    await client.send(ping())
    with pytest.raises(FrameViolation) as violation:
        await transport.receive()
    assert violation.value.code == 1013


async def test_ping_asks_the_peer_for_a_sign_of_life() -> None:
    transport, client = direct_pair(memory_stream_pair)
    await transport.ping()
    assert isinstance(await client.event(), Ping)


async def test_a_cancelled_write_leaves_nothing_more_to_send(autojump_clock: MockClock) -> None:
    transport, _client = direct_pair(lockstep_stream_pair)
    with trio.move_on_after(1):
        await send(transport, [b"x" * 5000])
    for attempt in (send(transport, [b"y"]), transport.ping()):
        with pytest.raises(TransportClosed):
            await attempt


async def test_a_cancelled_read_loses_nothing_and_breaks_nothing(autojump_clock: MockClock) -> None:
    transport, client = direct_pair(memory_stream_pair)
    await client.send(text("late")[:3])
    with trio.move_on_after(1):
        await transport.receive()
    await client.send(text("late")[3:])
    assert await transport.receive() == ["late"]


async def test_close_waits_until_the_peer_hangs_up(autojump_clock: MockClock) -> None:
    transport, client = direct_pair(memory_stream_pair)

    async def leave_slowly() -> None:
        assert await client.closing() == (1012, "restart")
        await client.send(text("still talking"), close(1012))
        await trio.sleep(1.5)
        await client.stream.aclose()

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave_slowly)
        await transport.close(1012, "restart")
        assert trio.current_time() - start == pytest.approx(1.5)


async def test_close_does_not_read_for_ever(autojump_clock: MockClock) -> None:
    transport, client = direct_pair(memory_stream_pair)
    await client.stream.send_all(bytes(3 * 1024 * 1024))
    with trio.fail_after(1):
        await transport.close(1009, "too big")
    assert await client.closing() == (1009, "too big")


async def test_the_caller_bounds_the_time_of_closing(autojump_clock: MockClock) -> None:
    transport, client = direct_pair(memory_stream_pair)
    with trio.move_on_after(2) as closing:
        await transport.close(1012, "restart")
    assert closing.cancelled_caught
    assert await client.closing() == (1012, "restart")
    with pytest.raises(trio.BrokenResourceError):
        await client.send(text("the stream is closed all the same"))


async def test_abort_ends_what_is_under_way() -> None:
    transport, client = direct_pair(memory_stream_pair)
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(TransportClosed):
                await transport.receive()

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await transport.abort()
    assert await client.event() is None


async def test_no_second_close_frame_after_the_peer_closed() -> None:
    transport, client = direct_pair(memory_stream_pair)
    await client.send(close(1000, "bye"))
    with pytest.raises(TransportClosed):
        await transport.receive()
    await client.stream.send_eof()  # type: ignore[attr-defined]  # a memory stream can
    await transport.close(1011, "never said")
    assert await client.closing() == (1000, "")
    assert await client.event() is None
