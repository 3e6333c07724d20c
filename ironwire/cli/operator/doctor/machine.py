"""Checks of the machine: Hypercorn, the clock, file descriptors, the user, and settings with pitfalls."""

import os
import stat
from datetime import UTC, datetime
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from ironwire.cli.operator.doctor.findings import Finding, fail, ok, warn
from ironwire.server.listener.addresses import TrustedProxies
from ironwire.server.listener.hypercorn import check_hypercorn
from ironwire.server.operator.config import Settings
from ironwire.server.operator.loading import Loaded, secret_settings

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""This version was written later."""
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
OWN_DESCRIPTORS = 256
"""Descriptors besides connections: the database, open blobs, libraries."""


def hypercorn() -> Finding:
    """The web server is the one that the guard was written for."""
    try:
        check_hypercorn()
    except RuntimeError as error:
        return fail("hypercorn", str(error), "the server does not start with this one")
    return ok("hypercorn", version("hypercorn"))


def secrets(loaded: Loaded) -> Finding:
    """Files that hold a secret are for nobody else to read."""
    server = loaded.settings.server
    sources = {loaded.sources[path] for path in secret_settings() if path in loaded.sources}
    files = [Path(source) for source in sorted(sources) if Path(source).is_file()]
    if server.keyfile is not None:
        files.append(server.keyfile)
    for file in files:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & stat.S_IRWXO:
            return fail("secrets", f"everybody can read {file} (mode {mode:04o})", f"chmod o= {file}")
    return ok("secrets", ", ".join(map(str, files)) or "none in files")


def origins(settings: Settings) -> Finding:
    """Clients sign where they believe they are; the server has to know its own names."""
    check, named = "origins", settings.auth.origins
    if not named:
        if is_loopback(settings.server.host):
            what = "auth.origins is empty: through a proxy, clients are refused with `Origin not served here`"
        else:
            what = "auth.origins is empty: clients can only use this machine's bare addresses"
        return warn(check, what, 'set it to where clients reach the server: ["https://chat.example"]')
    for origin in named:
        if origin.startswith("http:") and not is_loopback(urlsplit(origin).hostname or ""):
            return fail(
                check, f"{origin} has no TLS: what clients send can be read on the way", "write it with https://"
            )
    return ok(check, ", ".join(named))


def clock(now: datetime | None = None) -> Finding:
    """The year is one in which this version can run. `front.py` compares with another clock."""
    now = now or datetime.now(UTC)
    said = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if not EARLIEST <= now <= LATEST:
        return fail("clock", said, "set it, and keep it with NTP: `timedatectl set-ntp true`")
    return ok("clock", said)


def proxies(settings: Settings) -> Finding:
    """Behind a proxy, only the proxy knows the addresses of clients, and must be trusted."""
    check, host = "proxies", settings.server.host
    if not is_loopback(host) or TrustedProxies.parse(settings.server.trusted_proxies).is_proxy("127.0.0.1"):
        return ok(check, ", ".join(settings.server.trusted_proxies) or "none is believed")
    what = "server.trusted_proxies has no 127.0.0.1: limits for each address hold for nobody who comes through a proxy"
    return warn(check, what, 'add "127.0.0.1", and let the proxy write X-Forwarded-For itself')


def descriptors(process: int | None, connections: int) -> Finding:
    """The process may have as many files open as `limits.connections` allows: the running server, else this one."""
    check = "descriptors"
    try:
        limits = Path(f"/proc/{process or 'self'}/limits").read_text()
    except OSError as error:
        return warn(check, f"the limit of process {process}: {error.strerror}", "run the doctor as root")
    soft = next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files"))
    if soft != "unlimited" and int(soft) < connections + OWN_DESCRIPTORS:
        what = f"{soft} at the most, and limits.connections lets {connections} in, each of which holds one"
        return warn(check, what, "set LimitNOFILE=65536 in the unit, or a smaller limits.connections")
    return ok(check, f"{soft} at the most, enough for {connections} connections")


def user(process: int | None) -> Finding:
    """The server needs no rights that a user of its own does not have."""
    check = "user"
    try:
        uid = os.geteuid() if process is None else Path(f"/proc/{process}").stat().st_uid
    except OSError as error:
        return warn(check, f"process {process}: {error.strerror}", "it has just ended: run the doctor again")
    if uid != 0:
        return ok(check, "not root")
    if process is None:
        return warn(check, "you are root", "do not start the server like this: give it a user of its own")
    return warn(check, "the server runs as root", "give it a user of its own, as deploy/ironwire.service does")


def is_loopback(host: str) -> bool:
    """Whether the name or address means this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
