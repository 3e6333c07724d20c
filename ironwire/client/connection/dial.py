"""A stream to a server: TCP, with TLS where the address says so."""

import ssl
from collections.abc import Awaitable, Callable

import trio

from ironwire.client.connection.urls import ServerAddress
from ironwire.client.errors import ConnectionFailed

CERTIFICATES_VARIABLE = "SSL_CERT_FILE"
"""Which authorities are trusted, in place of those of this machine (OpenSSL, `SSL_CTX_set_default_verify_paths`)."""

Dial = Callable[[ServerAddress], Awaitable[trio.abc.Stream]]


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
