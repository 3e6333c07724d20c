"""Envelopes: to whom they go, what becomes of them, and of their numbers."""

from collections.abc import Hashable

from ironwire.ids import ClientId, DeviceId, GroupId
from ironwire.record import record
from ironwire.store.contract.records import Envelope, MailboxId, Number
from ironwire.wire.messages import ErrorCode


@record
class ToClient:
    """All mailboxes of the client, and those of the sender's other devices. `is_live`: the client has a session that
    can take the envelope without a mailbox.

    A full mailbox of the client refuses the envelope. A full one of the sender loses the place: a device that never
    reads must not silence the others of its client. To oneself there has to be room in one mailbox. If the client has
    blocked the sender, the envelope is stored and refused as any other, except that it goes into none of the client's
    mailboxes, is not owed to the client, and only its sender reads it in the archive. `Undeliverable`: the client has
    no mailbox and is not live.
    """

    client: ClientId
    is_live: bool = False


@record
class ToGroup:
    """All mailboxes of the members, except that of the device that sends. A full mailbox loses the place; blocks do not
    count. `NotMember`: there is no such group, or the sender is not in it.
    """

    group: GroupId


@record
class ToDevices:
    """The mailboxes of these devices, whosever they are. A full mailbox loses the place; blocks do not count.
    `Undeliverable`: none of the devices has a mailbox.
    """

    devices: tuple[tuple[ClientId, DeviceId], ...]


Audience = ToClient | ToGroup | ToDevices
"""The recipients of an envelope, resolved when the operation takes effect: blocks, members and devices count as the
operations before it left them.
"""


@record
class Append:
    """Put the envelope into every mailbox of its audience.

    `digest` tells bodies apart when an id comes again; where it is empty, the id is not remembered. An envelope that
    `is_archived` stays readable after its last ack, until `expire`. Of one `lane`, nothing more goes through in the
    batch once one was refused for a full mailbox (`order.py`). Results in `Appended`, `Duplicate`, `IdTaken`, `Held`,
    or a refusal that its audience explains: `MailboxFull`, `Undeliverable`, `NotMember`.

    An envelope with a `number` has an empty digest, and is not known by its id: the mailbox of its sender counts it
    (`order.py`) in the same commit, a refusal too. It may also result in `AlreadySettled`, `OutOfTurn` or
    `SessionOver`; then nothing else was done.
    """

    envelope: Envelope
    digest: bytes
    audience: Audience
    is_archived: bool = False
    lane: Hashable | None = None
    number: Number | None = None


@record
class RefuseNumber:
    """The envelope with this number was refused before it came to the store, and its sender is told `code`. Results in
    `NumberRefused`, or as an `Append` with this number where it is not the next one.
    """

    number: Number
    code: ErrorCode
    lane: Hashable | None = None


@record
class NumberRefused:
    pass


@record
class AlreadySettled:
    """An envelope with this number came before: it was accepted, or refused with this code."""

    code: ErrorCode | None


@record
class OutOfTurn:
    """The number is neither `due`, the next one, nor one whose answer the mailbox remembers."""

    due: int


@record
class NotMember:
    """There is no such group, or the sender is not in it; nothing was stored."""


@record
class Placed:
    """Where a stored envelope went."""

    mailbox: MailboxId
    client: ClientId
    device: DeviceId
    seq: int
    is_own: bool


@record
class LostPlace:
    """A place that a full mailbox has lost: the number is given out, and holds nothing (`losses.py`)."""

    mailbox: MailboxId
    seq: int


@record
class Appended:
    """`owed` are the clients whose sessions without a mailbox may have the envelope too: the one that it went to,
    unless that one has blocked the sender; or the members of its group, after a change also those who were before.
    """

    placed: tuple[Placed, ...]
    owed: tuple[ClientId, ...] = ()
    lost: tuple[LostPlace, ...] = ()


@record
class Duplicate:
    """The same id with the same body is known: it was accepted at `ts`, and went to this group, or to a client."""

    ts: int
    group: GroupId | None = None


@record
class IdTaken:
    """The same id with another body is known."""


@record
class Undeliverable:
    """Nobody can get the envelope; nothing was stored."""


@record
class MailboxFull:
    """One of the recipient's mailboxes has no room; nothing was stored for anyone."""


@record
class Held:
    """An operation of the same lane was refused before; nothing was looked at. Its number is used up, if it has one."""


@record
class Forget:
    """The envelope reached nobody after all: its id may come again, or its number counts as refused, and the archive
    drops it. Copies for other devices of the sender stay where they are. Results in `Forgotten`.
    """

    envelope: Envelope
    number: Number | None = None


@record
class Forgotten:
    pass
