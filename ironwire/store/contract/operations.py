"""What a store can be asked to change, and what each change may result in.

The classes are the vocabulary; what is atomic, ordered and told stands in `store.py`.
"""

from collections.abc import Hashable, Mapping

from ironwire.ids import ClientId, ConversationId, DeviceId, GroupId, Role
from ironwire.protocol.conversations.slots import Leaf
from ironwire.protocol.devices.log import DeviceStanding
from ironwire.protocol.devices.log_entry import LogHead, SignedEntry
from ironwire.record import record
from ironwire.store.contract.conversations import Pool, PoolPackage, StoredConversation
from ironwire.store.contract.records import Envelope, Mailbox, MailboxId
from ironwire.wire.messages import ErrorCode


@record
class Register:
    """The device begins a session now; make its mailbox if it has none. Results in `Mailbox`, or `TooManyDevices`.

    With a `device_key`, the mailbox belongs to that key from now on, which has to be current in the client's device
    log. It may also result in `DeviceNotLogged` or `DeviceNameTaken`. A session without one may use any mailbox of its
    client: it has proven the identity key.
    """

    client: ClientId
    device: DeviceId
    now_ms: int
    device_key: bytes | None = None


@record
class TooManyDevices:
    pass


@record
class DeviceNotLogged:
    """The client's device log has not added this key, or has removed it."""

    standing: DeviceStanding


@record
class DeviceNameTaken:
    """The mailbox of this name belongs to another key, or the key has a mailbox of another name."""


@record
class Touch:
    """The device of this mailbox was seen now; a mailbox that is gone stays gone. Results in `Touched`."""

    mailbox: MailboxId
    now_ms: int


@record
class Touched:
    pass


@record
class Remove:
    """Delete the device with its mailbox. Results in `Removed`, or `NoSuchDevice`; or in `SessionOver`, if a `session`
    of this device asks for it that is not the newest: that one was promised the mailbox.
    """

    client: ClientId
    device: DeviceId
    session: int | None = None


@record
class Sweep:
    """Erase what a mailbox that was removed held up to `upto`; repeating it changes nothing. Results in `Swept`."""

    mailbox: MailboxId
    upto: int


@record
class Swept:
    pass


@record
class Removed:
    """Nobody reads any more what the mailbox held. What is left of it is erased by `rest`, one part after the other, or
    with the next `expire`: to erase a full mailbox at once takes a second.
    """

    rest: tuple[Sweep, ...] = ()


@record
class NoSuchDevice:
    pass


@record
class Number:
    """Number `n` of the envelopes of a device, in session `session` of its mailbox."""

    mailbox: MailboxId
    session: int
    n: int


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


@record
class ToConversation:
    """The mailboxes of all leaves of an encrypted conversation, except that of the device `by`, which sends.

    In a pair a full mailbox of the other client refuses the envelope, and one that has blocked the sender gets nothing,
    as with `ToClient`. Elsewhere a full mailbox loses the place. `NotMember`: there is no such conversation, the
    device is not in it, or its client has left the group. `ConversationMoved`: it is in another epoch.
    """

    conversation: ConversationId
    by: Leaf
    generation: int
    epoch: int


Audience = ToClient | ToGroup | ToDevices | ToConversation
"""The recipients of an envelope, resolved when the operation takes effect: blocks, members and devices count as the
operations before it left them.
"""


