"""Attacks on the frame layer and on the decoder of messages (docs/protocol.md, section 1; RFC 6455)."""

import os
import zlib
from collections.abc import Awaitable, Callable
from itertools import cycle

import orjson
import trio

from attack.target import Attack, Target, address, ending
from tests.server.raw_client import RawClient
from tests.wire.frame_builder import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame, ping, pong, text

AT_ONCE = 20

_LIES = (
    frame(TEXT, b"", declared=2**63 - 1, length_bytes=8),
    frame(TEXT, b"", declared=2**63, length_bytes=8),
    frame(TEXT, b"", declared=2**64 - 1, length_bytes=8),
    frame(TEXT, b"", declared=65_537, length_bytes=8),
    frame(TEXT, b"x" * 5, length_bytes=8),
    frame(PING, b"", declared=126, length_bytes=2),
    frame(TEXT, b"x" * 70_000),
)
_CLOSINGS = (
    frame(CLOSE, b"\x03"),
    frame(CLOSE, b"\x03\xed"),
    frame(CLOSE, (999).to_bytes(2, "big")),
    frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff\xfe"),
    frame(CLOSE, (1000).to_bytes(2, "big") + b"x" * 123) * 100,
    frame(CLOSE, b"", fin=False),
    frame(CLOSE) + text("{}") * 1_000,
    frame(CLOSE, (4999).to_bytes(2, "big")),
)
_VIOLATIONS = (
    frame(TEXT, b"{}", mask=None),
    frame(TEXT, b"{}", rsv=7),
    frame(0x3, b"{}"),
    frame(CONTINUATION, b"{}"),
    frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"),
    frame(TEXT, b"\xed\xa0\x80"),
    frame(PING, b"", fin=False),
)
_DOCUMENTS = (
    b"[" * 65_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"type":"text","payload":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    b'{"type":"ack","payload":{"upto":' + b"9" * 60_000 + b"}}",
    b'{"type":"ack","payload":{"upto":1e' + b"9" * 30_000 + b"}}",
    b'{"type":"ack","payload":{"upto":0.' + b"1" * 60_000 + b"}}",
    b'{"' + b'a":1,"' * 10_000 + b'b":1}',
    b'{"type":"' + b"\\u0061" * 10_000 + b'"}',
    b'"' + b"\\ud800" * 10_000 + b'"',
    orjson.dumps({str(number): number for number in range(5_000)}),
    b'{"type":"text","id":"' + b"i" * 60_000 + b'"}',
)


async def lengths_that_lie(target: Target) -> None:
    await target.swarm(AT_ONCE, _each_of(target, _LIES))


async def violations(target: Target) -> None:
    await target.swarm(AT_ONCE, _each_of(target, _VIOLATIONS))


async def close_games(target: Target) -> None:
    await target.swarm(AT_ONCE, _each_of(target, _CLOSINGS))


async def endless_fragments(target: Target) -> None:
    """Of no bytes, so that no limit of size is ever reached; every other connection sends some of one byte."""
    packets = cycle(frame(CONTINUATION, piece, fin=False) * 2_000 for piece in (b"", b"x"))

    async def attack(client: RawClient) -> str:
        await client.send(frame(TEXT, b"", fin=False))
        return await target.flood(client, next(packets), 2_000)

    await target.swarm(AT_ONCE, _in_sessions(target, attack))


async def ping_flood(target: Target) -> None:
    packet = (ping(b"x" * 125) + pong(b"y")) * 250

    async def attack(client: RawClient) -> str:
        return await target.flood(client, packet, 500)

    await target.swarm(AT_ONCE, _in_sessions(target, attack))


async def unread_pings(target: Target) -> None:
    packet = ping(b"x" * 125) * 400

    async def attack(client: RawClient) -> str:
        try:
            while True:
                await client.stream.send_all(packet)
                target.tries += 400
        except trio.BrokenResourceError:
            return "cut"

    await target.swarm(AT_ONCE, _in_sessions(target, attack))


