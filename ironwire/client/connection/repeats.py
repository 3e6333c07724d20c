"""Retries after refusals that say "send again later" (docs/protocol.md, section 4): the client waits, says `resume`,
and repeats the refused messages from the first on, in order.

    refused                                   what becomes of it
    ----------------------------------------  ------------------------------------------------------------
    because an earlier message was            it is repeated
    `rate_limited`                            it is repeated, after `retry_after_ms`
    `internal` or `mailbox_full`, and a       the program is told, and decides
      program waits for the answer
    `internal`, and nobody waits              it is repeated, after `PAUSE_SECONDS`
    `mailbox_full`, and nobody waits          it is repeated, and what else goes there, after `REST_SECONDS`; meanwhile
                                              the rest goes on: one full mailbox silences nobody

A change of a group is never repeated unless it was refused because of another message: somebody waits for the answer.
"""

from collections.abc import Callable, Iterable
from uuid import uuid4

import trio
from attrs import define, field

from ironwire.client.connection.outgoing import Pending, SendQueue
from ironwire.ids import Address, MessageId
from ironwire.wire.messages import Error, File, Receipt, Resume, Text
from ironwire.wire.messages.fields import is_retryable

PAUSE_SECONDS = 5.0
REST_SECONDS = 60.0


@define(eq=False)
class Repeats:
    """Of one session. `pending` are the messages without a reply, in the order in which they are to be sent."""

    _outbox: SendQueue
    _pending: dict[MessageId, Pending]
    _nursery: trio.Nursery
    _moved: Callable[[], None]
    """Told when something may go out that could not before."""
    hold_until: float = field(default=0.0, init=False)
    """On Trio's clock: when the session goes on, if it is held."""
    resting: set[Address] = field(factory=set, init=False)
    """Whose mailbox is full."""

    def send(self, pending: Pending) -> None:
        """Send it now; or when its turn comes, where what comes before it has to wait."""
        if pending.recipient not in self.resting:
            self._outbox.send(pending)

    def takes_over(self, pending: Pending, error: Error) -> bool:
        """Whether this refusal is no answer yet: the message will be sent again."""
        if not pending.is_ordered or not is_retryable(error.msg):
            return False
        is_repeated = error.held or _is_repeated(pending, error)
        wait_seconds = 0.0
        if is_repeated and error.retry_after_ms is not None:
            wait_seconds = error.retry_after_ms / 1000
        elif is_repeated and error.msg == "internal":
            wait_seconds = PAUSE_SECONDS
        elif is_repeated and not error.held:
            self._rest(pending.recipient)
        if not self._outbox.is_held:
            self._outbox.hold()
            self.hold_until = trio.current_time() + wait_seconds
            self._nursery.start_soon(self._go_on, wait_seconds)
        return is_repeated

    async def _go_on(self, wait_seconds: float) -> None:
        await trio.sleep(wait_seconds)
        resume = Pending(MessageId(uuid4().hex), Resume(), is_kept=False)
        self._pending[resume.id] = resume
        try:
            self._outbox.send(resume)
            await resume.replied.wait()  # then everything that was sent before has its answer
        finally:
            self._pending.pop(resume.id, None)
        self._outbox.resume()
        self._send_ordered(lambda _: True)

    def _rest(self, recipient: Address | None) -> None:
        if recipient is not None and recipient not in self.resting:
            self.resting.add(recipient)
            self._nursery.start_soon(self._wake, recipient)

    async def _wake(self, recipient: Address) -> None:
        await trio.sleep(REST_SECONDS)
        self.resting.discard(recipient)
        self._send_ordered(lambda pending: pending.recipient == recipient)
        self._moved()

    def _send_ordered(self, is_due: Callable[[Pending], bool]) -> None:
        due: Iterable[Pending] = [each for each in self._pending.values() if each.is_ordered and is_due(each)]
        for pending in due:
            self.send(pending)


def _is_repeated(pending: Pending, error: Error) -> bool:
    if error.msg == "rate_limited":
        return isinstance(pending.message, Text | File | Receipt)
    return pending.is_kept and not pending.is_awaited
