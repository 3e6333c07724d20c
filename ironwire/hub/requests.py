"""Everything that a session asks of the server besides sending envelopes: which desk answers it.

One frame in, and what answers it goes to the asker's outbox. Only questions to the store await anything, and that is
the disk.
"""

from typing import assert_never

import structlog
from attrs import frozen

from ironwire.errors import StoreError
from ironwire.hub.delivery import Delivery
from ironwire.hub.devices import DeviceDesk
from ironwire.hub.hub import Attachment
from ironwire.ids import MessageId
from ironwire.wire.codec import encode
from ironwire.wire.messages import (
    Auth,
    DeviceRemove,
    Devices,
    Error,
    History,
    Verify,
)

Request = Auth | Verify | Devices | DeviceRemove | History

log = structlog.get_logger(__name__)


@frozen
class Requests:
    """The desks, and the way to each."""

    _delivery: Delivery
    _devices: DeviceDesk

    async def answer(self, asker: Attachment, request: Request, id: MessageId | None) -> None:  # noqa: A002  # the frame's
        """Carry out a request; whatever comes of it is in the asker's outbox when this returns."""
        try:
            await self._dispatch(asker, request, id)
        except StoreError:
            log.exception("the store cannot answer")
            asker.outbox.put(encode(Error("internal", detail="the store cannot answer now"), id))

    async def _dispatch(self, asker: Attachment, request: Request, id: MessageId | None) -> None:  # noqa: A002  # the frame's
        match request:
            case Auth() | Verify():
                asker.outbox.put(encode(Error("invalid", detail="this session is authenticated already"), id))
            case Devices() | DeviceRemove():
                await self._devices.answer(asker, request, id)
            case History():
                asker.outbox.put(await self._delivery.history(asker.principal.client, request, id))
            case _:
                assert_never(request)
