"""`/link` and `/backup`, docs/protocol.md, sections 8.2 and 8.3."""

import hashlib
import json
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from ironwire.errors import StoreError, StoreFull
from ironwire.limits import BACKUP_BYTES, LINK_BYTES, Limits
from ironwire.store.contract.records import Quota
from ironwire.store.contract.store import Store
from ironwire.store.memory.store import MemoryStore
from ironwire.store.sqlite.store import SqliteStore
from tests.playbook import NOW_MS, Stage, open_stage
from tests.server.http_toy import RawResponse, parse_response
from tests.server.in_process import read_to_end

LINK, OTHER_LINK = "/link/" + "1f" * 16, "/link/" + "2f" * 16
BACKUP, OTHER_BACKUP = "/backup/" + "1b" * 16, "/backup/" + "2b" * 16
CHUNKED = b"Transfer-Encoding: chunked"


@asynccontextmanager
async def open_timeless_stage(clock: MockClock, **settings: Any) -> AsyncIterator[Stage]:
    async with open_stage(random_bytes=os.urandom, **settings) as stage:
        clock.autojump_threshold = math.inf
        yield stage


def coming_from(number: int) -> bytes:
    return b"X-Forwarded-For: 192.0.2.%d" % number


async def ask(stage: Stage, method: str, path: str, *headers: bytes, body: bytes | None = None) -> RawResponse:
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close", *headers]
    if body is not None and CHUNKED not in headers:
        lines.append(b"Content-Length: %d" % len(body))
    return parse_response(await stage.server.request(b"\r\n".join([*lines, b"", body or b""])))


async def put(stage: Stage, path: str, body: bytes, *headers: bytes) -> RawResponse:
    return await ask(stage, "PUT", path, *headers, body=body)


async def get(stage: Stage, path: str, *headers: bytes) -> RawResponse:
    return await ask(stage, "GET", path, *headers)


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


async def token_of(stage: Stage, actor: str) -> bytes:
    """The header of somebody who has asked for a token."""
    if actor not in stage.actors:
        await stage.enter(actor)
    await stage.play(f'{actor} >> {{"type":"upload_token"}}')
    token: str = json.loads(await stage.next_text(actor))["payload"]["token"]
    return b"Authorization: IronWire " + token.encode()


# --- links -----------------------------------------------------------------------------------------------------------


async def test_an_answer_waits_for_the_new_device(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock) as stage:
        assert (await get(stage, LINK)).json["error"] == "not_found"
        answer = os.urandom(LINK_BYTES)
        left = await put(stage, LINK, answer)
        assert (left.status, left.json) == (200, {"expires": NOW_MS + 300_000})
        for _ in range(2):  # a reply may be lost
            fetched = await get(stage, LINK)
            assert (fetched.status, fetched.body) == (200, answer)
            assert fetched.headers["content-type"] == "application/octet-stream"
            assert fetched.headers["cache-control"] == "no-store"
            assert fetched.headers["content-disposition"] == "attachment"
        assert (await get(stage, OTHER_LINK)).status == 404
        assert (await put(stage, OTHER_LINK, chunks(b"one ", b"two"), CHUNKED)).status == 200
        assert (await get(stage, OTHER_LINK)).body == b"one two"


async def test_an_answer_is_written_once(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock) as stage:
        assert (await put(stage, LINK, b"first")).status == 200
        again = await put(stage, LINK, b"other")
        assert (again.status, again.json["error"]) == (409, "conflict")
        mock_clock.jump(100)
        assert (await put(stage, LINK, b"first")).json == {"expires": NOW_MS + 300_000}
        assert (await get(stage, LINK)).body == b"first"


async def test_an_answer_is_gone_after_five_minutes(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock) as stage:
        await put(stage, LINK, b"first")
        mock_clock.jump(299)
        assert (await get(stage, LINK)).status == 200
        mock_clock.jump(1)
        assert (await get(stage, LINK)).status == 404
        assert (await put(stage, LINK, b"other")).status == 200


async def test_links_are_limited_for_an_address(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock, limits=Limits(links_per_minute=2)) as stage:
        for verb, body in (("GET", None), ("PUT", b"answer")):
            answers = [await ask(stage, verb, LINK, coming_from(1), body=body) for _ in range(3)]
            assert answers[-1].status == 429
            assert answers[-1].json["error"] == "rate_limited"
            assert 0 < int(answers[-1].headers["retry-after"]) <= 30
            assert 429 not in [answer.status for answer in answers[:2]]
            assert (await ask(stage, verb, LINK, coming_from(2), body=body)).status == 200 or verb == "GET"
        mock_clock.jump(30)
        assert (await get(stage, LINK, coming_from(1))).body == b"answer"


