"""`POST /upload`, docs/protocol.md, section 8."""

import errno
import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from quart import Blueprint, Quart
from quart_trio import QuartTrio
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.crypto.tokens import UploadTokens
from ironwire.ids import parse_media_path
from ironwire.limits import Limits
from ironwire.server.http.upload import upload_routes
from ironwire.server.http.upload_rules import UploadRules
from ironwire.server.listener.addresses import TrustedProxies
from ironwire.store.files.blobs import Blobs

from .http_toy import app_of, names_in, parse_response
from .in_process import InProcessServer, read_to_end, serve_in_process

MEBIBYTE = 1024 * 1024
LIMITS = Limits(upload_bytes=MEBIBYTE)


EXPIRES_MS = 1_790_000_000_000


def open_uploads(blobs: Blobs) -> Blueprint:
    """The route of uploads for everybody."""
    rules = UploadRules(LIMITS, UploadTokens(os.urandom), TrustedProxies(()), requires_token=False, now_ms=lambda: 0)
    return upload_routes(blobs, LIMITS, rules, lambda: EXPIRES_MS)


@pytest.fixture
async def blobs(tmp_path: Path) -> Blobs:
    blobs = Blobs(tmp_path / "media")
    await blobs.sweep()
    return blobs


@pytest.fixture
def app(blobs: Blobs) -> QuartTrio:
    return app_of(open_uploads(blobs))


@pytest.fixture
async def server(app: QuartTrio) -> AsyncIterator[InProcessServer]:
    async with serve_in_process(app, limits=LIMITS) as server:
        yield server


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /upload HTTP/1.1", b"Host: localhost", *headers, b"", body])


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


async def wait_until_uploading(blobs: Blobs) -> None:
    with trio.fail_after(5):
        while not blobs.statistics().uploads_running:
            await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()


@pytest.mark.parametrize("size", [0, 1, 100_000, MEBIBYTE])
async def test_an_upload_is_stored_and_described(app: QuartTrio, blobs: Blobs, size: int) -> None:
    content = os.urandom(size)
    response = await app.test_client().post("/upload", data=content)
    assert response.status_code == 200
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    text = (await response.get_data(as_text=True)) or ""
    digest = hashlib.sha256(content).hexdigest()
    match = re.fullmatch(
        rf'{{"url":"(/media/[0-9a-f-]{{36}}\.bin)","size":{size},"sha256":"{digest}","expires":{EXPIRES_MS}}}', text
    )
    assert match is not None
    assert (blobs.folder / parse_media_path(match[1])).read_bytes() == content
    assert names_in(blobs.folder) == [parse_media_path(match[1])]


async def test_a_body_in_chunks_is_stored(server: InProcessServer, blobs: Blobs) -> None:
    body = chunked(b"one ", b"two ", b"three") + b"0\r\n\r\n"
    response = parse_response(
        await server.request(post(b"Transfer-Encoding: chunked", b"Connection: close", body=body))
    )
    assert (response.status, response.json["size"]) == (200, 13)
    assert (blobs.folder / parse_media_path(response.json["url"])).read_bytes() == b"one two three"


async def test_a_connection_serves_uploads_one_after_another(server: InProcessServer, blobs: Blobs) -> None:
    first = post(b"Content-Length: 5", body=b"first")
    last = post(b"Content-Length: 4", b"Connection: close", body=b"last")
    responses = await server.request(first + last)
    assert responses.count(b"HTTP/1.1 200 ") == 2
    assert len(names_in(blobs.folder)) == 2


async def test_a_declared_size_that_is_too_large_is_refused_at_once(server: InProcessServer, blobs: Blobs) -> None:
    data = await server.request(post(b"Content-Length: %d" % (MEBIBYTE + 1)))
    response = parse_response(data)
    assert (response.status, response.json["error"]) == (413, "too_large")
    assert response.headers["connection"] == "close"
    assert names_in(blobs.folder) == []


async def test_a_file_may_be_as_large_as_the_limit(server: InProcessServer, blobs: Blobs) -> None:
    request = post(b"Content-Length: %d" % MEBIBYTE, b"Connection: close", body=bytes(MEBIBYTE))
    response = parse_response(await server.request(request))
    assert (response.status, response.json["size"]) == (200, MEBIBYTE)


