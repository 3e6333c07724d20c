"""Devices, the real server and everything that can go wrong between them: nothing lost, nothing twice, in order.

Alice's desk writes to Bob's phone, or to a group that he is in, and both keep a real file. A history is a list of
steps: texts, cuts, crashes of either program at any of its awaits, restarts of the server from its store. In the end
everything runs undisturbed until it is quiet, and what Bob's program was handed is held against what Alice's device
knows to have sent.
"""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from attrs import define, field
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from ironwire.client import (
    Backoff,
    CaughtUp,
    Client,
    ConnectionFailed,
    ConnectionLost,
    DeliveredText,
    HistoryEntry,
    Identity,
    LocalStore,
    Owner,
    Received,
    ServerAddress,
    StoreKey,
    connect,
    open_device,
    open_device_keys,
    read_history,
)
from ironwire.client.store.device_keys import DeviceKeys
from ironwire.client.store.store import in_thread
from ironwire.ids import Address, DeviceId, MessageId
from ironwire.limits import Limits
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, Settings
from ironwire.store.contract.operations import Append, ToClient
from ironwire.store.contract.records import Envelope, Quota
from ironwire.store.contract.store import Store
from ironwire.store.memory.store import MemoryStore
from ironwire.store.sqlite.store import SqliteStore
from ironwire.wire.codec import encode_payload
from ironwire.wire.messages import Text
from tests.server.in_process import InProcessServer, serve_in_process

T = TypeVar("T")

ADDRESS = ServerAddress.parse("http://chat.test")
ALICE = Identity.from_seed(b"a" * 32)
BOB = Identity.from_seed(b"b" * 32)
DESK = Owner(ALICE.client_id, DeviceId("desk"), ADDRESS.origin)
PHONE = Owner(BOB.client_id, DeviceId("phone"), ADDRESS.origin)
QUOTA = Quota(mailbox_envelopes=100_000, mailbox_bytes=2**30, devices_per_client=16)
REFUSING = Limits(messages_per_second=4, messages_at_once=6)
"""Writers hit the rate all the time."""
QUIET_SECONDS = 300
DISK_TURNS = 12
"""Turns of the event loop that one access to the disk takes."""


async def slow_disk(work: Callable[[], T], /) -> T:
    """A disk for a clock that knows no threads. It takes its time, in which others act, and crashes come."""
    for _ in range(DISK_TURNS):
        await trio.lowlevel.checkpoint()
    result = work()
    await trio.lowlevel.cancel_shielded_checkpoint()
    return result


@define(eq=False)
class World:
    """The server, which can be down, and how to reach it."""

    folder: Path
    store: Store
    limits: Limits = field(factory=Limits)
    is_encrypted: bool = False
    """Whether the devices have keys."""
    has_started: trio.Event = field(factory=trio.Event)
    _server: InProcessServer | None = None
    _stopping: trio.Event = field(factory=trio.Event)

    async def run_server(self) -> None:
        """Serve, and start anew from the store whenever the server is stopped."""
        while True:
            config = Settings(
                data=self.folder / "data",
                auth=AuthSettings(origins=(ADDRESS.origin,), require_origin=True),
                limits=self.limits,
            )
            self._stopping = trio.Event()
            _let_time_pass(False)  # the server starts with threads
            async with serve_in_process(create_app(config, open_store=lambda _: self.store)) as server:
                _let_time_pass(True)
                self._server = server
                self.has_started.set()
                await self._stopping.wait()
                self._server = None
            await trio.sleep(1)

    def restart_server(self) -> None:
        self._stopping.set()

    async def dial(self, _: ServerAddress) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self._server is None:
            raise ConnectionFailed("the server is down")
        stream: trio.abc.Stream = self._server.open_stream()
        return stream


def _let_time_pass(is_passing: bool) -> None:
    clock = trio.lowlevel.current_clock()
    if isinstance(clock, MockClock):
        clock.autojump_threshold = 0 if is_passing else inf


