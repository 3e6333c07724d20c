"""Everything that a session asks of the server besides sending envelopes: which desk answers it.

One frame in, and what answers it goes to the asker's outbox. Only questions to the store await anything, and that is
the disk.
"""

from collections import Counter
from typing import assert_never, get_args

import structlog
from attrs import field, frozen

from ironwire.counting import Tallied, tallied
from ironwire.delivery.hub import Attachment
from ironwire.errors import StoreError
from ironwire.handlers.blocks import BlockDesk
from ironwire.handlers.calls import CallDesk
from ironwire.handlers.devices import DeviceDesk
from ironwire.handlers.groups import GroupDesk
from ironwire.handlers.history import HistoryDesk
from ironwire.handlers.presence import PresenceDesk
from ironwire.handlers.uploads import UploadDesk
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
class RequestsStatistics:
    asked_total: Tallied
    """Messages of sessions that are neither an envelope nor an ack."""
    refused_total: Tallied
    """Those among them that were not carried out, by the code that the client was told."""


def _none_of_each() -> dict[str, int]:
    return dict.fromkeys((request.verb for request in get_args(Request)), 0)


@frozen
class Requests:
    """The desks, and the way to each."""

    _devices: DeviceDesk
    _history: HistoryDesk
    _groups: GroupDesk
    _presence: PresenceDesk
    _blocks: BlockDesk
    _calls: CallDesk
    _uploads: UploadDesk
    _asked: dict[str, int] = field(init=False, factory=_none_of_each)
    _refused: Counter[tuple[str, ...]] = field(init=False, factory=Counter)

    async def answer(self, asker: Attachment, request: Request, id: MessageId | None) -> None:  # noqa: A002  # the frame's
        """Carry out a request; whatever comes of it is in the asker's outbox when this returns."""
        self._asked[request.verb] += 1
        try:
            refusal = await self._dispatch(asker, request, id)
        except StoreError:
            log.exception("the store cannot answer")
            error = Error("internal", detail="the store cannot answer now")
            asker.outbox.put(encode(error, id))
            if asker.hold is not None and is_ordered(request):
                asker.hold.refused_at_commit(error)
            refusal = "internal"
        if refusal is not None:
            self._refused[request.verb, refusal] += 1

    def arrived(self, attachment: Attachment) -> None:
        """The session has begun: it is attached, and was welcomed."""
        self._calls.arrived(attachment)

    def left(self, attachment: Attachment) -> None:
        """The session has ended and is not attached any more. One that never was may be named too."""
        self._presence.left(attachment)
        self._calls.left(attachment)

    def statistics(self) -> RequestsStatistics:
        return RequestsStatistics(tallied("verb", self._asked), Tallied(("verb", "code"), dict(self._refused)))

    async def _dispatch(
        self,
        asker: Attachment,
        request: Request,
        id: MessageId | None,  # noqa: A002  # the frame's
    ) -> ErrorCode | None:
        match request:
            case Auth() | Verify():
                asker.outbox.put(encode(Error("invalid", detail="this session is authenticated already"), id))
                return "invalid"
            case Devices() | DeviceRemove():
                return await self._devices.answer(asker, request, id)
            case History():
                return await self._history.answer(asker, request, id)
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
                return await self._groups.answer(asker, request, id)
            case Typing() | Presence() | PresenceAllow() | PresenceWatch():
                return self._presence.answer(asker, request, id)
            case Block() | Unblock() | Blocks():
                return await self._blocks.answer(asker, request, id)
            case CallOffer() | CallRinging() | CallAnswer() | CallCandidate() | CallUpdate() | CallEnd() | IceServers():
                return self._calls.answer(asker, request, id)
            case Ping():
                asker.outbox.put(encode(Pong(), id))
                return None
            case UploadToken():
                return self._uploads.answer(asker, request, id)
            case _:
                assert_never(request)
