"""A group and its crowd: many clients with two devices each, who talk, join, are removed, vanish and come back, while
the server dies now and then.

    tally = stage_crowd(Plan(clients=100), seed=1, kind="sqlite")

The judge is as simple as can be. It reads what the store has committed, in order, keeps a set of members, and writes
down what every device must have got by then: each message and each change once, in that one order, from the change that
made its client a member to the change that ended it. All chance comes from the seed.
"""

import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import product, zip_longest
from random import Random
from typing import Any

import structlog
import trio
from attrs import define, field, frozen
from trio.testing import MockClock
from wsproto.events import CloseConnection, Ping, TextMessage

from fuzz.failure import first_leaf
from ironwire.ids import ClientId, DeviceId, MessageId, is_group
from ironwire.limits import Limits
from ironwire.store.contract.operations import (
    Append,
    Appended,
    ChangeGroup,
    Operation,
    Register,
    Result,
)
from ironwire.store.contract.records import Quota
from ironwire.store.contract.store import Store
from tests.playbook import NOW_MS, auth_frame, identity_of, open_stage, verify_frame
from tests.server.in_process import InProcessServer
from tests.server.raw_client import RawClient
from tests.simulation.stores import KINDS, Kind, stores
from tests.simulation.trace import seeded_scheduler
from tests.wire import frame_builder

DEVICES = [DeviceId("phone"), DeviceId("laptop")]
LIMITS = Limits(window_envelopes=8, group_members=150)
FOUNDER = 0
"""Who makes the group and is never removed: somebody has to let the others in again."""
GOING = 1012
"""The close code of a server that is told to stop."""
ANSWER_SECONDS = 3_600
"""Virtual time in which everyone must have caught up at the end."""


class Violation(AssertionError):
    """The server broke a promise."""


@frozen
class Plan:
    clients: int
    servers: int = 3
    """How often the server is started; all but the last one die at some moment."""
    server_seconds: float = 60
    """How long each lives, in virtual time."""
    pause_seconds: float = 20
    """How long a device is silent between two things that it asks for, about."""


@define
class Tally:
    messages: int = 0
    changes: int = 0
    deliveries: int = 0
    """What devices kept; what came again after a reconnect is not counted."""
    redeliveries: int = 0
    connections: int = 0
    refusals: Counter[str] = field(factory=Counter)


def stage_crowd(plan: Plan, seed: int, kind: Kind) -> Tally:
    """Raises:
    Violation: a device got something else than what was committed for it, or an answer was wrong.
    """
    with seeded_scheduler(seed):
        try:
            return trio.run(_Crowd(plan, Random(seed), kind).run, clock=MockClock(autojump_threshold=0))
        except ExceptionGroup as group:
            raise first_leaf(group) from group


@define
class _Recorder:
    """Has a store take its time, and writes down what it has committed."""

    _chance: Random
    log: list[Append | ChangeGroup] = field(factory=list)

    def record(self, store: Store) -> Store:
        apply = store.apply

        async def recorded(batch: Sequence[Operation]) -> list[Result]:
            await trio.sleep(self._chance.random() * 0.05)
            results = await apply(batch)
            self.log += [
                operation
                for operation, result in zip(batch, results, strict=True)
                if isinstance(operation, (Append, ChangeGroup)) and isinstance(result, Appended)
            ]
            await trio.sleep(self._chance.random() * 0.05)
            return results

        setattr(store, "apply", recorded)  # noqa: B010  # a type checker would not have it assigned
        return store


