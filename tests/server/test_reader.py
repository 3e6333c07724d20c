"""Each session gets its own messages, in order: from the reader, in rounds, and without epoll from its own task."""

import contextvars
import importlib.util
import select
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import pytest
import trio
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ironwire.close_codes import CloseCode
from ironwire.delivery.outbox import Ending, Outbox
from ironwire.errors import FrameViolation, TransportClosed
from ironwire.limits import Limits
from ironwire.server.session.direct import SocketTransport
from ironwire.server.session.reader import Feed, Reader, Wait
from ironwire.server.session.scheduler import ROUND_BYTES, ROUND_SESSIONS
from ironwire.wire.frames import Payload, encode_pong
from tests.turns import counted_by_turn
from tests.wire import frame_builder
from tests.wire.frame_builder import frame, ping, text

LIMITS = Limits()
LINGER_NONE = struct.pack("ii", 1, 0)


@define(eq=False)
class Line:
    """A socket that a reader reads, what was taken from it, and the peer's end."""

    reader: Reader
    wait: Wait | None = None
    """Has to be awaited for each message, if it is given."""
    ends: tuple[socket.socket, socket.socket] = field(factory=socket.socketpair)
    taken: list[Payload] = field(init=False, factory=list)
    peer: socket.socket = field(init=False)
    stream: trio.SocketStream = field(init=False)
    transport: SocketTransport = field(init=False)
    outbox: Outbox = field(init=False)
    feed: Feed = field(init=False)

    def __attrs_post_init__(self) -> None:
        ours, self.peer = self.ends
        ours.setblocking(False)
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self.transport = SocketTransport(self.stream, b"", LIMITS)
        self.transport.authenticated()
        self.outbox = Outbox(most_frames=10, most_bytes=1000, ring=lambda: None)
        self.feed = self.reader.feed(self.transport, self.outbox, self.take, self.flush)

    def take(self, batch: list[Payload]) -> Iterator[Wait]:
        for message in batch:
            self.taken.append(message)
            if self.wait is not None:
                yield self.wait

    def flush(self) -> None:
        self.transport.write([])

    async def serve(self) -> None:
        try:
            while self.outbox.ending is None:
                for wait in await self.feed.next():
                    await wait()
        finally:
            self.feed.close()
            self.stream.socket.close()


MakeLine = Callable[..., Line]


@pytest.fixture(params=["epoll", "no epoll"])
async def reader(request: pytest.FixtureRequest, nursery: trio.Nursery) -> Reader:
    reader = make_reader(has_epoll=request.param == "epoll")
    nursery.start_soon(reader.run)
    return reader


def make_reader(*, has_epoll: bool) -> Reader:
    with pytest.MonkeyPatch.context() as platform:
        if not has_epoll:
            platform.delattr(select, "epoll")
        return Reader()


of_the_epoll = pytest.mark.parametrize("reader", ["epoll"], indirect=True)


@pytest.fixture
async def make_line(reader: Reader) -> AsyncIterator[MakeLine]:
    lines: list[Line] = []

    def make(wait: Wait | None = None) -> Line:
        lines.append(Line(reader, wait))
        return lines[-1]

    yield make
    for line in lines:
        line.feed.close()
        line.peer.close()
        await line.transport.abort()


@of_the_epoll
async def test_a_round_reads_so_many_sessions_and_the_others_in_the_next_ones(
    make_line: MakeLine, nursery: trio.Nursery
) -> None:
    count = 2 * ROUND_SESSIONS + 10
    lines = [make_line() for _ in range(count)]
    for line in lines:
        nursery.start_soon(line.serve)
    await wait_all_tasks_blocked()
    for line in lines:
        line.peer.send(text("Hello"))
    with counted_by_turn(lambda: sum(len(line.taken) for line in lines)) as by_turn:
        await wait_all_tasks_blocked()
    assert sorted(filter(None, by_turn)) == [10, ROUND_SESSIONS, ROUND_SESSIONS]


@of_the_epoll
async def test_a_round_ends_when_much_was_read(make_line: MakeLine, nursery: trio.Nursery) -> None:
    one = text("x" * 60_000)
    lines = [make_line() for _ in range(20)]
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
    make_line: MakeLine, nursery: trio.Nursery
) -> None:
    gate = trio.Event()
    line = make_line(gate.wait)
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


