"""Refusals are sticky: messages of one session are accepted in the order in which they were sent (docs/protocol.md,
section 4).

A client that sends without waiting for answers has more messages on their way when it learns of a refusal "for now". If
the server accepted these, the repetition would be out of order. Such a refusal therefore holds the session until the
client says `resume`; the client then repeats from the first refused message.

    state     event                                         next state
    --------  --------------------------------------------  ----------
    open      refused when it was read                      held
    open      refused when it was to be committed           broken
    held      refused when it was to be committed           broken
    held      resume, once nothing waits for its commit     open
    broken    resume, once nothing waits for its commit     open

    state     a frame that is read    an envelope that waits for its commit
    --------  ----------------------  -------------------------------------
    open      is taken                is committed
    held      is refused              is committed: it was sent before the refused one
    broken    is refused              is refused: it was sent after the refused one

Any other event leaves the state as it is. The first refusal names the code, until the store fails: from then on it is
`internal`, because what is refused then uses no number up (section 4.1). Only frames whose order matters count
(`ClientMessage.is_ordered`): envelopes and changes of groups.
"""

from attrs import define, field, frozen

from ironwire.wire.messages import Error, ErrorCode
from ironwire.wire.messages.fields import is_retryable

HELD_DETAIL = "an earlier message of this session was refused: say resume, then send again from there"


@frozen
class Refusal:
    """The refusal that holds the session: the error, and the end of its `retry_after_ms` on the caller's clock."""

    error: Error
    until: float


@define(eq=False)
class Hold:
    """The hold of one session. It is also the session's lane in a batch of the store."""

    is_held: bool = field(init=False, default=False)
    """A frame that is read now is refused, if its order matters: the state is held or broken. Set here alone."""
    is_broken: bool = field(init=False, default=False)
    """Envelopes that wait for their commit are refused: the state is broken. Set here alone."""
    _refusal: Refusal | None = field(init=False, default=None)

    @property
    def code(self) -> ErrorCode | None:
        """The code of the refusal that holds the session. Where it is `internal`, nothing that is refused now uses a
        number up.
        """
        return None if self._refusal is None else self._refusal.error.msg

    def refused_at_reading(self, error: Error, now: float) -> None:
        """A message was answered with `error` when it was read."""
        self._stop(error, now, is_broken=False)

    def refused_at_commit(self, error: Error) -> None:
        """A message was answered with `error` when it was to be committed."""
        self._stop(error, 0.0, is_broken=True)

    def answer(self, now: float) -> Error:
        """The answer to a message that is refused because of another: the same code, and the remaining time."""
        if self._refusal is None:
            raise RuntimeError("nothing was refused")
        error, until = self._refusal.error, self._refusal.until
        wait_ms = None if error.retry_after_ms is None else max(0, round((until - now) * 1000))
        return Error(error.msg, HELD_DETAIL, error.user, wait_ms, held=True)

    def resume(self) -> None:
        """The client continues; none of its earlier messages waits for a commit."""
        self.is_held = self.is_broken = False
        self._refusal = None

    def _stop(self, error: Error, now: float, *, is_broken: bool) -> None:
        has_failed = error.msg == "internal"
        if not is_retryable(error.msg) or (self.is_broken and not has_failed):
            return
        self.is_held = True
        self.is_broken = self.is_broken or is_broken
        if self._refusal is None or has_failed:
            self._refusal = Refusal(error, now + (error.retry_after_ms or 0) / 1000)
