"""What a session says to what it cannot accept, and for how long it does (docs/protocol.md, section 6)."""

import trio
from attrs import define, field

from ironwire.errors import InvalidMessage
from ironwire.hub.outbox import Ending, Outbox
from ironwire.ids import MessageId
from ironwire.protocol.bucket import Bucket, Rate
from ironwire.wire.codec import encode
from ironwire.wire.messages import Error

REFUSALS = Rate(per_second=10, burst=1_000)
"""How often one session may be refused something before it is closed with 1013. The burst is for what was on its way
when the client was told.
"""
TOO_MUCH = Ending(1013, "too much, for too long")


@define(eq=False)
class Patience:
    """With one session: it ends when something had to be refused too often."""

    _outbox: Outbox
    _left: Bucket = field(init=False, factory=lambda: Bucket(REFUSALS, trio.current_time()))
    invalid: int = field(init=False, default=0)
    """Frames that were no message."""

    def lose(self, cost: int = 1) -> None:
        """Something was refused."""
        if self._left.take(cost, REFUSALS, trio.current_time()):
            self._outbox.close(TOO_MUCH)


def rate_limited(wait_ms: int, id: MessageId | None) -> bytes:  # noqa: A002  # the frame's
    """The answer to what may be sent again after so long."""
    return encode(Error("rate_limited", retry_after_ms=wait_ms), id)


def invalid(error: InvalidMessage) -> bytes:
    """The answer to what is no message."""
    return encode(Error("invalid", detail=error.detail), None if error.id is None else MessageId(error.id))
