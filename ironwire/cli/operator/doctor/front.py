"""Checks of the path of clients: TLS, the proxy, and the server behind it, seen from outside.

A throw-away identity signs in and leaves nothing behind; an upload is announced and not made. With a bad certificate
the other checks go on without verification, so that one report names every fault.
"""

import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial

import orjson
import trio
from attrs import frozen

from ironwire.cli.operator.doctor.data import About, ask_about
from ironwire.cli.operator.doctor.findings import Finding, fail, ok, warn
from ironwire.cli.operator.doctor.machine import is_loopback
from ironwire.client import AuthenticationRefused, ClientError, ConnectionFailed, NotTheProtocol, ServerAddress
from ironwire.client.connection.dial import Dial, dial_tcp
from ironwire.client.connection.exchange import exchange
from ironwire.client.connection.session import open_session
from ironwire.client.connection.urls import UPLOAD_PATH
from ironwire.crypto.signing import Identity
from ironwire.server.http.monitoring import INSTANCE_HEADER
from ironwire.server.operator.config import Settings

ANSWER_SECONDS = 10.0
REFUSAL_SECONDS = 3.0
"""A proxy that refuses a large upload does so when it reads the headers. One that does not, waits for the body."""
EXPIRY_DAYS = 14
CLOCK_SECONDS = 30
FAR_CLOCK_SECONDS = 300
_OK, _TOO_LARGE = 200, 413

Check = Callable[["_Front"], Awaitable[Finding]]


@frozen
class _Front:
    address: ServerAddress
    settings: Settings
    dial: Dial
    about: About | None
    """The server that was asked about, if it says so."""


@frozen
class _Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def examine_front(address: ServerAddress, settings: Settings) -> list[Finding]:
    """Every finding about the front at `address`; only the first if nothing answers there."""
    tls, dial = await _examine_tls(address)
    if dial is None:
        return [tls]
    front = _Front(address, settings, dial, await ask_about(settings.data))
    checks: list[Check] = [_server, _clock, _origin, _socket, _upload, _metrics]
    findings: dict[Check, Finding] = {}

    async def run(check: Check) -> None:
        try:
            with trio.fail_after(ANSWER_SECONDS):
                findings[check] = await check(front)
        except (ClientError, trio.TooSlowError) as error:
            reason = str(error) or f"no answer within {ANSWER_SECONDS:g} s"
            findings[check] = fail("front", reason, "look into the log of the proxy, and of the server behind it")

    async with trio.open_nursery() as nursery:
        for check in checks:
            nursery.start_soon(run, check)
    return [tls, *(findings[check] for check in checks)]


# --- TLS -------------------------------------------------------------------------------------------------------------


async def _examine_tls(address: ServerAddress) -> tuple[Finding, Dial | None]:
    """The finding about the certificate, and the dial for the other checks; None if nothing answers."""
    try:
        with trio.fail_after(ANSWER_SECONDS):
            stream = await dial_tcp(address)
    except trio.TooSlowError:
        return fail("tls", f"no answer from {address} within {ANSWER_SECONDS:g} s", "is the proxy running?"), None
    except ConnectionFailed as error:
        return _unreachable(address, error)
    certificate = stream.getpeercert() if isinstance(stream, trio.SSLStream) else None
    await trio.aclose_forcefully(stream)
    return _judge(address, certificate), dial_tcp


def _judge(address: ServerAddress, certificate: dict[str, str] | None) -> Finding:
    if certificate is None:
        if is_loopback(address.host):
            return ok("tls", f"none, and {address} is this machine")
        return fail("tls", f"{address} has no TLS", "put a proxy with a certificate in front: docs/operations.md")
    expiry = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    left = expiry - datetime.now(UTC)
    if left < timedelta(days=EXPIRY_DAYS):
        what = f"the certificate ends in {left.days} days, on {expiry:%Y-%m-%d}"
        return warn("tls", what, "renew it, and find out why nothing did")
    return ok("tls", f"the certificate is good until {expiry:%Y-%m-%d}")


def _unreachable(address: ServerAddress, error: ConnectionFailed) -> tuple[Finding, Dial | None]:
    cause = error.__cause__ and error.__cause__.__cause__
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return fail("tls", str(error), "start the proxy, or correct the address"), None
    remedy = f"get one for {address.host} that clients trust, and serve it with its whole chain"
    finding = fail("tls", f"clients refuse the certificate: {cause.verify_message}", remedy)
    return finding, partial(dial_tcp, context=_lenient())


