"""What no handler answers is answered in the form of every error: JSON, and an id for the log (docs/openapi.json)."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from trio.testing import MockClock

from tests.playbook import open_stage
from tests.server.http_toy import parse_response
from tests.server.in_process import read_to_end
from tests.server.raw_client import upgrade_request

DOCUMENT: dict[str, Any] = json.loads(
    Path(__file__).parents[2].joinpath("docs", "openapi.json").read_text(encoding="utf-8")
)
ERROR = Draft202012Validator(DOCUMENT["components"]["schemas"]["Error"])
UPLOAD = b"POST /upload HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, "invalid", id="no HTTP"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "invalid", id="no host"),
        pytest.param(upgrade_request().replace(b"localhost", b"a b"), 400, "invalid", id="a socket, and no host"),
        pytest.param(upgrade_request().replace(b"Version: 13", b"Version: 8"), 400, "invalid", id="an old WebSocket"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, "invalid", id="no Host"),
        pytest.param(UPLOAD + b"Content-Length: x\r\n\r\n", 400, "invalid", id="no length"),
        pytest.param(UPLOAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "invalid", id="no chunk"),
        pytest.param(UPLOAD + b"Transfer-Encoding: gzip\r\n\r\n", 501, "invalid", id="a strange encoding"),
        pytest.param(
            UPLOAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400, "invalid", id="two lengths"
        ),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "invalid", id="HTTP/2"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "too_large", id="many headers"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000, 431, "too_large", id="a long header"),
        pytest.param(upgrade_request("/ws", b"Origin: https://evil.example"), 403, "forbidden", id="a strange page"),
        pytest.param(
            b"PUT /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405, "method_not_allowed", id="PUT"
        ),
        pytest.param(b"BREW / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405, "method_not_allowed", id="BREW"),
        pytest.param(b"GET /no HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404, "not_found", id="nowhere"),
        pytest.param(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 426, "upgrade_required", id="no upgrade"
        ),
    ],
)
async def test_every_refusal_has_the_same_form(
    autojump_clock: MockClock, request_bytes: bytes, status: int, code: str
) -> None:
    async with open_stage() as stage:
        response = parse_response(await stage.server.request(request_bytes))
    assert response.status == status
    ERROR.validate(response.json)
    assert response.json["error"] == code
    assert int(response.headers["content-length"]) == len(response.body)
    assert response.headers["content-type"] == "application/json"
    assert len(response.headers["x-request-id"]) == 8
    if status == 405:
        assert response.headers["allow"]


@pytest.mark.parametrize(
    "beginning",
    [
        UPLOAD + b"Content-Length: 10\r\n\r\nabc",
        UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"GET / HTTP/1.1\r\nHos",
    ],
    ids=["a body", "a chunk", "a head"],
)
async def test_a_request_that_ends_early_is_told_so(
    autojump_clock: MockClock, tmp_path: Path, beginning: bytes
) -> None:
    async with open_stage(data=tmp_path) as stage, stage.server.open_stream() as stream:
        await stream.send_all(beginning)
        await stream.send_stream.aclose()
        response = parse_response(await read_to_end(stream.receive_stream))
    assert list((tmp_path / "media").iterdir()) == []
    assert (response.status, response.json["error"]) == (400, "invalid")


async def test_an_error_to_head_has_no_body(autojump_clock: MockClock) -> None:
    async with open_stage() as stage:
        response = parse_response(await stage.server.request(b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n"))
    assert (response.status, response.body) == (400, b"")
    assert int(response.headers["content-length"]) > 0


async def test_what_follows_a_head_is_answered_whole(autojump_clock: MockClock) -> None:
    async with open_stage() as stage:
        answers = await stage.server.request(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n")
    _, _, second = answers.partition(b"\r\n\r\n")
    response = parse_response(second)
    assert (response.status, response.json["error"]) == (400, "invalid")


@pytest.mark.parametrize(("path", "methods"), [(b"/upload", "OPTIONS, POST"), (b"/media/x", "GET, HEAD, OPTIONS")])
async def test_options_names_the_methods(autojump_clock: MockClock, path: bytes, methods: str) -> None:
    async with open_stage() as stage:
        response = parse_response(
            await stage.server.request(b"OPTIONS %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path)
        )
    assert response.status == 200
    assert ", ".join(sorted(response.headers["allow"].upper().split(", "))) == methods
