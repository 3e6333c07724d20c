"""The probes, and who may read the metrics."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import trio
from quart_trio import QuartTrio
from trio.testing import open_stream_to_socket_listener

from ironwire.counting import Statistics
from ironwire.delivery.hub import HubStatistics
from ironwire.errors import ConfigError
from ironwire.limits import Limits
from ironwire.server.app import create_app
from ironwire.server.http.monitoring import (
    INSTANCE_HEADER,
    METRICS_TYPE,
    MetricsServer,
    Readiness,
    metrics_routes,
    metrics_text,
    probe_routes,
)
from ironwire.server.listener.hypercorn import install
from ironwire.server.operator.config import MetricsSettings, Settings
from ironwire.store.memory.store import MemoryStore

from .http_toy import app_of, parse_response

TOKEN = "correct-horse-battery-staple"
RUN = "0123456789abcdef"
FAR = "203.0.113.9"
SOURCES: Mapping[str, Statistics] = {"hub": lambda: HubStatistics(clients=1, sessions=2)}


def metrics_app(token: str = "") -> QuartTrio:
    return app_of(metrics_routes(SOURCES, token))


async def ask(app: QuartTrio, *, peer: str | None = "127.0.0.1", **headers: str) -> int:
    client = app.test_client()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await client.get("/metrics", headers=named, scope_base={"client": peer and (peer, 1234)})
    return response.status_code


async def test_the_server_is_alive() -> None:
    response = await app_of(probe_routes(lambda: Readiness(is_ready=True), RUN)).test_client().get("/healthz")
    assert (response.status_code, await response.get_data(as_text=True)) == (200, "ok\n")
    assert response.headers[INSTANCE_HEADER] == RUN


@pytest.mark.parametrize(
    ("readiness", "status", "body"),
    [
        (Readiness(is_ready=True), 200, {"ready": True, "reasons": []}),
        (Readiness(is_ready=False, reasons=("draining",)), 503, {"ready": False, "reasons": ["draining"]}),
    ],
)
async def test_the_server_says_whether_it_is_ready(readiness: Readiness, status: int, body: object) -> None:
    response = await app_of(probe_routes(lambda: readiness, RUN)).test_client().get("/readyz")
    assert (response.status_code, await response.get_json()) == (status, body)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1"])
async def test_this_machine_reads_the_metrics(peer: str) -> None:
    assert await ask(metrics_app(), peer=peer) == 200
    assert await ask(metrics_app(TOKEN), peer=peer) == 200


@pytest.mark.parametrize("peer", [FAR, "10.0.0.7", "2001:db8::1", "::ffff:203.0.113.9", "", "unix:", None])
async def test_nobody_else_does(peer: str | None) -> None:
    assert await ask(metrics_app(), peer=peer) == 401
    assert await ask(metrics_app(), peer=peer, Authorization="Bearer ") == 401


@pytest.mark.parametrize(
    "header", ["X_Forwarded_For", "x_forwarded_for", "X_Forwarded_Proto", "X_Real_IP", "Forwarded", "Via"]
)
async def test_a_proxy_on_this_machine_is_not_this_machine(header: str) -> None:
    assert await ask(metrics_app(), **{header: "127.0.0.1"}) == 401
    assert await ask(metrics_app(), **{header: ""}) == 401


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (TOKEN, 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer \xe4\xf6\xfc", 401),
    ],
)
async def test_whoever_has_the_token_reads_them_from_anywhere(shown: str, status: int) -> None:
    assert await ask(metrics_app(TOKEN), peer=FAR, Authorization=shown) == status
    assert await ask(metrics_app(TOKEN), X_Forwarded_For=FAR, Authorization=shown) == status


async def test_the_refusal_says_how_it_is_done_and_the_answer_what_it_is() -> None:
    client = metrics_app(TOKEN).test_client()
    refused = await client.get("/metrics", scope_base={"client": (FAR, 1234)})
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert (await refused.get_json())["error"] == "unauthorized"
    answer = await client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.headers["Content-Type"] == METRICS_TYPE
    assert await answer.get_data() == metrics_text(SOURCES)


async def test_an_address_of_its_own_serves_metrics_and_probes_and_nothing_else() -> None:
    guard = install(Limits(), trio.lowlevel.checkpoint)
    probes = probe_routes(lambda: Readiness(is_ready=True), RUN)
    server = MetricsServer(MetricsSettings(), guard, probes, metrics_routes(SOURCES, ""))
    await server.open()
    (listener,) = server.listeners
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        answers = {}
        for path in ("/metrics", "/healthz", "/readyz", "/ws", "/"):
            async with await open_stream_to_socket_listener(listener) as stream:
                await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                with trio.fail_after(5):
                    answers[path] = parse_response(b"".join([bytes(part) async for part in stream]))
        nursery.cancel_scope.cancel()
    statuses = {path: answer.status for path, answer in answers.items()}
    assert statuses == {"/metrics": 200, "/healthz": 200, "/readyz": 200, "/ws": 404, "/": 404}
    assert answers["/metrics"].body == metrics_text(SOURCES)


async def test_an_address_that_is_taken_stops_the_start_with_its_name() -> None:
    guard = install(Limits(), trio.lowlevel.checkpoint)
    (taken,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with taken:
        port = taken.socket.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*metrics\.port"):
            await MetricsServer(MetricsSettings(port=port), guard).open()


@pytest.mark.parametrize(("port", "status"), [(0, 200), (9464, 404)])
async def test_metrics_with_a_port_of_their_own_are_at_no_other(tmp_path: Path, port: int, status: int) -> None:
    app = create_app(Settings(data=tmp_path, metrics=MetricsSettings(port=port)), open_store=MemoryStore)
    assert await ask(app) == status
