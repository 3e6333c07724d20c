"""IronWire on `hypercorn --worker-class trio ironwire.asgi:app`: replaces parts of Hypercorn by guarded ones.

The worker imports the application before it looks up the functions that it runs, so a module that the application
imports can replace them. That holds for one series of Hypercorn, whose shape is checked here: another version must not
start. docs/decisions/0001 has the reasons.
"""

import inspect
import multiprocessing
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version
from typing import Any, NoReturn, cast

import hypercorn.protocol.h11
import hypercorn.trio.run
import hypercorn.trio.tcp_server
import structlog
import trio
from hypercorn.config import Config, Sockets
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream
from hypercorn.trio.run import worker_serve
from hypercorn.trio.statsd import StatsdLogger
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import AppWrapper, ASGISendCallable, WebsocketScope
from hypercorn.utils import LifespanFailureError, repr_socket_addr

from ironwire.limits import Limits
from ironwire.server.listener.addresses import TrustedProxies
from ironwire.server.listener.connection_limiter import ConnectionLimiter
from ironwire.server.listener.guard import CONNECTION_KEY, Guard, GuardedConnection
from ironwire.server.listener.guarded_http import GuardedHTTPStream, GuardedWSStream
from ironwire.server.listener.guarded_server import serve_connection
from ironwire.server.operator.log_writer import queue_lines_of
from ironwire.server.session.direct import DirectTransport, SocketTransport
from ironwire.server.session.scheduler import Scheduler
from ironwire.server.session.transport import Transport

CANNOT_START = 2
"""The exit code of a server that cannot start; the same as of the command line for an invalid setting."""

_SERIES = "0.18."
_BACKLOG = 4096
_READ_BYTES = 256 * 1024
"""The size of one read of a request body: an upload costs as much for each read as for each megabyte."""

_SHAPE: dict[Callable[..., Any], str] = {
    worker_serve: "app config sockets shutdown_trigger task_status",
    TCPServer.__init__: "self app config context state stream",
    TCPServer.run: "self",
    TCPServer.protocol_send: "self event",
    TCPServer._read_data: "self",
    TCPServer._close: "self",
    TaskGroup.spawn_app: "self app config scope send",
    TaskGroup.spawn: "self func args",
    H11Protocol.__init__: "self app config context task_group connection_state ssl client server send",
    H11Protocol.handle: "self event",
    H11Protocol._check_protocol: "self event",
    H11Protocol._send_error_response: "self status_code",
    H11Protocol._send_h11_event: "self event",
    HTTPStream.app_send: "self message",
    WSStream.__init__: "self app config context task_group ssl client server send stream_id",
    WSStream.handle: "self event",
    WSStream.app_send: "self message",
    WSStream._accept: "self message",
    WSStream._handle_events: "self",
    WSStream._send_wsproto_event: "self event",
    WebsocketBuffer.extend: "self event",
}
"""The functions that are overridden, replaced or called outside Hypercorn's public API, with their parameters."""

_log = structlog.get_logger(__name__)


def install(
    limits: Limits,
    on_shutdown: Callable[[], Awaitable[None]],
    limiter: ConnectionLimiter | None = None,
    scheduler: Scheduler | None = None,
) -> Guard:
    """Install the guarded parts for every server that this process starts from now on; return their shared state.

    Called again, the newest limits and callback apply. `on_shutdown` is awaited when the worker has been told to stop,
    for at most `limits.drain_seconds`, while connections are still served. Without a `limiter`, one is made from
    `limits`; without a `scheduler`, connections get one that sessions do not share.

    Raises:
        RuntimeError: this is not the Hypercorn that the guard was written for.
    """
    check_hypercorn()
    limiter = limiter or ConnectionLimiter(limits, TrustedProxies(()))
    guard = Guard(limits, on_shutdown, limiter, scheduler or Scheduler())
    replacements: list[tuple[Any, str, object]] = [
        (hypercorn.protocol.h11, "HTTPStream", GuardedHTTPStream),
        (hypercorn.protocol.h11, "WSStream", GuardedWSStream),
        (hypercorn.trio.tcp_server, "MAX_RECV", _READ_BYTES),
        (hypercorn.trio.run, "TCPServer", partial(serve_connection, guard)),
        (hypercorn.trio.run, "worker_serve", partial(serve_worker, guard)),
    ]
    for module, name, replacement in replacements:
        setattr(module, name, replacement)
    return guard


def check_hypercorn() -> None:
    """Check that Hypercorn has the version and the shape that the guard relies on.

    Raises:
        RuntimeError: it differs; the message says where.
    """
    found = version("hypercorn")
    if not found.startswith(_SERIES):
        raise RuntimeError(f"IronWire guards hypercorn {_SERIES}*, not {found}: pip install 'hypercorn=={_SERIES}*'")
    for function, parameters in _SHAPE.items():
        actual = " ".join(inspect.signature(function).parameters)
        if actual != parameters:
            raise RuntimeError(
                f"hypercorn {found} is not as released: {function.__qualname__} takes ({actual}) "
                f"and not ({parameters}): reinstall hypercorn"
            )


