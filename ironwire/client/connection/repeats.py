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

from collections.abc import Callable
from uuid import uuid4

import trio
from attrs import define, field

from ironwire.client.connection.outgoing import Pending, SendQueue
from ironwire.ids import Address, MessageId
from ironwire.wire.messages import Accepted, Error, File, MlsSend, Receipt, Resume, Text
from ironwire.wire.messages.fields import is_retryable

PAUSE_SECONDS = 5.0
REST_SECONDS = 60.0


@define(eq=False)
class Repeats:
    """The repetitions of one session. `pending` are the messages without a reply, in the order in which they are to be
    sent.
    """

    _send_queue: SendQueue
    _pending: dict[MessageId, Pending]
    _nursery: trio.Nursery
    _moved: Callable[[], None]
    """Told when something may go out that could not before."""
    _go_on_after: Callable[[int | None], None]
    """Told that the server takes messages again, and the last number that is settled: sends all of them anew."""
    _resend: Callable[[Pending], None]
    """Sends one of them."""
    hold_until: float = field(default=0.0, init=False)
    """On Trio's clock: when the session goes on, if it is held."""
    resting: set[Address] = field(factory=set, init=False)
    """Whose mailbox is full."""

    @property
    def is_held(self) -> bool:
        """Whether no ordered message goes out; all of them do when the session goes on."""
        return self._send_queue.is_held

    def is_resting(self, pending: Pending) -> bool:
        """Whether it goes out later: the mailbox of its recipient is full."""
        return pending.recipient in self.resting

    def send(self, pending: Pending) -> None:
        """Send it now; or when its turn comes, where what comes before it has to wait."""
        if not self.is_resting(pending):
            self._send_queue.send(pending)

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
        if not self._send_queue.is_held:
            self._send_queue.hold()
            self.hold_until = trio.current_time() + wait_seconds
            self._nursery.start_soon(self._go_on, wait_seconds)
        return is_repeated

    async def _go_on(self, wait_seconds: float) -> None:
        while True:
            await trio.sleep(wait_seconds)
            reply = await self._resume()
            if isinstance(reply, Accepted):
                break
            wait_seconds = PAUSE_SECONDS
        self._send_queue.resume()
        self._go_on_after(reply.sent)

    async def _resume(self) -> object:
        """Say it, and return the reply: everything that was sent before has its answer then."""
        resume = Pending(MessageId(uuid4().hex), Resume())
        self._pending[resume.id] = resume
        try:
            self._send_queue.send(resume)
            await resume.replied.wait()
        finally:
            self._pending.pop(resume.id, None)
        return resume.reply

    def _rest(self, recipient: Address | None) -> None:
        if recipient is not None and recipient not in self.resting:
            self.resting.add(recipient)
            self._nursery.start_soon(self._wake, recipient)

    async def _wake(self, recipient: Address) -> None:
        await trio.sleep(REST_SECONDS)
        self.resting.discard(recipient)
        for pending in [each for each in self._pending.values() if each.recipient == recipient]:
            self._resend(pending)
        self._moved()


def _is_repeated(pending: Pending, error: Error) -> bool:
    if error.msg == "rate_limited":
        return isinstance(pending.message, Text | File | Receipt | MlsSend)
    return pending.is_patient
