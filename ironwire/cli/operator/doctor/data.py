"""Checks of the data folder: owner, permissions, damage of the database, and the process that serves it."""

import fcntl
import os
import pwd
import shlex
import socket
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import trio
from attrs import frozen

from ironwire.cli.operator.doctor.findings import Finding, fail, ok, warn
from ironwire.errors import AdminError
from ironwire.handlers.operator import Observe
from ironwire.server.core import trusted_clock
from ironwire.server.operator.admin import ask
from ironwire.server.operator.config import ServerSettings, Settings
from ironwire.store.clock import describe_leap
from ironwire.store.lock import holder_of
from ironwire.store.sqlite.migrations import load_migrations

DATABASE = "ironwire.db"
LOCK = "ironwire.db.lock"
FEW_BYTES = 1024**3
TOO_FEW_BYTES = 100 * 1024**2
FEW_INODES = 10_000
CONNECT_SECONDS = 2.0
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@frozen
class Serving:
    """The process that serves a data folder, if any; it may be invisible from here."""

    is_running: bool
    process: int | None = None


@frozen
class About:
    """Facts about a running server, from its admin socket."""

    instance: str
    listens: tuple[str, ...]

    @property
    def ports(self) -> frozenset[int]:
        return frozenset(int(port) for place in self.listens if (port := place.rpartition(":")[2]).isdigit())


async def ask_about(data: Path) -> About | None:
    """Ask the server of the folder; None without a server or an answer."""
    with trio.move_on_after(CONNECT_SECONDS), suppress(AdminError):
        answer = await ask(data, Observe())
        if answer is not None:
            return About(answer["instance"], tuple(answer["listens"]))
    return None


def find_server(data: Path) -> Serving:
    """Find the holder of the folder's lock."""
    try:
        handle = os.open(data / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return Serving(is_running=False)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Serving(is_running=True, process=holder_of(handle))
    finally:
        os.close(handle)
    return Serving(is_running=False)


def folder(data: Path, process: int | None) -> Finding:
    """It is there, private, and can be written."""
    check = "data folder"
    try:
        status = data.stat()
    except FileNotFoundError:
        return fail(check, f"{data} is not there", "correct `data`, or start the server once: it makes the folder")
    except OSError as error:
        return fail(check, f"{data}: {error.strerror}", "run the doctor as the server's user or as root")
    if not stat.S_ISDIR(status.st_mode):
        return fail(check, f"{data} is not a folder", "move that file away, or correct `data`")
    if status.st_mode & _OTHERS:
        what = f"{data} is open to other users (mode {stat.S_IMODE(status.st_mode):04o})"
        return fail(check, what, f"chmod 700 {shlex.quote(str(data))}")
    if process is None and not os.access(data, os.W_OK | os.X_OK):
        return fail(check, f"{data} cannot be written", "give it to the server's user, on a disk that can be written")
    return ok(check, f"{data}, private")


def owner(data: Path, process: int | None) -> Finding:
    """Everything in it belongs to the user that the server runs as; a start as root leaves files that do not."""
    check = "owner"
    try:
        paths = [data, *sorted(data.iterdir())]
        owners = {path: path.stat().st_uid for path in paths}
        wanted = owners[data] if process is None else Path(f"/proc/{process}").stat().st_uid
    except OSError as error:
        return warn(check, f"{error.filename}: {error.strerror}", "run the doctor as the server's user or as root")
    strange = [path for path, uid in owners.items() if uid != wanted]
    if process is None and os.geteuid() not in (0, wanted):
        return fail(
            check,
            f"{data} belongs to {_user(wanted)}, and you are {_user(os.geteuid())}",
            "run the server and the doctor as the folder's owner",
        )
    if strange:
        what = f"{strange[0]} belongs to {_user(owners[strange[0]])}, and the server is {_user(wanted)}"
        return fail(check, what, f"chown -R {_user(wanted)} {shlex.quote(str(data))}")
    return ok(check, f"everything belongs to {_user(wanted)}")


def database(data: Path) -> Finding:
    """SQLite finds no damage, and the schema is one that this version knows."""
    check, path = "database", data / DATABASE
    if not path.exists():
        return ok(check, "none yet; the first start makes it")
    try:
        with closing(sqlite3.connect(look_only(path), uri=True)) as connection:
            damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            schema = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        return fail(check, f"{path}: {error}", "restore it from a backup, or correct `data` or the file's owner")
    if damage != "ok":
        return fail(check, f"{path} is damaged: {damage}", "stop the server and restore it from a backup")
    newest = max(load_migrations())
    if schema > newest:
        what = f"{path} has schema {schema}, and this version of IronWire knows {newest}"
        return fail(check, what, "install the version of IronWire that wrote it, or a later one")
    if schema < newest:
        return ok(check, f"no damage; schema {schema}, which the next start brings to {newest}")
    return ok(check, f"no damage; schema {schema}")


def look_only(path: Path) -> str:
    """The URI that opens the database and creates no file beside it: without a log, no changes can be missed."""
    is_closed = not path.with_name(f"{path.name}-wal").exists()
    return f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if is_closed else ''}"


def room(data: Path, look: Callable[[Path], os.statvfs_result] = os.statvfs) -> Finding:
    """There is disk space, and there are inodes, for further data."""
    check = "disk"
    try:
        disk = look(data)
    except OSError as error:
        return warn(check, f"{data}: {error.strerror}", "see the data folder above")
    free_bytes = disk.f_bavail * disk.f_frsize
    what = f"{free_bytes / 1024**2:,.0f} MiB free"
    if free_bytes < TOO_FEW_BYTES:
        return fail(check, what, "make room: without it the server accepts nothing")
    if free_bytes < FEW_BYTES:
        return warn(check, what, "make room before the server accepts nothing any more")
    if disk.f_files and disk.f_favail < FEW_INODES:  # some file systems have no fixed number of inodes, and say 0
        return warn(check, f"{disk.f_favail} inodes free", "make room: every uploaded file needs one")
    return ok(check, what)


def clock(settings: Settings) -> Finding:
    """The server trusts the clock, so that old data expires, and nothing else does."""
    check = "expiry"
    believed = trusted_clock(settings)
    believed.open(None)
    leap_ms = believed.leap_ms()
    if leap_ms:
        what = f"{describe_leap(leap_ms)}, and nothing expires"
        return warn(check, what, "set it; or, if it is right, `ironwire admin clock --confirm`")
    return ok(check, "the server believes the clock")


def holder(server: Serving, about: About | None, settings: ServerSettings) -> Finding:
    """Check that the holder of the folder, and nobody else, answers at the address in the settings."""
    check = "server"
    here = f"{settings.host}:{settings.port}"
    who = f"process {server.process}" if server.process else "a process that cannot be seen from here"
    if about is not None and about.ports and settings.port not in {0, *about.ports}:
        return warn(
            check,
            f"{who} serves the folder on {', '.join(about.listens)}, and the settings say {here}",
            "let the doctor know the settings that it was started with (--config, or the environment), or restart it",
        )
    listens = _listens(settings)
    if server.is_running and not listens:
        return warn(
            check,
            f"{who} holds the data folder, and nothing listens on {here}",
            "a second server on this folder is refused: if that is no server you want, end it",
        )
    if listens and not server.is_running:
        return warn(check, f"another program listens on {here}", "end it, or choose another server.port")
    where = here if about is None else ", ".join(about.listens) or here
    return ok(check, f"{who} serves the folder on {where}" if server.is_running else "does not run")


def _listens(settings: ServerSettings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared with
    try:
        with socket.create_connection((host, settings.port), CONNECT_SECONDS):
            return True
    except OSError:
        return False


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
