"""`python -m attack.bystanders PORT`: pairs of honest clients who write to each other, and time every text.

It says `ready`; for every line that it reads it prints one of JSON, the `Interval` since the last. A text is timed from
when it was due, not from when it could be sent, and one that has not arrived counts as old as it is: nobody is spared
by waiting for a server that answers nobody.
"""

import json
import sys
from itertools import count
from typing import Literal

import trio
from attrs import asdict, define, field, frozen
from nacl.signing import SigningKey
from wsproto.events import CloseConnection, Ping, TextMessage

from attack.target import authenticate
from bench.crowd import HOST, Identity, text_frame
from tests.server.raw_client import RawClient
from tests.wire.frame_builder import pong

Kind = Literal["live", "durable"]

PAIRS = 3
"""Of each kind."""
EVERY_SECONDS = 0.02


@frozen
class Interval:
    """What bystanders saw since they were asked the last time."""

    live_ms: list[float]
    """How long texts took to a client without a device."""
    durable_ms: list[float]
    """How long texts took to a device, over the disk."""
    lost_connections: int
    errors: list[str]

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@define(eq=False)
class Pair:
    """Somebody who speaks and somebody who listens."""

    kind: Kind
    _speaker: RawClient
    _listener: RawClient
    _listener_id: str
    _due: dict[int, float] = field(factory=dict, init=False)
    """When the texts were due that have not arrived."""
    _arrived_ms: list[float] = field(factory=list, init=False)
    _lost: int = field(default=0, init=False)
    _errors: list[str] = field(factory=list, init=False)

    async def talk(self) -> None:
        """Until cancelled, or until a connection is lost: bystanders do not come back."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._speak)
                nursery.start_soon(self._hear, self._speaker)
                nursery.start_soon(self._hear, self._listener)
        except* (trio.BrokenResourceError, EOFError) as lost:
            self._lost += 1
            self._errors += [str(error) for error in lost.exceptions]

    def take(self) -> tuple[list[float], int, list[str]]:
        """Times in milliseconds, connections lost, and errors, each once."""
        now = trio.current_time()
        overdue = [(now - due) * 1000 for due in self._due.values() if now - due > EVERY_SECONDS]
        taken = [*self._arrived_ms, *overdue], self._lost, self._errors
        self._arrived_ms, self._lost, self._errors = [], 0, []
        return taken

    async def _speak(self) -> None:
        start = trio.current_time()
        for number in count():
            due = start + number * EVERY_SECONDS
            await trio.sleep_until(due)
            self._due[number] = due
            message = {"type": "text", "payload": {"to": self._listener_id, "text": str(number)}}
            if self.kind == "durable":
                message["id"] = str(number)
            await self._speaker.send(text_frame(message))

    async def _hear(self, client: RawClient) -> None:
        while True:
            event = await client.event()
            if event is None or isinstance(event, CloseConnection):
                raise EOFError(f"a bystander's connection ended: {event}")
            if isinstance(event, Ping):
                await client.send(pong(bytes(event.payload)))
            if not isinstance(event, TextMessage):
                continue
            message = json.loads(event.data)
            if message["type"] == "error":
                self._errors.append(message["payload"]["msg"])
            if message["type"] == "text":
                due = self._due.pop(int(message["payload"]["text"]))
                self._arrived_ms.append((trio.current_time() - due) * 1000)
                if "seq" in message:
                    await client.send(text_frame({"type": "ack", "payload": {"upto": message["seq"]}}))


async def main(port: int) -> None:
    pairs = [await _introduce(port, kind) for kind in ("live", "durable") for _ in range(PAIRS)]
    async with trio.open_nursery() as nursery:
        for pair in pairs:
            nursery.start_soon(pair.talk)
        print("ready", flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(_interval(pairs).to_json(), flush=True)
        nursery.cancel_scope.cancel()


async def _introduce(port: int, kind: Kind) -> Pair:
    speaker, _ = await _enter(port, None)
    listener, listener_id = await _enter(port, "phone" if kind == "durable" else None)
    return Pair(kind, speaker, listener, listener_id)


async def _enter(port: int, device: str | None) -> tuple[RawClient, str]:
    key = SigningKey.generate()
    identity = Identity(key, bytes(key.verify_key).hex(), device)
    client = RawClient(await trio.open_tcp_stream(HOST, port))
    await client.upgrade()
    await authenticate(client, identity)
    return client, identity.client


def _interval(pairs: list[Pair]) -> Interval:
    times: dict[Kind, list[float]] = {"live": [], "durable": []}
    lost, errors = 0, list[str]()
    for pair in pairs:
        pair_ms, pair_lost, pair_errors = pair.take()
        times[pair.kind] += pair_ms
        lost += pair_lost
        errors += pair_errors
    return Interval(times["live"], times["durable"], lost, errors)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
