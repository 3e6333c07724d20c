"""The STUN and TURN servers that calls may use, with credentials that end by themselves.

The TURN server shares a secret with this one and nothing else: no account, no connection. A credential names nobody, so
the TURN server does not learn whose call it relays (docs/protocol.md, section 7.4).
"""

import base64
import hmac
import re
from collections.abc import Callable
from typing import NewType

from attrs import field, frozen

from ironwire.errors import InvalidId
from ironwire.wire.messages import IceServer, IceServerList

IceUrl = NewType("IceUrl", str)
"""`stun:host:port` or `turn:host:port?transport=udp`, as RFC 7064 and RFC 7065 have them."""

TAG_BYTES = 8

_STUN = re.compile(r"stuns?:(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?")
_TURN = re.compile(r"turns?:(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?(?:\?transport=(?:udp|tcp))?")


def parse_ice_url(text: str) -> IceUrl:
    """Raises:
    InvalidId: `text` is not the URL of a STUN or TURN server.
    """
    if len(text) > 255 or not (_STUN.fullmatch(text) or _TURN.fullmatch(text)):
        raise InvalidId("must be URLs such as stun:turn.example:3478 or turn:turn.example:3478?transport=udp")
    return IceUrl(text)


def needs_credential(url: IceUrl) -> bool:
    """A TURN server relays only for those who have one; STUN answers everybody."""
    return url.startswith("turn")


@frozen
class IceHandler:
    """Hands out the servers that the operator named.

    Args:
        urls: of servers that share one secret.
        secret: what coturn calls `static-auth-secret`.
        ttl_seconds: how long a credential is good for.
    """

    _urls: tuple[IceUrl, ...]
    _secret: str = field(repr=False)
    _ttl_seconds: int
    _now_ms: Callable[[], int]
    _random_bytes: Callable[[int], bytes]

    def servers(self) -> IceServerList:
        """The servers, for one client to use from now on."""
        stun = [url for url in self._urls if not needs_credential(url)]
        turn = [url for url in self._urls if needs_credential(url)]
        servers = [IceServer([*stun])] if stun else []
        if not turn:
            return IceServerList(servers)
        expiry = self._now_ms() // 1000 + self._ttl_seconds
        username = f"{expiry}:{self._random_bytes(TAG_BYTES).hex()}"
        return IceServerList(
            [*servers, IceServer([*turn], username, credential(self._secret, username))], expiry * 1000
        )


def credential(secret: str, username: str) -> str:
    """The password that coturn expects with `use-auth-secret`. `username` begins with its end, in Unix seconds."""
    return base64.b64encode(hmac.digest(secret.encode(), username.encode(), "sha1")).decode()