async def test_so_many_answers_wait_at_a_time(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock, limits=Limits(links_at_a_time=1)) as stage:
        assert (await put(stage, LINK, b"one")).status == 200
        refused = await put(stage, OTHER_LINK, b"two")
        assert (refused.status, refused.headers["retry-after"]) == (429, "300")
        assert (await put(stage, LINK, b"one")).status == 200
        mock_clock.jump(300)
        assert (await put(stage, OTHER_LINK, b"two")).status == 200


async def test_the_metrics_tell_of_links_and_backups(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock, limits=Limits(links_per_minute=1, backups_per_hour=1)) as stage:
        await put(stage, LINK, b"one")
        await put(stage, BACKUP, b"blob", await token_of(stage, "alice"), coming_from(1))
        await put(stage, BACKUP, b"blob", await token_of(stage, "alice"), coming_from(1))
        for path in (LINK, BACKUP):
            for _ in range(2):
                await get(stage, path, coming_from(1))
        page = (await get(stage, "/metrics")).body.decode()
        for line in (
            "links_waiting 1.0",
            "links_stored_total 1.0",
            "links_refused_total 1.0",
            "backups_stored_total 1.0",
            "backups_fetched_total 1.0",
            "backups_refused_total 2.0",
        ):
            assert f"ironwire_{line}\n" in page


# --- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "backup"])
@pytest.mark.parametrize("name", ["", "1f", "1F" * 16, "1g" * 16, "1f" * 17, "../media", "%2e%2e/" + "1f" * 16])
async def test_other_names_lead_nowhere(mock_clock: MockClock, kind: str, name: str) -> None:
    async with open_timeless_stage(mock_clock) as stage:
        for method, body in (("GET", None), ("PUT", b"x")):
            answer = await ask(stage, method, f"/{kind}/{name}", body=body)
            assert (answer.status, answer.json["error"]) == (404, "not_found")


@pytest.mark.parametrize(("path", "most"), [(LINK, LINK_BYTES), (BACKUP, BACKUP_BYTES)])
async def test_a_body_that_is_too_large_is_refused_at_once(mock_clock: MockClock, path: str, most: int) -> None:
    async with open_timeless_stage(mock_clock) as stage:
        token = await token_of(stage, "alice")
        declared = [f"PUT {path} HTTP/1.1".encode(), b"Host: localhost", token, b"Content-Length: %d" % (most + 1)]
        answer = parse_response(await stage.server.request(b"\r\n".join([*declared, b"", b""])))
        assert (answer.status, answer.json["error"]) == (413, "too_large")
        assert answer.headers["connection"] == "close"
        token = await token_of(stage, "alice")
        in_pieces = chunks(bytes(most), b"x")
        assert (await put(stage, path, in_pieces, CHUNKED, token)).status == 413
        assert (await get(stage, path)).status == 404
        token = await token_of(stage, "alice")
        assert (await put(stage, path, chunks(bytes(most)), CHUNKED, token)).status == 200


@pytest.mark.parametrize("path", [LINK, BACKUP])
async def test_a_body_that_stalls_or_ends_early_is_none(mock_clock: MockClock, path: str) -> None:
    async with open_timeless_stage(mock_clock, limits=Limits(upload_idle_seconds=5)) as stage:
        for end, status in ((False, 408), (True, 400)):
            token = await token_of(stage, "alice")
            begun = [f"PUT {path} HTTP/1.1".encode(), b"Host: localhost", token, b"Content-Length: 9", b"", b"half"]
            stream = stage.server.open_stream(memory_stream_pair)
            await stream.send_all(b"\r\n".join(begun))
            await wait_all_tasks_blocked()
            if end:
                await stream.send_eof()
            else:
                mock_clock.jump(5)
            with trio.fail_after(60):
                assert parse_response(await read_to_end(stream)).status == status
        assert (await get(stage, path)).status == 404


