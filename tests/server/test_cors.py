"""Pages of the sites in `auth.web_origins` use files over HTTP, and pages of no other site do."""

import pytest
from trio.testing import MockClock

from ironwire.server.operator.config import AuthSettings
from tests.playbook import open_stage
from tests.server.http_toy import RawResponse, parse_response

AUTH = AuthSettings(origins=("https://chat.example",), web_origins=("https://app.example", "capacitor://localhost"))
ABSENT = "/media/00000000-0000-4000-8000-000000000000.bin"


async def ask(request_line: str, *headers: str, body: str = "") -> RawResponse:
    lines = [f"{request_line} HTTP/1.1", "Host: chat.example", "Connection: close", *headers, "", body]
    async with open_stage(auth=AUTH) as stage:
        return parse_response(await stage.server.request("\r\n".join(lines).encode()))


def cors_headers(response: RawResponse) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("origin", AUTH.web_origins)
async def test_a_page_of_a_named_site_reads_the_answer_to_an_upload(autojump_clock: MockClock, origin: str) -> None:
    response = await ask("POST /upload", f"Origin: {origin}", "Content-Length: 5", body="hello")
    assert response.status == 200
    headers = cors_headers(response)
    assert headers["access-control-allow-origin"] == origin
    assert {"retry-after", "x-request-id"} <= set(headers["access-control-expose-headers"].split(", "))
    assert "access-control-allow-credentials" not in headers
    assert response.headers["vary"] == "origin"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_it_reads_errors_too(autojump_clock: MockClock, method: str) -> None:
    response = await ask(f"{method} {ABSENT}", "Origin: https://app.example")
    assert response.status == 404
    headers = cors_headers(response)
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert {"content-range", "etag", "content-disposition"} <= set(headers["access-control-expose-headers"].split(", "))


@pytest.mark.parametrize(
    ("path", "method", "asked"),
    [("/upload", "POST", "authorization, content-type"), (ABSENT, "GET", "range, if-match")],
)
async def test_its_browser_may_ask_first(autojump_clock: MockClock, path: str, method: str, asked: str) -> None:
    response = await ask(
        f"OPTIONS {path}",
        "Origin: https://app.example",
        f"Access-Control-Request-Method: {method}",
        f"Access-Control-Request-Headers: {asked}",
    )
    assert response.status == 200
    headers = cors_headers(response)
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert method.lower() in headers["access-control-allow-methods"].split(", ")
    assert set(asked.split(", ")) <= set(headers["access-control-allow-headers"].split(", "))
    assert int(headers["access-control-max-age"]) > 0


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null", ""]
)
@pytest.mark.parametrize("request_line", ["POST /upload", f"GET {ABSENT}", "OPTIONS /upload"])
async def test_others_get_nothing(autojump_clock: MockClock, origin: str, request_line: str) -> None:
    response = await ask(request_line, f"Origin: {origin}", "Access-Control-Request-Method: POST", "Content-Length: 0")
    assert cors_headers(response) == {}
    assert response.headers["vary"] == "origin"


async def test_nothing_else_is_for_pages_of_others(autojump_clock: MockClock) -> None:
    response = await ask("GET /metrics", "Origin: https://app.example")
    assert cors_headers(response) == {}
