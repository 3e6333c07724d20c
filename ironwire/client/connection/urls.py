"""The address of a server: one form for everything that people type.

The origin is the whole of it, because the origin is what a client signs: host, port and whether there is TLS follow
from it, and nothing that is not signed can send the connection elsewhere.
"""

from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

from attrs import frozen

from ironwire.client.errors import InvalidServerAddress
from ironwire.errors import InvalidId
from ironwire.ids import Origin, parse_origin

SOCKET_PATH = "/ws"
UPLOAD_PATH = "/upload"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@frozen
class ServerAddress:
    """The place of one server; make it with `parse`."""

    origin: Origin

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address that `text` means: `localhost:8080`, `https://chat.example`, `wss://chat.example/ws`.

        Without a scheme a loopback address is reached in the clear and every other one over TLS.

        Raises:
            InvalidServerAddress: it is none; the message says what would be.
        """
        typed = text.strip()
        if "://" not in typed:
            typed = ("http://" if _is_loopback(typed) else "https://") + typed
        scheme, _, rest = typed.partition("://")
        authority, slash, path = rest.partition("/")
        if slash + path not in ("", "/", SOCKET_PATH):
            raise InvalidServerAddress(f"{text!r} must end after the host and the port; the paths are the server's own")
        try:
            return cls(parse_origin(f"{scheme}://{authority}"))
        except InvalidId as error:
            example = "localhost:8080 or https://chat.example"
            raise InvalidServerAddress(f"{text!r} is not a server's address: it {error}. Try {example}") from None

    @property
    def is_secure(self) -> bool:
        return self.origin.startswith("https:")

    @property
    def host(self) -> str:
        """A name or an IP address, without the brackets of IPv6."""
        return urlsplit(self.origin).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.origin)
        return parts.port or _DEFAULT_PORTS[parts.scheme]

    @property
    def authority(self) -> str:
        """`host[:port]` as the Host header carries it (RFC 9110, section 7.2)."""
        return urlsplit(self.origin).netloc

    @property
    def websocket_url(self) -> str:
        """The URL of the socket."""
        return "ws" + self.origin.removeprefix("http") + SOCKET_PATH

    def __str__(self) -> str:
        return self.origin


def _is_loopback(authority: str) -> bool:
    host = (
        urlsplit("//" + authority.partition("/")[0]).hostname
        if "[" not in authority
        else authority[1:].partition("]")[0]
    )
    if host is None or host == "localhost" or host.endswith(".localhost"):
        return host is not None
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