@define(eq=False)
class Program:
    """Something that uses a device, and is started again whenever it crashed."""

    identity: Identity
    owner: Owner
    world: World
    stream: trio.abc.Stream | None = None
    client: Client | None = None
    _life: trio.CancelScope = field(factory=trio.CancelScope)

    @property
    def path(self) -> Path:
        return self.world.folder / f"{self.owner.device}.db"

    async def run(self) -> None:
        while True:
            self._life = trio.CancelScope()
            with self._life:
                try:
                    async with self.connected() as client:
                        self.client = client
                        await self.use(client)
                except (ConnectionFailed, ConnectionLost):
                    await trio.sleep(1)

    async def use(self, client: Client) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        store = LocalStore(self.path, slow_disk)
        backoff = Backoff(uniform=lambda _, most: most / 2)
        async with connect(
            ADDRESS,
            self.identity,
            device=self.owner.device,
            store=store,
            backoff=backoff,
            dial=self._dial,
            keys=self.keys(),
        ) as client:
            yield client

    def keys(self) -> DeviceKeys | None:
        """Those of the device, read anew, in a folder of its own."""
        folder = self.world.folder / f"{self.owner.device}-keys"
        folder.mkdir(exist_ok=True)
        path = folder / "identity.key"
        return open_device_keys(path, self.identity, self.owner.device) if self.world.is_encrypted else None

    def crash(self) -> None:
        self._life.cancel()

    async def cut(self) -> None:
        if self.stream is not None:
            await trio.aclose_forcefully(self.stream)

    async def _dial(self, address: ServerAddress) -> trio.abc.Stream:
        self.stream = await self.world.dial(address)
        return self.stream


@define(eq=False)
class Writer(Program):
    """Sends `texts`, each once; what became of those under way in a crash is for its device to settle."""

    to: Address = BOB.client_id
    texts: list[str] = field(factory=list)
    accepted: list[str] = field(factory=list)
    _ready: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    def write(self, texts: list[str]) -> None:
        self.texts += texts
        self._ready.unpark_all()

    async def use(self, client: Client) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                for text in self.texts:
                    nursery.start_soon(self._send, client, text)
                    # The tasks of one nursery begin in no order.
                    await trio.lowlevel.checkpoint()
                self.texts = []
                await self._ready.park()

    async def _send(self, client: Client, text: str) -> None:
        await client.send_text(self.to, text)
        self.accepted.append(text)


@define(eq=False)
class QueueingWriter(Writer):
    """Queues its texts, with a session or without. `accepted` are those that were kept when the call returned."""

    async def use(self, client: Client) -> None:
        while True:
            batch, self.texts = self.texts, []
            await client.queue(*(Text(self.to, text) for text in batch))
            self.accepted += batch
            if not self.texts:
                await self._ready.park()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        store = LocalStore(self.path, slow_disk)
        backoff = Backoff(uniform=lambda _, most: most / 2)
        async with open_device(
            ADDRESS,
            self.identity,
            self.owner.device,
            store=store,
            backoff=backoff,
            dial=self._dial,
            keys=self.keys(),
        ) as client:
            yield client


@define(eq=False)
class Reader(Program):
    """Writes down what it is handed. After a crash the last line may be handed out again, once: it was not finished."""

    lines: list[str] = field(factory=list)
    _may_repeat: bool = False
    has_been_there: trio.Event = field(factory=trio.Event)

    async def use(self, client: Client) -> None:
        self.has_been_there.set()
        self._may_repeat = True
        async for event in client:
            if isinstance(event, Received) and isinstance(event.message, DeliveredText):
                text = event.message.text
                if not (self._may_repeat and self.lines[-1:] == [text]):
                    self.lines.append(text)
                self._may_repeat = False


steps = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["cut phone", "cut desk", "crash phone", "crash desk", "restart"]), st.integers(0, 60)),
    st.tuples(st.just("wait"), st.integers(1, 40)),
)


EVENTFUL = [
    *(("write", 4), ("crash desk", 3), ("write", 4), ("crash phone", 9)),
    *(("restart", 2), ("write", 2), ("cut phone", 7)),
]


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=20), st.booleans(), st.sampled_from([Writer, QueueingWriter]), st.booleans())
@example(EVENTFUL, False, Writer, False)
@example(EVENTFUL, True, Writer, False)
@example(EVENTFUL, False, QueueingWriter, False)
@example([*EVENTFUL, *EVENTFUL], False, QueueingWriter, True)
def test_nothing_is_lost_and_nothing_comes_twice(
    history: list[tuple[str, int]], in_group: bool, writer: type[Writer], is_refused: bool
) -> None:
    limits = REFUSING if is_refused else Limits()
    with tempfile.TemporaryDirectory() as folder:
        trio.run(play, Path(folder), history, in_group, writer, limits, clock=MockClock())


