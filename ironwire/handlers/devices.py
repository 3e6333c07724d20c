"""A client's devices: listing them, and removing one with its mailbox (docs/protocol.md, section 5)."""

from typing import assert_never

from attrs import frozen

from ironwire.close_codes import CloseCode
from ironwire.delivery.delivery import Delivery
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.delivery.outbox import Ending
from ironwire.ids import ClientId, DeviceId, MessageId
from ironwire.store.contract.operations import NoSuchDevice, SessionOver
from ironwire.wire.codec import encode
from ironwire.wire.messages import Device, DeviceList, DeviceRemove, DeviceRemoved, Devices, Error
from ironwire.wire.messages.fields import ErrorCode

REMOVED = Ending(CloseCode.REMOVED, "this device was removed")


@frozen
class DeviceHandler:
    """Answers what clients ask about their devices."""

    _hub: Hub
    _delivery: Delivery

    async def answer(
        self,
        endpoint: Endpoint,
        request: Devices | DeviceRemove,
        id: MessageId | None,  # noqa: A002  # the frame's
    ) -> ErrorCode | None:
        """Returns the code of the error that was the answer, if it was one.

        Raises:
            StoreError: the store cannot work.
        """
        client = endpoint.principal.client
        match request:
            case Devices():
                endpoint.outbox.put(encode(await self._list(client), id))
                return None
            case DeviceRemove(device):
                return await self._remove(endpoint, device, id)
            case _:
                assert_never(request)

    async def _list(self, client: ClientId) -> DeviceList:
        mailboxes = await self._delivery.mailboxes_of(client)
        return DeviceList([Device(box.device, box.created_ms, box.seen_ms, box.waiting) for box in mailboxes])

    async def _remove(self, endpoint: Endpoint, device: DeviceId, id: MessageId | None) -> ErrorCode | None:  # noqa: A002  # the frame's
        client = endpoint.principal.client
        session = endpoint.session if device == endpoint.principal.device else None
        result = await self._delivery.remove(client, device, session)
        if isinstance(result, SessionOver):
            endpoint.outbox.put(encode(Error("not_found", detail="a newer session of this device has begun"), id))
            return "not_found"
        if isinstance(result, NoSuchDevice):
            endpoint.outbox.put(encode(Error("not_found", detail="this client has no such device"), id))
            return "not_found"
        endpoint.outbox.put(encode(DeviceRemoved(device), id))  # first: it may be this very session that ends now
        other = self._hub.device_session(client, device)
        if other is not None:
            other.outbox.close(REMOVED)
        return None
