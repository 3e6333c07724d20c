"""The lines of this user in a chat, from when they are entered until it is shown what became of them.

Rule: a line is kept before anything else is read, with or without a server. It is shown once it is known what became of
it, and is `pending` until then.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

import trio
from attrs import define, field

from ironwire.cli.chat.transfers import Transfer, Transfers
from ironwire.cli.failures import refusal
from ironwire.cli.render import now, sent_file
from ironwire.cli.scripting.outbound import Outgoing, queue_valid
from ironwire.client import Accepted, Client, Error, Refused, new_message_id
from ironwire.client.store.records import Sendable
from ironwire.ids import Address, MessageId
from ironwire.wire.messages import File, FileKind, Receipt, Text


@define(eq=False)
class PendingLine:
    """A message or a file that this user sent and that has no answer yet."""

    text: str
    at: datetime = field(factory=now)
    progress: str = ""
    """How far the upload is, for people."""


@define(eq=False)
class OwnLines:
    """`said` is how a message is called, `show` prints a line of that name, when it was entered, why it was not
    delivered (None: it was), and to whom it went.
    """

    _client: Client
    _said: Callable[[Text | File], str]
    _show: Callable[[str, datetime, str | None, Address], None]
    _changed: Callable[[], None]
    transfers: Transfers = field(init=False)
    failures: int = field(default=0, init=False)
    """Messages and files that did not get across."""
    _queued: dict[MessageId, PendingLine] = field(factory=dict, init=False)
    _own: set[MessageId] = field(factory=set, init=False)
    """The lines of this chat, until it is shown what became of them."""
    _earlier: int = field(default=0, init=False)
    """The number of waiting messages at the start that are not of this chat: of earlier runs, and of other commands."""

    def __attrs_post_init__(self) -> None:
        self.transfers = Transfers(self._client, self._queue_file, lambda *_: self._changed())
        self._earlier = self._client.waiting

    @property
    def pending(self) -> tuple[PendingLine, ...]:
        """Lines under way, in the order in which they were entered."""
        uploads = [each for each in self.transfers.running.values() if each.direction == "up"]
        return (*self._queued.values(), *(PendingLine(sent_file(up.name), up.began, _progress(up)) for up in uploads))

    @property
    def is_any_unsettled(self) -> bool:
        """Whether the fate of a line is still to be shown."""
        return bool(self._own) or self._earlier > 0

    async def queue(self, messages: Sequence[Text]) -> None:
        if not messages:
            return
        # An interrupt waits until what was read is kept.
        with trio.CancelScope(shield=True):
            await queue_valid(self._queue_own, {new_message_id(): message for message in messages}, self._refuse)

    async def queue_receipt(self, receipt: Receipt) -> None:
        await self._queue_own(receipt)

    def send_file(self, nursery: trio.Nursery, to: Address, kind: FileKind, argument: str) -> None:
        """Upload the file that `argument` names, and send it, in a task of its own."""
        self.transfers.send(nursery, to, kind, argument, self._note_uploaded)

    def _note_uploaded(self, transfer: Transfer, problem: str | None) -> None:
        if problem is not None:
            self.failures += 1
            self._show(sent_file(transfer.name), transfer.began, problem, transfer.peer)

    def note_queued(self, message_id: MessageId, message: Text | File) -> None:
        """Take note of a message that is kept, of this chat or of another command."""
        self._queued[message_id] = PendingLine(self._said(message))

    def settle(self, message_id: MessageId, message: Sendable, reply: Accepted | Error) -> None:
        """Show what became of a message: of this chat, of an earlier run, or of another command."""
        pending = self._queued.pop(message_id, None)
        if not isinstance(message, Receipt):
            problem = refusal(Refused(reply.msg, reply.detail)) if isinstance(reply, Error) else None
            self._show(self._said(message), now() if pending is None else pending.at, problem, message.to)
            self.failures += problem is not None and message_id in self._own
        if message_id in self._own:
            self._own.remove(message_id)
        elif self._earlier:
            self._earlier -= 1

    async def _queue_own(self, *messages: Sendable, ids: Sequence[MessageId] | None = None) -> None:
        self._own.update(await self._client.queue(*messages, ids=ids))

    async def _queue_file(self, file: Outgoing) -> None:
        with trio.CancelScope(shield=True):
            self._own.update(await self._client.queue(file.message, body=file.body))

    def _refuse(self, message: Sendable, refused: Refused) -> None:
        """Show a line that no server would take; it was not kept."""
        self.failures += 1
        if not isinstance(message, Receipt):
            self._show(self._said(message), now(), refusal(refused), message.to)


def _progress(transfer: Transfer) -> str:
    return f"{100 * transfer.done // transfer.total} %" if transfer.total else "0 %"
