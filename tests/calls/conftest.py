"""Real media: a server, coturn, and `ironwire call` in processes of their own, all of it on the loopback.

aiortc and coturn are not for everybody: where one is missing there are no tests here, and `nox -s calls` says so.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from attrs import frozen

from ironwire.client import create_identity
from ironwire.ids import ClientId
from tests.system.processes import SERVER_SECONDS, Process, background, environment, running

collect_ignore_glob = [] if find_spec("aiortc") and shutil.which("turnserver") else ["test_*.py"]

SECRET = "north of the river"
START_SECONDS = 10.0
# aiortc leaves the loopback out of its own addresses, and that is where these tests stay.
ON_THE_LOOPBACK = """\
import aioice.ice
aioice.ice.get_host_addresses = lambda **_: ["127.0.0.1"]
from ironwire.cli import main
main()
"""


@frozen
class Coturn:
    """A TURN server on the loopback that shares `SECRET` with nobody but the server under test."""

    port: int
    log_path: Path

    @property
    def url(self) -> str:
        return f"turn:127.0.0.1:{self.port}?transport=udp"

    def relays(self) -> int:
        """How many it has handed out so far."""
        return self.log_path.read_text(errors="replace").count("ALLOCATE processed, success")


@pytest.fixture(scope="session")
def coturn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coturn]:
    folder = tmp_path_factory.mktemp("coturn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    (folder / "turnserver.conf").write_text(
        f"listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nlistening-port={port}\nmin-port=50000\nmax-port=50100\n"
        f"realm=ironwire.test\nuse-auth-secret\nstatic-auth-secret={SECRET}\n"
        f"allow-loopback-peers\nno-cli\nno-tls\nno-dtls\nno-multicast-peers\nverbose\nlog-file=stdout\n"
        f"pidfile={folder}/turnserver.pid\nuserdb={folder}/turndb\n"
    )
    log_path = folder / "log"
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            ["turnserver", "-c", str(folder / "turnserver.conf")], cwd=folder, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            _wait_for(port, log_path)
            yield Coturn(port, log_path)
        finally:
            process.kill()


def _wait_for(port: int, log_path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"coturn did not start:\n{log_path.read_text(errors='replace')}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, coturn: Coturn) -> Iterator[str]:
    """The URL of a server that offers coturn."""
    folder = tmp_path_factory.mktemp("server")
    variables = environment(folder, IRONWIRE_TURN_URLS=coturn.url, IRONWIRE_TURN_SECRET=SECRET)
    command = ("serve", "--host", "127.0.0.1", "--port", "0", "--data", str(folder / "data"))
    with background(command, folder, variables, SERVER_SECONDS) as process:
        yield process.read_until("listens on").split()[-1]


@frozen
class Caller:
    """Somebody with an identity and a folder for recordings, at the command line."""

    folder: Path
    id: ClientId
    server: str

    @contextmanager
    def start(self, *options: str) -> Iterator[Process]:
        """Run `ironwire call`; standard error comes with standard output."""
        command = [sys.executable, "-c", ON_THE_LOOPBACK, "call", "--server", self.server, "--key", "key", *options]
        with running(command, self.folder, environment(self.folder)) as process:
            yield process


@pytest.fixture
def make_caller(tmp_path: Path, server: str) -> Callable[[str], Caller]:
    return lambda name: Caller(tmp_path / name, create_identity(tmp_path / name / "key").client_id, server)
