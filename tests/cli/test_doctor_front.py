"""Planted misconfigurations of the proxy in front, each found: real sockets, and TLS with throw-away certificates.

The proxy here passes everything on to a server in this process, except for what it was told to do wrong.
tests/system/test_front.py has nginx.
"""

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme
from attrs import evolve, frozen

import ironwire.cli.operator.doctor.front
from ironwire.cli.operator.doctor.findings import Verdict
from ironwire.cli.operator.doctor.front import examine_front
from ironwire.client import ServerAddress
from ironwire.server.app import create_app
from ironwire.server.operator.config import AuthSettings, ServerSettings, Settings
from ironwire.store.memory.store import MemoryStore
from tests.server.in_process import InProcessServer, serve_in_process

PROXY_HEADERS = b"Content-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n"
PAGE = b"<html></html>"
DAYS = timedelta(days=1)


@frozen
class Proxy:
    """Answers itself where `refuses` has a status for the path, and passes everything else on."""

    server: InProcessServer
    refuses: Mapping[bytes, bytes]
    passes_upgrades_on: bool
    clock_ahead: timedelta

    async def handle(self, stream: trio.abc.Stream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):  # the doctor refused the certificate, or has seen enough
                await self._handle(stream)

    async def _handle(self, stream: trio.abc.Stream) -> None:
        head = bytearray()
        while b"\r\n\r\n" not in head:
            data = await stream.receive_some()
            if not data:
                return
            head += data
        path = bytes(head).split()[1]
        if path in self.refuses:
            await stream.send_all(b"HTTP/1.1 %b\r\n%b\r\n%b" % (self.refuses[path], PROXY_HEADERS, PAGE))
            return
        if not self.passes_upgrades_on:
            head = bytearray(re.sub(rb"(?i)upgrade: [^\r]*\r\n", b"", bytes(head)))
        async with self.server.open_stream() as behind, trio.open_nursery() as nursery:
            await behind.send_all(head)
            nursery.start_soon(self._relay, stream, behind, nursery.cancel_scope)
            await self._relay(behind, stream, nursery.cancel_scope)

    async def _relay(self, source: trio.abc.Stream, sink: trio.abc.Stream, done: trio.CancelScope) -> None:
        while data := await source.receive_some():
            await sink.send_all(re.sub(rb"(?i)(?<=\r\ndate: )[^\r]+", self._date, bytes(data)))
        done.cancel()

    def _date(self, _: re.Match[bytes]) -> bytes:
        return f"{datetime.now(UTC) + self.clock_ahead:%a, %d %b %Y %H:%M:%S GMT}".encode()


@asynccontextmanager
async def front(
    folder: Path,
    certificate: trustme.LeafCert,
    *,
    origin: str | None = None,
    refuses: Mapping[bytes, bytes] | None = None,
    passes_upgrades_on: bool = True,
    clock_ahead: timedelta = timedelta(),
) -> AsyncIterator[tuple[ServerAddress, Settings]]:
    """A server and its proxy; its address as clients know it, and the settings that the doctor reads."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    (tcp,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener = trio.SSLListener(tcp, context, https_compatible=True)
    port = tcp.socket.getsockname()[1]
    address = ServerAddress.parse(f"https://localhost:{port}")
    settings = Settings(data=folder, auth=AuthSettings(origins=(origin or address.origin,)))
    app = create_app(settings, open_store=MemoryStore)
    async with serve_in_process(app) as server, trio.open_nursery() as nursery:
        refused = {b"/metrics": b"403 Forbidden"} if refuses is None else refuses
        proxy = Proxy(server, refused, passes_upgrades_on, clock_ahead)
        await nursery.start(partial(trio.serve_listeners, proxy.handle, [listener]))
        yield address, settings
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def quick_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an upload is refused is a question of time; where it is not the question, no test waits for it."""
    monkeypatch.setattr(ironwire.cli.operator.doctor.front, "REFUSAL_SECONDS", 0.05)


