"""Planted misconfigurations of the machine, each found: real files, real locks, real sockets."""

import fcntl
import os
import resource
import socket
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
import trio
import trustme
from click.testing import CliRunner, Result

import ironwire.server.listener.hypercorn
from ironwire.cli import cli
from ironwire.cli.exits import ExitCode
from ironwire.cli.operator.doctor import data, examine, machine
from ironwire.cli.operator.doctor.findings import Finding, Verdict
from ironwire.cli.operator.doctor.turn import examine_turn
from ironwire.crypto.signing import DeviceKey, Identity
from ironwire.handlers.ice import IceUrl
from ironwire.protocol.devices.log import DeviceLog
from ironwire.protocol.devices.log_entry import LogOp, sign_entry
from ironwire.server.operator.loading import load_settings
from ironwire.store.contract.records import Quota
from ironwire.store.sqlite.store import SqliteStore

ANN = Identity.from_seed(b"a" * 32)
NOBODY = 65534
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and an environment without settings."""
    for variable in os.environ:
        if variable.startswith("IRONWIRE_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def settings_file(folder: Path) -> Path:
    """The settings of a server that is well, and does not run."""
    (folder / "data").mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = folder / "ironwire.toml"
    file.write_text(
        f"data = 'data'\nlimits.connections = 500\nserver.host = '127.0.0.1'\nserver.port = {port}\nauth.origins = ['https://chat.example']\n"
    )
    file.chmod(0o600)
    return file


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def replace(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


async def database(folder: Path) -> Path:
    """A database as a server leaves it."""
    store = SqliteStore(folder / "data" / "ironwire.db", Quota(1, 1, 1, 1, 1))
    await store.open()
    await store.close()
    return folder / "data" / "ironwire.db"


async def found(settings_file: Path, check: str) -> Finding:
    """What one check says, given that all others find nothing worse than the user who runs the tests."""
    findings = await examine(settings_file, None)
    others = {each.check for each in findings if each.verdict is not Verdict.OK} - {check, "user"}
    assert not others
    worst = max((each for each in findings if each.check == check), key=lambda each: each.verdict)
    assert bool(worst.remedy) == (worst.verdict is not Verdict.OK)
    return worst


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *arguments], prog_name="ironwire")


# --- the command -----------------------------------------------------------------------------------------------------


async def test_a_machine_that_is_well(settings_file: Path, folder: Path) -> None:
    await database(folder)
    findings = await examine(settings_file, None)
    assert {each.check: each.what for each in findings if each.verdict is not Verdict.OK and each.check != "user"} == {}


async def test_the_doctor_changes_nothing(settings_file: Path, folder: Path) -> None:
    path = await database(folder)
    before = path.read_bytes(), set(os.listdir(folder / "data"))
    await examine(settings_file, None)
    assert (path.read_bytes(), set(os.listdir(folder / "data"))) == before


def test_only_a_fault_is_an_exit_code(settings_file: Path, folder: Path) -> None:
    well = run()
    assert well.exit_code == ExitCode.OK
    assert "OK   settings" in well.stdout
    (folder / "data").chmod(0o755)
    ill = run()
    assert ill.exit_code == 1
    assert "FAIL data folder" in ill.stdout
    assert "→ chmod 700" in ill.stdout


def test_in_a_terminal_a_finding_wraps_between_words_below_its_column(
    settings_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "data").chmod(0o755)
    lines = run().stdout.splitlines()
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "60"}.items():
        monkeypatch.setenv(name, value)
    wrapped = [line.rstrip() for line in click.unstyle(run().stdout).splitlines()]
    assert [line for line in wrapped if len(line) > 60] == []
    assert max(map(len, lines)) > 60
    assert [line for line in wrapped if line.startswith(" " * 21 + "→ chmod 700")]
    assert {line[:21].rstrip() for line in wrapped} == {line[:21].rstrip() for line in lines}


def test_settings_that_cannot_be_used_are_all_named(settings_file: Path) -> None:
    settings_file.write_text("server.prot = 80\nlimits.frame_bytes = 'many'\n")
    result = run("--config", str(settings_file))
    assert result.exit_code == 1
    assert "server.prot is not a setting; did you mean server.port?" in result.stdout
    assert "limits.frame_bytes = 'many' cannot be used: must be a whole number" in result.stdout
    assert "hypercorn" in result.stdout


# --- the data folder -------------------------------------------------------------------------------------------------


async def test_a_data_folder_that_is_not_there(settings_file: Path, folder: Path) -> None:
    (folder / "data").rmdir()
    finding = await found(settings_file, "data folder")
    assert finding.verdict is Verdict.FAIL
    assert "is not there" in finding.what


async def test_a_data_folder_that_is_a_file(settings_file: Path, folder: Path) -> None:
    (folder / "data").rmdir()
    (folder / "data").touch()
    assert "is not a folder" in (await found(settings_file, "data folder")).what


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
async def test_a_data_folder_that_others_can_enter(settings_file: Path, folder: Path, mode: int) -> None:
    (folder / "data").chmod(mode)
    finding = await found(settings_file, "data folder")
    assert finding.verdict is Verdict.FAIL
    assert f"mode {mode:04o}" in finding.what
    assert finding.remedy.startswith("chmod 700 ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
async def test_a_data_folder_that_cannot_be_written(settings_file: Path, folder: Path) -> None:
    (folder / "data").chmod(0o500)
    assert "cannot be written" in (await found(settings_file, "data folder")).what


@ROOT_ONLY
async def test_a_database_that_a_start_as_root_left_behind(settings_file: Path, folder: Path) -> None:
    await database(folder)
    os.chown(folder / "data", NOBODY, NOBODY)
    finding = await found(settings_file, "owner")
    assert finding.verdict is Verdict.FAIL
    assert "ironwire.db belongs to root" in finding.what
    assert finding.remedy.startswith("chown -R ")


async def test_a_database_that_is_none(settings_file: Path, folder: Path) -> None:
    (folder / "data" / "ironwire.db").write_bytes(b"not a database, and longer than the header of one" * 100)
    finding = await found(settings_file, "database")
    assert finding.verdict is Verdict.FAIL
    assert "file is not a database" in finding.what


async def test_a_database_that_is_damaged(settings_file: Path, folder: Path) -> None:
    path = await database(folder)
    content = bytearray(path.read_bytes())
    content[8192:12288] = os.urandom(4096)
    path.write_bytes(content)
    assert (await found(settings_file, "database")).verdict is Verdict.FAIL


async def test_a_database_of_a_later_version(settings_file: Path, folder: Path) -> None:
    with closing(sqlite3.connect(await database(folder))) as connection:
        connection.execute("PRAGMA user_version = 999")
    finding = await found(settings_file, "database")
    assert finding.verdict is Verdict.FAIL
    assert "schema 999" in finding.what


async def test_what_clients_leave_for_good(settings_file: Path, folder: Path) -> None:
    path = await database(folder)
    log = DeviceLog(ANN.public_key)
    for number in (1, 2):
        key = DeviceKey.from_seed(bytes([number]) * 32).public_key
        log = log.append(sign_entry(ANN, log.next_entry(LogOp.ADD, [key], time_ms=number)))
    with closing(sqlite3.connect(path)) as connection, connection:
        for entry in log.entries:
            row = (ANN.client_id, entry.index, entry.entry.encode(), entry.signature, entry.head.hash)
            connection.execute("INSERT INTO device_log VALUES (?, ?, ?, ?, ?)", row)
        connection.execute("INSERT INTO conversation VALUES ('@00', 1, 1, '', '', '', 3)".replace("''", "X''"))
        for number in (1, 2):
            mailbox = "INSERT INTO mailbox (client, device, created_ms, seen_ms, device_key) VALUES (?, ?, 0, 0, ?)"
            connection.execute(mailbox, (ANN.client_id, f"device {number}", bytes([number])))
        for ref, is_last, is_taken, until in ((1, 0, 0, 2**52), (2, 0, 1, 2**52), (3, 0, 0, 1), (4, 1, 0, 2**52)):
            device = 1 if ref == 1 else 2
            package = (ref, ANN.client_id, bytes([device]), bytes([ref]), bytes([ref]), b"", is_last, until, is_taken)
            connection.execute("INSERT INTO key_package VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", package)
        connection.execute("INSERT INTO conversation_task VALUES ('@00', 'left', ?, X'')", (ANN.client_id,))
        connection.execute("INSERT INTO backup VALUES ('00', ?, 0, 943718, X'')", (ANN.client_id,))
    append(settings_file, "limits.backups_bytes = 1048576\n")
    assert (await found(settings_file, "device logs")).what == "1 of 1 verified"
    assert (await found(settings_file, "key packages")).what == (
        "2 devices with keys, of which 1 have none left but a last resort"
    )
    assert (await found(settings_file, "conversations")).what == (
        "1 encrypted, of 3 devices; 1 wait for a member to change them"
    )
    assert (await found(settings_file, "client backups")).what == "1 take 1 of 1 MiB"


async def test_backups_that_have_no_more_room(settings_file: Path, folder: Path) -> None:
    with closing(sqlite3.connect(await database(folder))) as connection, connection:
        connection.execute("INSERT INTO backup VALUES ('00', '', 0, 943719, X'')")
    append(settings_file, "limits.backups_bytes = 1048576\n")
    finding = await found(settings_file, "client backups")
    assert finding.verdict is Verdict.WARN
    assert "limits.backups_bytes" in finding.remedy


async def test_a_device_log_that_was_changed(settings_file: Path, folder: Path) -> None:
    log = DeviceLog(ANN.public_key)
    entry = log.next_entry(LogOp.ADD, [DeviceKey.from_seed(bytes(32)).public_key], time_ms=1)
    row = (ANN.client_id, 0, entry.encode(), bytes(64), bytes(32))
    with closing(sqlite3.connect(await database(folder))) as connection, connection:
        connection.execute("INSERT INTO device_log VALUES (?, ?, ?, ?, ?)", row)
    finding = await found(settings_file, "device logs")
    assert finding.verdict is Verdict.FAIL
    assert ANN.client_id[:8] in finding.what
    assert ANN.client_id not in finding.what


@pytest.mark.parametrize(
    ("free_mib", "free_inodes", "verdict"),
    [(99, 10**6, Verdict.FAIL), (500, 10**6, Verdict.WARN), (5000, 100, Verdict.WARN), (5000, 10**6, Verdict.OK)],
)
def test_a_disk_that_is_nearly_full(folder: Path, free_mib: int, free_inodes: int, verdict: Verdict) -> None:
    def look(_: Path) -> os.statvfs_result:
        free = free_mib * 256
        return os.statvfs_result((4096, 4096, free * 2, free, free, 10**7, free_inodes, free_inodes, 0, 255))

    assert data.room(folder, look).verdict is verdict


async def test_a_clock_that_the_server_does_not_believe(settings_file: Path, folder: Path) -> None:
    believed_s = datetime.now(UTC).timestamp() - 40 * 86_400
    (folder / "data" / "clock").touch()
    os.utime(folder / "data" / "clock", (believed_s, believed_s))
    finding = await found(settings_file, "expiry")
    assert finding.verdict is Verdict.WARN
    assert finding.what == "the clock is 40.0 days ahead of what the server knows, and nothing expires"


@contextmanager
def lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def test_a_folder_that_another_process_holds(settings_file: Path, folder: Path) -> None:
    with lock(folder / "data" / "ironwire.db.lock"):
        finding = await found(settings_file, "server")
    assert finding.verdict is Verdict.WARN
    assert f"process {os.getpid()} holds the data folder" in finding.what
    assert data.find_server(folder / "data") == data.Serving(is_running=False)


async def test_a_port_that_another_program_has(settings_file: Path) -> None:
    server = load_settings(settings_file).server
    with socket.create_server((server.host, server.port)):
        finding = await found(settings_file, "server")
    assert finding.verdict is Verdict.WARN
    assert "another program listens" in finding.what


# --- the machine -----------------------------------------------------------------------------------------------------


async def test_fewer_file_descriptors_than_connections(settings_file: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (700, hard))
    try:
        finding = await found(settings_file, "descriptors")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert finding.verdict is Verdict.WARN
    assert "700 at the most, and limits.connections lets 500 in" in finding.what


async def test_a_proxy_that_is_not_believed(settings_file: Path) -> None:
    append(settings_file, "server.trusted_proxies = ['10.0.0.0/8']\n")
    finding = await found(settings_file, "proxies")
    assert finding.verdict is Verdict.WARN
    assert "server.trusted_proxies has no 127.0.0.1" in finding.what


@pytest.mark.parametrize("year", [1970, 2025, 2107])
def test_a_clock_that_was_never_set(year: int) -> None:
    assert machine.clock(datetime(year, 1, 1, tzinfo=UTC)).verdict is Verdict.FAIL


async def test_an_origin_without_tls(settings_file: Path) -> None:
    replace(settings_file, "https:", "http:")
    finding = await found(settings_file, "origins")
    assert finding.verdict is Verdict.FAIL
    assert "http://chat.example has no TLS" in finding.what


async def test_no_origin_behind_a_proxy(settings_file: Path) -> None:
    replace(settings_file, "'https://chat.example'", "")
    finding = await found(settings_file, "origins")
    assert finding.verdict is Verdict.WARN
    assert "auth.origins is empty" in finding.what


async def test_a_secret_in_a_file_that_everybody_can_read(settings_file: Path) -> None:
    append(settings_file, "turn.secret = 'correct horse'\n")
    assert (await found(settings_file, "secrets")).verdict is Verdict.OK
    os.chmod(settings_file, 0o644)
    finding = await found(settings_file, "secrets")
    assert finding.verdict is Verdict.FAIL
    assert f"everybody can read {settings_file}" in finding.what
    assert "correct horse" not in finding.what


async def test_a_private_key_that_everybody_can_read(settings_file: Path, folder: Path) -> None:
    certificate = trustme.CA().issue_cert("chat.example")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o644)
    append(settings_file, "server.certfile = 'cert.pem'\nserver.keyfile = 'key.pem'\n")
    finding = await found(settings_file, "secrets")
    assert finding.verdict is Verdict.FAIL
    assert "key.pem" in finding.what


def test_a_hypercorn_that_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ironwire.server.listener.hypercorn, "version", lambda _: "0.19.0")
    finding = machine.hypercorn()
    assert finding.verdict is Verdict.FAIL
    assert "0.19.0" in finding.what


def test_a_server_that_runs_as_root() -> None:
    is_root = stat.S_ISDIR(Path("/proc/1").stat().st_mode) and Path("/proc/1").stat().st_uid == 0
    assert machine.user(1).verdict is (Verdict.WARN if is_root else Verdict.OK)


# --- calls -----------------------------------------------------------------------------------------------------------


async def test_a_turn_secret_that_is_missing(settings_file: Path) -> None:
    append(settings_file, "turn.urls = ['turn:127.0.0.1']\n")
    (first, *_) = await examine(settings_file, None)
    assert first.verdict is Verdict.FAIL
    assert "turn.secret" in first.what


async def test_a_stun_server_that_answers() -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))

        async def answer() -> None:
            request, place = await server.recvfrom(64)
            assert (len(request), request[:8]) == (20, b"\x00\x01\x00\x00\x21\x12\xa4\x42")
            await server.sendto(b"\x01\x01\x00\x00" + request[4:], place)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            (finding,) = await examine_turn([IceUrl(f"stun:127.0.0.1:{server.getsockname()[1]}")])
    assert finding.verdict is Verdict.OK


async def test_a_turn_server_that_says_nothing(autojump_clock: trio.testing.MockClock) -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        (finding,) = await examine_turn([IceUrl(f"turn:127.0.0.1:{silent.getsockname()[1]}")])
    assert finding.verdict is Verdict.FAIL
    assert "did not answer a STUN binding request" in finding.what


@pytest.mark.parametrize("suffix", ["", "?transport=tcp"])
async def test_a_turn_server_that_does_not_run(suffix: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (finding,) = await examine_turn([IceUrl(f"turn:127.0.0.1:{port}{suffix}")])
    assert finding.verdict is Verdict.FAIL
    assert "cannot be reached" in finding.what
