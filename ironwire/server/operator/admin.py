"""The admin socket of a running server: a Unix socket in the data folder, for the folder's owner and root alone.

    -> {"verb": "ban", "client": "<64 hex digits>"}      one line of JSON, once for each connection
    <- {"answer": {...}}   or   {"error": "<what happened, and what to do>"}

Without a running server, `perform` opens the folder itself, under the lock that admits one process. Rule: a client of
this socket is trusted and still bounded, in bytes, in time and in number.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import structlog
import trio
from attrs import define, field

from ironwire import unix_socket
from ironwire.errors import AdminError, IronWireError, StoreError
from ironwire.handlers.operator import REQUESTS, VERBS, Admin, Answer, Request
from ironwire.server.core import Core, wall_clock_ms
from ironwire.server.operator.config import Settings
from ironwire.store.survey import DATABASE
from ironwire.wire.strict import Fault, strict_converter

log = structlog.get_logger(__name__)

SOCKET = "admin.sock"
REQUEST_SECONDS = 5.0
REPLY_SECONDS = 5.0
REQUEST_BYTES = 4096
MOST_AT_A_TIME = 8

_converter = strict_converter()


@define(eq=False)
class AdminSocket:
    """Serves `admin` in the data folder, whose lock this process holds."""

    _folder: Path
    _admin: Admin
    _busy: int = field(init=False, default=0)

    async def run(self) -> None:
        """Serve for ever. If the socket cannot be made, log that and go on without it."""
        try:
            # Replaces a socket that a dead server has left: this process holds the folder's lock.
            listener = unix_socket.listen(self._folder / SOCKET)
        except OSError as error:
            reason = error.strerror or str(error)
            log.error("`ironwire admin` cannot reach this server", folder=str(self._folder), reason=reason)
            await trio.sleep_forever()
        try:
            await trio.serve_listeners(self._serve, [listener])
        finally:
            (self._folder / SOCKET).unlink(missing_ok=True)

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            with trio.fail_after(REQUEST_SECONDS):
                line, _ = await unix_socket.read_line(stream, REQUEST_BYTES)
            reply = await self._reply(line)
            with trio.fail_after(REPLY_SECONDS):
                await stream.send_all(orjson.dumps(reply) + b"\n")
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
            log.warning("a client of the admin socket went away or was too slow")

    async def _reply(self, line: bytes) -> Answer:
        if self._busy == MOST_AT_A_TIME:
            return {"error": "the server is busy with other commands: wait for them"}
        self._busy += 1
        try:
            request = _decoded(line)
            log.info("asked by the operator", verb=VERBS[type(request)])
            return {"answer": await self._admin.answer(request)}
        except IronWireError as error:
            return {"error": str(error)}
        except Exception:
            log.exception("a request of the operator failed")
            return {"error": "the server failed: its log says how"}
        finally:
            self._busy -= 1


async def perform(settings: Settings, request: Request, wall_ms: Callable[[], int] = wall_clock_ms) -> Answer:
    """The answer of the server that serves the data folder; without one, the answer from the folder itself.

    Raises:
        AdminError: the server refused, as a command without one does, or could not be understood.
        StoreError: the folder holds no database, is in use by a process without a socket, or cannot be used.
    """
    answer = await ask(settings.data, request)
    if answer is None:
        answer = await _answer_without_server(Core(settings, wall_ms=wall_ms), request)
    return answer


async def ask(folder: Path, request: Request) -> Answer | None:
    """The answer of the server that serves `folder`; None if none does.

    Raises:
        AdminError: as `perform` says.
    """
    try:
        stream = await unix_socket.connect(folder / SOCKET)
    except OSError as error:
        raise AdminError(f"{folder / SOCKET}: {error.strerror}; be the server's user, or root") from error
    if stream is None:
        return None
    asked = {"verb": VERBS[type(request)], **_converter.unstructure(request)}
    async with stream:
        try:
            await stream.send_all(orjson.dumps(asked) + b"\n")
            reply = b"".join([chunk async for chunk in stream])
        except trio.BrokenResourceError:
            reply = b""
    return _answer_in(reply)


def _answer_in(reply: bytes) -> Answer:
    try:
        said: dict[str, Any] = orjson.loads(reply)
    except ValueError:
        raise AdminError("the server hung up before it had answered: its log says why") from None
    if "error" in said:
        raise AdminError(said["error"])
    answer: Answer = said["answer"]
    return answer


async def _answer_without_server(core: Core, request: Request) -> Answer:
    """Answer from the same parts as in a server, without sessions."""
    path = core.settings.data / DATABASE
    if not path.exists():
        raise StoreError(f"there is no {path}: name the folder with --data, or the settings with --config")
    await core.open()
    try:
        core.blobs.folder.mkdir(mode=0o700, exist_ok=True)
        outcome: Answer | StoreError | AdminError
        async with trio.open_nursery() as nursery:
            nursery.start_soon(core.delivery.run)
            try:
                outcome = await core.admin({}).answer(request)
            except (StoreError, AdminError) as error:  # raised alone, not in an exception group
                outcome = error
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await core.close()
    if isinstance(outcome, StoreError | AdminError):
        raise outcome
    return outcome


def _decoded(line: bytes) -> Request:
    try:
        said = orjson.loads(line)
        kind = REQUESTS[said.pop("verb")]
        request: Request = _converter.structure(said, kind)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AdminError(f"not a request: give a JSON object whose verb is one of {', '.join(REQUESTS)}") from None
    except Fault as fault:
        raise AdminError(fault.about("the request")) from None
    return request
