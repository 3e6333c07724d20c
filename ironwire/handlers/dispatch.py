"""Every verb has one handler: the registry, and the counters that follow from it (docs/protocol.md).

A handler is a method of the object of its subject, registered with `verb_handler` (`replies.py`). It takes a session's
endpoint, the message, and the id of its frame. It puts the answer into the endpoint's outbox, and returns the code of
the error that was the answer, or None. There are two kinds: one that waits for nothing is a plain method, one that asks
the store is a coroutine.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction

import structlog
from attrs import frozen

from ironwire.counting import Tallied, figure, tallied
from ironwire.delivery.hub import Endpoint
from ironwire.errors import StoreError
from ironwire.handlers.blocks import BlockHandler
from ironwire.handlers.calls import CallHandler
from ironwire.handlers.commits import CommitHandler
from ironwire.handlers.conversations import ConversationHandler
from ironwire.handlers.device_log import DeviceLogHandler
from ironwire.handlers.devices import DeviceHandler
from ironwire.handlers.groups import GroupHandler
from ironwire.handlers.history import HistoryHandler
from ironwire.handlers.key_packages import KeyPackageHandler
from ironwire.handlers.presence import PresenceHandler
from ironwire.handlers.replies import registered_in, reply, verb_handler
from ironwire.handlers.tasks import TaskHandler
from ironwire.handlers.uploads import UploadHandler
from ironwire.ids import MessageId
from ironwire.wire import messages as msg

PlainHandler = Callable[[Endpoint, msg.ClientMessage, MessageId | None], msg.ErrorCode | None]
AskingHandler = Callable[[Endpoint, msg.ClientMessage, MessageId | None], Awaitable[msg.ErrorCode | None]]

TAKEN_BY_DELIVERY: tuple[type[msg.ClientMessage], ...] = (
    msg.Text,
    msg.File,
    msg.Receipt,
    msg.MlsSend,
    msg.Ack,
    msg.Resume,
)
"""Verbs that need no handler: a session hands them to `Delivery` itself."""

log = structlog.get_logger(__name__)


@frozen
class DispatcherStatistics:
    asked_total: Tallied = figure("Requests of sessions by verb: every message that is neither an envelope nor an ack.")
    refused_total: Tallied = figure("Requests that were refused, by verb and by the code of the error.")


class Dispatcher:
    """Hands each request to the handler of its verb."""

    def __init__(
        self,
        devices: DeviceHandler,
        device_log: DeviceLogHandler,
        history: HistoryHandler,
        groups: GroupHandler,
        presence: PresenceHandler,
        blocks: BlockHandler,
        calls: CallHandler,
        uploads: UploadHandler,
        packages: KeyPackageHandler,
        commits: CommitHandler,
        conversations: ConversationHandler,
        tasks: TaskHandler,
    ) -> None:
        self._presence, self._calls, self._tasks = presence, calls, tasks
        self._plain: dict[type[msg.ClientMessage], PlainHandler] = {}
        self._asking: dict[type[msg.ClientMessage], AskingHandler] = {}
        handled: list[type[msg.ClientMessage]] = []
        clear = (devices, device_log, history, groups, presence, blocks, calls, uploads)
        for handler in (self, *clear, packages, commits, conversations):
            for kind, method in registered_in(handler):
                handled.append(kind)
                if iscoroutinefunction(method):
                    self._asking[kind] = method
                else:
                    self._plain[kind] = method
        for kind in msg.CLIENT_MESSAGES:
            if [*handled, *TAKEN_BY_DELIVERY].count(kind) != 1:
                raise TypeError(f"the verb `{kind.verb}` needs one handler, unless it is taken by `Delivery`")
        self._asked = dict.fromkeys((kind.verb for kind in handled), 0)
        self._refused: Counter[tuple[str, ...]] = Counter()

    def answer_at_once(self, endpoint: Endpoint, request: msg.ClientMessage, id_: MessageId | None) -> bool:
        """Carry out a request whose handler waits for nothing; the answer is in the endpoint's outbox when this
        returns. False: the handler asks the store, and nothing was done: await `answer`.
        """
        handler = self._plain.get(type(request))
        if handler is None:
            return False
        self._asked[request.verb] += 1
        try:
            refusal = handler(endpoint, request, id_)
        except StoreError as error:
            refusal = _fail(endpoint, request, id_, error)
        self._count(request, refusal)
        return True

    async def answer(self, endpoint: Endpoint, request: msg.ClientMessage, id_: MessageId | None) -> None:
        """Carry out a request whose handler asks the store; the answer is in the endpoint's outbox when this
        returns.
        """
        self._asked[request.verb] += 1
        try:
            refusal = await self._asking[type(request)](endpoint, request, id_)
        except StoreError as error:
            refusal = _fail(endpoint, request, id_, error)
        self._count(request, refusal)

    def arrived(self, endpoint: Endpoint) -> None:
        """The session has begun: it is open, and was welcomed."""
        self._presence.arrived(endpoint)
        self._calls.arrived(endpoint)
        self._tasks.arrived(endpoint)

    async def welcome(self, endpoint: Endpoint) -> None:
        """The session has begun, and nothing was delivered yet.

        Raises:
            StoreError: the store cannot be read.
        """
        await self._tasks.welcome(endpoint)

    def left(self, endpoint: Endpoint) -> None:
        """The session has ended and is not attached any more. One that was never open may be named too."""
        self._presence.left(endpoint)
        self._calls.left(endpoint)
        self._tasks.left(endpoint)

    def statistics(self) -> DispatcherStatistics:
        return DispatcherStatistics(tallied("verb", self._asked), Tallied(("verb", "code"), dict(self._refused)))

    @verb_handler
    def _already_authenticated(
        self, endpoint: Endpoint, request: msg.Auth | msg.Verify, id_: MessageId | None
    ) -> msg.ErrorCode | None:
        return reply(endpoint, msg.Error("invalid", detail="this session is authenticated already"), id_)

    @verb_handler
    def _pong(self, endpoint: Endpoint, request: msg.Ping, id_: MessageId | None) -> msg.ErrorCode | None:
        return reply(endpoint, msg.Pong(), id_)

    def _count(self, request: msg.ClientMessage, refusal: msg.ErrorCode | None) -> None:
        if refusal is not None:
            self._refused[request.verb, refusal] += 1


def _fail(
    endpoint: Endpoint, request: msg.ClientMessage, id_: MessageId | None, reason: StoreError
) -> msg.ErrorCode | None:
    """The store could not answer a request: say so, and hold the session if the order of the request counts."""
    log.error("the store cannot answer", exc_info=reason)
    error = msg.Error("internal", detail="the store cannot answer now")
    if endpoint.hold is not None and request.is_ordered:
        endpoint.hold.refused_at_commit(error)
    return reply(endpoint, error, id_)
