"""Device logs as a store keeps them: signed bytes, which it gives out as it was given them. And the rule by which
mailboxes belong to device keys.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from ironwire.ids import ClientId, DeviceId
from ironwire.protocol.devices.log_entry import LogHead
from ironwire.record import record


@record
class KeptEntry:
    entry: bytes
    signature: bytes


@record
class LogPage:
    """Some entries of a log, in order, and the head of its last one."""

    entries: Sequence[KeptEntry]
    head: LogHead


class Bound(Protocol):
    """A mailbox, as far as it belongs to a key."""

    device: DeviceId
    device_key: bytes | None


def is_taken(boxes: Iterable[Bound], device: DeviceId, key: bytes) -> bool:
    """Whether one of a client's mailboxes keeps `key` from having that of this name: a key has one mailbox, and a
    mailbox one key.
    """
    return any(box.device_key not in (None, key) if box.device == device else box.device_key == key for box in boxes)


class DeviceLogs(Protocol):
    async def device_log(self, client: ClientId, *, first: int, limit: int) -> LogPage | None:
        """Up to `limit` entries of the client's device log from index `first` on; None if the client has no log. A log
        survives the last device of its client.

        Raises:
            StoreError: the store cannot be read.
        """
        ...
