"""Everything that a session asks of the server besides sending envelopes: the handler of its verb answers it.

One frame in, and what answers it goes to the endpoint's outbox. Only questions to the store await anything, and that is
the disk.
"""

from collections import Counter
from typing import assert_never, get_args

import structlog
from attrs import field, frozen

from ironwire.counting import Tallied, figure, tallied
from ironwire.delivery.hub import Endpoint
from ironwire.errors import StoreError
from ironwire.handlers.blocks import BlockHandler
from ironwire.handlers.calls import CallHandler
from ironwire.handlers.devices import DeviceHandler
from ironwire.handlers.groups import GroupHandler
from ironwire.handlers.history import HistoryHandler
from ironwire.handlers.presence import PresenceHandler
from ironwire.handlers.uploads import UploadHandler
from ironwire.ids import MessageId
from ironwire.protocol.holding import is_ordered
from ironwire.wire.codec import encode
from ironwire.wire.messages import (
    Auth,
    Block,
    Blocks,
    CallAnswer,
    CallCandidate,
    CallEnd,
    CallOffer,
    CallRinging,
    CallUpdate,
    DeviceRemove,
    Devices,
    Error,
    GroupAdd,
    GroupCreate,
    GroupInfo,
    GroupLeave,
    GroupRemove,
    GroupRename,
    GroupRole,
    Groups,
    History,
    IceServers,
    Ping,
    Pong,
    Presence,
    PresenceAllow,
    PresenceWatch,
    Typing,
    Unblock,
    UploadToken,
    Verify,
)
from ironwire.wire.messages.fields import ErrorCode

Request = (
    Auth
    | Verify
    | Devices
    | DeviceRemove
    | History
    | GroupCreate
    | GroupAdd
    | GroupRemove
    | GroupLeave
    | GroupRole
    | GroupRename
    | GroupInfo
    | Groups
    | Typing
    | Presence
    | PresenceAllow
    | PresenceWatch
    | Block
    | Unblock
    | Blocks
    | CallOffer
    | CallRinging
    | CallAnswer
    | CallCandidate
    | CallUpdate
    | CallEnd
    | IceServers
    | UploadToken
    | Ping
)

log = structlog.get_logger(__name__)


@frozen
class DispatcherStatistics:
    asked_total: Tallied = figure("Requests of sessions by verb: every message that is neither an envelope nor an ack.")
    refused_total: Tallied = figure("Requests that were refused, by verb and by the code of the error.")


def _none_of_each() -> dict[str, int]:
    return dict.fromkeys((request.verb for request in get_args(Request)), 0)


@frozen
class Dispatcher:
    """Hands each request to the handler of its verb."""

    _devices: DeviceHandler
    _history: HistoryHandler
    _groups: GroupHandler
    _presence: PresenceHandler
    _blocks: BlockHandler
    _calls: CallHandler
    _uploads: UploadHandler
    _asked: dict[str, int] = field(init=False, factory=_none_of_each)
    _refused: Counter[tuple[str, ...]] = field(init=False, factory=Counter)

    async def answer(self, endpoint: Endpoint, request: Request, id: MessageId | None) -> None:  # noqa: A002  # the frame's
        """Carry out a request; whatever comes of it is in the endpoint's outbox when this returns."""
        self._asked[request.verb] += 1
        try:
            refusal = await self._dispatch(endpoint, request, id)
        except StoreError:
            log.exception("the store cannot answer")
            error = Error("internal", detail="the store cannot answer now")
            endpoint.outbox.put(encode(error, id))
            if endpoint.hold is not None and is_ordered(request):
                endpoint.hold.refused_at_commit(error)
            refusal = "internal"
        if refusal is not None:
            self._refused[request.verb, refusal] += 1

    def arrived(self, endpoint: Endpoint) -> None:
        """The session has begun: it is attached, and was welcomed."""
        self._calls.arrived(endpoint)

    def left(self, endpoint: Endpoint) -> None:
        """The session has ended and is not attached any more. One that never was may be named too."""
        self._presence.left(endpoint)
        self._calls.left(endpoint)

    def statistics(self) -> DispatcherStatistics:
        return DispatcherStatistics(tallied("verb", self._asked), Tallied(("verb", "code"), dict(self._refused)))

    async def _dispatch(
        self,
        endpoint: Endpoint,
        request: Request,
        id: MessageId | None,  # noqa: A002  # the frame's
    ) -> ErrorCode | None:
        match request:
            case Auth() | Verify():
                endpoint.outbox.put(encode(Error("invalid", detail="this session is authenticated already"), id))
                return "invalid"
            case Devices() | DeviceRemove():
                return await self._devices.answer(endpoint, request, id)
            case History():
                return await self._history.answer(endpoint, request, id)
            case (
                GroupCreate()
                | GroupAdd()
                | GroupRemove()
                | GroupLeave()
                | GroupRole()
                | GroupRename()
                | GroupInfo()
                | Groups()
            ):
                return await self._groups.answer(endpoint, request, id)
            case Typing() | Presence() | PresenceAllow() | PresenceWatch():
                return self._presence.answer(endpoint, request, id)
            case Block() | Unblock() | Blocks():
                return await self._blocks.answer(endpoint, request, id)
            case CallOffer() | CallRinging() | CallAnswer() | CallCandidate() | CallUpdate() | CallEnd() | IceServers():
                return self._calls.answer(endpoint, request, id)
            case Ping():
                endpoint.outbox.put(encode(Pong(), id))
                return None
            case UploadToken():
                return self._uploads.answer(endpoint, request, id)
            case _:
                assert_never(request)