async def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large(server: InProcessServer, blobs: Blobs) -> None:
    body = chunked(*[bytes(64 * 1024)] * 17)  # and no end
    response = parse_response(await server.request(post(b"Transfer-Encoding: chunked", body=body)))
    assert (response.status, response.json["error"]) == (413, "too_large")
    assert response.headers["connection"] == "close"
    assert names_in(blobs.folder) == []


async def test_a_body_that_does_not_stop_ends_with_the_connection(server: InProcessServer) -> None:
    sent = 0
    async with server.open_stream() as stream:
        await stream.send_all(post(b"Transfer-Encoding: chunked"))
        with trio.fail_after(10), suppress(trio.BrokenResourceError):
            while sent < 1_000:
                await stream.send_all(chunked(bytes(64 * 1024)))
                await wait_all_tasks_blocked()
                sent += 1
        assert parse_response(await read_to_end(stream)).status == 413
    assert sent < 1_000


async def test_a_body_that_ends_early_leaves_nothing(server: InProcessServer, blobs: Blobs) -> None:
    async with server.open_stream() as stream:
        await stream.send_all(post(b"Content-Length: 1000", body=b"only this"))
        await wait_until_uploading(blobs)
        assert len(names_in(blobs.folder)) == 1
        await stream.send_eof()
        with trio.fail_after(5):
            assert b" 200 " not in await read_to_end(stream)
    assert names_in(blobs.folder) == []
    assert blobs.statistics().uploads_running == 0


async def test_a_client_that_goes_leaves_nothing(server: InProcessServer, blobs: Blobs) -> None:
    stream = server.open_stream()
    await stream.send_all(post(b"Content-Length: 1000", body=b"only this"))
    await wait_until_uploading(blobs)
    await trio.aclose_forcefully(stream)
    await wait_all_tasks_blocked()
    assert names_in(blobs.folder) == []


async def test_a_server_in_front_that_ends_a_body_early_gets_an_error(app: QuartTrio, blobs: Blobs) -> None:
    # Hypercorn would not pass this on; another server or a test may.
    async with app.test_client().request("/upload", method="POST", headers={"Content-Length": "1000"}) as connection:
        await connection.send(b"only this")
        await connection.send_complete()
    response = await connection.as_response()
    assert (response.status_code, (await response.get_json())["error"]) == (400, "invalid")
    assert names_in(blobs.folder) == []


@pytest.mark.parametrize("start", [b"", b"only this"])
async def test_a_body_that_stalls_is_ended(
    server: InProcessServer, blobs: Blobs, mock_clock: MockClock, start: bytes
) -> None:
    async with server.open_stream() as stream:
        await stream.send_all(post(b"Content-Length: 1000", body=start))
        await wait_until_uploading(blobs)
        mock_clock.jump(LIMITS.upload_idle_seconds - 1)
        await wait_all_tasks_blocked()
        assert blobs.statistics().uploads_running == 1
        await stream.send_all(b"a little")  # a sign of life: the time begins anew
        await wait_all_tasks_blocked()
        mock_clock.jump(LIMITS.upload_idle_seconds - 1)
        await wait_all_tasks_blocked()
        assert blobs.statistics().uploads_running == 1
        mock_clock.jump(2)
        await wait_all_tasks_blocked()
        assert blobs.statistics().uploads_running == 0
        mock_clock.jump(LIMITS.close_seconds)
        response = parse_response(await read_to_end(stream))
    assert (response.status, response.json["error"]) == (408, "timeout")
    assert names_in(blobs.folder) == []


@pytest.mark.parametrize(
    ("code", "status", "error"), [(errno.ENOSPC, 507, "storage_full"), (errno.EIO, 500, "internal")]
)
async def test_a_disk_that_fails_is_an_error(
    app: QuartTrio, blobs: Blobs, monkeypatch: pytest.MonkeyPatch, code: int, status: int, error: str
) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, "as if")

    monkeypatch.setattr(os, "pwrite", fail)
    response = await app.test_client().post("/upload", data=b"content")
    assert (response.status_code, (await response.get_json())["error"]) == (status, error)
    assert str(blobs.folder) not in str(await response.get_data(as_text=True))
    assert names_in(blobs.folder) == []


async def test_another_method_is_not_allowed(app: QuartTrio) -> None:
    response = await app.test_client().get("/upload")
    assert (response.status_code, (await response.get_json())["error"]) == (405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


async def test_an_app_without_trio_is_refused(blobs: Blobs) -> None:
    with pytest.raises(TypeError, match="Quart-Trio"):
        Quart(__name__).register_blueprint(open_uploads(blobs))
