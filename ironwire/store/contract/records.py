"""The records of a store: mailboxes, entries, envelopes, the history; and when a mailbox is full."""

from typing import NewType

from ironwire.ids import Address, ClientId, DeviceId, MessageId
from ironwire.limits import Limits
from ironwire.record import record
from ironwire.wire.messages import ErrorCode

MailboxId = NewType("MailboxId", int)


@record
class Quota:
    """When a mailbox is full, and how much a client may have. A full mailbox opens again at half of both bounds."""

    mailbox_envelopes: int
    mailbox_bytes: int
    devices_per_client: int
    groups_per_client: int = 1_000
    blocks_per_client: int = 1_000
    backup_bytes: int = 1024**3
    """Of all clients together."""
    lost_groups: int = 100
    """How many groups, of which a change was lost, a mailbox names: as many as a gap may (docs/protocol.md, section 5).
    """

    @classmethod
    def of(cls, limits: Limits) -> "Quota":
        """The part of the operator's limits that the store enforces."""
        return cls(
            limits.mailbox_envelopes,
            limits.mailbox_bytes,
            limits.devices_per_client,
            limits.groups_per_client,
            limits.blocks_per_client,
            limits.backups_bytes,
        )


@record
class Envelope:
    """An envelope as it is stored and routed. `payload` is the JSON object that recipients get; `ts` is when it was
    accepted, in Unix ms.
    """

    verb: str
    sender: ClientId
    device: DeviceId | None
    to: Address
    id: MessageId | None
    ts: int
    payload: bytes


@record
class Entry:
    """One place in a mailbox. `is_own` marks the copy for another device of the sender, of what did not go to a group:
    there the sender is a recipient like all others.
    """

    seq: int
    envelope: Envelope
    is_own: bool


@record
class Number:
    """Number `n` of the envelopes of a device, in session `session` of its mailbox."""

    mailbox: MailboxId
    session: int
    n: int


@record
class RefusedSpan:
    """The numbers `first` to `last` of a device were refused, all of them with this code."""

    first: int
    last: int
    code: ErrorCode


@record
class Mailbox:
    """A device's mailbox as it stands. `acked` and `tail` are sequence numbers: the last acknowledged, the last given
    out (0: none yet).

    `epoch` tells this mailbox from one that the same device had before it was removed: a client that finds another
    epoch starts anew.

    `session` counts the sessions of the device. Of what it numbers, everything up to `sent` is settled (`order.py`).
    """

    id: MailboxId
    client: ClientId
    device: DeviceId
    epoch: int
    acked: int
    tail: int
    waiting: int
    waiting_bytes: int
    created_ms: int
    seen_ms: int
    session: int = 0
    sent: int = 0
    refused: tuple[RefusedSpan, ...] = ()
    device_key: bytes | None = None
    """The key that the mailbox belongs to, if it has been registered with one."""


HISTORY_BYTES = 256 * 1024
"""A page of the history ends early when it has this many: it must fit into an outbox, and into what clients take. So a
store need not read more than the one that reaches it.
"""


@record
class Archived:
    """One place in the history. `number` grows in the order of acceptance and pages through it."""

    number: int
    envelope: Envelope
