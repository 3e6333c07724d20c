"""The settings of the server, as frozen classes; `loading.py` reads their values.

`ironwire config example`, `ironwire serve --help` and docs/operations.md show a field's docstring, and its name carries
the unit. A field with `repr=False` is a secret: no command and no message shows its value.
"""

import re
import ssl
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from attrs import field, frozen
from attrs.validators import ge, gt, le, max_len

from ironwire.handlers.ice import IceUrl, needs_credential, parse_ice_url
from ironwire.ids import Origin, parse_origin
from ironwire.limits import MOST_DAYS, Limits
from ironwire.server.listener.addresses import TrustedProxies, parse_address


def _parse_networks(texts: Iterable[str]) -> tuple[str, ...]:
    networks = tuple(texts)
    TrustedProxies.parse(networks)
    return networks


_HOST_NAME = re.compile(r"[0-9a-z_-]{1,63}(?:\.[0-9a-z_-]{1,63})*\.?", re.ASCII | re.IGNORECASE)


def _parse_host(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        if _HOST_NAME.fullmatch(text) is None:
            raise ValueError("must be an IP address, an IPv6 one without brackets, or the name of a host") from None
    return text


@frozen(kw_only=True)
class ServerSettings:
    """Where the server listens."""

    host: str = field(default="0.0.0.0", converter=_parse_host)  # noqa: S104 - people are to reach it
    """The address to listen on. `127.0.0.1` behind a proxy on the same machine."""

    port: int = field(default=8080, validator=[ge(0), le(65535)])
    """The port to listen on; 0 takes any free one."""

    backlog: int = field(default=4096, validator=[ge(1), le(65535)])
    """Connections that wait to be accepted. A small number makes a reconnecting crowd slow."""

    certfile: Path | None = None
    """The TLS certificate with its chain, PEM. With `keyfile` the server speaks TLS itself."""

    keyfile: Path | None = None
    """The private key of `certfile`, PEM, not encrypted."""

    trusted_proxies: tuple[str, ...] = field(default=("127.0.0.1", "::1", "unix"), converter=_parse_networks)
    """Addresses and networks of proxies whose X-Forwarded-For is believed; `unix` is a proxy on a Unix socket. Every
    process on this machine may send it.
    """


def _parse_origins(texts: Iterable[str]) -> tuple[Origin, ...]:
    return tuple(parse_origin(text) for text in texts)


_WEB_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s\x00-\x20A-Z]+", re.ASCII)
_PATTERN = re.compile(r"[*\\^$(){}|]|\[(?![0-9a-f:.]+\])")


def _parse_web_origins(texts: Iterable[str]) -> tuple[str, ...]:
    """Parse web origins, whose scheme may be an app's own, as in `capacitor://localhost`."""
    origins = tuple(texts)
    for origin in origins:
        if _PATTERN.search(origin):
            raise ValueError("patterns are not understood: write every site out, as in https://app.example")
        if origin.startswith(("http:", "https:")) and parse_origin(origin) != origin:
            raise ValueError(f"browsers send this one as {parse_origin(origin)}")
        if _WEB_ORIGIN.fullmatch(origin) is None:
            raise ValueError("must be what browsers send as Origin: a scheme, :// and a host, in lower case, no path")
    return origins


@frozen(kw_only=True)
class AuthSettings:
    """Authentication and admission of clients."""

    require_origin: bool = False
    """Whether a client must sign the origin it believes it talks to, which clients of the seed protocol cannot."""

    origins: tuple[Origin, ...] = field(default=(), converter=_parse_origins)
    """Where clients reach this server, as in `https://chat.example`. Empty: the very address a connection came to."""

    web_origins: tuple[str, ...] = field(default=(), converter=_parse_web_origins)
    """Other sites whose pages may open a socket here from a browser, as in `https://app.example`."""

    registration: Literal["open", "allow-list", "invite"] = "open"
    """Admission of new clients: anybody, clients on the list, or clients on the list or with an invite."""

    allow_list: Path | None = None
    """A file with a client id on each line, for `auth.registration`. It is read again whenever it has changed."""


def _parse_ice_urls(texts: Iterable[str]) -> tuple[IceUrl, ...]:
    return tuple(parse_ice_url(text) for text in texts)


@frozen(kw_only=True)
class TurnSettings:
    """STUN and TURN servers for calls."""

    urls: tuple[IceUrl, ...] = field(default=(), converter=_parse_ice_urls, validator=max_len(16))
    """STUN and TURN servers for calls, as in `turn:turn.example:3478`. Empty: calls have to get by without."""

    secret: str = field(default="", repr=False)
    """The `static-auth-secret` of the TURN servers. Keep it in the environment, or in a file for nobody else."""

    ttl_seconds: int = field(default=43_200, validator=[ge(60), le(MOST_DAYS * 86_400)])
    """How long a credential for the TURN servers is good for."""