async def compression(target: Target) -> None:
    """The header asks for permessage-deflate; what follows is compressed whether it was granted or not."""
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = (deflate.compress(bytes(30_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    packet = frame(TEXT, bomb, rsv=4)
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    upload = (
        b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n"
        b"X-Forwarded-For: %s\r\nConnection: close\r\n\r\n%s"
    )

    async def once(number: int) -> str:
        if number % 5 == 0:
            return await target.ask(upload % (len(bomb), address(number), bomb))
        async with target.socket(address(number), offer) as client:
            target.tries += 1
            if b"deflate" in client.response_head:
                target.breaches.append("permessage-deflate was granted")
            await client.send(packet)
            return await ending(client)

    await target.swarm(AT_ONCE, once)


async def deep_json(target: Target) -> None:
    packets = [frame(TEXT, document) for document in _DOCUMENTS]
    each = cycle(packets)

    async def attack(client: RawClient) -> str:
        return await target.flood(client, next(each), 1)

    await target.swarm(AT_ONCE, _in_sessions(target, attack))


async def noise(target: Target) -> None:
    packet = b"".join(frame(BINARY, os.urandom(20)) + text("{}") + text("null") for _ in range(150))

    async def attack(client: RawClient) -> str:
        return await target.flood(client, packet, 450)

    await target.swarm(AT_ONCE, _in_sessions(target, attack))


async def noise_before_authentication(target: Target) -> None:
    packet = text('{"type":"devices","payload":{}}') * 400

    async def once(number: int) -> str:
        async with target.socket(address(number)) as client:
            return await target.flood(client, packet, 400)

    await target.swarm(AT_ONCE, once)


def _each_of(target: Target, packets: tuple[bytes, ...]) -> Callable[[int], Awaitable[str]]:
    """Each in turn, on a connection of its own, until the server ends that."""
    each = cycle(packets)

    async def once(number: int) -> str:
        async with target.socket(address(number)) as client:
            target.tries += 1
            await client.send(next(each))
            return await ending(client)

    return once


def _in_sessions(target: Target, attack: Callable[[RawClient], Awaitable[str]]) -> Callable[[int], Awaitable[str]]:
    async def once(number: int) -> str:
        async with target.session(address(number)) as client:
            return await attack(client)

    return once


ATTACKS = (
    Attack(
        "lengths that lie",
        "memory for a length that is only announced",
        "RFC 6455 section 5.2; section 1",
        "frames",
        lengths_that_lie,
    ),
    Attack(
        "frames against the rules",
        "a frame that nobody thought of ends a task or the server",
        "RFC 6455 sections 5.1 to 5.5",
        "frames",
        violations,
    ),
    Attack(
        "close frames",
        "a connection that is closing for ever, or texts after the end",
        "RFC 6455 sections 5.5.1 and 7.4",
        "frames",
        close_games,
    ),
    Attack(
        "endless fragments",
        "a message that never ends takes memory or time",
        "RFC 6455 section 5.4; section 1",
        "fragments",
        endless_fragments,
        fixed="ten thousand empty fragments fit into one read and nothing counted them: 250 a second now",
    ),
    Attack(
        "pings",
        "the server's time, for answers to nothing",
        "RFC 6455 section 5.5.2; section 6",
        "pings",
        ping_flood,
        fixed="as for fragments",
    ),
    Attack(
        "pings whose answers nobody reads",
        "memory for pongs that wait",
        "RFC 6455 section 5.5.3",
        "pings",
        unread_pings,
        fixed="as for fragments",
    ),
    Attack(
        "compression bombs",
        "30 MB of memory for 30 KB, each",
        "RFC 7692 section 8; section 1",
        "bombs",
        compression,
    ),
    Attack(
        "deep JSON and huge numbers",
        "the stack, or minutes of one core, for one text",
        "RFC 8259 section 9; section 1",
        "texts",
        deep_json,
        fixed="what twenty clients sent at once was one turn of the loop; now two have a part of it in each turn",
    ),
    Attack(
        "noise",
        "the time that each answer `invalid` takes",
        "section 1; `limits.messages_per_second`",
        "frames",
        noise,
        fixed="as for deep JSON",
    ),
    Attack(
        "noise before authentication",
        "the same from nobody",
        "section 2",
        "frames",
        noise_before_authentication,
        fixed="the read in which error_budget was lost was answered to its end",
    ),
)
