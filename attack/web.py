"""Attacks on HTTP: requests that two parsers read differently, names of files, ranges, uploads (section 8)."""

from contextlib import suppress
from itertools import cycle

import trio

from attack.target import ONE_ADDRESS, READ_BYTES, Attack, Target, address, forwarded, status_of

AT_ONCE = 20
UPLOAD_BYTES = 4 * 1024 * 1024
HELD_SECONDS = 60.0

_HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
_SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
_SMUGGLING = {
    "both lengths": b"POST /upload" + _HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /upload" + _HOST + b"Content-Length: 0\r\nContent-Length: 45\r\n\r\n",
    "a length with a sign": b"POST /upload" + _HOST + b"Content-Length: +0\r\n\r\n",
    "a list of lengths": b"POST /upload" + _HOST + b"Content-Length: 0, 45\r\n\r\n",
    "an encoding in disguise": b"POST /upload" + _HOST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "an encoding twice": b"POST /upload" + _HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
    "a folded header": b"POST /upload" + _HOST + b"X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": b"POST /upload" + _HOST + b"Content-Length : 45\r\n\r\n",
    "a chunk size that is none": b"POST /upload" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a chunk size without end": b"POST /upload" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 100 + b"\r\n",
    "a chunk extension without end": b"POST /upload" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 70_000,
    "a NUL in a header": b"GET /healthz" + _HOST + b"X: \x00\r\n\r\n",
    "a carriage return in a header": b"GET /healthz" + _HOST + b"X: a\rContent-Length: 45\r\n\r\n",
    "two hosts": b"GET /healthz" + _HOST + b"Host: evil.example\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "version 0.9": b"GET /healthz\r\n\r\n",
    "version 9.9": b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "a header of 100 KB": b"GET /healthz" + _HOST + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
    "20,000 headers": b"GET /healthz" + _HOST + b"X: y\r\n" * 20_000 + b"\r\n",
    "a target of 100 KB": b"GET /" + b"x" * 100_000 + _HOST + b"\r\n",
    "a method that is none": b"G\xc3\x89T /healthz" + _HOST + b"\r\n",
    "a tunnel": b"CONNECT evil.example:443" + _HOST + b"\r\n",
    "another server's target": b"GET http://evil.example/healthz" + _HOST + b"\r\n",
    "a header split in a query": b"GET /?x=%0d%0aSet-Cookie:%20a=b" + _HOST + b"\r\n",
    "headers that proxies set": b"GET /"
    + _HOST
    + b"X-Forwarded-Host: evil.example\r\nX-Original-URL: /metrics\r\n\r\n",
    "an address that is none": b"GET /" + _HOST + b"X-Forwarded-For: " + b"%s, " * 2_000 + b"\r\n\r\n",
}
"""Requests by what is wrong with them."""
_AMBIGUOUS = frozenset(
    {
        "both lengths",
        "two lengths",
        "a length with a sign",
        "a list of lengths",
        "an encoding in disguise",
        "an encoding twice",
        "a space before the colon",
    }
)
"""Those of which two parsers may think that they end in different entries: nothing may be read after them."""
_PATHS = (
    b"/media/../ironwire.db",
    b"/media/..%2fironwire.db",
    b"/media/%2e%2e/ironwire.db",
    b"/media/%2e%2e%2fironwire.db",
    b"/media/%252e%252e%252fironwire.db",
    b"/media/..%5cironwire.db",
    b"/media/....//ironwire.db",
    b"/media//etc/passwd",
    b"/media/%00",
    b"/media/00000000-0000-4000-8000-000000000000.bin%00.png",
    b"/media/00000000-0000-4000-8000-000000000000.bin/../../ironwire.db",
    b"/media/00000000-0000-4000-8000-000000000000.BIN",
    b"/media/00000000-0000-4000-8000-00000000000\xd9\xa0.bin",
    b"/media/%c0%ae%c0%ae/ironwire.db",
    b"/media/" + b"../" * 5_000,
    b"/media/" + b"%2e%2e/" * 2_000,
    b"/media/" + b"a" * 30_000,
    b"/media/.",
    b"/media/*",
    b"/media/~root",
    b"/static/../ironwire.db",
    b"//evil.example/%2e%2e",
    b"/..;/metrics",
    b"/ironwire.db",
    b"/admin.sock",
    b"/.git/config",
)
_RANGES = (
    "bytes=" + ",".join(f"{n}-" for n in range(5_000)),
    "bytes=" + "0-," * 10_000,
    "bytes=-" + "9" * 10_000,
    "bytes=" + "9" * 18 + "-",
    "bytes=0-0",
    "bytes=-1",
    "bytes=5-1",
    "bytes=--5",
    "bytes=0x0-0x5",
    "bytes=\u0661-".encode().decode("latin-1"),
    "lines=0-5",
)


async def smuggling(target: Target) -> None:
    names = cycle(_SMUGGLING)

    async def once(_: int) -> str:
        name = next(names)
        target.tries += 1
        async with await target.open_stream() as stream:
            answer = await _all_of(stream, _SMUGGLING[name] + _SMUGGLED)
        if b"Set-Cookie" in answer:
            target.breaches.append(f"{name}: the request wrote a header of the response")
        if name in _AMBIGUOUS and answer.count(b"HTTP/1.1") > 1:
            target.breaches.append(f"{name}: what followed was read as a request of its own")
        return status_of(answer)

    await target.swarm(AT_ONCE, once)


async def path_games(target: Target) -> None:
    paths = cycle(_PATHS)

    async def once(number: int) -> str:
        path = next(paths)
        status = await target.ask(
            b"GET " + path + _HOST + forwarded(address(number)) + b"\r\nConnection: close\r\n\r\n"
        )
        if status == "200":
            target.breaches.append(f"{path[:60]!r} is served")
        return status

    await target.swarm(AT_ONCE, once)


