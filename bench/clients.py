"""Texts between clients of the library, each with a file of its own, all in this process: encrypted, and in the clear.

The clients are what is measured here; the server does the least of the work.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from attrs import define, field, frozen

from bench import cache
from bench.contenders import HOST, Contender, Server
from bench.figures import Figure
from bench.scale import Scale
from ironwire.client import (
    Backoff,
    Client,
    ClientId,
    DeliveredText,
    DeviceId,
    Identity,
    Received,
    ServerAddress,
    connect,
    open_device_keys,
)
from ironwire.client.connection.dial import dial_tcp
from ironwire.crypto.signing import SEED_BYTES

TEXT = "x" * 100


@define(eq=False)
class Place:
    """A server, and the folder in which devices keep their files."""

    address: ServerAddress
    folder: Path
    streams: dict[str, trio.abc.Stream] = field(factory=dict, init=False)
    """The newest connection of each device."""

    @classmethod
    def at(cls, port: int, folder: Path) -> "Place":
        return cls(ServerAddress.parse(f"http://{HOST}:{port}"), folder)

    @asynccontextmanager
    async def device(self, name: str, *, is_encrypted: bool = True) -> AsyncIterator[Client]:
        """A device such as `alice.phone`."""
        who, _, device = name.partition(".")
        folder = self.folder / who
        folder.mkdir(exist_ok=True)
        keys = None
        if is_encrypted:
            path = folder / "identity.key"
            keys = await trio.to_thread.run_sync(open_device_keys, path, identity_of(who), DeviceId(device))

        async def dial(address: ServerAddress) -> trio.abc.Stream:
            self.streams[name] = await dial_tcp(address)
            return self.streams[name]

        store, backoff = folder / f"{device}.db", Backoff(base_seconds=0.01)
        async with connect(
            self.address,
            identity_of(who),
            device=DeviceId(device),
            store=store,
            keys=keys,
            backoff=backoff,
            dial=dial,
        ) as client:
            yield client

    async def cut(self, name: str) -> None:
        await trio.aclose_forcefully(self.streams[name])


def identity_of(who: str) -> Identity:
    return Identity.from_seed(who.encode().ljust(SEED_BYTES, b"."))


def texts(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """Texts a second from client to client, in pairs with `window` texts without an answer each."""
    for pairs, window in scale.client_pairs:
        for subject in ("in the clear", "encrypted"):
            with (
                contender.running() as server,
                TemporaryDirectory(prefix="clients-", dir=cache.cache_folder()) as folder,
            ):
                flow = trio.run(_drive, server, Path(folder), pairs, window, subject == "encrypted", scale)
                details = {"p50_ms": flow.p50_ms, "client_us": flow.client_us, "server_us": flow.server_us}
                case = f"{pairs} {'pair' if pairs == 1 else 'pairs'}, w={window}"
                yield Figure("clients", case, subject, flow.each_second, details)


@frozen
class Flow:
    """`client_us` and `server_us` are the CPU time for one text: of both its clients, and of the server."""

    each_second: float
    p50_ms: float
    client_us: float
    server_us: float


@define(eq=False)
class Counted:
    read: int = 0
    took: list[float] = field(factory=list)
    """Seconds from each call to its answer."""


async def _drive(server: Server, folder: Path, pairs: int, window: int, is_encrypted: bool, scale: Scale) -> Flow:
    place, counted = Place.at(server.port, folder), Counted()
    names = [(f"from{number}.phone", f"to{number}.phone") for number in range(pairs)]
    clients: dict[str, Client] = {}
    async with AsyncExitStack() as stack:
        for name in (each for pair in names for each in pair):
            clients[name] = await stack.enter_async_context(place.device(name, is_encrypted=is_encrypted))
        lanes = [(clients[name], clients[other]) for name, other in names]
        async with trio.open_nursery() as nursery:
            for sender, recipient in lanes:
                nursery.start_soon(_read, recipient, counted)
                nursery.start_soon(_skip, sender)
                await sender.send_text(recipient.client_id, TEXT)
                for _ in range(window):
                    nursery.start_soon(_send, sender, recipient.client_id, counted)
            await trio.sleep(scale.warm_seconds)
            counted.read, counted.took = 0, []
            started, own, theirs = time.perf_counter(), time.process_time(), server.cpu_seconds()
            await trio.sleep(scale.seconds)
            seconds, read, took = time.perf_counter() - started, max(counted.read, 1), sorted(counted.took)
            own_us = (time.process_time() - own) * 1e6 / read
            theirs_us = (server.cpu_seconds() - theirs) * 1e6 / read
            nursery.cancel_scope.cancel()
    return Flow(counted.read / seconds, took[len(took) // 2] * 1_000 if took else 0.0, own_us, theirs_us)


async def _send(client: Client, to: ClientId, counted: Counted) -> None:
    while True:
        started = time.perf_counter()
        await client.send_text(to, TEXT)
        counted.took.append(time.perf_counter() - started)


async def _read(client: Client, counted: Counted) -> None:
    async for event in client:
        if isinstance(event, Received) and isinstance(event.message, DeliveredText):
            counted.read += 1


async def _skip(client: Client) -> None:
    async for _ in client:
        pass
