"""What it costs to store an envelope, or to erase it, counted in places: one in each mailbox that it may go to.

Rule: whoever asks is charged for what the store will do, and no lookup here takes longer than what it saves.
"""

from collections.abc import Iterable

from ironwire.errors import StoreError
from ironwire.ids import ClientId, GroupId
from ironwire.protocol.auth import Principal
from ironwire.store.contract.store import Store

ON_THE_PAGE = 2 * 1024
"""Bytes that come with a place: the disk writes pages of twice as many."""
BYTES_OF_A_PLACE = 256
"""What keeps the disk for as long as a place keeps the processor, at 20 MB a second."""


def cost_of(size: int, places: int) -> int:
    """Of so many bytes that are written, or overwritten because they are erased, and so many places."""
    return places + max(size - ON_THE_PAGE, 0) // BYTES_OF_A_PLACE


def places_between(store: Store, sender: Principal, to: ClientId) -> int:
    """How many places an envelope may take: one in each mailbox of the two, besides that of the device that sends it.

    Raises:
        StoreError: the store cannot be read.
    """
    places = store.places_of(to)
    if sender.client == to:
        return places
    return places + store.places_of(sender.client) - (sender.device is not None)


def places_in(store: Store, client: ClientId, group: GroupId) -> int:
    """How many places what the client says in the group may take: at least one for each member."""
    try:
        stands = store.group(group)
        if stands is None or client not in stands.roles:
            return 1
        return places_of_all(store, stands.roles)
    except StoreError:
        return 1  # nothing will be stored either


def places_of_all(store: Store, clients: Iterable[ClientId]) -> int:
    """The same of all these.

    Raises:
        StoreError: the store cannot be read.
    """
    return sum(max(store.places_of(client), 1) for client in clients)
