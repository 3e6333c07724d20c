"""Attacks on connections as such: too many, too slow, broken off, or in another protocol."""

import socket
import struct
from collections.abc import Awaitable, Callable
from itertools import cycle

import trio

from attack.target import ONE_ADDRESS, READ_BYTES, Attack, Target, address, ending, forwarded, status_of
from tests.server.raw_client import upgrade_request
from tests.system.kill_packets import KILL_PACKETS
from tests.wire.frame_builder import TEXT, frame

HELD = 500
"""Connections that slow attacks hold at a time."""
BYTE_SECONDS = 1.0

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time, which makes of a close a reset (socket(7))."""
_HTTP_2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The preface of a client and an empty SETTINGS frame (RFC 9113, section 3.4)."""


async def kill_packets(target: Target) -> None:
    probes = cycle(KILL_PACKETS.values())

    async def once(_: int) -> str:
        target.tries += 1
        await next(probes)(target)
        return "survived"

    await target.swarm(16, once)


async def slow_headers(target: Target) -> None:
    async def once(number: int) -> str:
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + forwarded(address(number)) + b"\r\nX: " + b"x" * 1000
        return await _drip(target, b"", request)

    await target.swarm(HELD, once)


async def slow_body(target: Target) -> None:
    async def once(number: int) -> str:
        head = b"POST /upload HTTP/1.1\r\nHost: localhost\r\n%s\r\nContent-Length: 1000\r\n\r\n"
        return await _drip(target, head % forwarded(address(number)), b"x" * 1000)

    await target.swarm(HELD, once)


async def slow_frames(target: Target) -> None:
    half = frame(TEXT, b"x" * 60_000)[:59_000]

    async def once(number: int) -> str:
        async with target.socket(address(number)) as client:
            target.tries += 1
            await client.send(half)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_drip_on, client.stream, b"x" * 1000)
                ended = await ending(client)
                nursery.cancel_scope.cancel()
            return ended

    await target.swarm(HELD, once)


async def silence(target: Target) -> None:
    async def once(number: int) -> str:
        target.tries += 1
        async with await target.open_stream() as stream:
            if number % 2:
                await stream.send_eof()
            return status_of(await stream.receive_some(READ_BYTES))

    await target.swarm(2 * HELD, once)


async def flood_from_one_address(target: Target) -> None:
    await target.swarm(100, _coming_and_going(target, lambda _: ONE_ADDRESS))


async def flood_from_many_addresses(target: Target) -> None:
    await target.swarm(100, _coming_and_going(target, address))


async def crowd(target: Target) -> None:
    """Connections that stay, without a word after the upgrade."""

    async def once(number: int) -> str:
        async with target.socket(address(number)) as client:
            target.tries += 1
            return await ending(client)

    await target.swarm(3_000, once)


async def resets(target: Target) -> None:
    async def once(number: int) -> str:
        target.tries += 1
        async with await target.open_stream() as stream:
            await stream.send_all(upgrade_request("/ws", forwarded(address(number))))
            if number % 2:
                await stream.receive_some(READ_BYTES)
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return "reset"

    await target.swarm(50, once)


async def http_2(target: Target) -> None:
    async def once(_: int) -> str:
        return await target.ask(_HTTP_2 * 20)

    await target.swarm(50, once)


def _coming_and_going(target: Target, source: Callable[[int], bytes]) -> Callable[[int], Awaitable[str]]:
    async def once(number: int) -> str:
        async with target.socket(source(number)):
            target.tries += 1
            return "101"

    return once


async def _drip(target: Target, at_once: bytes, slowly: bytes) -> str:
    target.tries += 1
    async with await target.open_stream() as stream, trio.open_nursery() as nursery:
        await stream.send_all(at_once + slowly[:1])
        nursery.start_soon(_drip_on, stream, slowly[1:])
        answer = await stream.receive_some(READ_BYTES)
        nursery.cancel_scope.cancel()
    return status_of(answer)


async def _drip_on(stream: trio.abc.SendStream, data: bytes) -> None:
    for byte in data:
        await trio.sleep(BYTE_SECONDS)
        try:
            await stream.send_all(bytes([byte]))
        except trio.BrokenResourceError:
            return


ATTACKS = (
    Attack(
        "kill packets",
        "one connection ends the server, and everybody with it",
        "docs/decisions/0001",
        "packets",
        kill_packets,
    ),
    Attack(
        "slow headers",
        "connections and memory for a byte a second",
        "RFC 9112 section 9.5; `limits.header_seconds`",
        "connections",
        slow_headers,
        fixed="one turn of the event loop served everybody who had sent a byte; "
        "now two unauthenticated peers have each turn",
    ),
    Attack(
        "slow bodies",
        "uploads and memory for a byte a second",
        "section 8; `limits.uploads_at_a_time`",
        "uploads",
        slow_body,
        fixed="heads of requests have their turns too",
    ),
    Attack(
        "slow frames",
        "half a message of memory for each connection, held for a byte a second",
        "section 2; `limits.auth_seconds`",
        "connections",
        slow_frames,
    ),
    Attack(
        "silence",
        "connections that say nothing, half of them half closed, fill the server",
        "RFC 9293 section 3.6; `limits.header_seconds`",
        "connections",
        silence,
        fixed="a thousand connections that ended at once were one turn of the event loop; now two have each turn",
    ),
    Attack(
        "connection flood, one address",
        "nobody else gets in, and everybody waits",
        "`limits.connections_per_minute`",
        "connections",
        flood_from_one_address,
    ),
    Attack(
        "connection flood, many addresses",
        "the same, past the limits of an address",
        "`limits.unauthenticated`",
        "connections",
        flood_from_many_addresses,
        fixed="the collector looked at 50,000 new objects at a time, for up to 70 ms; now at 5,000",
    ),
    Attack(
        "crowd that stays",
        "sockets that never authenticate fill the server",
        "section 2; `limits.unauthenticated`",
        "connections",
        crowd,
        fixed="3,000 arrivals were one turn of the event loop, of 400 ms, and the end of their time was another; "
        "now two unauthenticated peers have each turn, to come and to go",
    ),
    Attack(
        "resets",
        "a connection that vanishes leaves a task or a descriptor behind",
        "RFC 9293 section 3.5",
        "connections",
        resets,
    ),
    Attack(
        "HTTP/2 by prior knowledge",
        "the other protocol's state machines and their flaws",
        "RFC 9113 section 3.3; section 8",
        "prefaces",
        http_2,
    ),
)