def _lenient() -> ssl.SSLContext:
    """A context without verification, for the other checks: they send no secret."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# --- what is behind it -----------------------------------------------------------------------------------------------


async def _server(front: _Front) -> Finding:
    answer = await _ask(front, "/healthz")
    if answer.status == _OK and answer.body == b"ok\n":
        return _judge_instance(front, answer.headers.get(INSTANCE_HEADER.lower().encode(), b"").decode("latin-1"))
    what = f"{front.address}/healthz answers with status {answer.status}"
    return fail("front", what, "is the server running, and is it what the proxy passes on to?")


def _judge_instance(front: _Front, instance: str) -> Finding:
    """Check that the probe reaches this server and no other one."""
    folder = front.settings.data
    if front.about is None:
        what = f"{front.address} leads to a server, and none that serves {folder} says whether it is that one"
        return warn("front", what, "run the doctor on the server's machine, as its user, with its --config or --data")
    if instance != front.about.instance:
        what = f"{front.address} leads to another server than the one that serves {folder}"
        places = ", ".join(front.about.listens)
        return fail("front", what, f"let the proxy pass on to {places}" if places else "correct the proxy")
    return ok("front", f"{front.address} leads to the server")


async def _clock(front: _Front) -> Finding:
    check = "clock"
    date = (await _ask(front, "/healthz")).headers.get(b"date", b"").decode("latin-1")
    try:
        apart = abs((datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds())
    except (ValueError, TypeError):
        return warn(check, "the front sends no date", "nothing to compare this machine's clock with")
    if apart <= CLOCK_SECONDS:
        return ok(check, "agrees with that of the front")
    finding = fail if apart > FAR_CLOCK_SECONDS else warn
    return finding(check, f"{apart:.0f} s from that of the front", "keep both with NTP: `timedatectl set-ntp true`")


async def _origin(front: _Front) -> Finding:
    named = front.settings.auth.origins
    if not named or front.address.origin in named:
        return ok("origins", f"nothing speaks against {front.address}")
    what = f"clients that connect to {front.address} are refused: auth.origins has {', '.join(named)}"
    return fail("origins", what, f'add "{front.address}" to auth.origins')


async def _socket(front: _Front) -> Finding:
    """A client gets through to the challenge. That it is let in is for the server's rules to say, and no fault."""
    check = "websocket"
    try:
        async with open_session(front.address, Identity.generate(), dial=front.dial):
            return ok(check, "a client can sign in")
    except AuthenticationRefused as error:
        if "origin" in str(error).lower():
            return fail(check, f"the server refuses clients: {error}", f'set auth.origins to ["{front.address}"]')
        return ok(check, f"clients reach the server, which asks for more than a new identity: {error}")
    except NotTheProtocol as error:
        return fail(check, str(error), "let the proxy pass on the headers Upgrade and Connection: see deploy/")


async def _upload(front: _Front) -> Finding:
    """The largest upload that the server takes is announced. A refusal in the server's own form is its own affair."""
    check = "uploads"
    most = front.settings.limits.upload_bytes
    announced = f"{most / 1024**2:.0f} MiB"
    with trio.move_on_after(REFUSAL_SECONDS):
        headers = {"Content-Length": str(most), "Content-Type": "application/octet-stream"}
        async with exchange(front.dial, front.address, "POST", UPLOAD_PATH, headers, _never) as answered:
            answer = await answered.receive()
            if answered.status == _TOO_LARGE and not _is_ours(answer):
                what = f"the proxy refuses uploads of {announced}, which the server takes"
                return fail(check, what, f"nginx: client_max_body_size {most // 1024**2 + 1}m")
            if not _is_ours(answer):
                what = f"an upload is answered with status {answered.status}, and not by the server"
                return fail(check, what, "let the proxy pass POST /upload on")
            return ok(check, f"the server answers, with status {answered.status}")
    return ok(check, f"{announced} pass the proxy")


async def _metrics(front: _Front) -> Finding:
    answer = await _ask(front, "/metrics")
    if answer.status == _OK and await _is_direct(front):
        return ok("metrics", "this machine reads them, as it may; nobody's proxy was asked")
    if answer.status == _OK:
        remedy = "let the proxy refuse /metrics, and Prometheus ask the server itself"
        return warn("metrics", "everybody can read /metrics through the front", remedy)
    return ok("metrics", f"/metrics is not open (status {answer.status})")


async def _is_direct(front: _Front) -> bool:
    """Whether the address is the server's own on this machine, where no proxy stands between."""
    ports = front.about.ports if front.about is not None and front.about.ports else {front.settings.server.port}
    if front.address.port not in ports:
        return False
    found = await trio.socket.getaddrinfo(front.address.host, front.address.port, type=trio.socket.SOCK_STREAM)
    return all(is_loopback(str(place[0])) for *_, place in found)


async def _ask(front: _Front, path: str) -> _Answer:
    async with exchange(front.dial, front.address, "GET", path, {}, _nothing) as answered:
        return _Answer(answered.status, dict(answered.headers), await answered.receive())


async def _nothing() -> bytes:
    return b""


async def _never() -> bytes:
    await trio.sleep_forever()


def _is_ours(answer: bytes) -> bool:
    """The form of every error of the server (docs/protocol.md, section 8)."""
    try:
        return isinstance(orjson.loads(answer), dict)
    except orjson.JSONDecodeError:
        return False
