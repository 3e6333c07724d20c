"""The whole server on a virtual clock, moved by synchronous steps, each of which ends when every task waits."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import trio
from attrs import define, field
from trio.testing import wait_all_tasks_blocked
from wsproto.events import CloseConnection

from ironwire.limits import Limits
from tests.bounded_stream import bounded
from tests.playbook import Stage, open_stage, told
from tests.simulation.stepping import SteppedLoop
from tests.wire import frame_builder

KEEPALIVE_SECONDS = 4
"""How often a client that is not silent says that it lives: before the server would ask."""


@define(eq=False)
class World:
    """A server, and the connections of its clients by name. `close` it when done."""

    limits: Limits
    pipe_bytes: int
    """What a connection holds on the way to a client that does not read."""

    received: dict[str, list[str]] = field(init=False, factory=dict)
    """What came on each connection, as a playbook tells it."""
    _loop: SteppedLoop[Stage] = field(init=False)
    _open: dict[str, None] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._loop = SteppedLoop(open_stage(limits=self.limits))

    def close(self) -> None:
        """Stop the server."""
        self._loop.close()

    # --- steps -------------------------------------------------------------------------------------------------------

    def connect(self, name: str) -> None:
        async def step() -> None:
            await self._stage.connect(name, stream_pair=bounded(self.pipe_bytes))
            self.received[name] = []
            self._open[name] = None

        self._do(step)

    def send(self, name: str, *frames: bytes) -> None:
        """Send frames in one packet."""
        self._do(lambda: self._stage.actors[name].send(*frames))

    def cut(self, name: str, packet: Sequence[bytes], after_steps: int) -> None:
        """Send a packet and tear the connection down so many turns of the loop later, whatever the server is at."""

        async def step() -> None:
            await self._stage.actors[name].send(*packet)
            for _ in range(after_steps):
                await trio.lowlevel.checkpoint()
            await self._hang_up(name)

        self._do(step)

    def stall(self, name: str) -> None:
        """Read no more on this connection."""

        async def step() -> None:
            self._stage.actors[name].stall()

        self._do(step)

    def resume(self, name: str) -> None:
        async def step() -> None:
            self._stage.actors[name].resume()

        self._do(step)

    def pass_time(self, seconds: int, *, silent: str | None = None) -> None:
        """Let time pass, in which every client but the silent one says that it lives."""

        async def step() -> None:
            for start in range(0, seconds, KEEPALIVE_SECONDS):
                for name in self._open:
                    if name != silent:
                        with suppress(trio.BrokenResourceError):  # it was cut and, as it does not read, does not know
                            await self._stage.actors[name].send(frame_builder.pong())
                await trio.sleep(min(KEEPALIVE_SECONDS, seconds - start))
                await self._settle()

        self._do(step)

    def metrics(self) -> dict[str, float]:
        """What the server says of itself at `/metrics`; where it has labels, all of them together."""
        request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        response: bytes = self._do(lambda: self._stage.server.request(request))
        lines = response.decode().partition("\r\n\r\n")[2].splitlines()
        totals: defaultdict[str, float] = defaultdict(float)
        for name, value in (line.split() for line in lines if not line.startswith("#")):
            totals[name.partition("{")[0]] += float(value)
        return totals

    # --- the loop ----------------------------------------------------------------------------------------------------

    @property
    def _stage(self) -> Stage:
        return self._loop.scene

    def _do(self, step: Callable[[], Awaitable[Any]]) -> Any:
        return self._loop.do(lambda: self._finish(step))

    async def _finish(self, step: Callable[[], Awaitable[Any]]) -> Any:
        result = await step()
        await self._settle()
        return result

    async def _settle(self) -> None:
        """Wait until nothing happens any more; a client that was told goodbye hangs up."""
        is_settled = False
        while not is_settled:
            is_settled = True
            await wait_all_tasks_blocked()
            for name in list(self._open):
                for event in self._stage.actors[name].take_events():
                    self.received[name].append(told(event))
                    if event is None or isinstance(event, CloseConnection):
                        is_settled = False
                        await self._hang_up(name)
                        break

    async def _hang_up(self, name: str) -> None:
        await self._stage.actors[name].hang_up()
        self._open.pop(name, None)
