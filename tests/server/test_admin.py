"""The operator's socket: who may use it, what it answers, and what it makes of a client that behaves badly.

Bans and erasure as clients meet them are conversations on the stage, with a socket of its own.
"""

import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ironwire.errors import AdminError, StoreError
from ironwire.handlers.operator import Ban, Copy, Erase, Expire, ListBlobs, ListClients, ListDevices, Observe, Unban
from ironwire.ids import ClientId
from ironwire.server.operator import admin as admin_module
from ironwire.server.operator.admin import REQUEST_BYTES, REQUEST_SECONDS, SOCKET, AdminSocket, ask, perform
from ironwire.server.operator.config import Settings
from ironwire.store.sqlite.store import SqliteStore
from ironwire.store.survey import DATABASE
from tests.contract.builders import ANN, BOB, PHONE, WIDE, append, apply, envelope, registered
from tests.playbook import NOW_MS, auth_frame, identity_of, open_stage

ALICE = ClientId(identity_of("alice").client_id)
EVERYBODY = ListClients(limit=10, offset=0, is_banned=False)


class Echo:
    """Answers every request with its name, when the limiter is open; or fails."""

    def __init__(self) -> None:
        self.limiter = trio.Event()
        self.limiter.set()
        self.failure: Exception | None = None

    async def answer(self, request: object) -> dict[str, Any]:
        await self.limiter.wait()
        if self.failure is not None:
            raise self.failure
        return {"was": type(request).__name__}


@pytest.fixture
async def echo(tmp_path: Path, nursery: trio.Nursery) -> Echo:
    echo = Echo()
    serving = AdminSocket(tmp_path, echo)  # type: ignore[arg-type]  # it only answers
    nursery.start_soon(serving.run)
    await trio.testing.wait_all_tasks_blocked()
    return echo


async def exchange(folder: Path, line: bytes) -> dict[str, Any]:
    async with await trio.open_unix_socket(folder / SOCKET) as stream:
        await stream.send_all(line)
        reply: dict[str, Any] = json.loads(b"".join([chunk async for chunk in stream]))
        return reply


async def test_a_request_gets_one_answer(echo: Echo, tmp_path: Path) -> None:
    assert await ask(tmp_path, Observe()) == {"was": "Observe"}
    assert await ask(tmp_path, ListDevices(1, 0, ANN)) == {"was": "ListDevices"}
    assert await ask(tmp_path, ListDevices(1, 0)) == {"was": "ListDevices"}


async def test_the_socket_is_its_owners_alone(echo: Echo, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o600


async def test_without_a_server_there_is_no_answer(tmp_path: Path) -> None:
    assert await ask(tmp_path, Observe()) is None
    assert await ask(tmp_path / "nowhere", Observe()) is None


async def test_a_socket_that_a_dead_server_has_left_is_no_server_and_is_replaced(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET))
    assert await ask(tmp_path, Observe()) is None
    nursery.start_soon(AdminSocket(tmp_path, Echo()).run)  # type: ignore[arg-type]  # as above
    await trio.testing.wait_all_tasks_blocked()
    assert await ask(tmp_path, Observe()) == {"was": "Observe"}


