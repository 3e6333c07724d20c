"""Two hundred real peers that stop reading: the server's memory stays bounded, and nobody else waits."""

import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.playbook import auth_frame, identity_of, verify_frame
from tests.server.raw_client import RawClient
from tests.system.bystander import Conversation, conversation
from tests.system.conftest import Server, StartServer

READERS = 200
OUTBOX_BYTES = 64 * 1024
WRITE_SECONDS = 3.0
SETTINGS = {
    "IRONWIRE_LIMITS_OUTBOX_BYTES": str(OUTBOX_BYTES),
    "IRONWIRE_LIMITS_WRITE_SECONDS": str(WRITE_SECONDS),
    "IRONWIRE_LIMITS_BYTES_AT_ONCE": "1000000000",  # what is flooded here are the readers
}
TEXT_BYTES = 50_000
ROUNDS = 20
"""With them each reader is sent 1 MB: more than the kernel keeps for it, and many times what its outbox holds."""
MOST_GROWTH_BYTES = READERS * OUTBOX_BYTES * 4
"""What waits and what is being written, each as payloads and as frames."""
MOST_WAIT_SECONDS = 1.5
RECEIVE_BUFFER_BYTES = 4096


async def test_stalled_readers_cost_bounded_memory_and_nobody_elses_time(start_server: StartServer) -> None:
    server = start_server("ironwire.asgi:app", SETTINGS)
    waits: list[float] = []
    sizes: list[int] = []
    names = [f"reader{number}" for number in range(READERS)]
    with trio.fail_after(40):
        async with conversation(server.port) as bystanders, seed_session(server, "flooder") as flooder:
            readers = [await stalled_session(server, name) for name in names]
            resident_before = resident_bytes(server.process_group)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(go_on_and_on, bystanders, waits)
                nursery.start_soon(watch, server, sizes)
                nursery.start_soon(read_replies, flooder)
                for _ in range(ROUNDS):
                    for name in names:
                        await flooder.send(large_text_to(name))
                await trio.sleep(WRITE_SECONDS + 1)
                nursery.cancel_scope.cancel()
            assert max(sizes) - resident_before < MOST_GROWTH_BYTES
            assert max(waits) < MOST_WAIT_SECONDS
            assert len(waits) > 10
            assert await live_sessions(server) == 3
            for reader in readers:
                await trio.aclose_forcefully(reader.stream)


@asynccontextmanager
async def seed_session(server: Server, name: str) -> AsyncIterator[RawClient]:
    client = RawClient(await server.open_stream())
    async with client.stream:
        await authenticate(client, name)
        yield client


async def stalled_session(server: Server, name: str) -> RawClient:
    """A session whose client never reads again, with little room in its kernel."""
    connection = trio.socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    await connection.connect(("127.0.0.1", server.port))
    client = RawClient(trio.SocketStream(connection))
    await authenticate(client, name)
    return client


async def authenticate(client: RawClient, name: str) -> None:
    await client.upgrade()
    await client.send(auth_frame(name))
    challenge = json.loads(await client.message())["challenge"]
    await client.send(verify_frame(name, bytes.fromhex(challenge)))
    await client.message()


def large_text_to(name: str) -> bytes:
    """A frame masked with zeros: the tests' own encoder is too slow for as many bytes."""
    payload = {"to": identity_of(name).client_id, "text": "x" * TEXT_BYTES}
    content = json.dumps({"type": "text", "payload": payload}).encode()
    return struct.pack("!BBHI", 0x81, 0x80 | 126, len(content), 0) + content


async def go_on_and_on(bystanders: Conversation, waits: list[float]) -> None:
    while True:
        started = trio.current_time()
        await bystanders.go_on()
        waits.append(trio.current_time() - started)
        await trio.sleep(0.05)


async def watch(server: Server, sizes: list[int]) -> None:
    while True:
        sizes.append(resident_bytes(server.process_group))
        await trio.sleep(0.1)


async def read_replies(client: RawClient) -> None:
    while await client.event() is not None:
        pass


async def live_sessions(server: Server) -> float:
    async with await server.open_stream() as stream:
        await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        body = b"".join([data async for data in stream]).decode()
    return next(float(line.split()[1]) for line in body.splitlines() if line.startswith("ironwire_hub_sessions "))


def resident_bytes(process_group: int) -> int:
    """The memory of the server's processes."""
    return sum(_resident_bytes(process) for process in _processes_of(process_group))


def _processes_of(process_group: int) -> Iterator[Path]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[2]) == process_group:
            yield process


def _resident_bytes(process: Path) -> int:
    lines = (process / "status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
