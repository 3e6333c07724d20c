"""What a server writes down while people talk: how their sessions went, and nothing of what they said or signed."""

import io
import json
import logging
import re
from typing import Any

import pytest
import structlog
from trio.testing import MockClock

from ironwire.server.operator.config import LogSettings
from ironwire.server.operator.logs import configure_logging, short_address
from tests.playbook import Stage, identity_of, open_stage
from tests.server.http_toy import parse_response

BODIES = ("meet me at noon", "and bring the parcel", "quarterly figures")


@pytest.fixture
def output(restored_logging: None) -> io.StringIO:
    """The log of this process, everything that any library says included."""
    stream = io.StringIO()
    configure_logging(LogSettings(level="debug", format="json"), stream)
    return stream


def events(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


async def converse(stage: Stage) -> None:
    """Texts, a file's name, a group's name; what is refused, and what is no message."""
    await stage.enter("alice", "bob")
    await stage.enter("dora", device="phone")
    await stage.play(f"""
        alice >> {{"type":"text","payload":{{"to":"$bob","text":"{BODIES[0]}"}}}}
        bob   << {{"type":"text","payload":{{"from":"$alice","text":"{BODIES[0]}"}}}}
        alice >> {{"type":"text","id":"1","payload":{{"to":"$dora","text":"{BODIES[1]}"}}}}
        alice << {{"type":"accepted","id":"1","payload":{{"ts":1790000000000}}}}
        alice >> {{"type":"text","payload":{{"to":"$carol","text":"{BODIES[2]}"}}}}
        alice << {{"type":"error","payload":{{"msg":"user_offline","user":"$carol"}}}}
        bob   >> {{"type":"text","payload":{{"to":"$alice","words":"{BODIES[2]}"}}}}
    """)
    await stage.next_text("bob")
    await stage.server.guard.on_shutdown()


async def test_nothing_that_was_said_signed_or_shown_is_written_down(
    mock_clock: MockClock, output: io.StringIO
) -> None:
    secret = "a-token-that-nobody-may-see"
    async with open_stage() as stage:
        await converse(stage)
        request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n\r\n"
        await stage.server.request(request.encode())
    log = output.getvalue()
    assert log.count("session ended") == 3
    assert [body for body in BODIES if body in log] == []
    assert secret not in log
    for actor in ("alice", "bob", "dora"):
        assert identity_of(actor).client_id not in log, "a client's id is shortened"
    longest = max(len(digits) for line in log.splitlines() for digits in _hex_runs(line))
    assert longest < 16, "a challenge, a signature or a key would be longer"
    assert "127.0.0.1" not in log


async def test_a_session_leaves_two_lines_with_one_id(mock_clock: MockClock, output: io.StringIO) -> None:
    async with open_stage() as stage:
        await stage.connect("alice", headers=[b"User-Agent: a browser"])
        await stage.authenticate("alice")
        await stage.server.guard.on_shutdown()
        await stage.play("alice << close 1012 retry_ms=5000")
    opened, ended = (event for event in events(output) if event["event"].startswith("session "))
    short = identity_of("alice").client_id[:8]
    assert (opened["event"], opened["level"], opened["client"]) == ("session opened", "debug", short)
    assert (ended["event"], ended["level"], ended["client"]) == ("session ended", "info", short)
    assert len(opened["connection"]) == 8
    assert ended["connection"] == opened["connection"]
    assert ended["code"] == "1012"
    assert ended["received"] == 0
    assert ended["sent"] >= 0
    assert ended["seconds"] >= 0


async def test_an_http_error_names_its_lines_in_the_log(mock_clock: MockClock, output: io.StringIO) -> None:
    async with open_stage() as stage:
        answers = []
        for path, version in (("/nothing", "1.1"), ("/healthz", "1.1"), ("/healthz", "3.7")):
            request = f"GET {path} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n"
            answers.append(parse_response(await stage.server.request(request.encode())))
    missing, healthy, refused = answers
    assert (missing.status, healthy.status, refused.status) == (404, 200, 505)
    assert len(missing.headers["x-request-id"]) == len(refused.headers["x-request-id"]) == 8
    assert missing.headers["x-request-id"] != refused.headers["x-request-id"]
    assert "x-request-id" not in healthy.headers
    lines = [(event["connection"], event["status"]) for event in events(output) if "status" in event]
    assert lines == [(answer.headers["x-request-id"], answer.status) for answer in (missing, refused)]


async def test_a_fault_in_a_request_is_found_by_the_id_that_its_answer_names(
    mock_clock: MockClock, output: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_sources: object) -> bytes:
        raise ZeroDivisionError("a fault in the metrics")

    monkeypatch.setattr("ironwire.server.http.monitoring.metrics_text", fail)
    async with open_stage() as stage:
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = parse_response(await stage.server.request(request))
    (fault,) = (event for event in events(output) if event["level"] == "error")
    assert answer.status == 500
    assert "ZeroDivisionError" in fault["exception"]
    assert fault["connection"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("/run/proxy.sock", "/run/proxy.sock"),
    ],
)
def test_whatever_is_logged_as_an_address_is_shortened(output: io.StringIO, address: str, shown: str) -> None:
    structlog.get_logger().warning("refused", address=address)
    logging.getLogger("elsewhere").warning("refused too")
    assert events(output)[0]["address"] == shown
    assert short_address(address) == shown


def _hex_runs(line: str) -> list[str]:
    return re.findall(r"[0-9a-f]{2,}|[A-Za-z0-9+/_-]{40,}", line) or [""]
