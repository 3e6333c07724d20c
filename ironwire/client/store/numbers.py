"""The numbers under which a device sends (docs/protocol.md, section 4.1).

Rules: the device keeps a number with its message before it sends it, so that it knows after every crash which messages
the server may have. A number stands for one message in the file, the last one that it was given to, and for none once
it was refused and the message is to be sent again. `sent` is final, so everything above it is numbered anew in every
session, and after every refusal that held one: that is a round.
"""

from attrs import define, field, frozen

from ironwire.limits import UNANSWERED_ENVELOPES
from ironwire.wire.messages import AuthOk, ErrorCode


@frozen
class Given:
    """A number that was given to a message, and in which round."""

    n: int
    round: int


@frozen
class SettledNumbers:
    """The numbers up to `sent`, as a session began; `refused` are those of the last ones that were not accepted."""

    sent: int
    refused: dict[int, ErrorCode]

    def has(self, n: int | None) -> bool:
        return n is not None and n <= self.sent


@define(eq=False)
class Numbers:
    """The numbers of one device, over all sessions. `highest` is the highest one given in mailbox `epoch`."""

    epoch: int
    highest: int
    _next: int = field(default=1, init=False)
    _round: int = field(default=0, init=False)
    _unanswered: int = field(default=0, init=False)
    """Numbers of this round."""

    def begin(self, welcome: AuthOk) -> SettledNumbers:
        """A session began. Numbers of another epoch are not settled, nor those in a file that was put back from a copy:
        other messages may have had them since.
        """
        epoch, sent = welcome.epoch or 0, welcome.sent or 0
        is_known = epoch == self.epoch and sent <= self.highest
        spans = welcome.refused or [] if is_known else []
        if not is_known:
            self.epoch, self.highest = epoch, sent
        self.go_on(sent)
        refused = {n: span.msg for span in spans for n in range(span.first, span.last + 1)}
        return SettledNumbers(sent if is_known else 0, refused)

    def go_on(self, sent: int) -> None:
        """Begin a round, from `sent` + 1: numbers that were given before and are not settled by now are void."""
        self._round += 1
        self._next = sent + 1
        self._unanswered = 0

    def give(self) -> Given | None:
        """The next number, to be kept before it is sent; None while too many have no answer."""
        if self._unanswered >= UNANSWERED_ENVELOPES:
            return None
        self._unanswered += 1
        given = Given(self._next, self._round)
        self._next += 1
        self.highest = max(self.highest, given.n)
        return given

    def answered(self, given: Given | None) -> None:
        """The message to which this was given has its answer."""
        if self.is_valid(given):
            self._unanswered -= 1

    def is_valid(self, given: Given | None) -> bool:
        return given is not None and given.round == self._round
