"""The guarded server in this process: Hypercorn over memory streams, under a mock clock, without a socket or a thread.

    async with serve_in_process(app) as server:
        websocket = await server.connect("/ws")

The application's lifespan runs as under the `hypercorn` command. A test that needs bytes instead of a client takes
`server.open_stream()`.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
import trio_websocket
from attrs import define, field, frozen
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework, WebsocketScope
from hypercorn.utils import wrap_app
from quart.wrappers import Websocket
from trio.testing import memory_stream_pair

from ironwire.limits import Limits
from ironwire.server.listener.guard import Guard
from ironwire.server.listener.guarded_server import serve_connection
from ironwire.server.listener.hypercorn import direct_transport, install, settle, take_socket
from ironwire.server.session.transport import Transport

StreamPair = Callable[[], tuple[Any, Any]]
"""Makes the two ends of a connection. `memory_stream_pair` never blocks a writer, `lockstep_stream_pair` does."""


@frozen
class FakeSocket:
    """What Hypercorn asks a socket for."""

    peer_port: int
    family: int = socket.AF_INET

    def getpeername(self) -> tuple[str, int]:
        return ("127.0.0.1", self.peer_port)

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 80)


@define(eq=False)
class InProcessServer:
    guard: Guard
    config: Config
    context: WorkerContext
    _app: AppWrapper
    _nursery: trio.Nursery
    _server_tls: ssl.SSLContext | None
    _client_tls: ssl.SSLContext | None
    _ports: int = field(default=40_000, init=False)

    def open_stream(self, stream_pair: StreamPair = memory_stream_pair, *, fake_socket: Any = None) -> Any:
        """Return the client's end of a new connection; a server serves the other."""
        self._ports += 1
        client, server = stream_pair()
        server.socket = FakeSocket(self._ports) if fake_socket is None else fake_socket
        if self._server_tls is not None and self._client_tls is not None:
            client = trio.SSLStream(client, self._client_tls, server_hostname="localhost", https_compatible=True)
            server = trio.SSLStream(server, self._server_tls, server_side=True, https_compatible=True)
        self._nursery.start_soon(self._serve, server)
        return client

    async def _serve(self, stream: Any) -> None:
        """What Trio's `serve_listeners` does with an accepted stream."""
        try:
            await serve_connection(self.guard, self._app, self.config, self.context, {}, stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def connect(
        self, path: str, *, stream_pair: StreamPair = memory_stream_pair, message_queue_size: int = 1
    ) -> trio_websocket.WebSocketConnection:
        """Return an open WebSocket on a new connection.

        Raises:
            trio_websocket.ConnectionRejected: the server answered with another status than 101.
        """
        stream = self.open_stream(stream_pair)
        return await trio_websocket.wrap_client_stream(
            self._nursery, stream, "localhost", path, message_queue_size=message_queue_size
        )

    async def request(self, data: bytes) -> bytes:
        """Send `data` on a new connection; return all that comes back until the server hangs up."""
        async with self.open_stream() as stream:
            await stream.send_all(data)
            return await read_to_end(stream)


@asynccontextmanager
async def serve_in_process(
    app: ASGIFramework,
    *,
    limits: Limits | None = None,
    guard: Guard | None = None,
    server_tls: ssl.SSLContext | None = None,
    client_tls: ssl.SSLContext | None = None,
) -> AsyncIterator[InProcessServer]:
    """Serve `app` with the limits of `guard`, or with `limits` under a guard of its own."""
    installed = install(limits or Limits(), trio.lowlevel.checkpoint)
    guard = guard or installed
    config = Config()
    config.errorlog = None
    settle(config, guard.limits)
    wrapped = wrap_app(app, 0, "asgi")
    lifespan = Lifespan(wrapped, config, {})
    async with trio.open_nursery() as lifespan_nursery:
        await lifespan_nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        async with trio.open_nursery() as nursery:
            yield InProcessServer(guard, config, WorkerContext(None), wrapped, nursery, server_tls, client_tls)
            nursery.cancel_scope.cancel()
        await lifespan.wait_for_shutdown()
        lifespan_nursery.cancel_scope.cancel()


async def open_transport(websocket: Websocket, limits: Limits) -> Transport:
    """Accept a Quart WebSocket and return the transport on its stream."""

    async def accept(_: object) -> None:
        await websocket.accept()

    connection = await take_socket(cast("WebsocketScope", websocket.scope), accept)
    return direct_transport(*connection.take(), limits)


async def send(transport: Transport, payloads: Sequence[bytes]) -> None:
    """Write the payloads, and wait until all of them are out."""
    is_all_out = transport.write(payloads)
    while not is_all_out:
        is_all_out = await transport.send_some()


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Return everything until the end of the stream."""
    received = bytearray()
    while data := await stream.receive_some():
        received += data
    return bytes(received)