@define(eq=False)
class _Device:
    """One installation, with what it keeps over its connections."""

    number: int
    device: DeviceId
    crowd: "_Crowd"
    chance: Random
    kept: list[dict[str, Any]] = field(factory=list)
    """Every entry of its mailbox, in order."""
    asked: dict[str, dict[str, Any]] = field(factory=dict)
    """Requests that have no answer yet, by id. They are made again after every connect."""
    answers: dict[str, tuple[str, str]] = field(factory=dict)
    """By id: the verb of the request, and that of its answer."""
    _requests: int = 0
    _delivered: int = 0
    """The last entry that came on this connection."""

    @property
    def client(self) -> ClientId:
        return _client_id(self.number)

    async def live(self, server: InProcessServer) -> None:
        """Come and go until cancelled."""
        while True:
            connection = RawClient(server.open_stream())
            self.crowd.tally.connections += 1
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
                await self._visit(connection)
            await trio.aclose_forcefully(connection.stream)
            await trio.sleep(self.chance.expovariate(1 / 5))

    async def _visit(self, connection: RawClient) -> None:
        await connection.upgrade()
        name, self._delivered = _name(self.number), 0
        await connection.send(auth_frame(name, device=self.device))
        challenge = json.loads(await connection.message())["challenge"]
        await connection.send(verify_frame(name, bytes.fromhex(challenge)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._talk, connection, nursery.cancel_scope)
            await self._listen(connection)
            nursery.cancel_scope.cancel()

    async def _listen(self, connection: RawClient) -> None:
        """Keep what comes, until the end of the connection or of this device's error_budget."""
        while (event := await connection.event()) is not None:
            match event:
                case TextMessage(data=text):
                    await self._take(connection, json.loads(text))
                case Ping():
                    await connection.send(frame_builder.pong())
                case CloseConnection(code=code):
                    if code != GOING:
                        raise Violation(f"{self} was closed with {code}")
                case other:
                    raise Violation(f"{self} got {other}")
            if not self.crowd.is_closing and self.chance.random() < 0.005:
                return

    async def _take(self, connection: RawClient, frame: dict[str, Any]) -> None:
        if "seq" in frame:
            self._keep(frame)
            if self.crowd.is_closing or self.chance.random() < 0.4:
                await self._ack(connection)
        elif frame["type"] in ("accepted", "error"):
            self._settle(frame)
        elif frame["type"] not in ("auth_ok", "caught_up"):
            raise Violation(f"{self} got {frame}")

    async def _ack(self, connection: RawClient) -> None:
        ack = {"type": "ack", "payload": {"upto": self._delivered}}
        await connection.send(frame_builder.text(json.dumps(ack)))

    def _keep(self, frame: dict[str, Any]) -> None:
        self._delivered = seq = frame["seq"]
        if seq > len(self.kept) + 1:
            raise Violation(f"{self} has {len(self.kept)} entries, and the next was {frame}")
        if seq <= len(self.kept):
            self.crowd.tally.redeliveries += 1
            if self.kept[seq - 1] != frame:
                raise Violation(f"{self} got {frame} where {self.kept[seq - 1]} had been")
            return
        self.kept.append(frame)
        if frame["type"] == "group_changed":
            self.crowd.group = frame["payload"]["group"]

    def _settle(self, frame: dict[str, Any]) -> None:
        request = self.asked.pop(frame.get("id", ""), None)
        if request is None:
            raise Violation(f"{self} has asked for nothing that {frame} could answer")
        self.answers[request["id"]] = (request["type"], frame["type"])
        if frame["type"] == "error":
            self.crowd.tally.refusals[frame["payload"]["msg"]] += 1

    async def _talk(self, connection: RawClient, scope: trio.CancelScope) -> None:
        await self._send(connection, list(self.asked.values()))
        while True:
            await trio.sleep(self.chance.expovariate(1 / self.crowd.plan.pause_seconds))
            await self._ack(connection)
            if self.crowd.is_closing or self.asked:
                continue
            requests = [self._request() for _ in range(self.chance.randint(1, 3))]
            self.asked |= {request["id"]: request for request in requests}
            await self._send(connection, requests)
            if self.chance.random() < 0.1:
                scope.cancel()

    async def _send(self, connection: RawClient, requests: list[dict[str, Any]]) -> None:
        await connection.send(*(frame_builder.text(json.dumps(request)) for request in requests))

    def _request(self) -> dict[str, Any]:
        """Something that one may ask for: mostly to write to the group, now and then to change it."""
        self._requests += 1
        verb, payload = self._wish(self.crowd.group)
        return {"type": verb, "id": str(self._requests), "payload": payload}

    def _wish(self, group: str | None) -> tuple[str, dict[str, Any]]:
        clients = self.crowd.plan.clients
        if self.number == FOUNDER and self.device == DEVICES[0] and self._requests == 1:
            return "group_create", {"clients": [_client_id(number) for number in range(clients) if number % 4]}
        one, other, third = (_client_id(self.chance.randint(1, clients - 1)) for _ in range(3))
        if group is None:
            return "text", {"to": one, "text": "Is there a group?"}
        epochs = [frame["payload"]["epoch"] for frame in self.kept[-20:] if frame["type"] == "group_changed"]
        change = {"group": group} | ({"if_epoch": epochs[-1]} if epochs and self._requests % 3 == 0 else {})
        role = self.chance.choice(["admin", "admin", "member"])
        wishes = {
            65: ("text", {"to": group, "text": f"{self._requests} from {self}"}),
            5: ("text", {"to": one, "text": "between us"}),
            16: ("group_add", change | {"clients": [one, other, third]}),
            4: ("group_remove", change | {"clients": [one, other]}),
            8: ("group_role", change | {"client": one, "role": role}),
            2: ("group_leave", change) if self.number != FOUNDER else ("group_rename", change | {"name": "club"}),
        }
        return self.chance.choices(list(wishes.values()), weights=list(wishes))[0]

    def __str__(self) -> str:
        return f"{_name(self.number)}.{self.device}"


@define(eq=False)
class _Crowd:
    plan: Plan
    _chance: Random
    _kind: Kind
    tally: Tally = field(factory=Tally)
    devices: list[_Device] = field(factory=list)
    group: str | None = None
    """As soon as anybody was told of it."""
    is_closing: bool = False
    """Nobody asks for anything new; everyone catches up."""

    async def run(self) -> Tally:
        trio._core._run._r.seed(self._chance.random())
        recorder = _Recorder(self._fork())
        with stores(self._kind, self._fork()) as open_store:
            await self._live(recorder.record(open_store(Quota.of(LIMITS))))
        self._judge(recorder.log)
        return self.tally

    async def _live(self, store: Store) -> None:
        self.devices = [
            _Device(number, device, self, self._fork()) for number in range(self.plan.clients) for device in DEVICES
        ]
        await store.open()
        # Whoever comes for the first time has missed what came before, and nobody shall.
        await store.apply([Register(device.client, device.device, NOW_MS) for device in self.devices])
        await store.close()
        for life in range(self.plan.servers):
            async with (
                open_stage(limits=LIMITS, random_bytes=self._chance.randbytes, open_store=lambda _: store) as stage,
                trio.open_nursery() as nursery,
            ):
                for device in self.devices:
                    nursery.start_soon(device.live, stage.server)
                await trio.sleep(self.plan.server_seconds)
                if life == self.plan.servers - 1:
                    self.is_closing = True
                    with trio.fail_after(ANSWER_SECONDS):
                        while not all([await self._is_up_to_date(device, store) for device in self.devices]):  # noqa: ASYNC110  # what changes is everywhere
                            await trio.sleep(1)
                nursery.cancel_scope.cancel()

    def _fork(self) -> Random:
        return Random(self._chance.random())

    async def _is_up_to_date(self, device: _Device, store: Store) -> bool:
        (box,) = [box for box in await store.mailboxes_of(device.client) if box.device == device.device]
        return not device.asked and len(device.kept) == box.tail

    # --- the judge ---------------------------------------------------------------------------------------------------

    def _judge(self, log: list[Append | ChangeGroup]) -> None:
        owed = self._what_is_owed(log)
        committed = Counter((entry.envelope.sender, entry.envelope.device, entry.envelope.id) for entry in log)
        for device in self.devices:
            for index, (due, frame) in enumerate(zip_longest(owed[device], device.kept)):
                if due != _essence(frame):
                    raise Violation(f"entry {index + 1} of {device} is {frame} and should be {due}")
            for message_id, (verb, answer) in device.answers.items():
                times = committed[device.client, device.device, MessageId(message_id)]
                may_be = {"error": [0], "accepted": [1] if verb == "text" else [0, 1]}[answer]
                if times not in may_be:
                    raise Violation(f"{verb} {message_id} of {device} was answered by {answer}, and done {times} times")
            self.tally.deliveries += len(device.kept)

    def _what_is_owed(self, log: list[Append | ChangeGroup]) -> dict[_Device, list[dict[str, Any]]]:
        owed: dict[_Device, list[dict[str, Any]]] = {device: [] for device in self.devices}
        members: set[ClientId] = set()
        for operation in log:
            envelope = operation.envelope
            sending: tuple[ClientId, DeviceId | None] | None = (envelope.sender, envelope.device)
            if isinstance(operation, ChangeGroup):
                who, sending = members | set(operation.roles), None
                members = set(operation.roles)
                self.tally.changes += 1
                if operation.expected_epoch + 1 != self.tally.changes:
                    raise Violation(f"change {self.tally.changes} leads from epoch {operation.expected_epoch}")
            elif is_group(envelope.to):
                who = members
                self.tally.messages += 1
                if envelope.sender not in members:
                    raise Violation(f"{envelope} came from who is not a member")
            else:
                who = {ClientId(envelope.to), envelope.sender}
                sending = None if envelope.to == envelope.sender else sending
            told = {"type": envelope.verb, "id": envelope.id, "payload": json.loads(envelope.payload)}
            for device in self.devices:
                if device.client in who and (device.client, device.device) != sending:
                    owed[device].append(told)
        return owed


def _essence(frame: dict[str, Any] | None) -> dict[str, Any] | None:
    """An entry as it was stored, without what depends on the mailbox that it came out of."""
    if frame is None:
        return None
    payload = {key: value for key, value in frame["payload"].items() if key != "to"}
    return {"type": frame["type"], "id": frame.get("id"), "payload": payload}


def _name(number: int) -> str:
    return f"client{number}"


def _client_id(number: int) -> ClientId:
    return identity_of(_name(number)).client_id


def main(clients: int, seeds: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for kind, seed in product(KINDS, range(seeds)):
        print(f"{kind}, seed {seed}: {stage_crowd(Plan(clients), seed, kind)}", flush=True)
    print("every message once, in one order, to those who were members, and to nobody else")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
