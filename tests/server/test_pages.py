"""The page for people, and what all responses have in common."""

import hashlib
import re
from base64 import b64encode
from typing import Any

import pytest
from attrs import evolve
from quart import Response, abort, websocket
from quart_trio import QuartTrio

from ironwire.ids import Origin, parse_origin
from ironwire.server.http.pages import Status, describe_seconds, page_routes

from .http_toy import app_of

STATUS = Status(version="1.2.3", sessions=12_345, uptime_seconds=93_784.9, is_draining=False)


def app_with(
    *,
    status: Status = STATUS,
    origin: Origin | None = None,
) -> QuartTrio:
    return app_of(page_routes(lambda: status, origin))


async def home(app: QuartTrio, **headers: str) -> tuple[Any, str]:
    response = await app.test_client().get("/", headers=headers)
    assert response.status_code == 200
    return response, await response.get_data(as_text=True)


async def test_the_page_says_how_the_server_is_and_how_to_connect() -> None:
    _, page = await home(app_with(origin=parse_origin("https://chat.example")))
    for text in ["1.2.3", "12,345", "1 d 2 h", "Running", "wss://chat.example/ws", "--server https://chat.example"]:
        assert text in page


async def test_the_page_says_that_the_server_is_going() -> None:
    _, page = await home(app_with(status=evolve(STATUS, is_draining=True)))
    assert "Shutting down" in page
    assert "Running" not in page


async def test_without_an_origin_the_page_names_the_host_that_was_asked_and_escapes_it() -> None:
    _, page = await home(app_with(), host="chat.local:8080")
    assert "ws://chat.local:8080/ws" in page
    _, page = await home(app_with(), host="<script>alert(1)</script>")
    assert "<script" not in page


async def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    response, page = await home(app_with())
    style = re.search("<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    digest = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = response.headers["Content-Security-Policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in page
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert links
    assert [link for link in links if not link.startswith(("/", "data:"))] == []


async def test_the_socket_without_an_upgrade() -> None:
    response = await app_with().test_client().get("/ws")
    assert response.status_code == 426
    assert (response.headers["Upgrade"], response.headers["Connection"]) == ("websocket", "Upgrade")
    assert (await response.get_json())["error"] == "upgrade_required"


async def test_the_socket_with_an_upgrade_is_another_route() -> None:
    app = app_with()

    @app.websocket("/ws")
    async def greet() -> None:
        await websocket.send("hello")

    async with app.test_client().websocket("/ws") as client:
        assert await client.receive() == "hello"


@pytest.mark.parametrize(
    ("path", "method", "status", "error"),
    [
        ("/nothing", "GET", 404, "not_found"),
        ("/nothing/../..//", "GET", 404, "not_found"),
        ("/", "POST", 405, "method_not_allowed"),
        ("/broken", "GET", 500, "internal"),
        ("/unheard-of", "GET", 418, "invalid"),
    ],
)
async def test_every_error_is_json(path: str, method: str, status: int, error: str) -> None:
    app = app_with()

    @app.get("/broken")
    async def broken() -> Response:
        raise ZeroDivisionError("with a secret")

    @app.get("/unheard-of")
    async def unheard_of() -> Response:
        abort(418)

    client = app.test_client()
    response = await (client.post(path) if method == "POST" else client.get(path))
    assert response.status_code == status
    body = await response.get_json()
    assert (list(body), body["error"]) == (["error", "detail"], error)
    assert "secret" not in body["detail"]


@pytest.mark.parametrize("path", ["/", "/ws", "/nothing"])
async def test_every_response_is_not_sniffed_and_refers_nowhere(path: str) -> None:
    response = await app_with().test_client().get(path)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (3_599, "59 min 59 s"),
        (3_600, "1 h 0 min"),
        (10**7, "115 d 17 h"),
    ],
)
def test_a_duration_is_told_in_two_units(seconds: float, text: str) -> None:
    assert describe_seconds(seconds) == text
