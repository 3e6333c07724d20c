"""How a client reaches its server: a stream, with TLS where the address says so, and the pauses between attempts."""

import random
import ssl
from collections.abc import Awaitable, Callable

import trio
from attrs import frozen

from ironwire.client.connection.urls import ServerAddress
from ironwire.client.errors import ConnectionFailed
from ironwire.client.store.device_keys import DeviceKeys, KeptLog
from ironwire.client.store.keystore import Account
from ironwire.ids import DeviceId

CERTIFICATES_VARIABLE = "SSL_CERT_FILE"
"""The authorities to trust, in place of those of this machine (OpenSSL, `SSL_CTX_set_default_verify_paths`)."""

Dial = Callable[[ServerAddress], Awaitable[trio.abc.Stream]]

_DOUBLINGS = 32
"""The largest exponent: the cap holds long before, and more would overflow."""


@frozen
class Backoff:
    """A delay is uniform in [0, min(cap, base x 2^attempt)], drawn by `uniform`.

    Full jitter, so that the clients of a server that restarted do not return in one wave.
    """

    base_seconds: float = 0.5
    cap_seconds: float = 30.0
    uniform: Callable[[float, float], float] = random.uniform

    def delay_seconds(self, attempt: int, spread_seconds: float | None = None) -> float:
        """How long to wait before attempt `attempt`, counted from 0. A server that named a spread gets exactly that."""
        if spread_seconds is not None:
            return self.uniform(0, spread_seconds)
        return self.uniform(0, min(self.cap_seconds, self.base_seconds * 2 ** min(attempt, _DOUBLINGS)))


@frozen(eq=False)
class Target:
    """A server, the identity or linked device that connects to it, and the way there."""

    address: ServerAddress
    account: Account
    device: DeviceId | None
    backoff: Backoff
    dial: Dial
    invite: str | None = None
    keys: DeviceKeys | None = None
    """Of a device that has a key of its own."""
    log: KeptLog | None = None
    """The own device log, for a session that is no device's."""


async def dial_tcp(address: ServerAddress, *, context: ssl.SSLContext | None = None) -> trio.abc.Stream:
    """A connected stream; with TLS, after a handshake in which the certificate was verified.

    Args:
        context: what judges the certificate; without it, as this machine does.

    Raises:
        ConnectionFailed: nobody listens there, the name is unknown, or the certificate is not good.
    """
    try:
        stream = await trio.open_tcp_stream(address.host, address.port)
    except OSError as error:
        raise ConnectionFailed(
            f"cannot reach {address}: {error}. Is the server running, and is the address right?"
        ) from error
    if not address.is_secure:
        return stream
    return await _secured(stream, address, context or ssl.create_default_context())


async def _secured(stream: trio.SocketStream, address: ServerAddress, context: ssl.SSLContext) -> trio.abc.Stream:
    # https_compatible: HTTP servers close without a TLS goodbye; WebSocket has its own.
    secured = trio.SSLStream(stream, context, server_hostname=address.host, https_compatible=True)
    try:
        try:
            await secured.do_handshake()
        except trio.BrokenResourceError as error:
            raise ConnectionFailed(_explanation(error.__cause__ or error, address)) from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


def _explanation(error: BaseException, address: ServerAddress) -> str:
    """Why there is no TLS. No advice leads to less security than was asked for."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {address} is not trusted: {error.verify_message}. Ask the server's operator; if its"
            f" certificates come from an authority of your own, name that authority's file in {CERTIFICATES_VARIABLE}"
        )
    return f"no TLS with {address}: {error}. Does a server with TLS listen on port {address.port}?"