@pytest.mark.parametrize("path", [LINK, BACKUP])
async def test_the_head_alone_can_be_asked_for(mock_clock: MockClock, path: str) -> None:
    async with open_timeless_stage(mock_clock) as stage:
        assert (await ask(stage, "HEAD", path)).status == 404
        await put(stage, path, b"body", await token_of(stage, "alice"))
        answer = await ask(stage, "HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        assert (await ask(stage, "DELETE", path)).status == 405


@pytest.mark.parametrize("path", [LINK, BACKUP])
async def test_pages_of_other_sites_may_use_neither(mock_clock: MockClock, path: str) -> None:
    async with open_timeless_stage(mock_clock) as stage:
        asked = [b"Origin: https://evil.example", b"Access-Control-Request-Method: PUT"]
        answer = await ask(stage, "OPTIONS", path, *asked)
        assert not [name for name in answer.headers if name.startswith("access-control")]


# --- backups ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_backup_is_stored_by_its_client_and_read_by_whoever_knows_its_name(
    mock_clock: MockClock, tmp_path: Path, kind: str
) -> None:
    def open_store(quota: Quota) -> Store:
        return MemoryStore(quota) if kind == "memory" else SqliteStore(tmp_path / "ironwire.db", quota)

    async with open_timeless_stage(mock_clock, open_store=open_store) as stage:
        for blob in (os.urandom(1000), os.urandom(BACKUP_BYTES)):
            stored = await put(stage, BACKUP, blob, await token_of(stage, "alice"))
            assert stored.status == 200
            assert stored.json == {"size": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
            fetched = await get(stage, BACKUP)
            assert (fetched.status, fetched.body) == (200, blob)
            assert fetched.headers["cache-control"] == "no-store"
        assert (await get(stage, OTHER_BACKUP)).status == 404


async def test_nobody_stores_a_backup_without_a_token(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock) as stage:
        token = await token_of(stage, "alice")
        assert (await put(stage, BACKUP, b"first", token)).status == 200
        for header in (b"X: y", token, b"Authorization: IronWire 00", b"Authorization: Bearer x"):
            refused = await put(stage, BACKUP, b"other", header)
            assert (refused.status, refused.json["error"]) == (401, "unauthorized")
            assert refused.headers["www-authenticate"] == "ironwire"
        assert (await get(stage, BACKUP)).body == b"first"


async def test_nobody_else_writes_under_the_name(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock) as stage:
        await put(stage, BACKUP, b"of alice", await token_of(stage, "alice"))
        refused = await put(stage, BACKUP, b"of bob", await token_of(stage, "bob"))
        assert (refused.status, refused.json["error"]) == (403, "forbidden")
        assert (await get(stage, BACKUP)).body == b"of alice"


async def test_a_client_has_two_backups_and_removes_one_with_an_empty_one(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock) as stage:
        for path in (BACKUP, OTHER_BACKUP):
            assert (await put(stage, path, b"mine", await token_of(stage, "alice"))).status == 200
        third = "/backup/" + "3b" * 16
        refused = await put(stage, third, b"mine", await token_of(stage, "alice"))
        assert (refused.status, refused.json["error"]) == (409, "conflict")
        assert (await put(stage, BACKUP, b"", await token_of(stage, "alice"))).json["size"] == 0
        assert (await get(stage, BACKUP)).status == 404
        assert (await put(stage, third, b"mine", await token_of(stage, "alice"))).status == 200


async def test_backups_are_limited_for_an_address(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock, limits=Limits(backups_per_hour=2)) as stage:
        for number in range(3):
            token = await token_of(stage, "alice")
            answer = await put(stage, BACKUP, b"%d" % number, token, coming_from(1))
            assert answer.status == (200 if number < 2 else 429)
        fetched = [await get(stage, BACKUP, coming_from(1)) for _ in range(3)]
        assert [answer.status for answer in fetched] == [200, 200, 429]
        assert 0 < int(fetched[-1].headers["retry-after"]) <= 1800
        assert (await get(stage, BACKUP, coming_from(2))).body == b"1"
        mock_clock.jump(1800)
        assert (await get(stage, BACKUP, coming_from(1))).status == 200


async def test_all_backups_together_have_so_much_room(mock_clock: MockClock) -> None:
    async with open_timeless_stage(mock_clock, limits=Limits(backups_bytes=10)) as stage:
        assert (await put(stage, BACKUP, bytes(6), await token_of(stage, "alice"))).status == 200
        full = await put(stage, OTHER_BACKUP, bytes(6), await token_of(stage, "bob"))
        assert (full.status, full.json["error"]) == (507, "storage_full")


class Broken(MemoryStore):
    error: StoreError = StoreError("the disk is gone")

    async def keep_backup(self, *_: Any) -> Any:
        raise self.error

    async def backup(self, *_: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(StoreError("the disk is gone"), 500, "internal"), (StoreFull("no room"), 507, "storage_full")],
)
async def test_a_store_that_fails_says_so(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, error: StoreError, status: int, code: str
) -> None:
    monkeypatch.setattr(Broken, "error", error)
    async with open_timeless_stage(mock_clock, open_store=Broken) as stage:
        stored = await put(stage, BACKUP, b"blob", await token_of(stage, "alice"))
        for answer in (stored, await get(stage, BACKUP)):
            assert (answer.status, answer.json["error"]) == (status, code)
            assert "disk" not in answer.json["detail"]
