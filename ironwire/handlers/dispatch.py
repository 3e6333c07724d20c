"""Every verb has one handler: the registry, and the counters that follow from it (docs/protocol.md).

A handler takes a session's endpoint, the message, and the id of its frame. It puts the answer into the endpoint's
outbox, and returns the code of the error that was the answer, or None. There are two kinds: one that waits for nothing
is a plain function, one that asks the store is a coroutine.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from attrs import frozen

from ironwire.counting import Tallied, figure, tallied
from ironwire.delivery.hub import Endpoint
from ironwire.errors import StoreError
from ironwire.handlers.blocks import BlockHandler
from ironwire.handlers.calls import CallHandler
from ironwire.handlers.conversations import ConversationHandler
from ironwire.handlers.device_log import DeviceLogHandler
from ironwire.handlers.devices import DeviceHandler
from ironwire.handlers.groups import GroupHandler
from ironwire.handlers.history import HistoryHandler
from ironwire.handlers.key_packages import KeyPackageHandler
from ironwire.handlers.presence import PresenceHandler
from ironwire.handlers.replies import reply
from ironwire.handlers.tasks import TaskHandler
from ironwire.handlers.uploads import UploadHandler
from ironwire.ids import MessageId
from ironwire.wire.messages import CLIENT_MESSAGES, ClientMessage, Error, Pong
from ironwire.wire.messages.calls import (
    CallAnswer,
    CallCandidate,
    CallEnd,
    CallOffer,
    CallRinging,
    CallUpdate,
    IceServers,
)
from ironwire.wire.messages.conversations import (
    MlsClaim,
    MlsCommit,
    MlsCommits,
    MlsCreate,
    MlsGroups,
    MlsNack,
    MlsPackages,
    MlsPublish,
    MlsRejoin,
    MlsSend,
    MlsSignal,
)
from ironwire.wire.messages.devices import Ack, DeviceLogAppend, DeviceLogRead, DeviceRemove, Devices
from ironwire.wire.messages.envelopes import File, History, Receipt, Text
from ironwire.wire.messages.fields import ErrorCode
from ironwire.wire.messages.groups import (
    GroupAdd,
    GroupCreate,
    GroupInfo,
    GroupLeave,
    GroupRemove,
    GroupRename,
    GroupRole,
    Groups,
)
from ironwire.wire.messages.presence import Block, Blocks, Presence, PresenceAllow, PresenceWatch, Typing, Unblock
from ironwire.wire.messages.session import Auth, Ping, Resume, Verify
from ironwire.wire.messages.uploads import UploadToken

M = TypeVar("M", bound=ClientMessage)
PlainHandler = Callable[[Endpoint, M, MessageId | None], ErrorCode | None]
AskingHandler = Callable[[Endpoint, M, MessageId | None], Awaitable[ErrorCode | None]]

TAKEN_BY_DELIVERY: tuple[type[ClientMessage], ...] = (Text, File, Receipt, Ack, Resume)
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
        conversations: ConversationHandler,
        tasks: TaskHandler,
    ) -> None:
        self._presence, self._calls, self._tasks = presence, calls, tasks
        self._plain: dict[type[ClientMessage], PlainHandler[Any]] = {}
        self._asking: dict[type[ClientMessage], AskingHandler[Any]] = {}

        plain, asks = self._register_plain, self._register_asking
        plain(Auth, _already_authenticated)
        plain(Verify, _already_authenticated)
        plain(Ping, _pong)
        asks(Devices, devices.list_devices)
        asks(DeviceRemove, devices.remove)
        asks(DeviceLogRead, device_log.read)
        asks(DeviceLogAppend, device_log.append)
        asks(History, history.page)
        asks(GroupCreate, groups.change)
        asks(GroupAdd, groups.change)
        asks(GroupRemove, groups.change)
        asks(GroupLeave, groups.change)
        asks(GroupRole, groups.change)
        asks(GroupRename, groups.change)
        asks(GroupInfo, groups.info)
        asks(Groups, groups.list_groups)
        plain(Typing, presence.typing)
        plain(Presence, presence.say)
        plain(PresenceAllow, presence.allow)
        plain(PresenceWatch, presence.watch)
        asks(Block, blocks.block)
        asks(Unblock, blocks.unblock)
        asks(Blocks, blocks.list_blocks)
        plain(CallOffer, calls.offer)
        plain(CallUpdate, calls.update)
        plain(CallRinging, calls.signal)
        plain(CallAnswer, calls.signal)
        plain(CallCandidate, calls.signal)
        plain(CallEnd, calls.signal)
        plain(IceServers, calls.ice_servers)
        plain(UploadToken, uploads.token)
        asks(MlsPublish, packages.publish)
        asks(MlsPackages, packages.packages)
        asks(MlsClaim, packages.claim)
        asks(MlsCreate, conversations.commit)
        asks(MlsCommit, conversations.commit)
        plain(MlsSend, conversations.send)
        plain(MlsSignal, conversations.signal)
        asks(MlsCommits, conversations.commits)
        asks(MlsNack, conversations.nack)
        asks(MlsRejoin, conversations.rejoin)
        asks(MlsGroups, conversations.list_groups)

        handled = [*self._plain, *self._asking]
        if sorted(kind.verb for kind in (*handled, *TAKEN_BY_DELIVERY)) != sorted(
            kind.verb for kind in CLIENT_MESSAGES
        ):
            raise TypeError("each verb has one handler, or is taken by `Delivery`")
        self._asked = dict.fromkeys((kind.verb for kind in handled), 0)
        self._refused: Counter[tuple[str, ...]] = Counter()

    def answer_at_once(self, endpoint: Endpoint, request: ClientMessage, id_: MessageId | None) -> bool:
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

    async def answer(self, endpoint: Endpoint, request: ClientMessage, id_: MessageId | None) -> None:
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

    def left(self, endpoint: Endpoint) -> None:
        """The session has ended and is not attached any more. One that was never open may be named too."""
        self._presence.left(endpoint)
        self._calls.left(endpoint)
        self._tasks.left(endpoint)

    def statistics(self) -> DispatcherStatistics:
        return DispatcherStatistics(tallied("verb", self._asked), Tallied(("verb", "code"), dict(self._refused)))

    def _register_plain(self, kind: type[M], handler: PlainHandler[M]) -> None:
        self._plain[kind] = handler

    def _register_asking(self, kind: type[M], handler: AskingHandler[M]) -> None:
        self._asking[kind] = handler

    def _count(self, request: ClientMessage, refusal: ErrorCode | None) -> None:
        if refusal is not None:
            self._refused[request.verb, refusal] += 1


def _already_authenticated(endpoint: Endpoint, request: Auth | Verify, id_: MessageId | None) -> ErrorCode | None:
    return reply(endpoint, Error("invalid", detail="this session is authenticated already"), id_)


def _pong(endpoint: Endpoint, request: Ping, id_: MessageId | None) -> ErrorCode | None:
    return reply(endpoint, Pong(), id_)


def _fail(endpoint: Endpoint, request: ClientMessage, id_: MessageId | None, reason: StoreError) -> ErrorCode | None:
    """The store could not answer a request: say so, and hold the session if the order of the request counts."""
    log.error("the store cannot answer", exc_info=reason)
    error = Error("internal", detail="the store cannot answer now")
    if endpoint.hold is not None and request.is_ordered:
        endpoint.hold.refused_at_commit(error)
    return reply(endpoint, error, id_)
