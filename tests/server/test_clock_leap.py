"""A start while the clock is wrong: nothing that anybody is owed is lost, and the operator is told."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from ironwire.delivery.janitor import DAY_MS
from ironwire.errors import AdminError
from ironwire.handlers.operator import Clock, Expire, Observe
from ironwire.server.operator.admin import ask
from ironwire.store.memory.store import MemoryStore
from tests.contract.builders import WIDE
from tests.playbook import NOW_MS, Stage, auth_frame, open_stage, verify_frame

BLOB = "00000000-0000-4000-8000-000000000000.bin"


@asynccontextmanager
async def server(folder: Path, store: MemoryStore, days: float) -> AsyncIterator[Stage]:
    """A run of the server on this folder, while the clock is that many days ahead."""
    now_ms = NOW_MS + int(days * DAY_MS)
    async with open_stage(data=folder, open_store=lambda _: store, now_ms=lambda: now_ms) as stage:
        await wait_all_tasks_blocked()  # until it takes the operator's commands
        yield stage


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(WIDE)


async def first_run(folder: Path, store: MemoryStore) -> Path:
    """A phone is registered, and has mail and a file to fetch; the path of the file."""
    async with server(folder, store, 0) as stage:
        await stage.enter("bob", device="phone")
        await stage.actors["bob"].hang_up()
        await stage.enter("alice")
        await stage.play("""
            alice >> {"type":"text","id":"1","payload":{"to":"$bob","text":"kept"}}
            alice << {"type":"accepted","id":"1","payload":{"ts":1790000000000}}
        """)
        blob = folder / "media" / BLOB
        blob.write_bytes(b"kept")
        os.utime(blob, ns=(NOW_MS * 1_000_000, NOW_MS * 1_000_000))
    return blob


@pytest.mark.parametrize("days", [40, 400])
async def test_a_clock_that_is_ahead_erases_nothing(
    tmp_path: Path, store: MemoryStore, mock_clock: MockClock, days: int
) -> None:
    blob = await first_run(tmp_path, store)
    async with server(tmp_path, store, days) as stage:
        answer = await ask(tmp_path, Clock(confirm=False))
        assert answer == {"leap_ms": days * DAY_MS, "is_believed": False}
        observed = await ask(tmp_path, Observe())
        assert observed is not None
        assert observed["parts"]["clock"]["leap_seconds"] == days * 86_400
        with pytest.raises(AdminError, match=f"the clock is {days}.0 days ahead .* admin clock --confirm"):
            await ask(tmp_path, Expire())
        await stage.connect("bob")
        await stage.actors["bob"].send(auth_frame("bob", device="phone"))
        challenge = json.loads(await stage.next_text("bob"))["challenge"]
        await stage.actors["bob"].send(verify_frame("bob", bytes.fromhex(challenge)))
        assert [json.loads(await stage.next_text("bob"))["type"] for _ in range(3)] == ["auth_ok", "text", "caught_up"]
        assert blob.exists()
    async with server(tmp_path, store, 0):  # the clock was set right
        assert await ask(tmp_path, Clock(confirm=False)) == {"leap_ms": 0, "is_believed": True}


async def test_what_the_operator_confirms_expires(tmp_path: Path, store: MemoryStore, mock_clock: MockClock) -> None:
    blob = await first_run(tmp_path, store)
    async with server(tmp_path, store, 100):
        assert await ask(tmp_path, Clock(confirm=True)) == {"leap_ms": 100 * DAY_MS, "is_believed": True}
        assert await ask(tmp_path, Expire()) == {"entries": 1, "devices": 1, "files": 1}
        assert not blob.exists()
    async with server(tmp_path, store, 100):
        assert await ask(tmp_path, Clock(confirm=False)) == {"leap_ms": 0, "is_believed": True}


async def test_what_is_accepted_while_the_clock_is_behind_lives_as_long_as_ever(
    tmp_path: Path, store: MemoryStore, mock_clock: MockClock
) -> None:
    await first_run(tmp_path, store)
    async with server(tmp_path, store, -20_000) as stage:
        await stage.enter("alice")
        await stage.play("""
            alice >> {"type":"text","id":"2","payload":{"to":"$bob","text":"late"}}
            alice << {"type":"accepted","id":"2","payload":{"ts":1790000000000}}
        """)
    async with server(tmp_path, store, 1) as stage:
        assert await ask(tmp_path, Expire()) == {"entries": 0, "devices": 0, "files": 0}


async def test_a_server_that_was_off_for_a_weekend_needs_nobody(
    tmp_path: Path, store: MemoryStore, mock_clock: MockClock
) -> None:
    await first_run(tmp_path, store)
    async with server(tmp_path, store, 2.9):
        assert await ask(tmp_path, Clock(confirm=False)) == {"leap_ms": 0, "is_believed": True}
