"""The composition: parts that only meet in the application, and what happens when one of them fails."""

import pytest
import structlog
import trio
from trio.testing import MockClock

from ironwire.server.session.sessions import Sessions
from tests.playbook import open_stage
from tests.server.http_toy import RawResponse, parse_response
from tests.server.in_process import InProcessServer
from tests.server.raw_client import RawClient


async def get(server: InProcessServer, path: str) -> RawResponse:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return parse_response(await server.request(request.encode()))


async def test_the_numbers_of_all_parts_are_published(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        await stage.play("""
            alice >> {"type":"text","id":"1","payload":{"to":"$bob","text":"Hello"}}
            alice << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
        """)
        lines = (await get(stage.server, "/metrics")).body.decode().splitlines()
        for line in (
            "ironwire_hub_sessions 2.0",
            "ironwire_hub_clients 2.0",
            "ironwire_sessions_live 2.0",
            'ironwire_delivery_accepted_total{path="relayed",verb="text"} 1.0',
            "ironwire_guard_connections_open 1.0",
        ):
            assert line in lines


async def test_a_server_that_drains_is_not_ready_and_still_alive(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        assert (await get(stage.server, "/readyz")).status == 200
        await stage.server.guard.on_shutdown()
        response = await get(stage.server, "/readyz")
        assert (response.status, response.json["ready"]) == (503, False)
        assert (await get(stage.server, "/healthz")).status == 200


async def test_the_socket_asks_for_an_upgrade_and_is_at_one_path_only(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        assert (await get(stage.server, "/ws")).status == 426
        with pytest.raises(ConnectionRefusedError):
            await RawClient(stage.server.open_stream()).upgrade("/elsewhere")


async def test_a_background_task_that_fails_begins_anew(mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    started_at: list[float] = []

    async def frail_keepalive(self: Sessions) -> None:
        started_at.append(trio.current_time())
        if len(started_at) < 3:
            raise RuntimeError("a fault in the keepalive")
        await trio.sleep_forever()

    monkeypatch.setattr(Sessions, "keepalive", frail_keepalive)
    with structlog.testing.capture_logs() as events:
        async with open_stage() as stage:
            await trio.sleep(10)
            await stage.enter("alice")
    assert started_at == [0, 1, 2]
    assert [event["event"] for event in events if event["log_level"] == "error"] == ["background task failed"] * 2


async def test_two_applications_in_one_process_know_nothing_of_each_other(mock_clock: MockClock) -> None:
    async with open_stage() as here, open_stage() as there:
        await here.enter("alice")
        await there.enter("bob")
        await here.play("""
            alice >> {"type":"text","payload":{"to":"$bob","text":"Hello"}}
            alice << {"type":"error","payload":{"msg":"user_offline","user":"$bob"}}
        """)
        await here.server.guard.on_shutdown()
        await here.play("alice << close 1012 retry_ms=5000")
        await there.play("bob << nothing")
