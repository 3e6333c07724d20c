"""A server whose operator looks away, renews its certificate or closes the terminal goes on, or ends as it should."""

import fcntl
import http.client
import os
import pty
import re
import select
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from tests.server.raw_client import upgrade_request
from tests.system.conftest import IRONWIRE_SERVE, hypercorn_command, running_server
from tests.system.processes import environment, ironwire

SECONDS = 30
PIPE_BYTES = 4096
UNAUTHENTICATED = 60
"""Each leaves a line in the log that is longer than a hundredth of the pipe."""
GOING_AWAY = b"\x03\xf4"
"""The close code 1012."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("the server did not start")


def ask(port: int, path: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


def ask_through_handover(port: int, path: str) -> tuple[int, bytes]:
    """The first answer. Two workers share a listening socket: the one that leaves may take a connection and cut it."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return ask(port, path)
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextmanager
def started(command: list[str], folder: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    env = environment(folder, IRONWIRE_LOG_LEVEL="debug")
    process = subprocess.Popen(command, cwd=folder, env=env, start_new_session=True, **options)  # type: ignore[call-overload]  # what `Popen` takes is not repeated here
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def serving_at(port: int, *more: str) -> list[str]:
    return [*IRONWIRE_SERVE[:-1], str(port), *more]


def hypercorn_at(port: int, *more: str) -> list[str]:
    *command, application = hypercorn_command("ironwire.asgi:app")
    return [*command[:-1], f"127.0.0.1:{port}", *more, application]


@pytest.mark.parametrize(
    "make_command",
    [serving_at, hypercorn_at, lambda port: hypercorn_at(port, "--access-logfile", "-")],
    ids=["ironwire serve", "hypercorn", "hypercorn with an access log"],
)
def test_a_log_that_nobody_reads_stops_nobody(tmp_path: Path, make_command: Callable[[int], list[str]]) -> None:
    port = free_port()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with started(make_command(port), tmp_path, stdout=writer, stderr=writer) as process:
        os.close(writer)
        wait_for(port)
        for _ in range(UNAUTHENTICATED):
            with socket.create_connection(("127.0.0.1", port), SECONDS) as peer:
                peer.sendall(upgrade_request())
                assert peer.recv(100).startswith(b"HTTP/1.1 101 ")
        assert ask(port, "/healthz") == (200, b"ok\n")
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
    os.close(reader)


def test_without_a_standard_error_it_serves(tmp_path: Path) -> None:
    port = free_port()
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *serving_at(port)]
    with started(command, tmp_path, stdout=subprocess.DEVNULL) as process:
        wait_for(port)
        assert ask(port, "/healthz") == (200, b"ok\n")
        # What opens next must not become the standard error.
        assert os.readlink(f"/proc/{process.pid}/fd/2") == os.devnull
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


def write_certificate(authority: trustme.CA, folder: Path) -> int:
    """A new certificate at the same place; what tells it from others."""
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    (folder / "cert.pem").write_bytes(chain)
    return mark_of(chain.decode())


def mark_of(pem: str) -> int:
    end = "-----END CERTIFICATE-----"
    return hash(ssl.PEM_cert_to_DER_cert(pem[: pem.index(end) + len(end)]))


def test_sighup_takes_up_the_renewed_certificate_and_the_level_and_sessions_stay(tmp_path: Path) -> None:
    authority = trustme.CA()
    trust = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    first = write_certificate(authority, tmp_path)
    settings = tmp_path / "ironwire.toml"
    settings.write_text("server.certfile = 'cert.pem'\nserver.keyfile = 'key.pem'\nlog.level = 'error'\n")

    def connect(port: int) -> ssl.SSLSocket:
        return trust.wrap_socket(socket.create_connection(("127.0.0.1", port), SECONDS), server_hostname="localhost")

    def served(port: int) -> int:
        with connect(port) as connection:
            return hash(connection.getpeercert(binary_form=True))

    def wait_until(port: int, mark: int) -> None:
        deadline = time.monotonic() + SECONDS
        while served(port) != mark:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with running_server(IRONWIRE_SERVE, tmp_path) as server, connect(server.port) as session:
        session.sendall(upgrade_request())
        assert session.recv(1000).startswith(b"HTTP/1.1 101 ")
        assert served(server.port) == first
        second = write_certificate(authority, tmp_path)
        settings.write_text(settings.read_text().replace("error", "info"))
        server.signal(signal.SIGHUP)
        wait_until(server.port, second)
        assert "took up the settings again" in server.log()
        (tmp_path / "key.pem").write_text("nonsense")
        server.signal(signal.SIGHUP)
        deadline = time.monotonic() + SECONDS
        while "nothing was changed" not in server.log():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert served(server.port) == second
        session.settimeout(0.2)
        with pytest.raises(TimeoutError):
            session.recv(1000)  # it is still there
        session.settimeout(SECONDS)
        server.signal(signal.SIGTERM)
        assert GOING_AWAY in session.recv(1000)
        assert server.wait() == 0


