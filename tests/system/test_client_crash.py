"""`kill -9` for programs that send and receive: what was kept is sent, what came is handed out, both exactly once."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ironwire.client import Identity, Owner, ServerAddress, StoreKey, create_identity, read_history
from ironwire.ids import DeviceId
from tests.system.conftest import REPOSITORY, Server

KILLS = 3
PER_RUN = 150
SECONDS = 60.0
SEED = 3


@contextmanager
def program(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The program, with what it prints appended to `log`; killed at the end of the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.device_program", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_lines(log: Path, count: int) -> list[str]:
    deadline = time.monotonic() + SECONDS
    while len(found := log.read_text().splitlines()) < count:
        assert time.monotonic() < deadline, f"{len(found)} lines of {count}"
        time.sleep(0.005)
    return found


def test_programs_that_are_killed(tmp_path: Path, ironwire_server: Server) -> None:
    chance = random.Random(SEED)
    server = f"http://127.0.0.1:{ironwire_server.port}"
    alice, bob = create_identity(tmp_path / "alice"), create_identity(tmp_path / "bob")
    sent, got = tmp_path / "sent", tmp_path / "got"
    writing = ("write", server, str(tmp_path / "alice"), str(tmp_path / "write.db"), bob.client_id)
    reading = ("read", server, str(tmp_path / "bob"), str(tmp_path / "read.db"))

    with program(got, *reading):
        wait_for_lines(got, 1)
    sent.touch()
    for _ in range(KILLS):
        begun = len(sent.read_text().splitlines())
        printed = len(got.read_text().splitlines())
        with program(sent, *writing, str(begun), str(PER_RUN)), program(got, *reading):
            wait_for_lines(sent, begun + chance.randrange(1, PER_RUN))
            wait_for_lines(got, printed + chance.randrange(2, 40))
    begun = len(sent.read_text().splitlines())
    with program(sent, *writing, str(begun), "1") as last:
        assert last.wait(SECONDS) == 0

    kept = [text for text, _ in history(tmp_path / "write.db", alice, server, "write", bob)]
    assert kept[-1] == str(begun)
    with program(got, *reading):
        deadline = time.monotonic() + SECONDS
        while kept[-1] not in got.read_text().splitlines() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert {state for _, state in history(tmp_path / "write.db", alice, server, "write", bob)} == {"accepted"}
    assert [text for text, _ in history(tmp_path / "read.db", bob, server, "read", alice)] == kept
    assert once_each(got.read_text().splitlines()) == kept


def history(path: Path, identity: Identity, server: str, device: str, peer: Identity) -> list[tuple[str, str]]:
    owner = Owner(identity.client_id, DeviceId(device), ServerAddress.parse(server).origin)
    entries = read_history(path, owner, StoreKey.of(identity), peer.client_id, 100_000)
    return [(getattr(entry.message, "text", ""), entry.state) for entry in entries]


def once_each(lines: list[str]) -> list[str]:
    """What the reader was handed. What it was handed last before a kill may come again, as the first thing after."""
    texts: list[str] = []
    is_first = False
    for line in lines:
        if line == "ready":
            is_first = True
        else:
            if not (is_first and texts and texts[-1] == line):
                texts.append(line)
            is_first = False
    return texts
