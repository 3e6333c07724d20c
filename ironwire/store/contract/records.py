"""What a store keeps and hands out: mailboxes, entries, envelopes, groups, and what can be counted of them."""

from collections.abc import Mapping
from typing import NewType

from ironwire.counting import Distribution, figure
from ironwire.ids import Address, ClientId, DeviceId, GroupId, MessageId, Role
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
    lost_groups: int = 100
    """How many groups, of which a change was lost, a mailbox names: as many as a gap may (docs/protocol.md, section 5).
    """

    @classmethod
    def of(cls, limits: Limits) -> "Quota":
        """What the operator has chosen."""
        return cls(
            limits.mailbox_envelopes,
            limits.mailbox_bytes,
            limits.devices_per_client,
            limits.groups_per_client,
            limits.blocks_per_client,
        )


@record
class Envelope:
    """What is stored and routed. `payload` is the JSON object that recipients get; `ts` is when it was accepted, in
    Unix ms.
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
class Archived:
    """One place in the history. `number` grows in the order of acceptance and pages through it."""

    number: int
    envelope: Envelope


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

    `session` counts the sessions of the device. Of what it numbers, everything up to `sent` is settled (`numbers.py`).
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


@record
class Group:
    """A group as it stands: its members with their roles, in the order in which they came."""

    id: GroupId
    epoch: int
    name: str | None
    roles: Mapping[ClientId, Role]


@record
class Membership:
    """A group as one who is in it finds it in a list: `role` is that client's, `members` how many there are."""

    group: GroupId
    epoch: int
    role: Role
    members: int
    name: str | None


@record
class Expired:
    """What `expire` removed: `entries` from mailboxes, and whole devices."""

    entries: int
    devices: int


@record
class Erased:
    """What `erase` removed of a client. `left_to_others` counts envelopes from or to it that stay in mailboxes of
    others until they are acknowledged or expire.
    """

    devices: int
    waiting: int
    archived: int
    blocks: int
    left_to_others: int


@record
class StoreStatistics:
    """What was applied since the store was opened, what waits in it, and how it is."""

    batches_total: int = figure("Applied batches, those of the janitor included.")
    operations_total: int = figure("Operations in applied batches.")
    is_failing: bool = figure("1 while the last attempt to write failed.")
    commit_seconds: Distribution = figure("Time that the disk took to commit a batch.")
    mailboxes: int = figure("Mailboxes, one per registered device.")
    waiting_envelopes: int = figure("Entries in all mailboxes that no device has acknowledged.")
    waiting_bytes: int = figure("Bytes of these entries; an envelope in three mailboxes counts three times.")
    file_bytes: int = figure("Bytes of the store on the disk, its log included, uploaded files not.")
