"""A device log: entries that follow on each other, and the devices that they lead to.

    a device key is      add        remove     snapshot that names it    snapshot that does not
    -------------------  ---------  ---------  ------------------------  ----------------------
    unknown              current    refused    current                   unknown
    current              refused    removed    current                   removed
    removed              refused    refused    refused                   removed

A removed key never comes back: a device that lost its state is a new one. A device that is current keeps its role in a
snapshot; `is_owner` of the entry is for those that are new.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from attrs import evolve, field, frozen

from ironwire.crypto.signing import PublicKey
from ironwire.errors import InvalidLogEntry, MisplacedLogEntry
from ironwire.protocol.devices import log_entry
from ironwire.protocol.devices.log_entry import LogEntry, LogHead, LogOp, SignedEntry

HeadRelation = Literal["same", "older", "newer", "other"]
DeviceStanding = Literal["unknown", "current", "removed"]


@frozen
class LoggedDevice:
    """A device that a log has named: when it was added, and when it was removed, if it was."""

    key: PublicKey
    is_owner: bool
    added_ms: int
    removed_ms: int | None = None

    @property
    def is_current(self) -> bool:
        return self.removed_ms is None


DevicesByKey = Mapping[bytes, LoggedDevice]
"""By their raw public keys: every device that a log has named, in the order in which they were added."""


def apply_entry(devices: DevicesByKey, entry: LogEntry) -> dict[bytes, LoggedDevice]:
    """The devices after the entry, of those before it: the table above.

    Raises:
        InvalidLogEntry: the table forbids it, or there would be too many devices.
    """
    after = dict(devices)
    for key in entry.devices:
        known = after.get(key.raw)
        if entry.op is LogOp.REMOVE:
            if known is None or not known.is_current:
                raise InvalidLogEntry("the device is not in the log, or was removed before")
            after[key.raw] = evolve(known, removed_ms=entry.time_ms)
        elif known is None:
            after[key.raw] = LoggedDevice(key, entry.is_owner, entry.time_ms)
        elif entry.op is LogOp.ADD and known.is_current:
            raise InvalidLogEntry("the device is in the log already")
        elif not known.is_current:
            raise InvalidLogEntry("the device was removed, and a removed key does not come back")
    if entry.op is LogOp.SNAPSHOT:
        named = {key.raw for key in entry.devices}
        for raw, known in after.items():
            if known.is_current and raw not in named:
                after[raw] = evolve(known, removed_ms=entry.time_ms)
    if sum(device.is_current for device in after.values()) > log_entry.MOST_DEVICES:
        raise InvalidLogEntry(f"a client has {log_entry.MOST_DEVICES} devices at most")
    return after


def check_place(head: LogHead | None, entry: LogEntry) -> None:
    """Whether the entry is the next one behind `head`, the last of a log; None: of an empty log.

    Raises:
        MisplacedLogEntry: it is not.
    """
    index, prev = (0, log_entry.FIRST_PREV) if head is None else (head.index + 1, head.hash)
    if entry.index != index:
        raise MisplacedLogEntry(f"entry {entry.index} does not follow: the next one is {index}")
    if entry.prev != prev:
        raise MisplacedLogEntry(f"entry {entry.index} follows on another entry than the last one of this log")


@frozen
class DeviceLog:
    """A client's device log, as far as a reader knows it: from its first entry, or from a snapshot."""

    client: PublicKey
    entries: tuple[SignedEntry, ...] = ()
    devices: DevicesByKey = field(factory=dict, eq=False, repr=False)
    """They follow from `entries`."""

    @property
    def first_index(self) -> int:
        return self.entries[0].index if self.entries else 0

    @property
    def next_index(self) -> int:
        return self.entries[-1].index + 1 if self.entries else 0

    @property
    def head(self) -> LogHead | None:
        """Of the last entry; None of an empty log."""
        return self.entries[-1].head if self.entries else None

    @property
    def current(self) -> tuple[LoggedDevice, ...]:
        return tuple(device for device in self.devices.values() if device.is_current)

    def standing_of(self, key: PublicKey) -> DeviceStanding:
        device = self.devices.get(key.raw)
        if device is None:
            return "unknown"
        return "current" if device.is_current else "removed"

    def at(self, index: int) -> SignedEntry | None:
        """The entry with this index, if the reader has it."""
        place = index - self.first_index
        return self.entries[place] if 0 <= place < len(self.entries) else None

    def append(self, *entries: SignedEntry) -> "DeviceLog":
        """The log with these entries more. An empty log may begin with a snapshot of any index.

        Raises:
            MisplacedLogEntry: an entry does not follow on the one before it.
            InvalidLogEntry: it belongs to another client, or the table forbids it.
        """
        head, devices = self.head, self.devices
        for signed in entries:
            entry = signed.entry
            if entry.client != self.client:
                raise InvalidLogEntry("the entry belongs to the log of another client")
            if head is not None or entry.op is not LogOp.SNAPSHOT:
                check_place(head, entry)
            devices = apply_entry(devices, entry)
            head = signed.head
        return evolve(self, entries=self.entries + entries, devices=devices)

    def next_entry(self, op: LogOp, devices: Iterable[PublicKey], *, time_ms: int, is_owner: bool = False) -> LogEntry:
        """The next entry, to be signed.

        Raises:
            InvalidLogEntry: the table forbids it, or the log is full.
        """
        if self.next_index >= log_entry.MOST_ENTRIES:
            raise InvalidLogEntry(f"a device log has {log_entry.MOST_ENTRIES} entries at most")
        named = tuple(sorted(devices, key=lambda key: key.raw))
        head = self.head
        prev = log_entry.FIRST_PREV if head is None else head.hash
        entry = LogEntry(self.client, self.next_index, prev, op, is_owner, time_ms, named)
        apply_entry(self.devices, entry)
        return entry

    def compare(self, claimed: LogHead) -> HeadRelation:
        """A head that somebody else knows, next to this log. `other` means that somebody was shown another log: a fork.
        `older` and `newer` are what happens while a change spreads; below the first entry of a log that begins with a
        snapshot, nobody can tell `older` from `other`.
        """
        if claimed.index >= self.next_index:
            return "newer"
        entry = self.at(claimed.index)
        if entry is None:
            return "older"
        if entry.head != claimed:
            return "other"
        return "same" if claimed.index == self.next_index - 1 else "older"
