"""A command that was forked is what it would be in an interpreter of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.conftest import IRONWIRE_SERVE, STOP_SECONDS, Server, running_server
from tests.system.processes import IRONWIRE, SECONDS, environment, ironwire

OF_ITS_OWN = [sys.executable, "-u", *IRONWIRE_SERVE[1:]]
"""Is not forked, because it does not begin as `IRONWIRE` does."""
STATE = re.compile(r"^(?:Umask|SigBlk|SigIgn|SigCgt):.*", re.MULTILINE)

COMMANDS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "help in a narrow window": (("send", "--help"), {"COLUMNS": "50"}),
    "wrong use": (("send",), {}),
    "an error": (("id", "--key", "nowhere"), {}),
    "another encoding": (("contacts", "add", "陳", "nobody"), {"PYTHONIOENCODING": "latin-1"}),
    "a setting": (("config", "check"), {"IRONWIRE_SERVER_PORT": "none"}),
}


@pytest.mark.parametrize(("arguments", "changes"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_says_the_same(tmp_path: Path, arguments: tuple[str, ...], changes: dict[str, str]) -> None:
    env = environment(tmp_path, **changes)
    forked = ironwire(arguments, tmp_path, env)
    started = subprocess.run(
        [*IRONWIRE, *arguments],
        cwd=tmp_path,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    said = [stream.decode(errors="replace") for stream in (started.stdout, started.stderr)]
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, *said)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """A server that was forked, and one in an interpreter of its own."""
    (tmp_path / "forked").mkdir()
    (tmp_path / "started").mkdir()
    with (
        running_server(IRONWIRE_SERVE, tmp_path / "forked") as forked,
        running_server(OF_ITS_OWN, tmp_path / "started") as started,
    ):
        yield forked, started


def condition(server: Server) -> tuple[list[str], list[str]]:
    """All that the process has open, without numbers and folders, and its mask and signals."""
    process = Path("/proc", str(server.process_group))
    folder = str(server.log_path.parent)
    opened = []
    for descriptor in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            opened.append(re.sub(r"\d+", "", os.readlink(descriptor).replace(folder, "")))
    return sorted(opened), STATE.findall((process / "status").read_text())


def test_a_server_inherits_nothing_else(pair: tuple[Server, Server]) -> None:
    forked, started = pair
    deadline = time.monotonic() + STOP_SECONDS
    while condition(forked) != condition(started) and time.monotonic() < deadline:
        time.sleep(0.05)  # one of them has just begun to listen
    assert condition(forked) == condition(started)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_server_ends_the_same(pair: tuple[Server, Server], number: signal.Signals, code: int) -> None:
    for server in pair:
        server.signal(number)
    assert [server.wait() for server in pair] == [code, code]
