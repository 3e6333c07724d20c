"""The window between a mailbox and one session of its device (docs/protocol.md, section 5), as a pure machine.

    acked ≤ sent ≤ tail         three positions in one increasing numbering

    tail    the last committed entry           moves by `committed`
    sent    the last entry that went out       moves by `deliver`
    acked   the last acknowledged entry        moves by `ack`

The window lies between `acked` and `sent`: a bounded number of envelopes and bytes is unacknowledged at a time. Entries
go out in order, each once a session; a missing number is lost, and the device gets a gap for it.
"""

from collections import deque

from attrs import define, field, frozen

from ironwire.errors import IronWireError


class AckBeyondDelivery(IronWireError):
    """The device acknowledged an entry that it was never sent: misuse, close with 4400."""


@frozen
class MissingEntries:
    """The entries `first` to `last`, both included, are gone."""

    first: int
    last: int


@define
class Window:
    """One session's position in its mailbox. It starts with everything unacknowledged still to send."""

    acked: int
    tail: int
    _most_envelopes: int
    _most_bytes: int
    sent: int = field(init=False)
    _sizes: deque[tuple[int, int]] | None = field(init=False, default=None)
    """Seq and bytes of each unacknowledged entry, oldest first; None without any: an empty deque takes 0.7 KiB."""
    _bytes: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.sent = self.acked

    @property
    def is_behind(self) -> bool:
        """Whether a committed entry has not been sent."""
        return self.sent < self.tail

    @property
    def room(self) -> int:
        """How many envelopes may go out now; at least one, of any size, if nothing is unacknowledged."""
        return 0 if self._bytes >= self._most_bytes else self._most_envelopes - len(self._sizes or ())

    def committed(self, seq: int) -> None:
        """The mailbox has grown to `seq`."""
        self.tail = max(self.tail, seq)

    def deliver(self, seq: int, size: int) -> MissingEntries | None:
        """The entry `seq` goes out now; returns the gap that has to go before it. Check `room` first."""
        if seq <= self.sent:
            raise ValueError(f"entry {seq} was sent before: the last was {self.sent}")
        gap = MissingEntries(self.sent + 1, seq - 1) if seq > self.sent + 1 else None
        self.committed(seq)
        self.sent = seq
        if self._sizes is None:
            self._sizes = deque()
        self._sizes.append((seq, size))
        self._bytes += size
        return gap

    def skip(self, upto: int) -> MissingEntries | None:
        """The mailbox holds nothing up to `upto`: everything in between is lost."""
        if upto <= self.sent:
            return None
        gap = MissingEntries(self.sent + 1, upto)
        self.sent = upto
        return gap

    def ack(self, upto: int) -> int | None:
        """The device keeps everything up to `upto`. Returns the bytes that were unacknowledged; None for an old ack.

        Raises:
            AckBeyondDelivery: `upto` is above the last entry that was sent.
        """
        if upto > self.sent:
            raise AckBeyondDelivery(f"ack of {upto}, and the last delivered is {self.sent}")
        if upto <= self.acked:
            return None
        self.acked = upto
        arrived = 0
        while self._sizes and self._sizes[0][0] <= upto:
            arrived += self._sizes.popleft()[1]
        self._sizes = self._sizes or None
        self._bytes -= arrived
        return arrived
