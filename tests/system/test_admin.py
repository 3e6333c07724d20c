"""The operator's commands on a real server: over its socket, while it serves."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

import pytest

from tests.system.conftest import IRONWIRE_SERVE, Server, running_server
from tests.system.processes import background, environment, ironwire, terminal

START_SECONDS = 10.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server([*IRONWIRE_SERVE, "--data", "data"], tmp_path) as running:
        wait_for_socket(tmp_path)
        yield running


def wait_for_socket(folder: Path) -> None:
    """`serve` says where it listens a moment before it does everything that it does."""
    ends_at = time.monotonic() + START_SECONDS
    while not (folder / "data" / "admin.sock").exists():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return ironwire(arguments, folder, environment(folder))


def said(folder: Path, *arguments: str) -> str:
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer(folder: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(folder, *arguments, "--data", "data", "--json"))
    return found


def test_who_is_banned_is_thrown_out_and_kept_out(server: Server, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.port}"
    client = said(tmp_path, "keygen", "--no-passphrase", "key").strip()
    env = environment(tmp_path)
    with background(("listen", "--key", "key", "--server", url, "--device", "phone", "--json"), tmp_path, env) as here:
        ends_at = time.monotonic() + START_SECONDS
        while not any(row["sessions"] for row in answer(tmp_path, "admin", "clients")["rows"]):
            assert time.monotonic() < ends_at
        assert answer(tmp_path, "admin", "ban", client) == {"is_news": True, "sessions": 1}
        code, _ = here.finish()
        assert code == 1
    again = run(tmp_path, "send", "--key", "key", "--server", url, client, "hello")
    assert again.returncode != 0
    assert "banned by the operator" in again.stderr
    assert answer(tmp_path, "admin", "erase", client, "--yes")["devices"] == 1
    assert [row["is_banned"] for row in answer(tmp_path, "admin", "clients")["rows"]] == [True]


def test_a_server_at_a_glance(server: Server, tmp_path: Path) -> None:
    glance = answer(tmp_path, "top", "--once", "--every", "0.2")
    assert (glance["sessions"], glance["is_draining"], glance["is_failing"]) == (0, False, False)
    assert glance["resident_bytes"] > 1_000_000
    with terminal(("top", "--every", "0.2", "--data", "data"), tmp_path, environment(tmp_path)) as screen:
        screen.read_until("running")
        screen.read_until("mailboxes")
        screen.read_until("running")  # and again
        screen.popen.send_signal(SIGINT)
        assert screen.wait() == 130


def test_the_socket_of_a_server_that_was_killed_is_replaced(server: Server, tmp_path: Path) -> None:
    server.signal_group(SIGKILL)
    server.wait()
    assert (tmp_path / "data" / "admin.sock").exists()
    assert answer(tmp_path, "admin", "clients")["total"] == 0, "the folder is opened instead"
    with running_server([*IRONWIRE_SERVE, "--data", "data"], tmp_path) as again:
        ends_at = time.monotonic() + START_SECONDS
        while run(tmp_path, "top", "--once", "--every", "0.1", "--data", "data").returncode != 0:
            assert time.monotonic() < ends_at
        again.signal(SIGTERM)
        assert again.wait() == 0
    assert not (tmp_path / "data" / "admin.sock").exists()
