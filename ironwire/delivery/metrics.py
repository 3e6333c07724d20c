"""The ends of envelopes, counted by verb. Relaying is the server's busiest path, so counting is one increment."""

from attrs import define, field, frozen

from ironwire.counting import Distribution, Tallied, figure, tallied
from ironwire.wire.messages import DELIVERIES
from ironwire.wire.messages.fields import ErrorCode


@frozen
class DeliveryStatistics:
    accepted_total: Tallied = figure(
        "Accepted envelopes by path: `stored` in a mailbox, or `relayed` to live sessions where nobody involved has "
        "a mailbox."
    )
    duplicates_total: Tallied = figure("Envelopes that were sent again after they had been accepted.")
    undeliverable_total: Tallied = figure("Envelopes without any recipient that could get them; the sender was told.")
    refused_total: Tallied = figure(
        "Envelopes refused for a full mailbox, an id in use, an epoch that is over or a failing store; the sender was "
        "told."
    )
    operations_waiting: int = figure("Operations waiting for a batch.")
    batch_operations: Distribution = figure("Operations per batch, acks included.")
    settled_seconds: Distribution = figure(
        "Time from the first request of a batch until the whole batch is on the disk and its results are told: one "
        "value per batch, an upper bound for each of its operations."
    )


def _none_of_each() -> dict[str, int]:
    """A counter at 0 for each key, so that a monitor sees 0 before the first event."""
    return {kind.verb: 0 for kind in DELIVERIES}


@define(eq=False)
class DeliveryMetrics:
    """Counters of envelopes by verb, one for each way to end."""

    stored: dict[str, int] = field(init=False, factory=_none_of_each)
    relayed: dict[str, int] = field(init=False, factory=_none_of_each)
    duplicates: dict[str, int] = field(init=False, factory=_none_of_each)
    undeliverable: dict[str, int] = field(init=False, factory=_none_of_each)
    _refused: dict[tuple[str, ...], int] = field(init=False, factory=dict)

    def refuse(self, verb: str, code: ErrorCode) -> None:
        self._refused[verb, code] = self._refused.get((verb, code), 0) + 1

    def accepted(self) -> Tallied:
        """By verb and path: `stored` is on the disk, `relayed` was handed over without it."""
        paths = {"stored": self.stored, "relayed": self.relayed}
        counts: dict[tuple[str, ...], int] = {
            (verb, path): count for path, by_verb in paths.items() for verb, count in by_verb.items()
        }
        return Tallied(("verb", "path"), counts)

    def refused(self) -> Tallied:
        """By verb and the code that the sender was told."""
        return Tallied(("verb", "code"), dict(self._refused))

    def duplicated(self) -> Tallied:
        return tallied("verb", self.duplicates)

    def undelivered(self) -> Tallied:
        return tallied("verb", self.undeliverable)