@pytest.mark.parametrize("goes_to_all", [False, True], ids=["the parent", "the whole group"])
def test_sighup_replaces_the_worker_of_hypercorn_and_sessions_hear_of_it(tmp_path: Path, goes_to_all: bool) -> None:
    port = free_port()
    with started(hypercorn_at(port), tmp_path, stderr=subprocess.DEVNULL) as process:
        wait_for(port)
        with socket.create_connection(("127.0.0.1", port), SECONDS) as session:
            session.sendall(upgrade_request())
            assert session.recv(1000).startswith(b"HTTP/1.1 101 ")
            (os.killpg if goes_to_all else os.kill)(process.pid, signal.SIGHUP)
            assert GOING_AWAY in session.recv(1000)
        assert ask_through_handover(port, "/healthz") == (200, b"ok\n")
        assert process.poll() is None


@pytest.mark.parametrize("is_kept", [False, True], ids=["plain", "nohup"])
def test_a_server_ends_with_its_terminal_unless_it_was_told_not_to(tmp_path: Path, is_kept: bool) -> None:
    port = free_port()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        # Whatever started the tests may ignore it.
        signal.signal(signal.SIGHUP, signal.SIG_IGN if is_kept else signal.SIG_DFL)
        env = environment(tmp_path)
        os.execve(IRONWIRE_SERVE[0], serving_at(port), env)
    try:
        wait_for(port)
        said = b""
        while b"Ctrl-C" not in said:
            readable, _, _ = select.select([terminal], [], [], SECONDS)
            assert readable
            said += os.read(terminal, 1000)
        os.close(terminal)
        if is_kept:
            time.sleep(0.5)
            assert ask(port, "/healthz") == (200, b"ok\n")
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + SECONDS
        while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert os.waitstatus_to_exitcode(ended[1]) == 0
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)


def test_every_address_in_the_banner_works(tmp_path: Path) -> None:
    port = free_port()
    command = [*IRONWIRE_SERVE[:-4], "--host", "::", "--port", str(port)]
    with started(command, tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with process.stdout:
            banner = process.stdout.readline().decode()
        found = re.search(r"listens on http://([a-z]+):(\d+)", banner)
        assert found is not None, banner
        wait_for(port)
        for family, kind, _, _, place in socket.getaddrinfo(found[1], int(found[2]), type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as one:
                one.connect(place)
        assert ask(port, "/healthz") == (200, b"ok\n")


def test_the_doctor_examines_the_server_that_serves_the_folder(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    doctor = ("doctor", "--data", str(mine / "ironwire-data"))
    with running_server(IRONWIRE_SERVE, mine) as server, running_server(IRONWIRE_SERVE, other) as foreign:

        def ask_doctor(*arguments: str, port: int) -> str:
            env = environment(tmp_path, IRONWIRE_SERVER_HOST="127.0.0.1", IRONWIRE_SERVER_PORT=str(port))
            done = ironwire([*doctor, *arguments], tmp_path, env)
            assert not done.stderr, done.stderr
            return " ".join(done.stdout.split())

        said = ask_doctor(port=server.port)
        assert f"process {server.process_group} serves the folder on 127.0.0.1:{server.port}" in said
        said = ask_doctor(port=foreign.port)
        assert f"serves the folder on 127.0.0.1:{server.port}, and the settings say 127.0.0.1:{foreign.port}" in said
        said = ask_doctor("--url", f"http://127.0.0.1:{server.port}", port=server.port)
        assert f"http://127.0.0.1:{server.port} leads to the server" in said
        assert "everybody" not in said
        said = ask_doctor("--url", f"http://127.0.0.1:{foreign.port}", port=server.port)
        assert "leads to another server" in said