@pytest.fixture
def slow_refusals(quick_refusals: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ironwire.cli.operator.doctor.front, "REFUSAL_SECONDS", 8.0)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """The one whose certificates this machine trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "trusted.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    return authority


@pytest.fixture
def certificate(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("localhost")


async def faults(address: ServerAddress, settings: Settings) -> dict[str, tuple[Verdict, str]]:
    """What is not OK, by check."""
    findings = await examine_front(address, settings)
    assert all(finding.remedy for finding in findings if finding.verdict is not Verdict.OK)
    return {each.check: (each.verdict, each.what) for each in findings if each.verdict is not Verdict.OK}


async def test_a_front_that_is_well(tmp_path: Path, certificate: trustme.LeafCert) -> None:
    async with front(tmp_path, certificate) as (address, settings):
        findings = await examine_front(address, settings)
    assert [finding.check for finding in findings] == [
        "tls",
        "front",
        "clock",
        "origins",
        "websocket",
        "uploads",
        "metrics",
    ]
    assert {finding.verdict for finding in findings} == {Verdict.OK}


# --- TLS -------------------------------------------------------------------------------------------------------------


async def test_a_certificate_that_nobody_trusts(tmp_path: Path, authority: trustme.CA) -> None:
    async with front(tmp_path, trustme.CA().issue_cert("localhost")) as (address, settings):
        found = await faults(address, settings)
    # The report goes on: what is behind the certificate was looked at, and is well.
    assert list(found) == ["tls"]
    assert found["tls"][0] is Verdict.FAIL
    assert "clients refuse the certificate" in found["tls"][1]


async def test_a_certificate_for_another_name(tmp_path: Path, authority: trustme.CA) -> None:
    async with front(tmp_path, authority.issue_cert("other.example")) as (address, settings):
        found = await faults(address, settings)
    assert found["tls"][0] is Verdict.FAIL
    assert "not valid for 'localhost'" in found["tls"][1]


async def test_a_certificate_that_has_expired(tmp_path: Path, authority: trustme.CA) -> None:
    now = datetime.now(UTC)
    expired = authority.issue_cert("localhost", not_before=now - 9 * DAYS, not_after=now - DAYS)
    async with front(tmp_path, expired) as (address, settings):
        found = await faults(address, settings)
    assert found["tls"] == (Verdict.FAIL, "clients refuse the certificate: certificate has expired")


async def test_a_certificate_that_expires_soon(tmp_path: Path, authority: trustme.CA) -> None:
    soon = authority.issue_cert("localhost", not_after=datetime.now(UTC) + 5.5 * DAYS)
    async with front(tmp_path, soon) as (address, settings):
        found = await faults(address, settings)
    assert found.keys() == {"tls"}
    assert found["tls"][0] is Verdict.WARN
    assert "ends in 5 days" in found["tls"][1]


async def test_nobody_there(tmp_path: Path) -> None:
    (finding, *_) = await examine_front(ServerAddress.parse("http://127.0.0.1:1"), Settings(data=tmp_path))
    assert finding.verdict is Verdict.FAIL
    assert "cannot reach" in finding.what


async def test_a_front_without_tls(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, trio.aclose_forcefully, 0, host="127.0.0.1"))
        # Linux takes this address to itself, but it is not one that means this machine alone.
        address = ServerAddress.parse(f"http://0.0.0.0:{listener.socket.getsockname()[1]}")
        found = await faults(address, Settings(data=tmp_path))
        nursery.cancel_scope.cancel()
    assert found["tls"] == (Verdict.FAIL, f"{address} has no TLS")
    assert found["front"][0] is Verdict.FAIL


# --- the proxy -------------------------------------------------------------------------------------------------------


async def test_a_proxy_that_passes_no_upgrade_on(tmp_path: Path, certificate: trustme.LeafCert) -> None:
    async with front(tmp_path, certificate, passes_upgrades_on=False) as (address, settings):
        found = await faults(address, settings)
    assert found.keys() == {"websocket"}
    assert found["websocket"][0] is Verdict.FAIL
    assert "status 426" in found["websocket"][1]


@pytest.mark.usefixtures("slow_refusals")
async def test_a_proxy_that_refuses_large_uploads(tmp_path: Path, certificate: trustme.LeafCert) -> None:
    refuses = {b"/metrics": b"404 Not Found", b"/upload": b"413 Request Entity Too Large"}
    async with front(tmp_path, certificate, refuses=refuses) as (address, settings):
        found = await faults(address, settings)
    assert found == {"uploads": (Verdict.FAIL, "the proxy refuses uploads of 30 MiB, which the server takes")}


@pytest.mark.usefixtures("slow_refusals")
async def test_a_proxy_that_passes_no_upload_on(tmp_path: Path, certificate: trustme.LeafCert) -> None:
    refuses = {b"/metrics": b"404 Not Found", b"/upload": b"405 Not Allowed"}
    async with front(tmp_path, certificate, refuses=refuses) as (address, settings):
        found = await faults(address, settings)
    assert found.keys() == {"uploads"}


async def test_a_proxy_that_shows_the_metrics(tmp_path: Path, certificate: trustme.LeafCert) -> None:
    async with front(tmp_path, certificate, refuses={}) as (address, settings):
        found = await faults(address, settings)
    assert found == {"metrics": (Verdict.WARN, "everybody can read /metrics through the front")}


async def test_a_proxy_that_does_not_reach_the_server(tmp_path: Path, certificate: trustme.LeafCert) -> None:
    refuses = dict.fromkeys((b"/healthz", b"/ws", b"/upload", b"/metrics"), b"502 Bad Gateway")
    async with front(tmp_path, certificate, refuses=refuses) as (address, settings):
        found = await faults(address, settings)
    assert found["front"][0] is Verdict.FAIL
    assert "status 502" in found["front"][1]


async def test_a_proxy_that_leads_to_another_server(tmp_path: Path, certificate: trustme.LeafCert) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    async with (
        front(tmp_path / "mine", certificate) as (_, settings),
        front(tmp_path / "other", certificate) as (address, _),
    ):
        found = await faults(address, evolve(settings, auth=AuthSettings(origins=(address.origin,))))
    assert found.keys() == {"front"}
    assert found["front"][0] is Verdict.FAIL
    assert f"leads to another server than the one that serves {tmp_path / 'mine'}" in found["front"][1]


async def test_a_server_that_cannot_be_asked_who_it_is(tmp_path: Path, certificate: trustme.LeafCert) -> None:
    async with front(tmp_path, certificate) as (address, settings):
        found = await faults(address, evolve(settings, data=tmp_path / "elsewhere"))
    assert found.keys() == {"front"}
    assert found["front"][0] is Verdict.WARN


async def test_who_reads_the_metrics_of_his_own_server_is_not_everybody(tmp_path: Path) -> None:
    """Without a proxy: what is open to this machine may be closed to all others."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    settings = Settings(data=tmp_path, server=ServerSettings(host="127.0.0.1", port=port))
    app = create_app(settings, open_store=MemoryStore)
    async with serve_in_process(app) as server, trio.open_nursery() as nursery:
        serve = Proxy(server, {}, passes_upgrades_on=True, clock_ahead=timedelta()).handle
        await nursery.start(partial(trio.serve_listeners, serve, [listener]))
        findings = await examine_front(ServerAddress.parse(f"http://localhost:{port}"), settings)
        nursery.cancel_scope.cancel()
    (metrics,) = [finding for finding in findings if finding.check == "metrics"]
    assert metrics.verdict is Verdict.OK
    assert "everybody" not in metrics.what


@pytest.mark.parametrize(("seconds", "verdict"), [(120, Verdict.WARN), (3600, Verdict.FAIL), (-3600, Verdict.FAIL)])
async def test_a_clock_that_is_wrong(
    tmp_path: Path, certificate: trustme.LeafCert, seconds: int, verdict: Verdict
) -> None:
    async with front(tmp_path, certificate, clock_ahead=timedelta(seconds=seconds)) as (address, settings):
        found = await faults(address, settings)
    assert found.keys() == {"clock"}
    assert found["clock"][0] is verdict


async def test_a_server_that_does_not_know_its_name(tmp_path: Path, certificate: trustme.LeafCert) -> None:
    async with front(tmp_path, certificate, origin="https://chat.example") as (address, settings):
        found = await faults(address, settings)
    assert found.keys() == {"origins", "websocket"}
    assert "auth.origins has https://chat.example" in found["origins"][1]
    assert "Origin not served here" in found["websocket"][1]
