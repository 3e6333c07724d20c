"""A plain upgrade goes to what the application offers, past Hypercorn's protocol; everything else goes as ever."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from attrs import define, field
from hypercorn.utils import wrap_app
from structlog.testing import capture_logs
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from ironwire.limits import Limits
from ironwire.server.listener.addresses import Address
from ironwire.server.listener.connection_limiter import ConnectionSlot
from ironwire.server.listener.guard import DirectSockets
from ironwire.server.listener.guarded_server import serve_connection
from ironwire.server.session.scheduler import Scheduler, Work
from tests.server.in_process import read_to_end, serve_in_process
from tests.server.raw_client import upgrade_request

LIMITS = Limits()

Serve = Callable[[trio.abc.Stream, bytes, Address | None, ConnectionSlot], Awaitable[None]]


async def echo_leftover(stream: trio.abc.Stream, leftover: bytes, server: Address | None, slot: ConnectionSlot) -> None:
    await stream.send_all(b"%r from %r" % (leftover, server))


@define
class Toy:
    """An application that offers direct sockets at `/ws`, and refuses every other upgrade with 403."""

    serve: Serve = echo_leftover
    asked: list[str] = field(factory=list)
    """The paths that came by ASGI."""
    direct_sockets: DirectSockets = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.direct_sockets = DirectSockets(b"/ws", self.serve)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                event = await receive()
                await send({"type": event["type"] + ".complete"})
        else:
            self.asked.append(scope["path"])
            await receive()
            await send({"type": "websocket.close"})


async def test_a_plain_upgrade_is_answered_and_handed_over(autojump_clock: MockClock) -> None:
    toy = Toy()
    async with serve_in_process(toy) as server:
        head, _, rest = (await server.request(upgrade_request() + b"early")).partition(b"\r\n\r\n")
        await wait_all_tasks_blocked()
        statistics = server.guard.statistics()
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    for line in (b"x-content-type-options: nosniff", b"referrer-policy: no-referrer", b"server: hypercorn-h11"):
        assert line in head.split(b"\r\n")
    assert rest == b"b'early' from ('127.0.0.1', 80)"
    assert toy.asked == []
    assert (statistics.connections_open, statistics.connections_total) == (0, 1)


@pytest.mark.parametrize("pieces", [(5,), (100, 150), (-1,)])
async def test_an_upgrade_in_pieces_goes_by_asgi(autojump_clock: MockClock, pieces: tuple[int, ...]) -> None:
    toy = Toy()
    async with serve_in_process(toy) as server, server.open_stream() as stream:
        starts = (0, *pieces)
        for start, stop in zip(starts, (*pieces, None), strict=True):
            await stream.send_all(upgrade_request()[start:stop])
            await wait_all_tasks_blocked()
        assert (await read_to_end(stream)).startswith(b"HTTP/1.1 403 ")
    assert toy.asked == ["/ws"]


@pytest.mark.parametrize("path", ["/elsewhere", "/ws?query"])
async def test_an_upgrade_that_is_not_plain_goes_by_asgi(autojump_clock: MockClock, path: str) -> None:
    toy = Toy()
    async with serve_in_process(toy) as server:
        assert (await server.request(upgrade_request(path))).startswith(b"HTTP/1.1 403 ")
    assert toy.asked == [path.partition("?")[0]]


async def test_what_stands_before_the_application_sees_every_upgrade(autojump_clock: MockClock) -> None:
    toy = Toy()

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        await toy(scope, receive, send)

    async with serve_in_process(middleware) as server:
        assert (await server.request(upgrade_request())).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("server_names", ["localhost"]),
        ("accesslog", logging.getLogger("tests.server.access")),
        ("statsd_host", "localhost:8125"),
    ],
)
async def test_what_only_hypercorn_does_is_still_done(autojump_clock: MockClock, setting: str, value: object) -> None:
    toy = Toy()
    async with serve_in_process(toy) as server:
        setattr(server.config, setting, value)
        await server.request(upgrade_request())
    assert toy.asked == ["/ws"]


@pytest.mark.parametrize("pieces", [[], [b"GET /ws HTTP/1.1\r\n"], [b"GET ", b"/ws ", b"HTTP/1.1"]])
async def test_the_whole_head_has_one_deadline(autojump_clock: MockClock, pieces: list[bytes]) -> None:
    async with serve_in_process(Toy()) as server, server.open_stream() as stream:
        start = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def trickle() -> None:
                for piece in pieces:
                    await trio.sleep(3)
                    await stream.send_all(piece)

            nursery.start_soon(trickle)
            assert await read_to_end(stream) == b""
        assert trio.current_time() - start == pytest.approx(LIMITS.header_seconds)


async def test_a_connection_that_has_said_nothing_is_hung_up_on_before_the_end(autojump_clock: MockClock) -> None:
    async with serve_in_process(Toy()) as server, server.open_stream() as stream:
        await wait_all_tasks_blocked()
        start = trio.current_time()
        server.guard.hang_up_idle()
        assert await read_to_end(stream) == b""
        assert trio.current_time() == start


async def test_an_error_in_a_direct_socket_ends_that_connection_alone(autojump_clock: MockClock) -> None:
    async def fail(stream: trio.abc.Stream, leftover: bytes, server: Address | None, slot: ConnectionSlot) -> None:
        raise KeyError("a mistake of ours")

    with capture_logs() as logs:
        async with serve_in_process(Toy(fail)) as server:
            for _ in range(2):
                assert (await server.request(upgrade_request())).startswith(b"HTTP/1.1 101 ")
            await wait_all_tasks_blocked()
            statistics = server.guard.statistics()
    assert (statistics.connections_open, statistics.exceptions_contained_total) == (0, 2)
    assert [entry["event"] for entry in logs] == ["connection failed"] * 2


@pytest.mark.parametrize(("is_late", "turns"), [(False, 0), (True, 1)])
async def test_only_a_request_that_comes_later_than_its_connection_waits_for_a_turn(
    is_late: bool, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[Work] = []
    slot = Scheduler.slot

    async def counted(scheduler: Scheduler, work: Work) -> None:
        waited.append(work)
        await slot(scheduler, work)

    monkeypatch.setattr(Scheduler, "slot", counted)
    toy = Toy()
    ends = trio.socket.socketpair()
    client, accepted = map(trio.SocketStream, ends)
    async with serve_in_process(toy) as server, client, accepted, trio.open_nursery() as nursery:
        serve = partial(
            serve_connection, server.guard, wrap_app(toy, 0, "asgi"), server.config, server.context, {}, accepted
        )
        if is_late:
            nursery.start_soon(serve)
            await wait_all_tasks_blocked()
            await client.send_all(upgrade_request())
        else:
            await client.send_all(upgrade_request())
            nursery.start_soon(serve)
        with trio.fail_after(5):
            assert (await client.receive_some()).startswith(b"HTTP/1.1 101 ")
    assert waited == [Work.UNAUTHENTICATED] * turns


async def test_a_peer_that_does_not_read_the_answer_is_cut(autojump_clock: MockClock) -> None:
    async with serve_in_process(Toy()) as server, server.open_stream(lockstep_stream_pair) as stream:
        await stream.send_all(upgrade_request())
        await trio.sleep(LIMITS.write_seconds + 1)
        statistics = server.guard.statistics()
    assert (statistics.connections_open, statistics.writes_cut_total) == (0, 1)