@frozen(kw_only=True)
class UploadSettings:
    """Uploaded files: permission, room and expiry."""

    auth: Literal["open", "token"] = "open"
    """Permission to upload: anybody, or clients only, with a token from the socket for each upload."""

    quota_bytes: int = field(default=10 * 1024 * 1024 * 1024, validator=[ge(1), le(10**15)])
    """The room for all files together. An upload that does not fit gets 507: the mailboxes need the disk too."""

    expire_days: float = field(default=90, validator=[gt(0), le(MOST_DAYS)], converter=float)
    """How long a file is kept. Files of changes of encrypted conversations stay `limits.retention_days` at least."""


@frozen(kw_only=True)
class LogSettings:
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important kind of event that is written."""

    format: Literal["auto", "console", "json"] = "auto"
    """Lines for people or one JSON object a line; `auto` looks whether a terminal reads them."""


@frozen(kw_only=True)
class MetricsSettings:
    """Access to the metrics."""

    token: str = field(default="", repr=False)
    """The bearer token that Prometheus sends. Empty: only this machine reads the metrics, past the proxy."""

    host: str = field(default="127.0.0.1", converter=_parse_host)
    """The address of `metrics.port`."""

    port: int = field(default=0, validator=[ge(0), le(65535)])
    """A port for metrics and probes alone; 0: none, and the metrics are at `server.port`."""


@frozen(kw_only=True)
class HistorySettings:
    """Envelopes that stay readable after their delivery."""

    days: float = field(default=0, validator=[ge(0), le(MOST_DAYS)], converter=float)
    """How long envelopes stay readable after every device has acknowledged them; 0 erases them at once."""


@frozen(kw_only=True)
class Settings:
    """Everything an operator can choose."""

    data: Path = Path("ironwire-data")
    """The folder that holds all that must survive: mailboxes and uploaded files."""

    server: ServerSettings = field(factory=ServerSettings)
    auth: AuthSettings = field(factory=AuthSettings)
    limits: Limits = field(factory=Limits)
    upload: UploadSettings = field(factory=UploadSettings)
    history: HistorySettings = field(factory=HistorySettings)
    turn: TurnSettings = field(factory=TurnSettings)
    log: LogSettings = field(factory=LogSettings)
    metrics: MetricsSettings = field(factory=MetricsSettings)

    def served_origins(self, address: str, port: int) -> frozenset[Origin]:
        """The origins that this server answers to on a connection to `address` and `port`.

        They are the configured ones; else that very address, and `localhost` for a loopback address. The Host header of
        a client proves nothing: a server that relays challenges can put anything there.
        """
        if self.auth.origins:
            return frozenset(self.auth.origins)
        scheme = "http" if self.server.certfile is None else "https"
        ip = parse_address(address)
        if ip is None:
            return frozenset()
        hosts = [f"[{ip}]" if ip.version == 6 else str(ip)]
        if ip.is_loopback:
            hosts.append("localhost")
        return frozenset(parse_origin(f"{scheme}://{host}:{port}") for host in hosts)


def contradictions(settings: Settings) -> Iterator[str]:
    """Contradictions between settings that are each valid, one sentence for each."""
    certfile, keyfile = settings.server.certfile, settings.server.keyfile
    if (certfile is None) != (keyfile is None):
        yield "server.certfile and server.keyfile belong together: set both, or neither and let a proxy speak TLS"
    for name, path in (("certfile", certfile), ("keyfile", keyfile)):
        if path is not None and not path.is_file():
            yield f"server.{name} = {str(path)!r} cannot be used: there is no such file"
    if certfile is not None and keyfile is not None and certfile.is_file() and keyfile.is_file():
        try:
            # With a password at hand nobody is asked for one.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile, password="")
        except OSError as error:
            yield (
                f"server.certfile = {str(certfile)!r} and server.keyfile = {str(keyfile)!r} cannot be used: {error}; "
                "they must be a certificate and its own key, PEM, and the key not encrypted"
            )
    allow_list = settings.auth.allow_list
    if settings.auth.registration == "allow-list" and allow_list is None:
        yield "auth.registration is allow-list: set auth.allow_list to the file that names the clients"
    if settings.auth.registration == "open" and allow_list is not None:
        yield "auth.allow_list has no meaning while auth.registration is open: set that to allow-list or invite"
    if allow_list is not None and not allow_list.is_file():
        yield f"auth.allow_list = {str(allow_list)!r} cannot be used: there is no such file"
    if not settings.turn.secret and any(needs_credential(url) for url in settings.turn.urls):
        yield "turn.urls names a TURN server: set turn.secret to what that server has as `static-auth-secret`"
