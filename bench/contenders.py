"""Who is measured, and how each is started: a process of its own, in a folder of its own, on a free port of loopback.

IronWire runs as its manual says, with the plain `hypercorn` command and default settings; a measurement that needs
other settings says so.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from bench import cache

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
HOST = "127.0.0.1"
START_SECONDS = 20.0
STOP_SECONDS = 10.0

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATE, _SESSION, _UTIME, _STIME, _RSS = 0, 3, 11, 12, 21
"""Places in /proc/PID/stat, counted from behind the name (proc_pid_stat(5))."""


class DidNotStart(Exception):
    """A server ended, or does not listen; the message is the end of its log."""


@frozen
class Server:
    """A server that listens. Its processes are those of one session, in the sense of setsid(2)."""

    port: int
    _leader: int

    def cpu_seconds(self) -> float:
        """What all its processes have used."""
        return sum(int(stat[_UTIME]) + int(stat[_STIME]) for _, stat in self._stats()) / _TICKS

    def loop_seconds(self) -> float:
        """What the main thread of the busiest process has used; in it runs the event loop."""
        pid = self.busiest_pid()
        stat = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[_UTIME]) + int(stat[_STIME])) / _TICKS

    def resident_kib(self) -> float:
        """The memory of all its processes; what the kernel holds for sockets is not in it."""
        return sum(int(stat[_RSS]) for _, stat in self._stats()) * _PAGE_BYTES / 1024

    def busiest_pid(self) -> int:
        return max(self._stats(), key=lambda each: int(each[1][_UTIME]))[0]

    def _stats(self) -> Iterator[tuple[int, list[str]]]:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                stat = (process / "stat").read_text().rpartition(")")[2].split()
                if int(stat[_SESSION]) == self._leader and stat[_STATE] != "Z":
                    yield int(process.name), stat


@frozen
class Contender:
    """A server that can be started. `command` may hold `{port}`."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    takes_numbers: bool = False
    """Whether a device may number its texts, so that no id has to be remembered."""

    @contextmanager
    def running(self, folder: Path | None = None, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
        """Serve from `folder`, or an empty one that is removed afterwards. It has to be on a disk, not in memory.

        Raises:
            DidNotStart: the message has the end of the log.
        """
        if folder is None:
            with (
                TemporaryDirectory(prefix="run-", dir=cache.cache_folder()) as empty,
                self.running(Path(empty), settings) as server,
            ):
                yield server
            return
        port = _free_port()
        variables = {name: value for name, value in os.environ.items() if not name.startswith("IRONWIRE_")}
        variables |= {"PORT": str(port), "PYTHONPATH": str(ROOT), **self.environment, **(settings or {})}
        command = [part.format(port=port) for part in self.command]
        log_path = folder / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=variables,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            _wait_until_listening(process, port, log_path)
            yield Server(port, process.pid)
        finally:
            _stop(process)


def ironwire() -> Contender:
    command = (
        sys.executable,
        "-m",
        "hypercorn",
        "--worker-class",
        "trio",
        "--bind",
        f"{HOST}:{{port}}",
        "ironwire.asgi:app",
    )
    return Contender("ironwire", command, {}, takes_numbers=True)


def _uvicorn(name: str, app: str, environment: Mapping[str, str]) -> Contender:
    options = ("--host", HOST, "--port", "{port}", "--loop", "uvloop", "--ws", "websockets", "--log-level", "error")
    return Contender(name, (cache.python_tool("uvicorn"), f"bench.peers.{app}:app", *options), environment)


def fastapi() -> Contender:
    return _uvicorn("fastapi", "fastapi_live", {})


def fastapi_each() -> Contender:
    return _uvicorn("fastapi-each", "fastapi_durable", {"COMMIT": "each"})


def fastapi_group() -> Contender:
    return _uvicorn("fastapi-group", "fastapi_durable", {"COMMIT": "group"})


def websockets() -> Contender:
    command = (cache.python_tool("python"), "-m", "bench.peers.websockets_live")
    return Contender("websockets", command, {})


def ws() -> Contender:
    return Contender("ws", (cache.node(), str(PEERS / "ws.cjs")), {"NODE_PATH": str(cache.node_modules())})


def bun() -> Contender:
    program = cache.node_modules() / "@oven/bun-linux-x64/bin/bun"
    return Contender("bun", (str(program), str(PEERS / "bun.cjs")), {})


CONTENDERS = {
    "ironwire": ironwire,
    "fastapi": fastapi,
    "fastapi-each": fastapi_each,
    "fastapi-group": fastapi_group,
    "websockets": websockets,
    "ws": ws,
    "bun": bun,
}
"""By name; making one installs what it needs (`cache.Missing` if that cannot be)."""

TITLES = {
    "ironwire": "IronWire",
    "fastapi": "FastAPI",
    "fastapi-each": "FastAPI, a commit each",
    "fastapi-group": "FastAPI, group commit",
    "websockets": "websockets",
    "ws": "node ws",
    "bun": "Bun",
}
"""By the same names, for people."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.05)
    raise DidNotStart(f"{process.args!r} does not listen:\n{log_path.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