async def take_socket(scope: WebsocketScope, send: ASGISendCallable) -> GuardedConnection:
    """Accept the WebSocket and return its connection, whose stream is ready to be taken.

    Raises:
        RuntimeError: another server than the guarded one calls the application.
    """
    connection = cast("dict[str, object]", scope.get("state", {})).get(CONNECTION_KEY)
    if not isinstance(connection, GuardedConnection):
        raise RuntimeError("sessions need Hypercorn: hypercorn --worker-class trio ironwire.asgi:app")
    connection.reserve()
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    return connection


def direct_transport(stream: trio.abc.Stream, leftover: bytes, limits: Limits) -> Transport:
    """The transport on the stream of an upgraded connection; `leftover` came behind the upgrade."""
    if isinstance(stream, trio.SocketStream):
        return SocketTransport(stream, leftover, limits)
    return DirectTransport(stream, leftover, limits)


async def serve_worker(
    guard: Guard,
    app: AppWrapper,
    config: Config,
    *,
    sockets: Sockets | None = None,
    shutdown_trigger: Callable[..., Awaitable[None]] | None = None,
) -> None:
    """Do as Hypercorn's `worker_serve`, with other defaults and a drain of the sessions before the end."""
    settle(config, guard.limits)
    _keep_logs_from_blocking(config)
    if sockets is not None:
        listening = (*sockets.secure_sockets, *sockets.insecure_sockets)
        for socket in listening:
            socket.listen(config.backlog)  # again: the worker listened before it imported the application
        guard.listens = tuple(repr_socket_addr(socket.family, socket.getsockname()) for socket in listening)
    if multiprocessing.parent_process() is not None:
        # The parent's event decides. It comes with the same signal when a service manager signals the whole group; at
        # SIGHUP another worker takes this one's place.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    if shutdown_trigger is not None:
        shutdown_trigger = partial(_wait_and_drain, guard, shutdown_trigger)
    can_start = True
    try:
        await worker_serve(app, config, sockets=sockets, shutdown_trigger=shutdown_trigger)
    except* LifespanFailureError:
        can_start = False  # early versions of Python 3.11 would wrap an exit from here in a group
    if not can_start:
        give_up()  # the log has said why


def give_up() -> NoReturn:
    """End this process, whose server cannot start, with exit code 2; and Hypercorn's parent, if there is one.

    Left alone, the parent would end with exit code 0, which tells a service manager that all is well: it asks its
    workers for their exit codes twice and keeps the second answer, when the one that failed is no longer among them
    (hypercorn 0.18.0, `run.run`). Its other workers see that it is gone, drain their sessions and end.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        os.kill(parent.pid, signal.SIGUSR1)
    sys.exit(CANNOT_START)


def settle(config: Config, limits: Limits) -> None:
    """Set every setting that the operator has not set from `limits`; HTTP/2 is always off."""
    config.alpn_protocols = ["http/1.1"]
    defaults = {
        "backlog": _BACKLOG,
        "keep_alive_timeout": limits.header_seconds,  # from the start, or the last response, to the end of the headers
        "ssl_handshake_timeout": limits.header_seconds,
        "websocket_max_message_size": limits.frame_bytes,
    }
    for name, value in defaults.items():
        if name not in vars(config):
            setattr(config, name, value)


def _keep_logs_from_blocking(config: Config) -> None:
    """Queue the lines of Hypercorn's loggers, which would write on the event loop."""
    config.set_statsd_logger_class(StatsdLogger)  # as the worker would: `config.log` is made at its first use
    for name in ("access_logger", "error_logger"):
        queue_lines_of(getattr(config.log, name, None))


async def _wait_and_drain(guard: Guard, shutdown_trigger: Callable[[], Awaitable[None]]) -> None:
    await _wait_for_first(shutdown_trigger, _wait_until_orphaned)
    with trio.move_on_after(guard.limits.drain_seconds) as draining:
        try:
            await guard.on_shutdown()
        except* Exception as error:
            _log.error("goodbye to the sessions failed", exc_info=error)
    guard.hang_up_idle()
    if draining.cancelled_caught:
        _log.warning("some sessions did not leave in time", drain_seconds=guard.limits.drain_seconds)


async def _wait_for_first(*waits: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:

        async def wait_then_cancel(wait: Callable[[], Awaitable[None]]) -> None:
            await wait()
            nursery.cancel_scope.cancel()

        for wait in waits:
            nursery.start_soon(wait_then_cancel, wait)


async def _wait_until_orphaned() -> None:
    """Return when the parent is gone: a worker ignores signals, and would hold the port for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        await trio.sleep_forever()
    else:
        await trio.lowlevel.wait_readable(parent.sentinel)