@record
class Append:
    """Put the envelope into every mailbox of its audience.

    `digest` tells bodies apart when an id comes again; where it is empty, the id is not remembered. An envelope that
    `is_archived` stays readable after its last ack, until `expire`. Of one `lane`, nothing more goes through in the
    batch once one was refused for a full mailbox (`order.py`). Results in `Appended`, `Duplicate`, `IdTaken`, `Held`,
    or a refusal that its audience explains: `MailboxFull`, `Undeliverable`, `NotMember`, `ConversationMoved`. A `text`
    or a `file` to a client or a group whose conversation is encrypted is `Encrypted`.

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
class SessionOver:
    """The device has begun another session since, or was removed: the store accepts nothing of this one any more."""


@record
class ChangeGroup:
    """Bring the group that the envelope goes to from one epoch to the next, and put the envelope into all mailboxes of
    all who were members or are now, that of the device which asked for the change included: each sees the change in
    order with the group's messages. Otherwise as `Append` with `ToGroup`.

    `expected_epoch` is the one that the change was made from; 0 makes the group. `name` and `roles` are the whole of it
    afterwards; whoever is a member already keeps the place in the order. A group without members is gone. Where the
    group is encrypted, a member has to remove those that have left: that is a task. Results in `Appended`, `Duplicate`,
    `IdTaken`, `Held`, `EpochPassed`, or `TooManyGroups`.
    """

    envelope: Envelope
    digest: bytes
    expected_epoch: int
    name: str | None
    roles: Mapping[ClientId, Role]
    lane: Hashable | None = None


@record
class EpochPassed:
    """The group has another epoch than the expected one, or does not exist, or does already; nothing was changed."""


@record
class TooManyGroups:
    """This client, the first such of those to be added, is in as many groups as one may be; nothing was changed."""

    client: ClientId


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


Known = Duplicate | IdTaken


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
class Acknowledge:
    """Everything up to `upto` may be erased from the mailbox; repeating it, or going back, changes nothing. Results
    in `Acked`; or in `SessionOver`, if it comes from a `session` that is not the device's newest: what the newest is
    about to be sent must not be erased under its hands.
    """

    mailbox: MailboxId
    upto: int
    session: int | None = None


@record
class Acked:
    pass


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


@record
class AddBlock:
    """`client` wants nothing more from `blocked`; repeating it changes nothing. Results in `Blocked`, or
    `TooManyBlocks`.
    """

    client: ClientId
    blocked: ClientId


@record
class Blocked:
    pass


@record
class TooManyBlocks:
    pass


@record
class RemoveBlock:
    """Ends a block, if there is one. Results in `Unblocked`."""

    client: ClientId
    blocked: ClientId


@record
class Unblocked:
    pass


@record
class AppendToLog:
    """Put the entry behind the last one of its client's device log; delete the mailboxes of the keys that it removes;
    put the envelope, which tells of it, into the mailboxes that the client has then. A full mailbox loses the place.

    Results in `Logged` or `AlreadyLogged`; or in `LogMoved`, `LogRefused` or `TooManyDevices`, and nothing was done.
    """

    envelope: Envelope
    entry: SignedEntry


@record
class Logged:
    """`removed` are the devices whose mailboxes were deleted; what is left of these is erased by `rest` (`Removed`)."""

    stored: Appended
    removed: tuple[DeviceId, ...] = ()
    rest: tuple[Sweep, ...] = ()


@record
class AlreadyLogged:
    """The log has this very entry."""


@record
class LogMoved:
    """The entry does not follow on the last one, whose head this is; None: the log is empty."""

    head: LogHead | None


@record
class LogRefused:
    """The rules of device logs forbid the change (`protocol/devices/log.py`)."""

    detail: str


# --- encrypted conversations -----------------------------------------------------------------------------------------


@record
class Encrypted:
    """The conversation is encrypted, for good; nothing was stored."""


@record
class ConversationMoved:
    """The conversation is in this generation and epoch, both 0 if there is none; nothing was done."""

    generation: int
    epoch: int


@record
class AdvanceConversation:
    """Bring an encrypted conversation to the state `after` a commit, which makes it where that is epoch 1.

    `seen` are the generation and epoch that this was decided from. The envelope has the commit, and goes to the devices
    of all leaves that there were, in a new generation of the one that begins it; each of `welcomes` goes to one new
    device, unless its client has blocked the sender. `group` is the change of the server group, if there is one: told
    to those members' mailboxes that get none of the former. A full mailbox loses the place.

    The commit is kept, and tasks that it does are done. Results in `Advanced`, `Duplicate`, `IdTaken`, or
    `ConversationMoved`; or in `EpochPassed` or `TooManyGroups`, of `group`.
    """

    envelope: Envelope
    digest: bytes
    seen: tuple[int, int]
    after: StoredConversation
    added: tuple[Leaf, ...] = ()
    welcomes: tuple[tuple[Leaf, Envelope], ...] = ()
    group: ChangeGroup | None = None


@record
class Advanced:
    """Where each envelope went: the commit, the welcomes, the change of the group."""

    stored: tuple[tuple[Envelope, Appended], ...]


@record
class PublishPackages:
    """Put key packages into the pool of a device; a last resort replaces the one before. The first that a device ever
    publishes make it a task to add the device to all conversations of its client. Results in `PackagesPublished`, or in
    `PackageKnown`, `TooManyPackages`, or `SessionOver` if no mailbox belongs to this key; then nothing was done.
    """

    device: Leaf
    packages: tuple[PoolPackage, ...]


@record
class PackagesPublished:
    pool: Pool


@record
class PackageKnown:
    """The package at this index, or its init key, was published before."""

    index: int


@record
class TooManyPackages:
    pass


@record
class ClaimPackages:
    """Take a key package of each device for a conversation: the oldest that is valid, or the last resort, which stays.
    Where the claimer may not take, or is blocked by the client of the device, it is the last resort. Results in
    `PackagesClaimed`.
    """

    claimer: ClientId
    conversation: ConversationId
    targets: tuple[tuple[Leaf, bool], ...]
    """Each with whether the claimer may take from its pool."""
    now_ms: int


@record
class ClaimedPackage:
    """`left` are the packages in the pool now, the last resort not counted."""

    device: Leaf
    data: bytes
    is_last_resort: bool
    left: int


@record
class PackagesClaimed:
    """In the order of the targets, without those that have nothing to give."""

    packages: tuple[ClaimedPackage, ...]


@record
class AskToRejoin:
    """The device cannot read these conversations any more. Make it a task to add it again, or to add it where it is not
    in. Conversations in which its client is not are left out. Results in `AskedToRejoin`.
    """

    device: Leaf
    conversations: tuple[ConversationId, ...]


@record
class AskedToRejoin:
    conversations: tuple[ConversationId, ...]


Operation = (
    Register
    | Touch
    | Remove
    | Sweep
    | Append
    | RefuseNumber
    | ChangeGroup
    | Acknowledge
    | Forget
    | AddBlock
    | RemoveBlock
    | AppendToLog
    | AdvanceConversation
    | PublishPackages
    | ClaimPackages
    | AskToRejoin
)
Result = (
    Mailbox
    | TooManyDevices
    | DeviceNotLogged
    | DeviceNameTaken
    | Touched
    | Removed
    | Swept
    | NoSuchDevice
    | Appended
    | Duplicate
    | IdTaken
    | MailboxFull
    | Held
    | NumberRefused
    | AlreadySettled
    | OutOfTurn
    | SessionOver
    | Undeliverable
    | EpochPassed
    | TooManyGroups
    | NotMember
    | Acked
    | Forgotten
    | Blocked
    | TooManyBlocks
    | Unblocked
    | Logged
    | AlreadyLogged
    | LogMoved
    | LogRefused
    | Encrypted
    | ConversationMoved
    | Advanced
    | PackagesPublished
    | PackageKnown
    | TooManyPackages
    | PackagesClaimed
    | AskedToRejoin
)