async def test_the_socket_goes_with_its_server(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(AdminSocket(tmp_path, Echo()).run)  # type: ignore[arg-type]  # as above
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not (tmp_path / SOCKET).exists()


async def test_a_folder_with_a_long_path_has_a_socket_too(tmp_path: Path, nursery: trio.Nursery) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    nursery.start_soon(AdminSocket(folder, Echo()).run)  # type: ignore[arg-type]  # as above
    await trio.testing.wait_all_tasks_blocked()
    assert await ask(folder, Observe()) == {"was": "Observe"}


async def test_a_file_that_is_no_socket_is_left_alone_and_the_server_goes_on(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    (tmp_path / SOCKET).write_text("mine")
    nursery.start_soon(AdminSocket(tmp_path, Echo()).run)  # type: ignore[arg-type]  # as above
    await trio.testing.wait_all_tasks_blocked()
    assert (tmp_path / SOCKET).read_text() == "mine"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"hello\n", "not a request"),
        (b"[]\n", "not a request"),
        (b'{"verb":"fly"}\n', "whose verb is one of clients,"),
        (b'{"verb":["ban"]}\n', "not a request"),
        (b'{"verb":"ban"}\n', "client is missing"),
        (b'{"verb":"ban","client":"bob"}\n', "client must be a client id"),
        (b'{"verb":"ban","client":"' + b"a" * 64 + b'","why":"x"}\n', "'why' is not a known key"),
        (b'{"verb":"blobs","limit":0}\n', "limit must be from 1 to"),
        (b'{"verb":"blobs","limit":"5"}\n', "limit must be an integer"),
        (b"x" * (REQUEST_BYTES + 1), "not a request"),
        (b"[" * (REQUEST_BYTES + 1), "not a request"),
    ],
)
async def test_what_is_no_request_is_refused_by_name(echo: Echo, tmp_path: Path, line: bytes, fault: str) -> None:
    assert fault in (await exchange(tmp_path, line))["error"]


async def test_a_failure_is_an_answer(echo: Echo, tmp_path: Path) -> None:
    echo.failure = StoreError("the disk is gone")
    with pytest.raises(AdminError, match="the disk is gone"):
        await ask(tmp_path, Observe())
    echo.failure = ZeroDivisionError("a secret of ours")
    with pytest.raises(AdminError, match="its log says how"):
        await ask(tmp_path, Observe())
    echo.failure = None
    assert await ask(tmp_path, Observe()) == {"was": "Observe"}


async def test_whoever_says_nothing_is_cut_and_nobody_else(
    echo: Echo, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with await trio.open_unix_socket(tmp_path / SOCKET) as silent:
        before = trio.current_time()
        assert await silent.receive_some() == b""
        assert trio.current_time() - before == pytest.approx(REQUEST_SECONDS)
    assert await ask(tmp_path, Observe()) == {"was": "Observe"}


async def test_more_than_so_many_at_a_time_are_told_to_wait(
    echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_module, "MOST_AT_A_TIME", 2)
    echo.limiter = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(ask, tmp_path, Observe())
        await trio.testing.wait_all_tasks_blocked(0.05)
        with pytest.raises(AdminError, match="busy"):
            await ask(tmp_path, Observe())
        echo.limiter.set()
    assert await ask(tmp_path, Observe()) == {"was": "Observe"}


async def test_a_server_that_hangs_up_is_an_error(tmp_path: Path, nursery: trio.Nursery) -> None:
    listening = trio.socket.socket(socket.AF_UNIX)
    await listening.bind(str(tmp_path / SOCKET))
    listening.listen(1)

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.aclose()

    nursery.start_soon(trio.serve_listeners, hang_up, [trio.SocketListener(listening)])
    with pytest.raises(AdminError, match="hung up"):
        await ask(tmp_path, Observe())


# --- where no server runs --------------------------------------------------------------------------------------------


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Settings]:
    store = SqliteStore(tmp_path / DATABASE, WIDE)
    await store.open()
    await registered(store, ANN, PHONE, now_ms=NOW_MS)
    await apply(store, append(envelope(BOB, ANN, "hello", ts=NOW_MS)))
    await store.close()
    yield Settings(data=tmp_path)
    assert not (tmp_path / f"{DATABASE}-wal").exists(), "the store was closed"


def now_ms() -> int:
    return NOW_MS


