"""The client of docs/guide/ against the real server: what we tell others to write works, and loses nothing."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nacl.signing import SigningKey

from tests.system.conftest import IRONWIRE_SERVE, running_server
from tests.system.processes import SECONDS, Process, environment

CLIENT = Path(__file__).parents[2] / "docs" / "guide" / "minimal_client.py"


def test_two_of_the_guides_clients_talk_across_a_restart_of_one(tmp_path: Path) -> None:
    ann, bob = (identity(tmp_path / f"{name}.key") for name in ("ann", "bob"))
    with running_server(IRONWIRE_SERVE, tmp_path) as server:
        url = f"ws://localhost:{server.port}/ws"
        with client(tmp_path, url, "bob.key", ann) as there:
            there.read_until("connected as " + bob)
        with client(tmp_path, url, "ann.key", bob) as here:
            here.read_until("connected as " + ann)
            for line in ("Hello", "are you there?", "no"):
                here.enter(line)
            with client(tmp_path, url, "bob.key", ann) as there:
                for line in ("Hello", r"are you there\?", "no"):
                    there.read_until(f"^{ann[:8]}: {line}$")
                there.enter("I am now")
                here.read_until(f"^{bob[:8]}: I am now$")
            with client(tmp_path, url, "bob.key", ann) as there:
                here.enter("again")
                assert there.read_until(f"^{ann[:8]}: ") == f"{ann[:8]}: again"


def test_the_guides_client_loses_nothing_that_was_too_much_at_once(tmp_path: Path) -> None:
    ann, bob = (identity(tmp_path / f"{name}.key") for name in ("ann", "bob"))
    lines = [f"line {number}." for number in range(9)]
    limits = {"IRONWIRE_LIMITS_MESSAGES_AT_ONCE": "4", "IRONWIRE_LIMITS_MESSAGES_PER_SECOND": "4"}
    with running_server(IRONWIRE_SERVE, tmp_path, limits) as server:
        url = f"ws://localhost:{server.port}/ws"
        with client(tmp_path, url, "bob.key", ann) as there, client(tmp_path, url, "ann.key", bob) as here:
            there.read_until("connected as " + bob)
            here.read_until("connected as " + ann)
            for line in lines:
                here.enter(line)
            assert [there.read_until(f"^{ann[:8]}: ").partition(": ")[2] for _ in lines] == lines


def test_the_guides_client_receives_through_a_small_window(tmp_path: Path) -> None:
    ann, bob = (identity(tmp_path / f"{name}.key") for name in ("ann", "bob"))
    lines = [f"line {number}." for number in range(30)]
    limits = {"IRONWIRE_LIMITS_WINDOW_ENVELOPES": "3", "IRONWIRE_LIMITS_WINDOW_BYTES": "1024"}
    with running_server(IRONWIRE_SERVE, tmp_path, limits) as server:
        url = f"ws://LOCALHOST:{server.port}/ws"
        with client(tmp_path, url, "bob.key", ann) as there, client(tmp_path, url, "ann.key", bob) as here:
            there.read_until("connected as " + bob)
            for line in [*lines, "x" * 900]:
                here.enter(line)
            assert [there.read_until(f"^{ann[:8]}: ").partition(": ")[2] for _ in lines] == lines
            there.read_until(f"^{ann[:8]}: x+$")


def identity(path: Path) -> str:
    key = SigningKey.generate()
    path.write_bytes(bytes(key))
    return bytes(key.verify_key).hex()


@contextmanager
def client(folder: Path, *arguments: str) -> Iterator[Process]:
    with subprocess.Popen(
        [sys.executable, CLIENT, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment(folder),
    ) as popen:
        watchdog = threading.Timer(SECONDS, popen.kill)
        watchdog.start()
        try:
            yield Process(popen)
        finally:
            watchdog.cancel()
            popen.kill()
