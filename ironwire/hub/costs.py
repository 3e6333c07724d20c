"""What it costs to store an envelope, counted in places: one in each mailbox that it may go to.

Rule: whoever asks is charged for what the store will do, and no lookup here takes longer than what it saves.
"""

from collections.abc import Iterable

from ironwire.errors import StoreError
from ironwire.ids import ClientId, GroupId
from ironwire.protocol.auth import Principal
from ironwire.store.base import Store
from ironwire.store.records import Envelope


def cost_of(envelope: Envelope, places: int) -> int:
    """Of an envelope that may take so many places; a KiB takes about as long as one of them."""
    return places + len(envelope.payload) // 1024


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
