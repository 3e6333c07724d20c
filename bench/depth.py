"""Mailboxes in which much waits: accepting one more must cost the same, and so must the first page of a device that
comes back.

The envelopes are put there through the store itself, before the server starts.
"""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from attrs import asdict

from bench import cache, crowd
from bench.contenders import Contender
from bench.figures import Figure
from bench.flows import DEVICE
from bench.load import Lane, drive
from bench.scale import Scale
from ironwire.ids import ClientId, DeviceId, MessageId
from ironwire.store.contract.operations import Append, Operation, Register, ToClient
from ironwire.store.contract.records import Envelope, Quota
from ironwire.store.sqlite.store import SqliteStore

SENDERS = 50
WINDOW = 10
RECONNECTS = 20
PAGE = 100

_BATCH = 2_000
_ROOMY = Quota(mailbox_envelopes=10**8, mailbox_bytes=10**12, devices_per_client=16)
_SETTINGS = {"IRONWIRE_LIMITS_MAILBOX_ENVELOPES": str(10**8), "IRONWIRE_LIMITS_MAILBOX_BYTES": str(10**12)}
_PAYLOAD = b'{"from":"%s","text":"' + b"x" * 100 + b'","ts":%d}'


def waiting(contender: Contender, scale: Scale) -> Iterator[Figure]:
    """Many senders write to one device that is away; then it comes back, again and again, and acknowledges nothing."""
    for depth in scale.depths:
        owner = crowd.identities(1, DEVICE)[0]
        with TemporaryDirectory(prefix="depth-", dir=cache.cache_folder()) as name:
            trio.run(fill, Path(name), ClientId(owner.client), depth)
            with contender.running(Path(name), _SETTINGS) as server:
                senders = crowd.connect_all(server.port, crowd.identities(SENDERS))
                flow = drive(
                    server,
                    [Lane(sender, owner.client, []) for sender in senders],
                    "durable",
                    window=WINDOW,
                    warm_seconds=scale.warm_seconds,
                    seconds=scale.seconds,
                )
                crowd.disconnect(senders)
                times = sorted(seconds_to_first_page(server.port, owner) for _ in range(RECONNECTS))
        case = f"{depth:,} waiting"
        yield Figure("enqueue", case, contender.name, flow.texts_per_second, asdict(flow))
        details = {"slowest_ms": times[-1] * 1000}
        yield Figure("reconnect", case, contender.name, times[len(times) // 2] * 1000, details)


async def fill(folder: Path, owner: ClientId, depth: int) -> None:
    """Make the data folder of a server in which `depth` envelopes wait for the owner's device."""
    sender = ClientId("0" * 64)
    now_ms = time.time_ns() // 1_000_000
    payload = _PAYLOAD % (sender.encode(), now_ms)
    store = SqliteStore(folder / "ironwire-data" / "ironwire.db", _ROOMY)
    await store.open()
    await store.apply([Register(owner, DeviceId(DEVICE), now_ms)])
    for start in range(0, depth, _BATCH):
        batch: list[Operation] = []
        for number in range(start, min(start + _BATCH, depth)):
            envelope = Envelope("text", sender, None, owner, MessageId(f"fill:{number}"), now_ms, payload)
            batch.append(Append(envelope, b"digest of a text", ToClient(owner)))
        await store.apply(batch)
    await store.close()


def seconds_to_first_page(port: int, owner: crowd.Identity) -> float:
    """From the connect of the owner's device until it has got `PAGE` envelopes."""
    started = time.perf_counter()
    with socket.create_connection((crowd.HOST, port), crowd.STALL_SECONDS) as connection:
        handshake = crowd.handshake(owner, deliveries=PAGE)
        to_write = next(handshake)
        while True:
            connection.sendall(to_write)
            try:
                to_write = handshake.send(connection.recv(64 * 1024))
            except StopIteration:
                return time.perf_counter() - started
