"""Whether a client that has proven its key may come, and what it is told then (docs/protocol.md, section 3).

Rule: nobody is asked about before the signature was verified, so strangers learn nothing about who is known here.
"""

from ironwire.hub.outbox import Ending
from ironwire.protocol.auth import Admit
from ironwire.server.gate import Visitor
from ironwire.server.services import Services
from ironwire.store.records import Mailbox
from ironwire.wire.messages import AuthOk, ServerLimits

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


def welcome(admitted: Admit, mailbox: Mailbox | None, services: Services) -> AuthOk:
    """What a client is told that has come, with its device's `mailbox` if it has one."""
    if admitted.speaks_seed:
        return AuthOk()
    limits = services.limits
    return AuthOk(
        client=admitted.principal.client,
        device=admitted.principal.device,
        epoch=None if mailbox is None else mailbox.epoch,
        seq=None if mailbox is None else mailbox.tail,
        server_time=services.now_ms(),
        limits=ServerLimits(
            frame_bytes=limits.frame_bytes, upload_bytes=limits.upload_bytes, group_members=limits.group_members
        ),
        features=[*services.features],
    )
