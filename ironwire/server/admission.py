"""Whether a client that has proven its key may come, what it is told then, and how much it may leave behind
(docs/protocol.md, sections 3 and 6.1).

Rule: nobody is asked about before the signature was verified, so strangers learn nothing about who is known here.
"""

from math import ceil

from attrs import fields

from ironwire.errors import StoreError
from ironwire.hub.outbox import Ending
from ironwire.ids import ClientId
from ironwire.limits import Limits
from ironwire.protocol.auth import Admit
from ironwire.server.gate import Visitor
from ironwire.server.services import Services
from ironwire.store.records import Mailbox
from ironwire.wire.messages import AuthOk, Block, ClientMessage, GroupCreate, ServerLimits

PROTOCOL = 1
"""The version that clients are told."""
NOT_REGISTERED = Ending(1008, "Not registered here")
TOO_MANY_REGISTRATIONS = Ending(1013, "too many new devices from this address")


def refusal_of(admitted: Admit, visitor: Visitor, services: Services) -> Ending | None:
    """How the session of a client ends that may not come; None if it may. An invite is used up."""
    client, device = admitted.principal.client, admitted.principal.device
    if device is None and services.registration.is_open:
        return None
    registered = {mailbox.device for mailbox in services.delivery.mailboxes_of(client)}
    if device is not None and device not in registered and visitor.registration():
        return TOO_MANY_REGISTRATIONS
    invite = None if device is None else admitted.invite
    if not registered and not services.registration.admits(client, invite):
        return NOT_REGISTERED
    return None


def wait_to_keep_ms(message: ClientMessage, client: ClientId, visitor: Visitor, services: Services) -> int:
    """0, or the milliseconds until somebody at this address may have the server keep one thing more for good.

    Mailboxes end when their devices are not seen any more. A group does not, nor do the blocks of a client, and new
    identities cost nothing: so a group counts as a new device does, and so does a block of a client without one.
    """
    match message:
        case GroupCreate():
            return ceil(visitor.registration() * 1000)
        case Block() if not _has_devices(client, services):
            return ceil(visitor.registration() * 1000)
        case _:
            return 0


def _has_devices(client: ClientId, services: Services) -> bool:
    try:
        return bool(services.delivery.mailboxes_of(client))
    except StoreError:
        return True  # nothing will be kept either


def announced(limits: Limits) -> ServerLimits:
    """The limits that a client has to know: those that the message has a place for."""
    return ServerLimits(**{field.name: getattr(limits, field.name) for field in fields(ServerLimits)})


def welcome(admitted: Admit, mailbox: Mailbox | None, services: Services) -> AuthOk:
    """What a client is told that has come, with its device's `mailbox` if it has one."""
    if admitted.speaks_seed:
        return AuthOk()
    return AuthOk(
        client=admitted.principal.client,
        device=admitted.principal.device,
        epoch=None if mailbox is None else mailbox.epoch,
        seq=None if mailbox is None else mailbox.tail,
        server_time=services.now_ms(),
        limits=announced(services.limits),
        features=[*services.features],
        protocol=PROTOCOL,
    )
