"""Mailboxes: what waits for devices, what was lost of it, and which message ids are known."""

from collections.abc import Sequence
from typing import Protocol

from ironwire.ids import ClientId, DeviceId, MessageId
from ironwire.store.contract.losses import Loss
from ironwire.store.contract.operations import Known
from ironwire.store.contract.records import Entry, Mailbox, MailboxId


class Mailboxes(Protocol):
    async def mailboxes_of(self, client: ClientId) -> Sequence[Mailbox]:
        """The client's mailboxes, oldest first.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def read(self, mailbox: MailboxId, *, after: int, limit: int) -> list[Entry]:
        """Up to `limit` entries with a seq above `after`, in order; fewer if they are large, but not none. Numbers
        missing in between are lost; `losses` says why.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def losses(self, mailbox: MailboxId, first: int, last: int) -> Sequence[Loss]:
        """Why the numbers `first` to `last`, all of which `read` left out, hold nothing: in order, and without a hole;
        empty if the mailbox is gone. What an ack has passed may be forgotten.

        Raises:
            StoreError: the store cannot be read.
        """
        ...

    async def recall(self, sender: ClientId, device: DeviceId | None, id: MessageId, digest: bytes) -> Known | None:  # noqa: A002  # the frame's
        """The result of an `Append` or `ChangeGroup` with this id, if the id is known.

        Raises:
            StoreError: the store cannot be read.
        """
        ...