async def play(
    folder: Path,
    history: list[tuple[str, int]],
    in_group: bool = False,
    writer: type[Writer] = Writer,
    limits: Limits | None = None,
) -> None:
    world = World(folder, MemoryStore(QUOTA), limits or Limits())
    alice, bob = writer(ALICE, DESK, world), Reader(BOB, PHONE, world)
    written = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run_server)
        nursery.start_soon(alice.run)
        nursery.start_soon(bob.run)
        await bob.has_been_there.wait()
        if in_group:
            async with connect(ADDRESS, ALICE, dial=world.dial) as client:
                alice.to = await client.groups.create([BOB.client_id])
        for what, count in history:
            if what == "write":
                alice.write([str(number) for number in range(written, written + count)])
                written += count
            elif what == "wait":
                await trio.sleep(count)
            else:
                # Somewhere in the middle of whatever goes on.
                for _ in range(count):
                    await trio.lowlevel.checkpoint()
                await disturb(what, world, alice, bob)
        await trio.sleep(QUIET_SECONDS)
        nursery.cancel_scope.cancel()

    sent = [*_texts(read_history(alice.path, DESK, StoreKey.of(ALICE), alice.to, 1_000))]
    texts = [text for text, _ in sent]
    assert {state for _, state in sent} <= {"accepted"}
    assert set(alice.accepted) <= set(texts)
    assert bob.lines == texts
    got = read_history(bob.path, PHONE, StoreKey.of(BOB), alice.to if in_group else ALICE.client_id, 1_000)
    assert [text for text, _ in _texts(got)] == texts
    (box,) = await world.store.mailboxes_of(BOB.client_id)
    assert box.waiting == 0
    assert box.tail == len(texts) + in_group, "a device hides what comes twice, so it is counted where it is delivered"


def _texts(entries: list[HistoryEntry]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        if isinstance(entry.message, DeliveredText):
            yield entry.message.text, entry.state


async def disturb(what: str, world: World, alice: Writer, bob: Reader) -> None:
    match what:
        case "cut phone":
            await bob.cut()
        case "cut desk":
            await alice.cut()
        case "crash phone":
            bob.crash()
        case "crash desk":
            alice.crash()
        case _:
            world.restart_server()


async def test_ten_thousand_wait_and_come_through_three_cuts(tmp_path: Path) -> None:
    """With the real clock, the real disk and its thread."""
    count = 10_000
    cuts = {2_000, 5_000, 8_000}
    world = World(tmp_path, SqliteStore(tmp_path / "server.db", QUOTA))
    phone = Program(BOB, PHONE, world)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run_server)
            await world.has_started.wait()
            async with phone.connected():
                pass
            await world.store.apply([append(number) for number in range(count)])
            lines: list[str] = []
            store = LocalStore(phone.path, in_thread)
            backoff = Backoff(base_seconds=0.01)
            async with connect(
                ADDRESS, BOB, device=PHONE.device, store=store, backoff=backoff, dial=phone._dial
            ) as client:
                async for event in client:
                    if isinstance(event, Received) and isinstance(event.message, DeliveredText):
                        lines.append(event.message.text)
                        if len(lines) in cuts:
                            await phone.cut()
                    elif isinstance(event, Received) and isinstance(event.message, CaughtUp):
                        break
            nursery.cancel_scope.cancel()
    assert lines == [str(number) for number in range(count)]


def append(number: int) -> Append:
    text = DeliveredText(ALICE.client_id, str(number), ts=number)
    payload = encode_payload(text)
    envelope = Envelope("text", ALICE.client_id, None, BOB.client_id, MessageId(str(number)), number, payload)
    return Append(envelope, b"", ToClient(BOB.client_id))


def test_the_oracle_notices() -> None:
    """What `play` asserts can fail: a reader that forgets is found out."""

    async def forgetful(self: Reader, client: Client) -> None:
        self.has_been_there.set()
        await anext(client)
        async for event in client:
            if isinstance(event, Received) and isinstance(event.message, DeliveredText):
                self.lines.append(event.message.text * 2)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "use", forgetful)
        with pytest.raises(AssertionError):
            trio.run(play, Path(folder), [("write", 2)], clock=MockClock())
