"""Refusals: the answers to messages that a session cannot accept, and the budget for them (docs/protocol.md, section
6).
"""

import trio
from attrs import define, field

from ironwire.close_codes import CloseCode
from ironwire.delivery.outbox import Ending, Outbox
from ironwire.errors import InvalidMessage
from ironwire.ids import MessageId
from ironwire.protocol.bucket import Bucket, Rate
from ironwire.wire.messages import Error

REFUSALS = Rate(per_second=10, burst=1_000)
"""Refusals of one session before it is closed with 1013. The burst covers messages that were on their way when the
client heard of the first one.
"""
HELD_BACK = Rate(per_second=1_000, burst=20_000)
"""Frames that may be refused because of an earlier one before they count as refusals: a client that does not wait has
so many on their way. A frame counts once for each KiB that it begins, because the cost of reading it grows with its
size.
"""
TOO_MUCH = Ending(CloseCode.OVERLOADED, "too much, for too long")


@define(eq=False)
class ErrorBudget:
    """The error budget of one session, which ends when it is used up."""

    _outbox: Outbox
    _left: Bucket | None = field(init=False, default=None)
    _left_held_back: Bucket | None = field(init=False, default=None)
    """Both are made when they are needed: most sessions never meet a refusal."""
    invalid: int = field(init=False, default=0)
    """Frames that were no message."""

    def lose(self, cost: int = 1) -> None:
        """Count a refusal."""
        now = trio.current_time()
        if self._left is None:
            self._left = Bucket(REFUSALS, now)
        if self._left.take(cost, REFUSALS, now):
            self._outbox.close(TOO_MUCH)

    def hold_back(self, size: int) -> None:
        """Count a frame of `size` characters that was refused because of an earlier message."""
        now = trio.current_time()
        if self._left_held_back is None:
            self._left_held_back = Bucket(HELD_BACK, now)
        if self._left_held_back.take(1 + size // 1024, HELD_BACK, now):
            self.lose()


def rate_limited(wait_ms: int) -> Error:
    """The answer to a message that may be sent again after so long."""
    return Error("rate_limited", retry_after_ms=wait_ms)


def invalid(error: InvalidMessage) -> Error:
    """The answer to a frame that is no message."""
    return Error("invalid", detail=error.detail)


def id_of(error: InvalidMessage) -> MessageId | None:
    """The id of a frame that is no message, where it can be read."""
    return None if error.id is None else MessageId(error.id)
