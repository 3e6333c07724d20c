"""The cost of storing or erasing an envelope, counted in entries: one in each mailbox that it may go to.

Rule: the client that asks is charged for the work of the store, and no lookup here takes longer than it saves: a glance
is enough.
"""

from collections.abc import Iterable

from ironwire.errors import StoreError
from ironwire.ids import ClientId, GroupId
from ironwire.protocol.auth import Principal
from ironwire.store.contract.glance import Glance

ON_THE_PAGE = 2 * 1024
"""Bytes included in one entry: the disk writes pages of twice that size."""
BYTES_PER_ENTRY = 256
"""Bytes charged as one entry: at 20 MB/s, 256 bytes of I/O take as long as one mailbox insert."""


def cost_of(size: int, entries: int) -> int:
    """The cost of so many entries, and of so many bytes that are written, or overwritten because they are erased."""
    return entries + max(size - ON_THE_PAGE, 0) // BYTES_PER_ENTRY


def entries_between(glance: Glance, sender: Principal, to: ClientId) -> int:
    """How many entries an envelope may take: one in each mailbox of the two, besides that of the device that sends it.

    Raises:
        StoreError: the store cannot be read.
    """
    entries = glance.mailbox_count(to)
    if sender.client == to:
        return entries
    return entries + glance.mailbox_count(sender.client) - (sender.device is not None)


def entries_in(glance: Glance, client: ClientId, group: GroupId) -> int:
    """How many entries an envelope of the client to the group may take: at least one for each member."""
    try:
        stands = glance.group(group)
        if stands is None or client not in stands.roles:
            return 1
        return entries_of_all(glance, stands.roles)
    except StoreError:
        return 1  # nothing will be stored either


def entries_of_all(glance: Glance, clients: Iterable[ClientId]) -> int:
    """How many entries an envelope to all these clients may take: at least one for each.

    Raises:
        StoreError: the store cannot be read.
    """
    return sum(max(glance.mailbox_count(client), 1) for client in clients)
