"""A client's devices: listing them, and removing one with its mailbox (docs/protocol.md, section 5)."""

from attrs import frozen

from ironwire.close_codes import CloseCode
from ironwire.delivery.delivery import Delivery
from ironwire.delivery.hub import Endpoint, Hub
from ironwire.delivery.outbox import Ending
from ironwire.handlers.replies import reply, verb_handler
from ironwire.ids import MessageId
from ironwire.store.contract.operations import NoSuchDevice, SessionOver
from ironwire.store.contract.records import Mailbox
from ironwire.wire.messages import Device, DeviceList, DeviceRemove, DeviceRemoved, Devices, Error
from ironwire.wire.messages.fields import ErrorCode

REMOVED = Ending(CloseCode.REMOVED, "this device was removed")


@frozen
class DeviceHandler:
    """Answers clients about their devices."""

    _hub: Hub
    _delivery: Delivery

    @verb_handler
    async def list_devices(self, endpoint: Endpoint, request: Devices, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot be read.
        """
        mailboxes = await self._delivery.mailboxes_of(endpoint.principal.client)
        return reply(endpoint, DeviceList([*map(_listed, mailboxes)]), id_)

    @verb_handler
    async def remove(self, endpoint: Endpoint, request: DeviceRemove, id_: MessageId | None) -> ErrorCode | None:
        """Raises:
        StoreError: the store cannot work.
        """
        client, device, pump = endpoint.principal.client, request.device, endpoint.pump
        session = pump.session if pump is not None and device == endpoint.principal.device else None

        def removed() -> None:
            reply(endpoint, DeviceRemoved(device), id_)  # first: it may be this very session that ends now
            other = self._hub.device_session(client, device)
            if other is not None:
                other.outbox.close(REMOVED)

        result = await self._delivery.remove(client, device, removed, session)
        if isinstance(result, SessionOver):
            return reply(endpoint, Error("not_found", detail="a newer session of this device has begun"), id_)
        if isinstance(result, NoSuchDevice):
            return reply(endpoint, Error("not_found", detail="this client has no such device"), id_)
        return None


def _listed(box: Mailbox) -> Device:
    key = None if box.device_key is None else box.device_key.hex()
    return Device(box.device, box.created_ms, box.seen_ms, box.waiting, key)