async def test_a_descriptor_is_never_read_for_who_had_it_before(make_line: MakeLine, nursery: trio.Nursery) -> None:
    old = make_line()
    number = old.transport.descriptor
    async with trio.open_nursery() as leaving:
        leaving.start_soon(old.serve)
        await wait_all_tasks_blocked()
        leaving.cancel_scope.cancel()
    assert old.transport.descriptor == -1
    new = make_line()
    assert new.transport.descriptor == number, "the kernel gives the lowest free number"
    nursery.start_soon(new.serve)
    await wait_all_tasks_blocked()
    old.feed.close()  # again, which concerns nobody else
    new.peer.send(text("Hello"))
    await wait_all_tasks_blocked()
    assert (old.taken, new.taken) == ([], ["Hello"])
    assert old.transport.receive_nowait(trio.current_time()) == (0, [])
    assert old.transport.is_over


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        return listener.accept()[0], peer


@pytest.mark.parametrize("goes", ["leaves", "half", "reset"])
async def test_the_end_of_a_connection_comes_after_what_was_sent_before_it(
    goes: str, reader: Reader, make_line: MakeLine
) -> None:
    line = make_line() if goes != "reset" else Line(reader, ends=tcp_pair())
    if goes == "reset":
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


async def test_a_violation_comes_after_what_was_sent_before_it(make_line: MakeLine) -> None:
    line = make_line()
    line.peer.send(text("fine") + frame(frame_builder.TEXT, b"x", mask=None) + text("never seen"))
    with trio.fail_after(5), pytest.raises(FrameViolation):
        await line.serve()
    assert line.taken == ["fine"]


async def test_a_session_with_an_ending_is_read_no_more(make_line: MakeLine) -> None:
    line = make_line()
    line.outbox.close(Ending(CloseCode.RESTART, "later"))
    line.peer.send(text("one"))
    with trio.fail_after(5):
        assert [*await line.feed.next()] == []
    line.peer.send(text("two"))
    await wait_all_tasks_blocked(0.01)
    assert line.taken == ["one"]


async def test_a_mistake_in_one_session_is_its_own(reader: Reader, make_line: MakeLine, nursery: trio.Nursery) -> None:
    class Mistake(Exception):
        pass

    def fail(batch: list[Payload]) -> Iterator[Wait]:
        raise Mistake

    good, bad = make_line(), make_line()
    bad.feed = reader.feed(bad.transport, bad.outbox, fail, bad.flush)
    nursery.start_soon(good.serve)
    for line in (good, bad):
        line.peer.send(text("Hello"))
    with trio.fail_after(5), pytest.raises(Mistake):
        await bad.serve()
    await wait_all_tasks_blocked()
    assert good.taken == ["Hello"]


async def test_what_is_taken_knows_whose_session_it_is(reader: Reader, make_line: MakeLine) -> None:
    client: contextvars.ContextVar[str] = contextvars.ContextVar("client", default="nobody")
    seen: list[str] = []
    line = make_line()

    def note(batch: list[Payload]) -> Iterator[Wait]:
        seen.append(client.get())
        line.outbox.close(Ending(CloseCode.RESTART, "later"))
        return iter(())

    line.feed = reader.feed(line.transport, line.outbox, note, line.flush)
    client.set("alice")
    line.peer.send(text("Hello"))
    with trio.fail_after(5):
        await line.feed.next()
    assert seen == ["alice"]


async def test_a_ping_is_answered_behind_what_came_with_it(make_line: MakeLine, nursery: trio.Nursery) -> None:
    line = make_line()
    nursery.start_soon(line.serve)
    line.peer.send(ping(b"?") + text("Hello"))
    await wait_all_tasks_blocked()
    assert line.taken == ["Hello"]
    assert line.peer.recv(100) == encode_pong(b"?")


def test_the_module_needs_no_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in vars(select) if "epoll" in name.lower()]:
        monkeypatch.delattr(select, name)
    spec = importlib.util.find_spec(Reader.__module__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module.Reader(), module.Reader)


async def end_with_a_ping(line: Line) -> None:
    await wait_all_tasks_blocked()
    line.outbox.close(Ending(CloseCode.RESTART, "later"))
    line.peer.send(ping(b"?") + text("Hello"))


