"""The history: envelopes that stay readable after the last ack, page by page."""

from typing import Protocol

from ironwire.ids import Address, ClientId
from ironwire.record import record
from ironwire.store.contract.records import Envelope

HISTORY_BYTES = 256 * 1024
"""A page of the history ends early when it has this many: it must fit into an outbox, and into what clients take. So a
store need not read more than the one that reaches it.
"""


@record
class Archived:
    """One place in the history. `number` grows in the order of acceptance and pages through it."""

    number: int
    envelope: Envelope


class Archive(Protocol):
    async def read_history(self, client: ClientId, peer: Address, *, before: int | None, limit: int) -> list[Archived]:
        """Up to `limit` archived envelopes between `client` and `peer`, in either direction, newest first: the newest
        of all, or those whose number is below `before`. It may end with the one that reaches `HISTORY_BYTES`. Of a
        group: those since the client became a member, and none if it is not one.

        Raises:
            StoreError: the store cannot be read.
        """
        ...
