"""What is measured, and the figures that come of it: no sockets, no processes, no output."""

import statistics
from collections.abc import Iterable, Mapping

from attrs import asdict, frozen

BASE = "ironwire"
"""The subject that all others are compared with."""


@frozen
class Measure:
    """A quantity. `title` begins a table, `unit` says what its figures are."""

    title: str
    unit: str
    more_is_better: bool = True


MEASURES = {
    "live": Measure("Live relay", "texts/s"),
    "durable": Measure("Durable relay", "texts/s"),
    "fanout": Measure("Fan-out to the sessions of one client", "deliveries/s"),
    "auth": Measure("Connect and authenticate", "clients/s"),
    "memory": Measure("Memory of an idle authenticated connection", "KiB", more_is_better=False),
    "upload": Measure("Upload of 30 MiB", "MB/s"),
    "download": Measure("Download of 30 MiB", "MB/s"),
    "connections": Measure("CPU time of the server for one text, by connections", "µs", more_is_better=False),
    "enqueue": Measure("Accepted into a mailbox in which envelopes wait", "texts/s"),
    "reconnect": Measure("A device connects and gets the first 100 of them", "ms", more_is_better=False),
    "mls": Measure("Time of one device in a group of MLS", "ms", more_is_better=False),
    "mls_bytes": Measure("Bytes of one device in a group of MLS", "bytes", more_is_better=False),
    "kept": Measure("Time to encrypt a message and keep that in the file of a device", "ms", more_is_better=False),
    "device": Measure("Time of the store of a device", "ms", more_is_better=False),
    "clients": Measure("Texts from client to client, with the client library", "texts/s"),
    "away": Measure("Encrypted messages to a device that was away", "s", more_is_better=False),
    "profile": Measure("Where the microseconds of a text, or of a newcomer, go", "µs", more_is_better=False),
}
"""By the key that figures carry, in the order of the report."""


@frozen
class Figure:
    """One number. `subject` is who, or which path, was measured; `case` under which conditions."""

    measure: str
    case: str
    subject: str
    value: float
    details: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def medians(figures: Iterable[Figure]) -> list[Figure]:
    """One figure for each measure, case and subject: of several rounds the median, with the details of its round."""
    rounds: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures:
        rounds.setdefault((figure.measure, figure.case, figure.subject), []).append(figure)
    return [_median(same) for same in rounds.values()]


def advantage(figure: Figure, base: Figure) -> float:
    """How many times better the base is: over 1 where it wins, whichever way the measure counts."""
    better, worse = base.value, figure.value
    if not MEASURES[figure.measure].more_is_better:
        better, worse = worse, better
    return better / worse if worse else 0.0


def _median(same: list[Figure]) -> Figure:
    middle = statistics.median_low(figure.value for figure in same)
    return next(figure for figure in same if figure.value == middle)
