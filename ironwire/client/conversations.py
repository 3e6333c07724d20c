"""A device's conversations, out of its own file: with or without a server, and back to the first thing it knows.

    all         one `Conversation` for each client and group, the one that changed last first
    page        what was said in one, in pages from the newest to the oldest
    mark_read   how far a person has read
"""

from attrs import frozen

from ironwire.client.local import HistoryEntry
from ironwire.ids import Address


@frozen
class Conversation:
    """With one client or group. `last` is the newest entry; its time is `last.message.ts`."""

    peer: Address
    last: HistoryEntry
    unread: int
    """Texts and files of others that came after what `mark_read` was told of last."""