@of_the_epoll
async def test_a_flush_that_cancels_the_session_leaves_the_reader_at_work(
    reader: Reader, make_line: MakeLine, nursery: trio.Nursery
) -> None:
    good, bad = make_line(), make_line()
    nursery.start_soon(good.serve)
    with trio.fail_after(5), trio.CancelScope() as ending:
        bad.feed = reader.feed(bad.transport, bad.outbox, bad.take, ending.cancel)  # as `Session.flush` ends a session
        nursery.start_soon(end_with_a_ping, bad)
        await bad.serve()
    assert ending.cancelled_caught
    good.peer.send(text("Hello"))
    await wait_all_tasks_blocked()
    assert good.taken == ["Hello"]


MESSAGES = 20


@define(eq=False)
class Player:
    """A line whose peer has a script to send, in pieces of any size; whatever is taken can be held back."""

    number: int
    reader: Reader
    scope: trio.CancelScope = field(init=False, factory=trio.CancelScope)
    gate: trio.Event = field(init=False, factory=trio.Event)
    line: Line = field(init=False)
    script: list[Payload] = field(init=False)
    rest: bytes = field(init=False)
    is_sending: bool = field(init=False, default=True)
    has_left: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.gate.set()
        self.line = Line(self.reader, self.pass_gate)
        self.script = [f"{self.number}: {'x' * (index * 7 % 300)} {index}" for index in range(MESSAGES)]
        self.rest = b"".join(map(text, map(str, self.script)))

    async def pass_gate(self) -> None:
        await self.gate.wait()

    async def serve(self) -> None:
        with self.scope, suppress(TransportClosed):
            await self.line.serve()
        self.has_left = True

    def sent(self) -> int:
        """How many messages are complete with what was sent."""
        left, complete = len(self.rest), MESSAGES
        while left > 0:
            complete -= 1
            left -= len(text(str(self.script[complete])))
        return complete

    def do(self, step: str, size: int) -> None:
        match step:
            case "send" if self.is_sending:
                self.line.peer.send(self.rest[:size])
                self.rest = self.rest[size:]
            case "hold" if self.gate.is_set():
                self.gate = trio.Event()
            case "release":
                self.gate.set()
            case "half" if self.is_sending:
                self.is_sending = False
                self.line.peer.shutdown(socket.SHUT_WR)
            case "leave":
                self.is_sending = False
                self.line.peer.close()
            case "cancel":
                self.is_sending = False
                self.scope.cancel()
            case _:
                pass

    def check(self, before: int) -> None:
        taken = len(self.line.taken)
        assert self.line.taken == self.script[:taken], "in order, each once, and of no other line"
        if self.scope.cancel_called:
            assert self.has_left
        elif self.gate.is_set():
            assert taken == self.sent()
            assert self.has_left == (not self.is_sending)
        else:
            assert taken <= before + 1, "one message may have been at the gate"


STEPS = st.tuples(
    st.sampled_from(["send"] * 6 + ["hold", "release", "half", "leave", "cancel", "open"]),
    st.integers(0, 3),
    st.integers(1, 700),
    st.booleans(),
)


async def play(has_epoll: bool, steps: list[tuple[str, int, int, bool]]) -> None:
    """Let four lines go through these steps; a line that is opened anew gets the descriptor of one that has left."""
    async with trio.open_nursery() as nursery:
        reader = make_reader(has_epoll=has_epoll)
        nursery.start_soon(reader.run)
        players = [Player(number, reader) for number in range(4)]
        everybody = [*players]
        for player in players:
            nursery.start_soon(player.serve)
        for step, which, size, settles in [*steps, *(("release", which, 1, True) for which in range(4))]:
            before = [len(player.line.taken) for player in players]
            if step == "open" and players[which].has_left:
                players[which] = Player(len(everybody), reader)
                everybody.append(players[which])
                nursery.start_soon(players[which].serve)
                before[which] = 0
            else:
                players[which].do(step, size)
            if settles:
                with trio.fail_after(5):
                    await wait_all_tasks_blocked()  # no socket keeps the loop awake
                for player, taken in zip(players, before, strict=True):
                    player.check(taken)
        nursery.cancel_scope.cancel()
    for player in everybody:
        player.line.peer.close()
        assert player.line.taken == player.script[: len(player.line.taken)]


@pytest.mark.parametrize("has_epoll", [True, False])
@given(steps=st.lists(STEPS, max_size=40))
def test_whatever_peers_do_each_session_gets_its_own_messages_in_order(
    has_epoll: bool, steps: list[tuple[str, int, int, bool]]
) -> None:
    trio.run(play, has_epoll, steps)