async def test_the_folder_answers_where_no_server_runs(folder: Settings) -> None:
    answer = await perform(folder, EVERYBODY, now_ms)
    assert (answer["total"], answer["rows"][0]["client"], answer["rows"][0]["sessions"]) == (1, ANN, 0)
    assert await perform(folder, Ban(ANN), now_ms) == {"is_news": True, "sessions": 0}
    assert (await perform(folder, EVERYBODY, now_ms))["rows"][0]["is_banned"]
    assert await perform(folder, Unban(ANN), now_ms) == {"is_news": True}
    assert (await perform(folder, ListBlobs(1), now_ms))["total"] == 0
    copied = folder.data / (await perform(folder, Copy(), now_ms))["name"]
    assert copied.exists()
    erased = await perform(folder, Erase(ANN), now_ms)
    assert (erased["devices"], erased["waiting"]) == (1, 1)
    assert await perform(folder, Expire(), now_ms) == {"entries": 0, "devices": 0, "files": 0}


async def test_copies_that_nobody_took_away_are_cleaned_up_a_day_later(folder: Settings) -> None:
    old = folder.data / (await perform(folder, Copy(), now_ms))["name"]
    os.utime(old, (NOW_MS / 1000, NOW_MS / 1000))
    await perform(folder, Copy(), lambda: NOW_MS + 86_400_000)
    assert old.exists()
    await perform(folder, Copy(), lambda: NOW_MS + 86_400_001)
    assert not old.exists()


async def test_a_folder_without_a_database_is_not_made_into_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no"):
        await perform(Settings(data=tmp_path / "typo"), EVERYBODY, now_ms)
    assert not (tmp_path / "typo").exists()


async def test_a_folder_that_is_served_by_somebody_without_a_socket_is_left_alone(folder: Settings) -> None:
    store = SqliteStore(folder.data / DATABASE, WIDE)
    await store.open()
    with pytest.raises(StoreError, match="in use by another"):
        await perform(folder, EVERYBODY, now_ms)
    await store.close()


# --- on the stage ----------------------------------------------------------------------------------------------------


async def test_who_is_banned_leaves_and_does_not_get_in_again(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.enter("alice", "bob")
        assert await ask(stage.data, Ban(ALICE)) == {"is_news": True, "sessions": 1}
        await stage.play("alice << close 4403 banned by the operator")
        await stage.connect("alice.again")
        await stage.actors["alice.again"].send(auth_frame("alice"))
        await stage.play("""
            alice.again << close 4403 banned by the operator
            bob >> {"type":"text","id":"1","payload":{"to":"$bob","text":"still here"}}
            bob << {"type":"text","payload":{"from":"$bob","text":"still here"}}
            bob << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
        """)
        await ask(stage.data, Unban(ALICE))
        await stage.enter("alice.later")


async def test_a_ban_between_challenge_and_signature_holds(mock_clock: MockClock) -> None:
    async with open_stage() as stage:
        await stage.connect("alice")
        await stage.play("""
            alice >> {"type":"auth","payload":{"token":"$alice"}}
            alice << {"type":"auth_challenge","challenge":"$nonce"}
        """)
        await ask(stage.data, Ban(ALICE))
        await stage.play("""
            alice >> {"type":"verify","payload":{"attempt":"$alice_signs"}}
            alice << close 4403 banned by the operator
        """)


async def test_who_is_erased_leaves_its_groups_and_can_come_as_somebody_new(mock_clock: MockClock) -> None:
    async with open_stage(random_bytes=lambda count: bytes(range(count))) as stage:
        await stage.enter("alice", device="phone")
        await stage.enter("bob")
        await stage.play("""
            alice >> {"type":"group_create","id":"1","payload":{"clients":["$bob"]}}
        """)
        made = json.loads(await stage.next_text("bob"))["payload"]["group"]
        answer = await ask(stage.data, Erase(ALICE))
        assert answer is not None
        assert (answer["sessions"], answer["groups"], answer["devices"]) == (1, 1, 1)
        left = json.loads(await stage.next_text("bob"))["payload"]
        assert (left["group"], left["removed"], left["epoch"]) == (made, [ALICE], 2)
        await stage.enter("alice.anew", device="phone")
