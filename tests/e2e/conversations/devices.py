"""Devices with an engine each, on a stage with the server of this project: what tests of the engine play with."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Protocol

import trio
from attrs import define, field
from wsproto.events import Ping, TextMessage

from ironwire.crypto.signing import DeviceKey
from ironwire.e2e.bodies import AnyBody, TextBody
from ironwire.e2e.conversations import effects as fx
from ironwire.e2e.conversations import events as ev
from ironwire.e2e.conversations.engine import Engine
from ironwire.e2e.conversations.membership import DeviceMembership
from ironwire.e2e.conversations.state import Surroundings
from ironwire.e2e.conversations.wishes import Wish
from ironwire.ids import Address, ClientId, MessageId
from ironwire.protocol.devices.certificate import issue_certificate
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp, SignedEntry, sign_entry
from ironwire.wire.codec import ServerFrame, decode_server, encode
from ironwire.wire.messages import Ack, Answer, AuthOk, CaughtUp, ClientMessage, Error
from tests.e2e.conversations.disk import Disk, now_ms
from tests.playbook import Stage, identity_of, open_stage
from tests.server.test_device_log import AUTH, append_json, certified_auth, certified_verify
from tests.wire import frame_builder

SETTLE_SECONDS = 600.0
_PUSHES = {"mls_task", "mls_low", "mls_signal"}


def key_of(name: str) -> DeviceKey:
    """The key of the device with this name."""
    return DeviceKey.from_seed(name.encode().ljust(32, b"."))


class ConnectionBroken(Exception):
    """Raised by what spoils frames: the connection breaks instead of this one."""


class Fails(Protocol):
    def __call__(self, effects: fx.Effects, *, is_kept: bool) -> bool: ...


def _never(effects: fx.Effects, *, is_kept: bool) -> bool:
    return False


@define(eq=False)
class EngineDevice:
    """A device such as `alice.phone`. Its key is made from its name, and from how often it has lost its state."""

    name: str
    stage: Stage = field(repr=False)
    nursery: trio.Nursery = field(repr=False)
    logs: dict[str, DeviceLog] = field(repr=False)
    """Of every client, by the first part of the names."""
    life: int = 0
    disk: Disk = field(factory=Disk, repr=False)
    events: list[ev.EngineEvent] = field(factory=list, init=False, repr=False)
    reports: dict[MessageId, fx.Report] = field(factory=dict, init=False, repr=False)
    engine: Engine = field(init=False, repr=False)
    key: DeviceKey = field(init=False, repr=False)
    blobs: dict[str, bytes] = field(factory=dict, init=False, repr=False)
    spoil: Callable[[ServerFrame], ServerFrame | None] = field(default=lambda frame: frame, init=False)
    """What a hostile server makes of a frame on its way here."""
    doubles: set[str] = field(factory=set, init=False, repr=False)
    """What comes twice the next time: a request at the server, or a reply or delivery here."""
    fails: "Fails" = field(init=False)
    """Whether the program ends now, before or after these effects are on the disk."""
    is_up: bool = field(default=False, init=False)
    is_cut: bool = field(default=False, init=False)
    written: list[ClientMessage] = field(factory=list, init=False, repr=False)
    _asked: dict[str, int] = field(factory=dict, init=False)
    _answers: dict[str, trio.Event] = field(factory=dict, init=False)
    _answered: dict[str, Answer | Error] = field(factory=dict, init=False)
    _ids: "count[int]" = field(factory=count, init=False)
    _reading: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _poke: trio.Event = field(factory=trio.Event, init=False)
    _written: tuple[trio.MemorySendChannel[bytes], trio.MemoryReceiveChannel[bytes]] = field(init=False, repr=False)

    @key.default
    def _named(self) -> DeviceKey:
        return key_of(f"{self.name}{self.life or ''}")

    def __attrs_post_init__(self) -> None:
        self.fails = _never
        self.start_anew()

    @property
    def client(self) -> ClientId:
        return identity_of(self.name).client_id

    def start_anew(self) -> None:
        """The program begins: nothing is known but what is on the disk."""
        certificate = issue_certificate(identity_of(self.name), self.key.public_key).encode()
        around = Surroundings(now_ms, self._new_id, self._random)
        self.engine = Engine.new(self.key, certificate, self.client, around)
        disk = self.disk
        self.engine.restore(
            disk.memberships.values(),
            disk.packages.values(),
            disk.logs.values(),
            disk.missing.values(),
            disk.own.values(),
        )
        for id_, (to, body) in [*disk.outbox.items()]:
            self.do(self.engine.send(to, id_, body))

    def _new_id(self) -> MessageId:
        return MessageId(f"{self.name} {next(_ALL_IDS)}")

    def _random(self, size: int) -> bytes:
        return next(_ALL_IDS).to_bytes(8, "big").rjust(size, b".")[-size:]

    # --- sessions ----------------------------------------------------------------------------------------------------

    async def enter(self) -> None:
        """Begin a session; return when what waited has been processed."""
        await self.stage.connect(self.name)
        actor = self.stage.actors[self.name]
        who = identity_of(self.name)
        device = self.name.partition(".")[2]
        await actor.send(
            certified_auth(self.key, device, actor=self.name),
            certified_verify(self.key, device, client=who.public_key),
        )
        while not isinstance(welcome := decode_server(await self.stage.next_text(self.name)).message, AuthOk):
            if isinstance(welcome, Error):
                raise AssertionError(f"{self.name} was refused: {welcome}")
        self.is_up = True
        self._written = trio.open_memory_channel[bytes](float("inf"))
        is_new = welcome.epoch != self.disk.epoch
        if is_new:
            self.disk.epoch, self.disk.position = welcome.epoch or 0, 0
            self.disk.renewed_at = now_ms()
        log = self.logs[self.name.partition(".")[0]]
        self.do(self.engine.begin_session(log, self.disk.position, is_new_mailbox=is_new))
        caught_up = trio.Event()
        self._reading = trio.CancelScope()
        self.nursery.start_soon(self._live, self._reading, caught_up)
        await caught_up.wait()

    async def _live(self, scope: trio.CancelScope, caught_up: trio.Event) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tick)
                nursery.start_soon(self._write_all)
                while True:
                    event = await self.stage.actors[self.name].event()
                    if isinstance(event, Ping):
                        self._written[0].send_nowait(frame_builder.pong())
                        continue
                    if not isinstance(event, TextMessage):
                        break
                    try:
                        frame = self.spoil(decode_server(event.data))
                    except ConnectionBroken:
                        break
                    if frame is not None:
                        self.take(frame)
                        if isinstance(frame.message, CaughtUp):
                            caught_up.set()
                nursery.cancel_scope.cancel()
            self._lose_session()
            caught_up.set()
            await self.stage.actors[self.name].hang_up()

    def _lose_session(self) -> None:
        self.is_up = False
        self._asked.clear()
        self.do(self.engine.end_session())

    async def _tick(self) -> None:
        while True:
            self._poke = trio.Event()
            due_at = self.engine.due_at
            with trio.move_on_after(float("inf") if due_at is None else max(due_at - now_ms(), 1) / 1000):
                await self._poke.wait()
            due_at = self.engine.due_at
            if due_at is not None and due_at <= now_ms():
                self.do(self.engine.tick())

    def take(self, frame: ServerFrame) -> None:
        if frame.seq is None and frame.id in self._answers and isinstance(frame.message, Answer | Error):
            self._answered[frame.id] = frame.message
            self._answers.pop(frame.id).set()
        elif frame.seq is None and frame.id in self._asked:
            number = self._asked.pop(frame.id)
            if isinstance(frame.message, Answer | Error):
                for _ in range(self._times("reply")):
                    self.do(self.engine.answer(number, frame.message))
        elif frame.seq is not None or isinstance(frame.message, CaughtUp) or frame.message.verb in {*_PUSHES, "gap"}:
            for _ in range(self._times("delivery")):
                self.do(self.engine.take(frame))

    def _times(self, what: str) -> int:
        times = 2 if what in self.doubles else 1
        self.doubles.discard(what)
        return times

    async def leave(self) -> None:
        """The connection breaks."""
        if self.is_up:
            self._reading.cancel()
            await self.stage.actors[self.name].hang_up()
            self._lose_session()

    async def crash(self) -> None:
        """The program ends without a word, and begins again."""
        self.is_cut = True
        await self.leave()
        self._asked.clear()
        self.is_cut, self.fails = False, _never
        self.start_anew()

    # --- what follows ------------------------------------------------------------------------------------------------

    def do(self, effects: fx.Effects) -> None:
        """Carry out what follows from an input: first the disk, then the network, then the program."""
        self._poke.set()
        if self.is_cut or self.fails(effects, is_kept=False):
            self.is_cut = True
            return
        self.disk.apply(effects.writes)
        if self.fails(effects, is_kept=True):
            self.is_cut = True
            return
        passed = [write.seq for write in effects.writes if isinstance(write, fx.Passed)]
        if passed:
            self._write(Ack(passed[-1]), None)
        for request in effects.requests:
            self._ask(request)
        self.events += effects.events
        for report in effects.reports:
            self._take_report(report)

    def _take_report(self, report: fx.Report) -> None:
        id_ = report.wish if isinstance(report, fx.WishDone | fx.Sealed) else report.id
        self.reports[id_] = report
        _, body = self.disk.outbox.pop(id_, (None, None))
        if isinstance(report, fx.Sent) and not isinstance(report.reply, Error) and body is not None:
            self.disk.sent[id_] = fx.Recalled(id_, body, report.reply.ts)

    def _ask(self, request: fx.Request) -> None:
        match request.ask.question:
            case fx.FetchBlob(ref):
                self.do(self.engine.answer(request.number, self.blobs.get(ref.url)))
            case fx.StoreBlob():
                self.do(self.engine.answer(request.number, None))
            case fx.WasOpened(sender, device, id_):
                seen = [(each.sender, each.device, each.content.id) for each in self.disk.opened]
                self.do(self.engine.answer(request.number, (sender, device, id_) in seen))
            case fx.Recall(_, ids):
                found = [self.disk.sent[id_] for id_ in ids if id_ in self.disk.sent]
                self.do(self.engine.answer(request.number, found))
            case message:
                id_ = request.ask.id or self._new_id()
                self._asked[id_] = request.number
                self._write(message, id_)

    def _write(self, message: ClientMessage, id_: MessageId | None) -> None:
        if self.is_up:
            self.written.append(message)
            for _ in range(1 if id_ is None else self._times("request")):
                self._written[0].send_nowait(frame_builder.text(encode(message, id_).decode()))

    async def _write_all(self) -> None:
        async for data in self._written[1]:
            await self.stage.actors[self.name].send(data)

    # --- what a person does ------------------------------------------------------------------------------------------

    async def ask(self, message: ClientMessage) -> Answer | Error:
        """Ask the server something that is none of the engine's business."""
        id_ = self._new_id()
        self._answers[id_] = event = trio.Event()
        self._write(message, id_)
        await event.wait()
        return self._answered.pop(id_)

    def say(self, to: Address, text: str) -> MessageId:
        return self.send(to, TextBody(text))

    def send(self, to: Address, body: AnyBody) -> MessageId:
        id_ = MessageId(f"m{next(_ALL_IDS)} {self.name}")
        self.disk.outbox[id_] = (to, body)
        self.do(self.engine.send(to, id_, body))
        return id_

    def want(self, to: Address, wish: Wish) -> MessageId:
        id_ = self._new_id()
        self.do(self.engine.want(to, wish, id_))
        return id_

    # --- what is to be seen ------------------------------------------------------------------------------------------

    @property
    def texts(self) -> list[str]:
        return [each.content.body.text for each in self.disk.opened if isinstance(each.content.body, TextBody)]

    def member(self, to: Address) -> DeviceMembership:
        member = self.engine.member_of(to)
        assert member is not None, f"{self.name} knows nothing of {to}"
        return member

    def told(self, kind: type[ev.EngineEvent]) -> list[ev.EngineEvent]:
        return [event for event in self.events if isinstance(event, kind)]


