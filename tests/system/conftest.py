"""Real servers as processes, each on a free port of the loopback: `hypercorn` and `ironwire serve`."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, Signals

import pytest
import trio
from attrs import define

from tests.system.forked import Forked, fork
from tests.system.processes import IRONWIRE

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 20.0
STOP_SECONDS = 10.0

_RUNNING = re.compile(r"(?:Running|listens) on https?://127\.0\.0\.1:(\d+)")


@define(eq=False)
class Server:
    """A command that listens on `port`."""

    port: int
    log_path: Path
    _process: subprocess.Popen[bytes] | Forked

    @property
    def process_group(self) -> int:
        """That of the command and its workers."""
        return self._process.pid

    def has_exited(self) -> bool:
        return self._process.poll() is not None

    def log(self) -> str:
        return self.log_path.read_text()

    def signal(self, number: Signals) -> None:
        """Send a signal to the command alone."""
        self._process.send_signal(number)

    def signal_group(self, number: Signals) -> None:
        """Send a signal to the command and its workers, as a service manager does."""
        os.killpg(self._process.pid, number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Return the exit code.

        Raises:
            subprocess.TimeoutExpired: the server is still running.
        """
        return self._process.wait(seconds)

    async def open_stream(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


StartServer = Callable[..., Server]


def hypercorn_command(application: str) -> list[str]:
    return [sys.executable, "-m", "hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:0", application]


IRONWIRE_SERVE = [*IRONWIRE, "serve", "--host", "127.0.0.1", "--port", "0"]


@contextmanager
def running_server(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Run `command` from `folder`, which holds its data and log; nothing of it is left behind. `ironwire` is forked."""
    log_path = folder / "server.log"
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **(environment or {})}
    process: subprocess.Popen[bytes] | Forked
    with log_path.open("wb") as log, open(os.devnull, "rb") as nothing:
        if command[: len(IRONWIRE)] == list(IRONWIRE):
            streams = (nothing.fileno(), log.fileno(), log.fileno())
            process = fork(command[len(IRONWIRE) :], folder, variables, streams, leads_session=True)
        else:
            process = subprocess.Popen(
                command, cwd=folder, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
    try:
        yield Server(_wait_for_port(process, log_path), log_path, process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)
        process.wait()


def _wait_for_port(process: subprocess.Popen[bytes] | Forked, log_path: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = _RUNNING.search(log_path.read_text())
        if found is not None:
            return int(found[1])
        time.sleep(0.02)
    raise RuntimeError(f"the server did not start:\n{log_path.read_text()}")


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Start servers that live as long as the test: `start_server("ironwire.asgi:app", {"IRONWIRE_...": "..."})`."""
    with ExitStack() as servers:

        def start(application: str, environment: dict[str, str] | None = None) -> Server:
            folder = tmp_path_factory.mktemp("server")
            return servers.enter_context(running_server(hypercorn_command(application), folder, environment))

        yield start


@pytest.fixture(scope="session")
def stock_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server without the guard, for all tests that leave it as they found it."""
    with running_server(hypercorn_command("tests.system.toy:app"), tmp_path_factory.mktemp("stock")) as server:
        yield server


@pytest.fixture(scope="session")
def ironwire_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One `ironwire.asgi:app` for all tests that leave it as they found it."""
    with running_server(hypercorn_command("ironwire.asgi:app"), tmp_path_factory.mktemp("ironwire")) as server:
        yield server
