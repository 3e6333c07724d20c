"""Rates: the messages and bytes that one client may send, over all its sessions together.

A batch that the client can afford is paid for at once, before it is decoded, which costs next to nothing. One that it
cannot is looked at message by message, and what there is no allowance for is answered with `rate_limited`. An ack is
free in that case: it makes the server's work less, and one that was refused would hold the device's mail back.
"""

from collections import Counter, OrderedDict
from weakref import WeakValueDictionary

from attrs import frozen

from ironwire.counting import Tallied, figure, tallied
from ironwire.ids import ClientId
from ironwire.limits import Limits
from ironwire.protocol.bucket import Rate

MOST_CLIENTS = 100_000
"""Clients whose allowances are remembered, besides those who are here."""

REFILL_SECONDS = 1.0


@frozen
class RatesStatistics:
    refused_total: Tallied = figure(
        "Messages answered with `rate_limited`, by verb; `invalid` stands for those that were no message."
    )


class Allowance:
    """The allowance of one client. All its sessions hold the same one.

    Two token buckets (`protocol/bucket.py`) in one, that gain when they are short, or else once a second: a session
    asks with every read, and mostly there is enough.
    """

    __slots__ = ("__weakref__", "_bytes", "_messages", "_rates", "_refill_at", "_updated")

    def __init__(self, rates: "Rates", now: float) -> None:
        self._rates = rates
        self._messages = rates.messages.burst
        self._bytes = rates.bytes.burst
        self._updated = now
        self._refill_at = now + REFILL_SECONDS

    def can_afford(self, batch: list[str | bytes], now: float) -> bool:
        """Pay for all messages of one read. False: it is too much, and nothing was paid."""
        count, size = len(batch), sum(map(len, batch))
        if self._messages < count or self._bytes < size or now >= self._refill_at:
            self._refill(now)
            if self._messages < count or self._bytes < size:
                return False
        self._messages -= count
        self._bytes -= size
        return True

    def refusal_ms(self, verb: str, count: int, size: int, now: float, again: int = 0) -> int:
        """Pay for one message; 0, or the milliseconds after which it should be sent again, and nothing was paid.
        `again` was paid before, and has to be paid again then.

        A message above the burst passes when the bucket is full, and leaves a debt.
        """
        self._refill(now)
        messages, bytes_ = self._rates.messages, self._rates.bytes
        wait_seconds = max(
            (min(count, messages.burst) - self._messages) / messages.per_second,
            (min(size, bytes_.burst) - self._bytes) / bytes_.per_second,
        )
        if wait_seconds > 0:
            wait_seconds += again / messages.per_second
            self._rates.refused[verb] += 1
            return int(wait_seconds * 1000) + 1
        self._messages -= count
        self._bytes -= size
        return 0

    def is_whole(self, now: float) -> bool:
        """Whether nothing of it is used, as for a new client."""
        self._refill(now)
        return self._messages >= self._rates.messages.burst and self._bytes >= self._rates.bytes.burst

    def _refill(self, now: float) -> None:
        messages, bytes_ = self._rates.messages, self._rates.bytes
        seconds = now - self._updated
        self._updated = now
        self._refill_at = now + REFILL_SECONDS
        self._messages = min(self._messages + seconds * messages.per_second, messages.burst)
        self._bytes = min(self._bytes + seconds * bytes_.per_second, bytes_.burst)


class Rates:
    """The allowances of all clients. One that reconnects finds its old allowance."""

    def __init__(self, limits: Limits) -> None:
        self.messages = Rate(limits.messages_per_second, limits.messages_at_once)
        self.bytes = Rate(limits.bytes_per_second, limits.bytes_at_once)
        self.refused: Counter[str] = Counter()
        self._in_use: WeakValueDictionary[ClientId, Allowance] = WeakValueDictionary()
        self._recent: OrderedDict[ClientId, Allowance] = OrderedDict()

    def allowance(self, client: ClientId, now: float) -> Allowance:
        """The allowance of `client`, for a session to hold until its end."""
        allowance = self._in_use.get(client)
        if allowance is None:
            allowance = self._in_use[client] = Allowance(self, now)
        self._recent[client] = allowance
        self._recent.move_to_end(client)
        for _ in range(2):  # two for each that comes: forget allowances that are whole again, and those above the bound
            oldest = next(iter(self._recent))
            if len(self._recent) > MOST_CLIENTS or (oldest != client and self._recent[oldest].is_whole(now)):
                del self._recent[oldest]
        return allowance

    def statistics(self) -> RatesStatistics:
        return RatesStatistics(tallied("verb", self.refused))
