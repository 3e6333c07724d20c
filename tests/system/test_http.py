"""Files over HTTP as curl sees them (docs/protocol.md, section 6), while two others go on talking."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator

import pytest
import trio
from attrs import frozen

from tests.system.bystander import conversation
from tests.system.conftest import Server

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

MIB = 1024 * 1024
LIMIT_BYTES = 30 * MIB
CURL_SECONDS = 15.0
ABSENT = "/media/00000000-0000-4000-8000-000000000000.bin"
SHORT_TEXT = b"0123456789"
CHUNKED = ("--header", "Transfer-Encoding: chunked")


@frozen
class Response:
    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes


@frozen
class Curl:
    server: Server

    async def __call__(self, path: str, *options: str, body: bytes = b"") -> Response:
        """Ask for `path` as it stands; the last response, after any that say 100."""
        url = f"http://127.0.0.1:{self.server.port}{path}"
        with trio.fail_after(CURL_SECONDS):
            command = ["curl", "--silent", "--show-error", "--path-as-is", "--include", *options, url]
            done = await trio.run_process(command, stdin=body, capture_stdout=True)
        assert isinstance(done.stdout, bytes)
        status, received = 100, done.stdout
        headers: dict[str, str] = {}
        while status == 100:
            head, _, received = received.partition(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1").split("\r\n")
            status = int(status_line.split()[1])
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return Response(status, headers, received)

    async def upload(self, content: bytes, *options: str) -> Response:
        return await self("/upload", "--request", "POST", "--data-binary", "@-", *options, body=content)


@pytest.fixture
async def curl(ironwire_server: Server) -> AsyncIterator[Curl]:
    """While a test asks for files, the conversation of two others goes on."""
    async with conversation(ironwire_server.port) as others:
        await others.go_on()
        yield Curl(ironwire_server)
        await others.go_on()


async def uploaded(curl: Curl, content: bytes, *options: str) -> str:
    """Upload; return the path of the blob."""
    response = await curl.upload(content, *options)
    assert response.status == 200
    answer = json.loads(response.body)
    assert list(answer) == ["url", "size", "sha256", "expires"]
    assert (answer["size"], answer["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert re.fullmatch(
        r"/media/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.bin", answer["url"]
    )
    return str(answer["url"])


@pytest.mark.parametrize(
    "content", [b"", SHORT_TEXT, os.urandom(MIB), bytes(LIMIT_BYTES)], ids=["empty", "short", "1 MiB", "30 MiB"]
)
@pytest.mark.parametrize("options", [(), CHUNKED], ids=["with a length", "chunked"])
async def test_a_file_comes_back_as_it_was(curl: Curl, content: bytes, options: tuple[str, ...]) -> None:
    path = await uploaded(curl, content, *options)
    response = await curl(path)
    assert response.status == 200
    assert response.body == content
    assert response.headers["content-length"] == str(len(content))


async def test_what_is_downloaded_is_never_shown(curl: Curl) -> None:
    path = await uploaded(curl, b"<script>alert(1)</script>")
    name = path.removeprefix("/media/")
    response = await curl(path)
    expected = {
        "content-disposition": f'attachment; filename="{name}"',
        "content-type": "application/octet-stream",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
        "referrer-policy": "no-referrer",
    }
    assert expected.items() <= response.headers.items()
    assert "private" in response.headers["cache-control"]
    again = await curl(path, "--header", f"If-None-Match: {response.headers['etag']}")
    assert (again.status, again.body) == (304, b"")


async def test_head(curl: Curl) -> None:
    path = await uploaded(curl, SHORT_TEXT)
    got, asked = await curl(path), await curl(path, "--head")
    assert (asked.status, asked.body) == (200, b"")
    assert asked.headers["content-length"] == "10"
    unlike = {name for name in got.headers if got.headers[name] != asked.headers.get(name)}
    assert unlike <= {"date"}


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("0-3", 206, b"0123", "bytes 0-3/10"),
        ("7-", 206, b"789", "bytes 7-9/10"),
        ("-2", 206, b"89", "bytes 8-9/10"),
        ("-99", 206, SHORT_TEXT, "bytes 0-9/10"),
        ("8-99", 206, b"89", "bytes 8-9/10"),
        ("5-2", 200, SHORT_TEXT, None),
        ("0-1,4-5", 200, SHORT_TEXT, None),
        ("10-", 416, None, "bytes */10"),
        ("-0", 416, None, "bytes */10"),
    ],
)
async def test_ranges(curl: Curl, wanted: str, status: int, body: bytes | None, content_range: str | None) -> None:
    path = await uploaded(curl, SHORT_TEXT)
    response = await curl(path, "--header", f"Range: bytes={wanted}")
    assert response.status == status
    assert response.headers.get("content-range") == content_range
    if body is not None:
        assert response.body == body


@pytest.mark.parametrize("options", [(), CHUNKED], ids=["with a length", "chunked"])
async def test_a_file_over_the_limit(curl: Curl, options: tuple[str, ...]) -> None:
    response = await curl.upload(bytes(31 * MIB), *options)
    assert response.status == 413
    assert json.loads(response.body)["error"] == "too_large"


@pytest.mark.parametrize(
    "path",
    [
        ABSENT,
        "/media/",
        "/media//",
        "/media/.",
        "/media/../server.log",
        "/media/../../../../../../etc/passwd",
        "/media/%2e%2e/server.log",
        "/media/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/media/..%2fserver.log",
        "/media/..%5cserver.log",
        "/media/%00",
        "/media//etc/passwd",
        "/media/%2fetc%2fpasswd",
        "/media/00000000-0000-4000-8000-000000000000.part",
        "/media/00000000-0000-4000-8000-000000000000.bin%00.html",
        "/media/00000000-0000-4000-8000-000000000000.bin/",
        "/../etc/passwd",
        "/nothing",
    ],
)
async def test_what_is_not_a_stored_file(curl: Curl, path: str) -> None:
    response = await curl(path)
    assert response.status == 404
    assert json.loads(response.body)["error"] == "not_found"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_other_methods(curl: Curl) -> None:
    path = await uploaded(curl, SHORT_TEXT)
    for method in ("PUT", "DELETE", "POST"):
        response = await curl(path, "--request", method)
        assert response.status == 405
        assert "GET" in response.headers["allow"]
    assert (await curl(path)).body == SHORT_TEXT
    assert (await curl("/upload")).status == 405


async def test_the_socket_without_an_upgrade(curl: Curl) -> None:
    response = await curl("/ws")
    assert response.status == 426
    assert response.headers["upgrade"] == "websocket"


async def test_http_2_is_refused(curl: Curl) -> None:
    version = await trio.run_process(["curl", "--version"], capture_stdout=True)
    if b"HTTP2" not in (version.stdout or b""):
        pytest.skip("this curl speaks no HTTP/2")
    url = f"http://127.0.0.1:{curl.server.port}/"
    with trio.fail_after(CURL_SECONDS):
        refused = await trio.run_process(["curl", "--silent", "--http2-prior-knowledge", url], check=False)
    assert refused.returncode != 0
    upgraded = await curl("/healthz", "--http2")
    assert (upgraded.status, upgraded.body) == (200, b"ok\n")