async def range_abuse(target: Target) -> None:
    url = await _upload(target, bytes(1_000_000))
    ranges = cycle(_RANGES)

    async def once(number: int) -> str:
        wanted = next(ranges).encode("latin-1")
        target.tries += 1
        request = b"GET " + url + _HOST + forwarded(address(number)) + b"\r\nRange: " + wanted
        async with await target.open_stream() as stream:
            answer = await _all_of(stream, request + b"\r\nConnection: close\r\n\r\n")
        if len(answer) > 1_100_000:
            target.breaches.append(f"{wanted[:40]!r} made more bytes than the file has")
        return status_of(answer)

    await target.swarm(AT_ONCE, once)


async def unread_downloads(target: Target) -> None:
    url = await _upload(target, bytes(20_000_000))

    async def once(number: int) -> str:
        target.tries += 1
        async with await target.open_stream() as stream:
            await stream.send_all((b"GET " + url + _HOST + forwarded(address(number)) + b"\r\n\r\n") * 50)
            await trio.sleep(HELD_SECONDS)
        return "held"

    await target.swarm(100, once)


async def uploads(target: Target) -> None:
    await target.swarm(AT_ONCE, lambda number: _upload_once(target, address(number)))


async def uploads_from_one_address(target: Target) -> None:
    await target.swarm(AT_ONCE, lambda _: _upload_once(target, ONE_ADDRESS))


async def empty_uploads(target: Target) -> None:
    async def once(number: int) -> str:
        return await target.ask(
            b"POST /upload" + _HOST + forwarded(address(number)) + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )

    await target.swarm(AT_ONCE, once)


async def broken_uploads(target: Target) -> None:
    """Each ends before its body does: by a stall, a reset, or a lie about its length."""

    async def once(number: int) -> str:
        target.tries += 1
        async with await target.open_stream() as stream:
            head = b"POST /upload" + _HOST + forwarded(address(number)) + b"\r\n"
            match number % 3:
                case 0:
                    await stream.send_all(head + b"Content-Length: 99999999999\r\n\r\n" + bytes(100_000))
                case 1:
                    await stream.send_all(head + b"Content-Length: 1000000\r\n\r\n" + bytes(500_000))
                    return "left"
                case _:
                    await stream.send_all(head + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + bytes(0x8000))
                    await trio.sleep(0.5)
                    return "left"
            return status_of(await stream.receive_some(READ_BYTES))

    await target.swarm(AT_ONCE, once)


async def pipelines(target: Target) -> None:
    """A thousand requests in one write, whose answers nobody reads."""

    async def once(number: int) -> str:
        target.tries += 1_000
        async with await target.open_stream() as stream:
            await stream.send_all((b"GET /" + _HOST + forwarded(address(number)) + b"\r\n\r\n") * 1_000)
            await trio.sleep(1)
        return "left"

    await target.swarm(AT_ONCE, once)


async def _all_of(stream: trio.SocketStream, request: bytes) -> bytes:
    """Send, and read until the server ends or falls silent."""
    answer = b""
    with suppress(trio.BrokenResourceError):  # refused before it was read whole; the answer may be here
        await stream.send_all(request)
    with trio.move_on_after(1), suppress(trio.BrokenResourceError):
        while data := await stream.receive_some(READ_BYTES):
            answer += data
    return answer


async def _upload_once(target: Target, source: bytes) -> str:
    head = b"POST /upload" + _HOST + forwarded(source) + b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return await target.ask(head % UPLOAD_BYTES + bytes(UPLOAD_BYTES))


async def _upload(target: Target, body: bytes) -> bytes:
    """Upload a file, and return its path."""
    head = b"POST /upload" + _HOST + forwarded(ONE_ADDRESS) + b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    async with await target.open_stream() as stream:
        await stream.send_all(head % len(body) + body)
        answer = b""
        while data := await stream.receive_some(READ_BYTES):
            answer += data
    return answer.partition(b'"url":"')[2].partition(b'"')[0]


ATTACKS = (
    Attack(
        "smuggling and injection",
        "a request that a proxy did not see, a header that the server did not write",
        "RFC 9112 sections 2.2, 5 and 6.3",
        "requests",
        smuggling,
        fixed="after a request with both lengths the connection went on: now 400; 10,000 fields took 90 ms: now 431",
    ),
    Attack("paths", "a file that is no upload: the database, a key", "section 8", "requests", path_games),
    Attack(
        "ranges", "a small request with a large answer", "RFC 9110 section 17.15; section 8", "requests", range_abuse
    ),
    Attack(
        "downloads that nobody reads",
        "memory, threads and files for answers that wait",
        "`limits.write_seconds`",
        "connections",
        unread_downloads,
        fixed="a connection that had asked for more than it read was never let go, nor was its file",
    ),
    Attack("uploads", "the disk, and everybody's time", "section 8; `limits.uploads_at_a_time`", "uploads", uploads),
    Attack(
        "uploads, one address",
        "the same, from somebody with one address",
        "`limits.uploads_per_minute`",
        "uploads",
        uploads_from_one_address,
    ),
    Attack(
        "empty uploads",
        "an fsync and an entry of a folder for every request",
        "section 8; `limits.uploads_per_minute`",
        "uploads",
        empty_uploads,
    ),
    Attack(
        "broken uploads",
        "half files on the disk, tasks that wait",
        "section 8; `limits.upload_idle_seconds`",
        "uploads",
        broken_uploads,
    ),
    Attack(
        "pipelines",
        "memory for a thousand answers",
        "RFC 9112 section 9.3.2",
        "requests",
        pipelines,
        fixed="as for downloads; and of all requests, one begins in each turn of the event loop",
    ),
)