_ALL_IDS = count(1)


@define(eq=False)
class EngineWorld:
    """A server, and devices by name."""

    stage: Stage
    nursery: trio.Nursery
    logs: dict[str, DeviceLog] = field(factory=dict, init=False)
    devices: dict[str, EngineDevice] = field(factory=dict, init=False)

    async def link(self, *names: str, life: int = 0) -> list[EngineDevice]:
        """Have these devices in the logs of their clients, without a session."""
        made = []
        for name in names:
            device = EngineDevice(name, self.stage, self.nursery, self.logs, life)
            await self.log(name, LogOp.ADD, device.key)
            self.devices[name] = device
            made.append(device)
        return made

    async def enter(self, *names: str) -> list[EngineDevice]:
        devices = await self.link(*names)
        for device in devices:
            await device.enter()
        await self.quiet()
        return devices

    async def log(self, name: str, op: LogOp, key: DeviceKey) -> SignedEntry:
        """Append to the device log of the client, by a session of its identity."""
        who = name.partition(".")[0]
        identity = identity_of(who)
        log = self.logs.get(who, DeviceLog(identity.public_key))
        entry = sign_entry(identity, log.next_entry(op, [key.public_key], time_ms=now_ms()))
        self.logs[who] = log.append(entry)
        await self.give_back(who, entry)
        return entry

    async def give_back(self, who: str, *entries: SignedEntry) -> None:
        """Have the server append entries of a client's log, if it does not have them."""
        clerk = f"{who}.clerk{next(_ALL_IDS)}"
        await self.stage.enter(clerk)
        for entry in entries:
            await self.stage.actors[clerk].send(frame_builder.text(append_json(entry)))
            while json.loads(await self.stage.next_text(clerk))["type"] != "accepted":
                pass
        await self.stage.actors[clerk].hang_up()

    async def until(self, condition: Callable[[], bool], seconds: float = SETTLE_SECONDS) -> None:
        """Let time pass until something is so."""
        pause = 0.05
        with trio.move_on_after(seconds):
            while not condition():
                await trio.sleep(pause)
                pause = min(2 * pause, 30.0)
        assert condition(), "it has not come so"

    async def quiet(self, seconds: float = 3.0) -> None:
        await trio.sleep(seconds)


@asynccontextmanager
async def open_world(**options: object) -> AsyncIterator[EngineWorld]:
    async with (
        open_stage(auth=AUTH, now_ms=now_ms, **options) as stage,  # type: ignore[arg-type]  # handed on
        trio.open_nursery() as nursery,
    ):
        yield EngineWorld(stage, nursery)
        nursery.cancel_scope.cancel()
