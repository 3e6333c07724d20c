"""Admission of a client that has proven its key, its `auth_ok`, and the bounds for what the server keeps for good
(docs/protocol.md, sections 3 and 6.1).

Rule: nothing is looked up before the signature is verified, so unauthenticated peers learn nothing about known clients.
"""

from collections.abc import Callable, Mapping
from math import ceil

from attrs import fields

from ironwire.close_codes import CloseCode
from ironwire.delivery.hub import Endpoint
from ironwire.delivery.outbox import Ending
from ironwire.handlers.device_log import REVOKED
from ironwire.ids import ClientId
from ironwire.limits import Limits
from ironwire.protocol.auth import Admit
from ironwire.server.listener.connection_limiter import ConnectionSlot
from ironwire.server.session.registration import Refusal
from ironwire.server.session.services import Services
from ironwire.store.contract.operations import DeviceNameTaken, DeviceNotLogged, Result
from ironwire.store.contract.order import refused_of_late
from ironwire.store.contract.records import Mailbox
from ironwire.wire import messages as msg

PROTOCOL = 1
"""The version that clients are told."""
NOT_REGISTERED: Mapping[Refusal, Ending] = {
    "not listed": Ending(CloseCode.REFUSED, "Not registered here"),
    "no invite": Ending(CloseCode.REFUSED, "Not registered here: an invite is needed"),
    "unknown invite": Ending(CloseCode.REFUSED, "Not registered here: there is no such invite"),
    "spent invite": Ending(CloseCode.REFUSED, "Not registered here: the invite is used up or has ended"),
}
TOO_MANY_DEVICES = Ending(CloseCode.REFUSED, "Too many devices: remove one")
DEVICE_NOT_LOGGED = Ending(CloseCode.REFUSED, "Device not in the device log")
DEVICE_NAME_TAKEN = Ending(CloseCode.REFUSED, "Device name of another device key")
TOO_MANY_REGISTRATIONS = Ending(CloseCode.OVERLOADED, "too many new devices from this address")


async def admit(
    admitted: Admit,
    endpoint: Endpoint,
    slot: ConnectionSlot,
    services: Services,
    opened: Callable[[Mailbox | None], None],
) -> Ending | None:
    """Register the device of an attached session, if it has one. Returns the ending of a session that may not come;
    None if it may, and `opened` was called: with the mailbox as the registration found it, in the order of commits.
    Consumes an invite with the commit.

    Raises:
        StoreError: the store cannot work, and nothing was kept.
    """
    client, device = admitted.principal.client, admitted.principal.device
    if device is None and services.registration.is_open:
        opened(None)
        return None
    registered = {mailbox.device for mailbox in await services.delivery.mailboxes_of(client)}
    if device is not None and device not in registered and slot.registration():
        return TOO_MANY_REGISTRATIONS
    is_known = bool(registered) or services.registration.admits(client)
    if device is None:
        if not is_known:
            return NOT_REGISTERED[services.registration.refusal]
        opened(None)
        return None
    if is_known:
        return _refusal(await services.delivery.register(endpoint, opened))
    with services.registration.invited(admitted.invite) as refusal:
        if refusal is not None:
            return NOT_REGISTERED[refusal]
        return _refusal(await services.delivery.register(endpoint, opened))


def _refusal(registered: Result) -> Ending | None:
    match registered:
        case Mailbox():
            return None
        case DeviceNotLogged("removed"):
            return REVOKED
        case DeviceNotLogged():
            return DEVICE_NOT_LOGGED
        case DeviceNameTaken():
            return DEVICE_NAME_TAKEN
        case _:
            return TOO_MANY_DEVICES


def wait_to_keep_ms(message: msg.ClientMessage, client: ClientId, slot: ConnectionSlot, services: Services) -> int:
    """0, or the milliseconds until somebody at this address may have the server keep one thing more for good.

    Mailboxes end when their devices are not seen any more. A group does not, nor do the blocks of a client, and new
    identities cost nothing: so a group counts as a new device does, and so do an entry of a device log, and a block of
    a client without a device.
    """
    match message:
        case msg.GroupCreate() | msg.DeviceLogAppend():
            return ceil(slot.registration() * 1000)
        case msg.Block() if not services.delivery.has_mailbox(client):
            return ceil(slot.registration() * 1000)
        case _:
            return 0


def announced(limits: Limits) -> msg.ServerLimits:
    """The limits that a client has to know: those that the message has a place for."""
    return msg.ServerLimits(**{field.name: getattr(limits, field.name) for field in fields(msg.ServerLimits)})


def welcome(admitted: Admit, mailbox: Mailbox | None, services: Services) -> msg.AuthOk:
    """The `auth_ok` of a client, with its device's `mailbox` if it has one."""
    if admitted.speaks_seed:
        return msg.AuthOk()
    return msg.AuthOk(
        client=admitted.principal.client,
        device=admitted.principal.device,
        epoch=None if mailbox is None else mailbox.epoch,
        seq=None if mailbox is None else mailbox.tail,
        sent=None if mailbox is None else mailbox.sent,
        refused=None if mailbox is None else _refused(mailbox) or None,
        server_time=services.now_ms(),
        limits=announced(services.limits),
        features=[*services.features],
        protocol=PROTOCOL,
    )


def _refused(mailbox: Mailbox) -> list[msg.RefusedNumbers]:
    return [
        msg.RefusedNumbers(span.first, span.last, span.code) for span in refused_of_late(mailbox.sent, mailbox.refused)
    ]
