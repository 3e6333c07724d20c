"""Devices, their mailboxes and keys, and the log of these keys."""

from ironwire.ids import ClientId, DeviceId
from ironwire.protocol.devices.log import DeviceStanding
from ironwire.protocol.devices.log_entry import LogHead, SignedEntry
from ironwire.record import record
from ironwire.store.contract.operations.envelopes import Appended
from ironwire.store.contract.records import Envelope, MailboxId


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
class SessionOver:
    """The device has begun another session since, or was removed: the store accepts nothing of this one any more."""


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
